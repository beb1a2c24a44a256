//! Signals: turns the bytes of a log into records that are attributed to a pod.
//!
//! `decode` is pure; `source` does the I/O: files, standard input, Hubble Relay and node metrics; `attribute` is a
//! synchronous index that maps an address and a time to a pod; `health` tracks whether the sources are usable.

pub(crate) mod attribute;
pub(crate) mod decode;
pub(crate) mod health;
pub(crate) mod source;
