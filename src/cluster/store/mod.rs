//! The stores: a local copy of the objects of each kind, reduced to what is used and filled by `watch`.

mod indexed;
mod pod;
mod prune;
mod run_membership;
mod stores;

pub use indexed::{Change, Store, StoreWriter};
pub use pod::Pod;
pub use prune::{prune_job, prune_metadata, prune_pod, prune_quota};
pub use run_membership::{RunId, RunMembership};
pub use stores::{StoreWriters, Stores};
