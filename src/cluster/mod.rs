//! The only place that writes to the API server (INV-4), and the watches that feed everything else.
//!
//! `controller` and `respond` read from [`Stores`] and write through [`Writer`]. Nothing here knows
//! what a write means; it knows how to make one safely: with a field manager, a time limit and a
//! counted outcome.

mod client;
mod owners;
mod pod;
mod roster;
mod standing;
mod store;
mod stores;
mod watch;
mod write;

pub use client::{ClientError, KubeletTrust, connect, connect_kubelet, connect_plain};
pub use owners::{Chain, OwnerError, Owners, kind_of};
pub use pod::{Pod, prune_pod};
pub use roster::{Roster, RunId};
pub use standing::ClusterDeny;
pub use store::{Store, StoreWriter};
pub use stores::{StoreWriters, Stores, prune_job, prune_metadata, prune_quota};
pub use watch::{Seen, WatchHealth, follow};
pub use write::{Conflicts, FieldManager, Outcome, WriteCounters, WriteError, Writer};
