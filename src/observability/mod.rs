//! Log set-up and the names of metrics.
