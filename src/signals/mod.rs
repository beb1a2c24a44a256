//! Signals: from the bytes of a log to records that are attributed to a pod.
//!
//! `decode` is pure; `source` reads files and standard input; `attribute` is a synchronous index
//! that says which pod had an address at a time.

pub mod attribute;
pub mod decode;
pub mod health;
pub mod source;
