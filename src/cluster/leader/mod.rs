//! Leader election with a Lease: `elector` keeps the Lease, `lease_observer` decides what to do with
//! it, and `gate` lets writes through only while this process is the leader.

mod elector;
mod gate;
mod lease_observer;

pub use elector::{LeaderElector, identity};
pub use gate::LeaderGate;
pub use lease_observer::LeaseTimings;
