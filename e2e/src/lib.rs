//! The harness that tests, demo and benchmarks share.
