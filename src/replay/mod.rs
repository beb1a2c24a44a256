//! Recorded logs through the very engine of the operator, without a cluster.
