//! Data structures of bounded size, under a secret key, and how they are read back after a restart.
//!
//! `hash` turns targets into keyed 64-bit hashes, `generational_cache` remembers the latest of them, `hyper_log_log` counts
//! distinct ones, and `bounded` decodes saved state within its bounds. Nothing here knows what a pod or a scan is.

pub(super) mod bounded;
pub(super) mod generational_cache;
mod hash;
mod hyper_log_log;

pub(crate) use hash::HashKey;
pub(super) use hash::KeyedState;
pub(super) use hyper_log_log::HyperLogLog;
