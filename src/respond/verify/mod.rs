//! Verification: what the log shows of a pod after its isolation, and what that proves.

mod monitor;
mod observer;
pub mod proof;

pub use monitor::{STALE, Spoken, Witness};
pub use observer::Observer;

pub(super) use monitor::{together, told, worst};
