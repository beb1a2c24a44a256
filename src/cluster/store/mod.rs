//! The stores: a local copy of the objects of each kind, reduced to what is used and filled by `watch`.

mod index_key;
mod indexed;
mod pod;
mod prune;
mod run_membership;
mod stores;

pub(crate) use index_key::IndexKey;
pub(crate) use indexed::{Change, Store, StoreWriter};
pub use pod::Pod;
pub(crate) use prune::{prune_job, prune_metadata, prune_pod, prune_quota};
pub(crate) use run_membership::{RunId, RunMembership};
pub(crate) use stores::{StoreWriters, Stores};
