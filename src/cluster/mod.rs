//! The only place that writes to the API server (INV-4), and the watches that feed everything else.
//!
//! `controller` and `respond` read from [`Stores`] and write through [`Writer`]. Nothing here knows
//! what a write means; it knows how to make one safely: with a field manager, a time limit and a
//! counted outcome, and where it acts, only while this process leads (`election`, `lease`, `gate`).

mod catch_up;
mod client;
mod election;
mod events;
mod gate;
mod lease;
mod manager;
mod node_devices;
mod outcome;
mod owners;
mod pod;
mod review;
mod roster;
mod standing;
mod store;
mod stores;
mod watch;
mod write;

pub use client::{
    Chosen, ClientError, KubeletTrust, connect, connect_chosen, connect_kubelet, connect_plain,
    connect_receiver,
};
pub use election::{BadTerms, Terms};
pub use events::{EventNote, Events};
pub use gate::Gate;
pub use lease::{Candidate, identity};
pub use manager::FieldManager;
pub use node_devices::shares_devices;
pub use outcome::{Outcome, WriteCounters, WriteError};
pub use owners::{Chain, OwnerError, Owners, kind_of};
pub use pod::{Pod, prune_pod};
pub use review::{Deed, may_account, may_i, who_am_i};
pub use roster::{Roster, RunId};
pub use standing::ClusterDeny;
pub use store::{Store, StoreWriter};
pub use stores::{StoreWriters, Stores, prune_job, prune_metadata, prune_quota};
pub use watch::{Seen, WatchHealth, follow};
pub use write::{Conflicts, Writer};
