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

pub use client::connect_plain;
pub(crate) use client::{
    ClientError, ClusterSelection, KubeletTrust, connect, connect_kubelet, connect_receiver,
    connect_selected,
};
pub(crate) use cluster_deny::{ClusterDeny, StoredDenies};
pub(crate) use error::ApiError;
pub(crate) use leader::{LeaderElector, LeaderGate, LeaseTimings, identity};
pub(crate) use node_devices::shares_devices;
pub(crate) use read::{
    AccessRequest, Owners, Reader, catch_up, current_user, kind_of, may_current_user,
    may_service_account, read, read_identities,
};
pub(crate) use reconcile_queue::ReconcileQueue;
pub(crate) use retry_backoff::RetryBackoff;
pub use store::Pod;
pub(crate) use store::{
    IndexKey, RunId, RunMembership, Store, StoreWriter, StoreWriters, Stores, prune_job,
    prune_metadata, prune_pod, prune_quota,
};
pub(crate) use watch::{WatchEvent, WatchHealth, follow};
pub(crate) use write::{Conflicts, EventNote, Events, FieldManager, RateLimiter, Writer};
