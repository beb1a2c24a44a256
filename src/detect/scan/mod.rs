//! Scans: many failed first contacts, by one pod or by the pods of a run together.
//!
//! Called by `pod` and `engine` with the verdicts of `contacts`. Reading order: `walk` (the sequential test), with
//! `weight`, `placement` and `service`; `pod` (the walks of one pod), with `peer_to_peer` and `distinct_targets`; `run`
//! (the same walks over the pods of a run), with `contribution` for runs on several nodes; `evidence` (the text).

pub(super) mod contacts;
mod contribution;
mod distinct_targets;
mod evidence;
mod hourly_count;
mod name_inventory;
mod named;
mod outage;
mod peer_to_peer;
mod placement;
mod pod;
mod run;
mod service;
mod walk;
mod walks;
mod weight;

pub(crate) use contribution::{Contribution, SharedContact};
pub(super) use pod::PodScan;
pub(super) use run::{Run, RunDetection};
