//! The plan: from a snapshot of an Incident and its surroundings to the next step.
//!
//! Pure: `respond::responder` passes in everything, including the time, and executes the step. Each call
//! decides from the observed state (labels of pods, state of the owner, what the log showed), never
//! from the steps that were ordered before. So after a crash between two steps, at most one step is
//! repeated.

mod breaker;
mod capture;
mod escalation;
mod release;
mod simulation;
mod status;
pub mod suspension;
pub mod throttle;

use std::time::Duration;

use jiff::Timestamp;

use crate::api::{
    ActionKind, ActionResult, Incident, IncidentCondition, ObjectTarget, Reason, ResponseAction,
    ResponseScope, RestoreEntry, Verdict, condition_of,
};
use crate::respond::verify::proof::TrafficObservation;

pub use breaker::{BREAKER_WINDOW, Breaker, BreakerLimits};
pub use capture::captured_pod;
pub use simulation::Simulation;
pub use status::{push_action, push_restore_entry};
pub use suspension::Suspension;
pub use throttle::CpuReduction;

/// How soon to plan again while only time has to pass.
pub const RECHECK: Duration = Duration::from_secs(2);

/// How soon to plan again while something outside has to change first.
pub const RECHECK_SLOWLY: Duration = Duration::from_secs(30);

/// After the circuit breaker has reset, a finding older than this is not acted on.
pub const FRESH: Duration = Duration::from_mins(1);

/// The shortened grace period of a pod whose traffic continues, in seconds. Not 0: the API server
/// would remove the object at once, and with it the label that the deny selects, while the pod's
/// processes still run.
pub const SHORTENED_GRACE_S: u32 = 1;

/// Everything that the plan decides from.
#[derive(Clone, Debug)]
pub struct Snapshot {
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
    /// The circuit breaker.
    pub breaker: Breaker,
    /// How many pods are in quarantine because of other Incidents.
    pub quarantined_elsewhere: usize,
    /// The maximum number of pods in quarantine.
    pub quarantine_max: usize,
    /// What the log showed since the isolation.
    pub traffic: Option<TrafficObservation>,
    /// Other open Incidents that hold pods or fields.
    pub others: Vec<OtherIncident>,
    /// How long a closed Incident is kept.
    pub ttl: Duration,
}

/// How far a response may go: the run's settings within the ceilings of its policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The strongest action.
    pub max_action: ResponseAction,
    /// Which pods are contained.
    pub scope: ResponseScope,
}

/// The fields of a pod that the plan uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodView {
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
    fn has_long_grace(&self) -> bool {
        self.grace_s
            .is_some_and(|seconds| seconds > i64::from(SHORTENED_GRACE_S))
    }

    /// The pod as the target of an action.
    #[must_use]
    pub fn target(&self) -> ObjectTarget {
        ObjectTarget::pod(&self.name, &self.uid)
    }
}

/// How the owner of a pod can be stopped from replacing it.
#[derive(Clone, Debug, PartialEq)]
pub enum OwnerControl {
    /// Not read yet. Reading takes requests, so a plan asks for it only when it needs to know.
    Unread,
    /// These owners can be suspended, in this order.
    Suspendable(Vec<Suspension>),
    /// The pod has no owner, or its owner no longer exists.
    NoOwner,
    /// The owner cannot be suspended, and why.
    Unsupported(String),
}

/// The standing deny that selects the quarantine label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deny {
    /// Whether it is stored in the API server.
    pub is_stored: bool,
    /// Other policies that still allow traffic of a quarantined pod.
    pub widened_by: Vec<String>,
}

/// The fields of another open Incident that a release has to consider.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherIncident {
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

