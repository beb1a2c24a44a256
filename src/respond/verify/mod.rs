//! Verification: what the logs show of a pod after its isolation, and what that proves.

mod monitor;
mod observer;
pub(crate) mod proof;

pub(crate) use monitor::{SourceProgress, TrafficMonitor};
pub(crate) use observer::TrafficObserver;

pub(super) use monitor::from_agent;
