//! The only place that writes to the API server (INV-4), and the watches that feed everything else.
//!
//! `controller` and `respond` read from [`Stores`] and write through [`Writer`]. Nothing here knows
//! what a write means; it knows how to make one safely: with a field manager, a time limit and a
//! counted outcome.

mod client;
mod events;
mod owners;
mod roster;
mod standing;
mod stores;
mod watch;
mod write;

pub use client::{
    ClientError, KubeletTrust, connect, connect_kubelet, connect_plain, connect_receiver,
};
pub use events::{EventNote, Events};
pub use owners::{Chain, OwnerError, Owners, kind_of};
pub use roster::{Roster, RunId};
pub use standing::ClusterDeny;
pub use stores::{StoreWriters, Stores, prune_job, prune_nothing, prune_pod};
pub use watch::{Seen, WatchHealth, follow};
pub use write::{Conflicts, FieldManager, Outcome, WriteCounters, WriteError, Writer};
