//! The state that the plan decides from. Filled by `respond::snapshot` and by the simulation.

use std::time::Duration;

use jiff::Timestamp;

use super::breaker::Breaker;
use super::suspension::Suspension;
use super::throttle::CpuReduction;
use crate::api::{
    Incident, ObjectTarget, Replacement, ResponseAction, ResponseScope, RestoreEntry,
};
use crate::guardrails::cilium::IdentityLabels;
use crate::respond::verify::proof::TrafficObservation;

/// The shortened grace period of a pod with continuing traffic, in seconds. Not 0: the API server
/// would remove the object at once, and with it the label that the deny selects, while the pod's
/// processes still run.
pub(crate) const SHORTENED_GRACE_S: u32 = 1;

/// Everything that the plan decides from.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    /// The Incident, with its latest status.
    pub incident: Incident,
    /// The current time.
    pub now: Timestamp,
    /// How far a response may go.
    pub bounds: Bounds,
    /// Why this pod is protected from automatic action, if it is.
    pub protected: Option<String>,
    /// The existing pods to contain: the Incident's own, or with scope `Run` every pod of the run.
    pub pods: Vec<PodView>,
    /// All pods with this Incident's quarantine label.
    pub labelled: Vec<PodView>,
    /// The owner of the Incident's pod.
    pub owner: OwnerControl,
    /// What CPU can be taken from the Incident's pod; `None` before it was read.
    pub cpu: Option<CpuReduction>,
    /// The standing deny.
    pub deny: Deny,
    /// By which labels Cilium selects the pods.
    pub identities: Identities,
    /// Whether the policy of the Incident on Cilium could not be stored just now.
    pub interim_deny_failed: bool,
    /// The circuit breaker.
    pub breaker: Breaker,
    /// The pods in quarantine because of other Incidents, and how many there may be.
    pub quarantines: Quarantines,
    /// What the log showed since the isolation.
    pub traffic: Option<TrafficObservation>,
    /// Other open Incidents that hold pods or fields.
    pub others: Vec<OtherIncident>,
    /// How long a closed Incident is kept.
    pub ttl: Duration,
    /// How long an alert about a pod that no longer exists stays open.
    pub alert_ttl: Duration,
    /// Which pod takes the place of the isolated one; [`Self::pods`] has that pod as well.
    pub replacement: Option<Replacement>,
}

/// How many pods other Incidents hold in quarantine. A pod that is being deleted does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quarantines {
    /// In the cluster.
    pub elsewhere: usize,
    /// The maximum in the cluster.
    pub max: usize,
    /// In the namespace of the Incident.
    pub elsewhere_in_namespace: usize,
    /// The maximum in a namespace: one tenant cannot take all places.
    pub namespace_max: usize,
}

impl Quarantines {
    /// Why this many more pods cannot be isolated, if they cannot.
    pub(super) fn refusal(&self, new: usize) -> Option<String> {
        let is_beyond = |held: usize, max: usize| held.saturating_add(new) > max;
        if is_beyond(self.elsewhere, self.max) {
            return Some(format!(
                "{} pods are in quarantine and at most {} may be: release some, or raise --max-quarantines",
                self.elsewhere, self.max
            ));
        }
        is_beyond(self.elsewhere_in_namespace, self.namespace_max).then(|| {
            format!(
                "{} pods of this namespace are in quarantine and at most {} may be: release some, or raise \
                 --max-quarantines-per-namespace",
                self.elsewhere_in_namespace, self.namespace_max
            )
        })
    }
}

/// How far a response may go: the run's settings within the ceilings of its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The strongest action.
    pub max_action: ResponseAction,
    /// Which pods are contained.
    pub scope: ResponseScope,
}

/// The fields of a pod that the plan uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodView {
    /// The pod's name.
    pub name: String,
    /// The pod's UID.
    pub uid: String,
    /// The node that the pod runs on.
    pub node: Option<String>,
    /// The value of the pod's quarantine label.
    pub quarantine: Option<String>,
    /// The pod's grace period in seconds, if it is being deleted.
    pub grace_s: Option<i64>,
}

impl PodView {
    /// Whether the pod is being deleted with more than the shortened grace period.
    pub(super) fn has_long_grace(&self) -> bool {
        self.grace_s
            .is_some_and(|seconds| seconds > i64::from(SHORTENED_GRACE_S))
    }

    /// The pod as the target of an action.
    #[must_use]
    pub(crate) fn target(&self) -> ObjectTarget {
        ObjectTarget::pod(&self.name, &self.uid)
    }
}

/// How the owner of a pod can be stopped from replacing it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum OwnerControl {
    /// Not read yet. Reading takes requests, so a plan requests it only when it needs the owner.
    Unread,
    /// These owners can be suspended, in this order.
    Suspendable(Vec<Suspension>),
    /// The pod has no owner, or its owner no longer exists.
    NoOwner,
    /// The owner cannot be suspended, and why.
    Unsupported(String),
}

/// By which labels Cilium selects the pods of an Incident now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Identities {
    /// The cluster has no Cilium, or its policies could not be stored.
    NotUsed,
    /// Not read yet. Reading takes a request.
    Unread,
    /// The identity of each pod that Cilium manages.
    Known(Vec<PodIdentity>),
}

/// The security identity of a pod, as the agent of Cilium on its node last reported it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodIdentity {
    /// Its labels.
    pub labels: IdentityLabels,
    /// How many pods that the Incident does not contain have these labels too.
    pub others: usize,
    /// How many of them a policy may deny for a while: those of the same cell of the run, 0 for a pod without a cell.
    pub others_max: usize,
}

/// The standing deny that selects the quarantine label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Deny {
    /// Whether it is stored in the API server.
    pub is_stored: bool,
    /// Other policies that still allow traffic of a quarantined pod.
    pub widened_by: Vec<String>,
    /// Other policies that allow traffic of a quarantined pod, unless the network engine enforces the ClusterNetworkPolicy,
    /// which is stored and takes precedence over them.
    pub overridden: Vec<String>,
}

/// The fields of another open Incident that a release has to consider.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct OtherIncident {
    /// The Incident's name.
    pub name: String,
    /// UIDs of the pods that it contains; none before it has acted.
    pub pod_uids: Vec<String>,
    /// UID of its run.
    pub run_uid: Option<String>,
    /// Whether its own pod is gone or being deleted.
    pub pod_is_gone: bool,
    /// UIDs of the owners of its pod, if known.
    pub owners: Option<Vec<String>>,
    /// What it must restore on release.
    pub restore: Vec<RestoreEntry>,
}
