//! The plan: from what is known about an Incident to the next thing to do about it.
//!
//! Pure: called by `respond::reconcile` with everything it needs, time included; does nothing
//! itself. Each call looks at what *is* (labels on pods, state of the owner, what the log showed),
//! never at what was ordered, so that a crash between any two steps costs nothing but a repeat.

mod breaker;
mod capture;
mod escalation;
mod release;
pub mod suspension;
pub mod throttle;

use std::time::Duration;

use jiff::Timestamp;

use crate::api::{
    ActionKind, ActionResult, EvidenceEntry, Incident, IncidentCondition, ObjectTarget, Reason,
    ResponseAction, ResponseScope, RestoreEntry, Verdict, condition_is, condition_of,
};
use crate::respond::verify::proof::Witnessed;

pub use breaker::{BREAKER_WINDOW, Breaker, BreakerLimits};
pub use capture::captured_pod;
pub use suspension::Hold;
pub use throttle::Cpu;

/// How soon to look again where only time can tell.
pub const RECHECK: Duration = Duration::from_secs(2);

/// How soon to look again where something outside has to change first.
pub const RECHECK_SLOWLY: Duration = Duration::from_secs(30);

/// A finding this old is no reason to act any more once the circuit breaker has reset.
pub const FRESH: Duration = Duration::from_mins(1);

/// The grace period of a pod whose traffic goes on, in seconds. Not 0: the API server would drop the
/// object at once, and with it the label that the deny selects, while its processes live on.
pub const HASTENED_S: u32 = 1;

/// Everything that the plan looks at.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    /// The Incident, with the status as far as it is known.
    pub incident: &'a Incident,
    /// The time.
    pub now: Timestamp,
    /// How far a response may go.
    pub bounds: Bounds,
    /// Why nothing may be done to this pod automatically, if so.
    pub protected: Option<String>,
    /// The pods to contain that exist: the Incident's own, or with scope `Run` every pod of the run.
    pub pods: Vec<PodView>,
    /// The pods that carry this Incident's quarantine label, wherever they come from.
    pub labelled: Vec<PodView>,
    /// The owner of the Incident's pod.
    pub lever: Lever,
    /// What CPU can be taken from the Incident's pod; `None` until it was looked at.
    pub cpu: Option<Cpu>,
    /// The standing deny.
    pub deny: Deny,
    /// The circuit breaker.
    pub breaker: Breaker,
    /// Pods in quarantine because of other Incidents.
    pub quarantined_elsewhere: usize,
    /// The most pods that may be in quarantine.
    pub quarantine_max: usize,
    /// What the log showed since the pod was isolated.
    pub witnessed: Option<Witnessed>,
    /// What other open Incidents hold.
    pub others: Vec<OtherIncident>,
    /// How long a closed Incident is kept.
    pub ttl: Duration,
}

/// How far a response may go: the run's settings, inside its policy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The highest rung of the ladder.
    pub max_action: ResponseAction,
    /// What is contained.
    pub scope: ResponseScope,
}

/// A pod, as far as the plan looks at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodView {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Its node.
    pub node: Option<String>,
    /// The value of its quarantine label.
    pub quarantine: Option<String>,
    /// Its grace period in seconds, where it is being deleted.
    pub grace_s: Option<i64>,
}

impl PodView {
    /// Whether it is being deleted, and may take longer than it has to.
    fn lingers(&self) -> bool {
        self.grace_s
            .is_some_and(|seconds| seconds > i64::from(HASTENED_S))
    }
}

/// What can be done about the owner, so that no replacement goes on.
#[derive(Clone, Debug, PartialEq)]
pub enum Lever {
    /// Nobody looked yet: that takes reads, so only a plan that needs to know asks for it.
    Unread,
    /// Owners that can be held, in this order.
    Owners(Vec<Hold>),
    /// Nothing owns the pod, or what does is gone.
    None,
    /// An owner that cannot be suspended, in words.
    Unsupported(String),
}

/// The standing deny that selects the quarantine label.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deny {
    /// It is stored.
    pub stands: bool,
    /// Policies that let traffic of a quarantined pod through all the same.
    pub widened_by: Vec<String>,
}

/// Another open Incident, as far as a release must know it.
#[derive(Clone, Debug, PartialEq)]
pub struct OtherIncident {
    /// Name.
    pub name: String,
    /// UIDs of the pods that it contains; none where it has not acted yet.
    pub pod_uids: Vec<String>,
    /// UID of its run.
    pub run_uid: Option<String>,
    /// Its own pod is gone, or on its way.
    pub pod_is_gone: bool,
    /// UIDs of the owners of its pod, where they are known.
    pub owners: Option<Vec<String>>,
    /// What it must restore.
    pub restore: Vec<RestoreEntry>,
}

/// One thing to do. Each can be done twice without harm.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Put the quarantine label on these pods.
    Isolate(Vec<PodView>),
    /// Keep the pod in the Incident.
    Capture(PodView),
    /// Note what must be restored, before it is changed.
    Save(RestoreEntry),
    /// Find out what can be done about the owner.
    LookAtOwner,
    /// Find out what CPU can be taken from this pod.
    LookAtCpu(PodView),
    /// Take CPU from this pod: its containers get the resources that the entries set.
    Throttle(PodView, Vec<RestoreEntry>),
    /// Hold the owner, and at once give these pods, which its controller is about to delete,
    /// [`HASTENED_S`] to end.
    Suspend(Hold, Vec<PodView>),
    /// Note that something is deliberately not done.
    Skip(ActionKind, ObjectTarget, String),
    /// Shorten the grace period of this pod, which is being deleted, to [`HASTENED_S`].
    Hasten(PodView),
    /// Delete this pod, with this grace period in seconds, or with its own.
    Terminate(PodView, Option<u32>),
    /// Take the quarantine label off this pod, or pass it on to another Incident.
    Unlabel {
        /// The pod.
        pod: PodView,
        /// The Incident that keeps it in quarantine.
        pass_to: Option<String>,
    },
    /// Set a field back, or leave it because another Incident still needs it.
    Restore {
        /// What.
        entry: RestoreEntry,
        /// The Incident that still holds it.
        held_by: Option<String>,
    },
    /// Delete the Incident: it was closed long ago.
    Expire,
}