/// One step of a response. Repeating a step is harmless.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Set the quarantine label on these pods.
    Isolate(Vec<PodView>),
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
    /// Suspend the owner, and shorten the grace period of these pods to [`SHORTENED_GRACE_S`] before the
    /// owner's controller deletes them.
    Suspend(Suspension, Vec<PodView>),
    /// Record that an action is deliberately not taken, and why.
    Skip(ActionKind, ObjectTarget, String),
    /// Shorten the grace period of this pod, which is being deleted, to [`SHORTENED_GRACE_S`].
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
pub struct ConditionUpdate {
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
pub struct Plan {
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
    fn step(step: Step) -> Self {
        Self {
            step: Some(step),
            ..Self::default()
        }
    }

    fn condition(
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

    const fn recheck_in(mut self, delay: Duration) -> Self {
        self.recheck = Some(delay);
        self
    }
}

/// Plans the next step for an Incident.
#[must_use]
pub fn plan(snapshot: &Snapshot) -> Plan {
    if snapshot.incident.is_closed() {
        return expire(snapshot);
    }
    match snapshot.incident.verdict() {
        Some(Verdict::Release) => release::release(snapshot),
        Some(Verdict::Terminate) => escalation::terminate_for_human(snapshot),
        Some(Verdict::Confirm) | None => escalation::respond(snapshot),
    }
}

fn expire(snapshot: &Snapshot) -> Plan {
    let status = snapshot.incident.status.as_ref();
    let Some(closed_at) = status.and_then(|status| status.closed_at.as_ref()) else {
        return Plan {
            close: true,
            ..Plan::default()
        };
    };
    let age = snapshot.now.duration_since(closed_at.0).unsigned_abs();
    if age >= snapshot.ttl {
        return Plan::step(Step::Expire);
    }
    Plan::default().recheck_in(snapshot.ttl.saturating_sub(age))
}

/// The time of the newest contact in the evidence, as the log recorded it.
fn newest_evidence(incident: &Incident) -> Option<Timestamp> {
    incident
        .spec
        .evidence
        .iter()
        .map(|entry| entry.last_seen.0)
        .max()
}

/// Whether an action of this kind is recorded as succeeded.
fn has_done(incident: &Incident, kind: ActionKind) -> bool {
    results_of(incident, kind).any(|result| result == ActionResult::Succeeded)
}

/// Whether an action of this kind on this object is recorded as succeeded or skipped.
fn has_settled(incident: &Incident, kind: ActionKind, uid: &str) -> bool {
    results_on(incident, kind, uid).any(|result| result != ActionResult::Failed)
}

/// Whether an action of this kind on this object is recorded as succeeded.
fn has_done_to(incident: &Incident, kind: ActionKind, uid: &str) -> bool {
    results_on(incident, kind, uid).any(|result| result == ActionResult::Succeeded)
}

/// Whether an action of this kind is recorded, with any result.
fn has_tried(incident: &Incident, kind: ActionKind) -> bool {
    results_of(incident, kind).next().is_some()
}

fn results_of(incident: &Incident, kind: ActionKind) -> impl Iterator<Item = ActionResult> {
    let actions = incident.actions().iter();
    actions
        .filter(move |action| action.kind == kind)
        .map(|action| action.result)
}

fn results_on(
    incident: &Incident,
    kind: ActionKind,
    uid: &str,
) -> impl Iterator<Item = ActionResult> {
    let actions = incident.actions().iter();
    actions
        .filter(move |action| action.kind == kind && action.target.uid == uid)
        .map(|action| action.result)
}

/// The reason of a condition of the Incident.
fn reason_of(incident: &Incident, condition: IncidentCondition) -> Option<&str> {
    condition_of(incident.conditions(), condition.name()).map(|known| known.reason.as_str())
}

/// When the pod was isolated, according to the recorded actions.
#[must_use]
pub fn isolated_at(incident: &Incident) -> Option<Timestamp> {
    let isolations = incident.actions().iter().filter(|action| {
        action.kind == ActionKind::Isolate && action.result == ActionResult::Succeeded
    });
    isolations.map(|action| action.time.0).min()
}

/// A signed duration, for comparisons with differences of times.
fn signed(duration: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
