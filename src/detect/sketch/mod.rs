//! Sketches: counting and remembering in little room, under a secret key.
//!
//! `hash` turns targets into keyed 64-bit words, `hyper_log_log` counts distinct ones. Called by
//! `engine`, `contacts`, `spread` and `tally`. Nothing here knows what a pod or a scan is.

mod hash;
mod hyper_log_log;

pub use hash::HashKey;
pub(super) use hash::KeyedState;
pub(super) use hyper_log_log::HyperLogLog;
