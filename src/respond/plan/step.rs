//! The steps of a response, and the plan: the next step, or the conditions when no step is left.

use std::collections::BTreeSet;
use std::time::Duration;

use super::snapshot::PodView;
use super::suspension::Suspension;
use crate::api::{ActionKind, IncidentCondition, ObjectTarget, Reason, RestoreEntry};
use crate::guardrails::cilium::IdentityLabels;

/// How soon to plan again while only time has to pass.
pub(super) const RECHECK: Duration = Duration::from_secs(2);

/// How soon to plan again while something outside has to change first.
pub(super) const RECHECK_SLOWLY: Duration = Duration::from_secs(30);

/// One step of a response. Repeating a step is harmless.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Step {
    /// Set the quarantine label on these pods.
    Isolate(Vec<PodView>),
    /// Read by which labels Cilium selects these pods.
    ReadIdentities(Vec<PodView>),
    /// Have a CiliumNetworkPolicy of the Incident deny these identities.
    DenyIdentities(BTreeSet<IdentityLabels>),
    /// Record that the identities of the pods have the quarantine label.
    RecordLabelInForce,
    /// Delete the CiliumNetworkPolicy of the Incident.
    LiftInterimDeny,
    /// Keep a copy of the pod in the Incident.
    Capture(PodView),
    /// Record the original value of a field before it is changed.
    RecordRestore(RestoreEntry),
    /// Read the owner of the pod.
    ReadOwner,
    /// Read what CPU can be taken from this pod.
    ReadCpu(PodView),
    /// Reduce the CPU of this pod: set its containers' resources to the values in the entries.
    Throttle(PodView, Vec<RestoreEntry>),
    /// Suspend the owner, and shorten the grace period of these pods to [`SHORTENED_GRACE_S`](super::SHORTENED_GRACE_S) before the
    /// owner's controller deletes them.
    Suspend(Suspension, Vec<PodView>),
    /// Record that an action is deliberately not taken, and why.
    Skip(ActionKind, ObjectTarget, String),
    /// Shorten the grace period of this pod, which is being deleted, to [`SHORTENED_GRACE_S`](super::SHORTENED_GRACE_S).
    ShortenGracePeriod(PodView),
    /// Delete this pod, with this grace period in seconds or with its own.
    Terminate(PodView, Option<u32>),
    /// Remove the quarantine label from this pod, or set it to another Incident.
    RemoveQuarantineLabel {
        /// The pod.
        pod: PodView,
        /// The Incident that keeps the pod in quarantine.
        pass_to: Option<String>,
    },
    /// Restore the original value of a field, unless another Incident still needs the changed value.
    Restore {
        /// The field and its original value.
        entry: RestoreEntry,
        /// The Incident that needs the changed value.
        needed_by: Option<String>,
    },
    /// Delete the Incident: it has been closed for longer than its time to live.
    Expire,
}

/// A condition to set on the Incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ConditionUpdate {
    /// The condition.
    pub condition: IncidentCondition,
    /// Its status; `None` is Unknown.
    pub status: Option<bool>,
    /// Its reason.
    pub reason: Reason,
    /// Its message.
    pub message: String,
}

/// The next step, or the conditions to set when no step is left.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The next step. The conditions are valid only if there is none.
    pub step: Option<Step>,
    /// The conditions to set.
    pub conditions: Vec<ConditionUpdate>,
    /// When to plan again even if nothing changes.
    pub recheck: Option<Duration>,
    /// Whether the Incident is closed now: its closing time has to be recorded.
    pub close: bool,
}

impl Plan {
    pub(super) fn step(step: Step) -> Self {
        Self {
            step: Some(step),
            ..Self::default()
        }
    }

    pub(super) fn condition(
        mut self,
        condition: IncidentCondition,
        status: Option<bool>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        self.conditions.push(ConditionUpdate {
            condition,
            status,
            reason,
            message: message.into(),
        });
        self
    }

    pub(super) const fn recheck_in(mut self, delay: Duration) -> Self {
        self.recheck = Some(delay);
        self
    }
}
