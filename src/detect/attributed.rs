//! The input of the engine: a signal with its pod, the log that contains it, and what the cluster adds to it.
//!
//! Created only in `signals::attribute`, for the operator, the node agent and `replay`. No field has a default, so that
//! the compiler finds every place that would leave one out.

use serde::{Deserialize, Serialize};

use crate::model::{Neighbour, Signal, Subject};

/// The kind of workload that the run declares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Workload {
    /// No special kind.
    #[default]
    Standard,
    /// It follows links, so failures on the Internet have half the weight. In other scopes they have the full weight.
    Crawler,
}

/// The log that a record comes from: its source and its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Number of the source, constant while the process runs.
    pub source: u16,
    /// The pod's node according to the API server, otherwise the node in the record. `None` if neither is known, or if
    /// the name in the record cannot be compared with the names of the pods' nodes.
    pub node: Option<&'a str>,
}

/// A signal that is attributed to a pod.
#[derive(Clone, Copy, Debug)]
pub struct Attributed<'a> {
    /// The signal.
    pub signal: &'a Signal<'a>,
    /// The pod and its run.
    pub subject: &'a Subject,
    /// The log that contains the signal.
    pub origin: Origin<'a>,
    /// Relation of the target of a flow to the pod. Looked up only if [`crate::model::Outcome::may_fail`].
    pub neighbour: Neighbour,
    /// The kind of workload that the run declares.
    pub workload: Workload,
}