/// One condition of the Incident, as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Which.
    pub condition: IncidentCondition,
    /// `None` is Unknown.
    pub status: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// The sentence for people.
    pub message: String,
}

/// What to do now, what to say, and when to look again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// The next step. What is said holds only once there is none left.
    pub step: Option<Step>,
    /// Conditions to set.
    pub said: Vec<Said>,
    /// When to look again even if nothing changes.
    pub recheck: Option<Duration>,
    /// The Incident is dealt with: note the time.
    pub close: bool,
}

impl Plan {
    fn step(step: Step) -> Self {
        Self {
            step: Some(step),
            ..Self::default()
        }
    }

    fn say(
        mut self,
        condition: IncidentCondition,
        status: Option<bool>,
        reason: Reason,
        message: impl Into<String>,
    ) -> Self {
        self.said.push(Said {
            condition,
            status,
            reason,
            message: message.into(),
        });
        self
    }

    const fn again_in(mut self, delay: Duration) -> Self {
        self.recheck = Some(delay);
        self
    }
}

/// The next thing to do about an Incident.
#[must_use]
pub fn plan(situation: &Situation<'_>) -> Plan {
    let conditions = situation
        .incident
        .status
        .as_ref()
        .map_or(&[][..], |s| &s.conditions);
    if condition_is(conditions, IncidentCondition::Closed.name()) {
        return expire(situation);
    }
    let verdict = situation
        .incident
        .spec
        .disposition
        .as_ref()
        .map(|d| d.verdict);
    match verdict {
        Some(Verdict::Release) => release::release(situation),
        Some(Verdict::Terminate) => escalation::terminate_for_human(situation),
        Some(Verdict::Confirm) | None => escalation::respond(situation),
    }
}

fn expire(situation: &Situation<'_>) -> Plan {
    let closed_at = situation
        .incident
        .status
        .as_ref()
        .and_then(|s| s.closed_at.as_ref());
    let Some(closed_at) = closed_at else {
        return Plan {
            close: true,
            ..Plan::default()
        };
    };
    let age = situation.now.duration_since(closed_at.0).unsigned_abs();
    if age >= situation.ttl {
        return Plan::step(Step::Expire);
    }
    Plan::default().again_in(situation.ttl.saturating_sub(age))
}

/// Whether any evidence asks for more than an alert, in a mode that acts.
fn asks_for_action(incident: &Incident) -> bool {
    let mut evidence = incident.spec.evidence.iter();
    evidence.any(EvidenceEntry::is_actionable)
}

/// The newest contact in the evidence, as the log recorded it.
fn newest_evidence(incident: &Incident) -> Option<Timestamp> {
    incident
        .spec
        .evidence
        .iter()
        .map(|entry| entry.last_seen.0)
        .max()
}

/// Whether an action of this kind is in the record as done.
fn has_done(incident: &Incident, kind: ActionKind) -> bool {
    results_of(incident, kind).any(|result| result == ActionResult::Succeeded)
}

/// Whether an action of this kind on this object is in the record as done, or as not to be done.
fn has_settled(incident: &Incident, kind: ActionKind, uid: &str) -> bool {
    actions_on(incident, kind, uid).any(|result| result != ActionResult::Failed)
}

/// Whether an action of this kind on this object is in the record as done.
fn has_done_to(incident: &Incident, kind: ActionKind, uid: &str) -> bool {
    actions_on(incident, kind, uid).any(|result| result == ActionResult::Succeeded)
}

fn actions_on(
    incident: &Incident,
    kind: ActionKind,
    uid: &str,
) -> impl Iterator<Item = ActionResult> {
    let actions = incident
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.actions);
    actions
        .iter()
        .filter(move |action| action.kind == kind && action.target.uid == uid)
        .map(|action| action.result)
}

/// The pod as an action's target.
fn pod_target(pod: &PodView) -> ObjectTarget {
    ObjectTarget {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    }
}

/// Whether an action of this kind is in the record, however it ended.
fn has_tried(incident: &Incident, kind: ActionKind) -> bool {
    results_of(incident, kind).next().is_some()
}

fn results_of(incident: &Incident, kind: ActionKind) -> impl Iterator<Item = ActionResult> {
    let actions = incident
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.actions);
    actions
        .iter()
        .filter(move |action| action.kind == kind)
        .map(|action| action.result)
}

/// The reason of a condition of the Incident.
fn reason_of(incident: &Incident, condition: IncidentCondition) -> Option<&str> {
    let conditions = &incident.status.as_ref()?.conditions;
    condition_of(conditions, condition.name()).map(|condition| condition.reason.as_str())
}

/// When the pod was isolated, according to the record.
#[must_use]
pub fn isolated_at(incident: &Incident) -> Option<Timestamp> {
    let actions = &incident.status.as_ref()?.actions;
    let isolations = actions.iter().filter(|action| {
        action.kind == ActionKind::Isolate && action.result == ActionResult::Succeeded
    });
    isolations.map(|action| action.time.0).min()
}

/// As a signed duration, for comparing with differences of times.
fn signed(duration: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
