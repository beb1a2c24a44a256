//! Leader election with a Lease: `elector` keeps the Lease, `lease_observer` decides what to do with
//! it, and `gate` lets writes through only while this process is the leader.

mod elector;
mod gate;
mod lease_observer;

pub(crate) use elector::{LeaderElector, identity};
pub(crate) use gate::LeaderGate;
pub(crate) use lease_observer::LeaseTimings;
