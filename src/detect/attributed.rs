//! The one form in which a signal enters the engine: what happened, who did it, which log says so.
//!
//! Made in `signals::attribute` alone, for the operator, the node agent and `replay`. No field has a
//! default, so that the compiler finds every place that would leave one out.

use serde::{Deserialize, Serialize};

use crate::model::{Neighbour, Signal, Subject};

/// What the run's owner said that it does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Workload {
    /// Nothing special.
    #[default]
    Standard,
    /// It follows links, so failures on the Internet weigh half; in other scopes as ever.
    Crawler,
}

/// Which log on which node a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The number of the source, the same as long as the process runs.
    pub source: u16,
    /// The pod's node where the API server names it, else the node that the record names. `None`:
    /// nothing names it, or what names it cannot be compared with the names of the pods' nodes.
    pub node: Option<&'a str>,
}

/// A signal of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Attributed<'a> {
    /// What happened.
    pub signal: &'a Signal<'a>,
    /// The pod, and the run that it belongs to.
    pub subject: &'a Subject,
    /// Which log says so.
    pub origin: Origin<'a>,
    /// Who the target of a flow is to the pod. Asked for only where
    /// [`crate::model::Outcome::may_fail`].
    pub neighbour: Neighbour,
    /// What the run's owner said that it does.
    pub workload: Workload,
}
