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
mod reconcile_queue;
mod retry_backoff;
mod store;
mod watch;
mod write;

pub use client::{
    ClientError, ClusterSelection, KubeletTrust, connect, connect_kubelet, connect_plain,
    connect_receiver, connect_selected,
};
pub use cluster_deny::ClusterDeny;
pub use error::ApiError;
pub use leader::{LeaderElector, LeaderGate, LeaseTimings, identity};
pub use node_devices::shares_devices;
pub use read::{
    AccessRequest, Owners, Reader, catch_up, current_user, kind_of, may_current_user,
    may_service_account, read,
};
pub use reconcile_queue::ReconcileQueue;
pub use retry_backoff::RetryBackoff;
pub use store::{
    Pod, RunId, RunMembership, Store, StoreWriter, StoreWriters, Stores, prune_job, prune_metadata,
    prune_pod, prune_quota,
};
pub use watch::{WatchEvent, WatchHealth, follow};
pub use write::{Conflicts, EventNote, Events, FieldManager, RateLimiter, Writer};
