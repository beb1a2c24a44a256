//! Verification: what the logs show of a pod after its isolation, and what that proves.

mod monitor;
mod observer;
pub mod proof;

pub use monitor::{SourceProgress, TrafficMonitor};
pub use observer::TrafficObserver;

pub(super) use monitor::from_agent;
