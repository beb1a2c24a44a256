//! The only place that writes to the API server (INV-4), and the watches that fill the stores.
//!
//! `controller` and `respond` read from [`Stores`] and write through [`Writer`]. This module does not
//! decide what to write. It adds to each write a field manager, a time limit and a counted outcome,
//! and lets a write that acts through only while this process is the leader.

mod client;
mod cluster_deny;
mod error;
mod leader;
mod node_devices;
mod read;
mod store;
mod watch;
mod write;

pub use client::{
    Chosen, ClientError, KubeletTrust, connect, connect_chosen, connect_kubelet, connect_plain,
    connect_receiver,
};
pub use cluster_deny::ClusterDeny;
pub use error::WriteError;
pub use leader::{BadTerms, Candidate, Gate, Terms, identity};
pub use node_devices::shares_devices;
pub use read::{Chain, Deed, OwnerError, Owners, kind_of, may_account, may_i, who_am_i};
pub use store::{
    Pod, Roster, RunId, Store, StoreWriter, StoreWriters, Stores, prune_job, prune_metadata,
    prune_pod, prune_quota,
};
pub use watch::{Seen, WatchHealth, follow};
pub use write::{
    Conflicts, EventNote, Events, FieldManager, Outcome, Pacer, WriteCounters, Writer,
};
