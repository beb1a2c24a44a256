//! The order of actions for an open Incident: throttle if that is all the run allows; else isolate; if
//! that does not stop the traffic, suspend the owner; if that is not possible or not enough and the
//! run allows it, delete the pod. Deleting is never first: the owner would replace the pod.

use std::time::Duration;

use super::cilium;
use super::snapshot::{OwnerControl, PodView, SHORTENED_GRACE_S, Snapshot};
use super::status::{has_done, has_done_to, has_settled, has_tried, newest_evidence, reason_of};
use super::step::{Plan, RECHECK, RECHECK_SLOWLY, Step};
use super::suspension::Suspension;
use super::throttle::CpuReduction;
use crate::api::{
    ActionKind, IncidentCondition, ObjectTarget, Reason, ResponseAction, RestoreEntry,
};
use crate::model::EventTime;
use crate::respond::verify::proof::{Proof, prove};

/// After the circuit breaker has reset, a finding older than this is not acted on.
const FRESH: Duration = Duration::from_mins(1);

/// Plans for an open Incident without a disposition, or with `Confirm`.
pub(super) fn respond(snapshot: &Snapshot) -> Plan {
    let has_begun = !snapshot.labelled.is_empty() || was_isolated(snapshot);
    let plan = if has_begun {
        isolate(snapshot)
    } else {
        match refusal(snapshot) {
            // What was done on Cilium before the label is undone.
            Some(plan) => cilium::lift(snapshot).map_or(plan, Plan::step),
            None => isolate(snapshot),
        }
    };
    add_open_conditions(snapshot, plan)
}

/// Plans for the disposition `Terminate`: suspend the owner and delete the pods.
pub(super) fn terminate_for_human(snapshot: &Snapshot) -> Plan {
    if let Some(step) = next_suspension(snapshot) {
        return Plan::step(step);
    }
    let mut pods = snapshot.pods.iter().chain(&snapshot.labelled);
    // An isolated pod may use its own grace period.
    let continues = traffic_continues(snapshot);
    let grace_s = continues.then_some(SHORTENED_GRACE_S);
    if let Some(pod) = pods.clone().find(|pod| pod.grace_s.is_none()) {
        return Plan::step(Step::Terminate(pod.clone(), grace_s));
    }
    if continues && let Some(pod) = pods.clone().find(|pod| pod.has_long_grace()) {
        return Plan::step(Step::ShortenGracePeriod(pod.clone()));
    }
    if pods.next().is_some() {
        let message = "a human chose Terminate, and the pod is being deleted";
        let closed = IncidentCondition::Closed;
        return Plan::default()
            .condition(closed, Some(false), Reason::Terminated, message)
            .recheck_in(RECHECK);
    }
    if let Some(step) = cilium::lift(snapshot) {
        return Plan::step(step);
    }
    let gone = "a human chose Terminate, and the pod is gone";
    let plan = Plan {
        close: true,
        ..Plan::default()
    };
    plan.condition(
        IncidentCondition::Contained,
        Some(true),
        Reason::PodGone,
        gone,
    )
    .condition(
        IncidentCondition::Verified,
        Some(true),
        Reason::PodGone,
        gone,
    )
    .condition(
        IncidentCondition::Closed,
        Some(true),
        Reason::Terminated,
        gone,
    )
}

fn was_isolated(snapshot: &Snapshot) -> bool {
    has_done(&snapshot.incident, ActionKind::Isolate)
}

/// Why the pod is not isolated, if it is not. Called only before the first action: a changed limit
/// never undoes an action.
fn refusal(snapshot: &Snapshot) -> Option<Plan> {
    let refuse = |reason, message: &str| {
        Plan::default().condition(IncidentCondition::Contained, Some(false), reason, message)
    };
    let incident = &snapshot.incident;
    if !incident.is_actionable() {
        let mut evidence = incident.spec.evidence.iter();
        return Some(if evidence.any(|entry| entry.observe_only) {
            refuse(
                Reason::ObserveOnly,
                "the mode is Observe: with Enforce the pod would be isolated",
            )
        } else {
            refuse(
                Reason::AlertOnly,
                "the evidence is below the threshold for a quarantine",
            )
        });
    }
    if let Some(message) = node_mismatch(snapshot) {
        return Some(refuse(Reason::NodeMismatch, &message));
    }
    if snapshot.bounds.max_action < ResponseAction::Throttle {
        let message = "maxAction is Alert: no action is taken";
        return Some(refuse(Reason::ActionLimited, message));
    }
    if let Some(why) = &snapshot.protected {
        return Some(refuse(Reason::Protected, why));
    }
    if snapshot.pods.is_empty() {
        return None;
    }
    if snapshot.bounds.max_action < ResponseAction::Isolate {
        return Some(throttle_only(snapshot));
    }
    breaker_refusal(snapshot).or_else(|| {
        let pods = snapshot.pods.iter();
        let new = pods.filter(|pod| pod.quarantine.is_none()).count();
        let message = snapshot.quarantines.refusal(new)?;
        Some(refuse(Reason::CapReached, &message).recheck_in(RECHECK_SLOWLY))
    })
}

/// Why the evidence does not count, if the Incident names another node than that of its pod. Admission binds what an agent
/// writes to its own node, so this one is by the agent of a node that never had the pod.
fn node_mismatch(snapshot: &Snapshot) -> Option<String> {
    let subject = &snapshot.incident.spec.subject;
    let pod = snapshot.pods.iter().find(|pod| pod.uid == subject.uid)?;
    let name = |node: &Option<String>| {
        node.as_ref()
            .map_or_else(|| "no node".to_owned(), |node| format!("node {node}"))
    };
    (pod.node != subject.node).then(|| {
        format!(
            "the Incident names {}, and the pod is on {}: its evidence does not count",
            name(&subject.node),
            name(&pod.node)
        )
    })
}

/// The plan where isolation is not allowed: reduce the CPU, and leave the traffic alone.
fn throttle_only(snapshot: &Snapshot) -> Plan {
    let incident = &snapshot.incident;
    let subject = &incident.spec.subject.uid;
    if !has_settled(incident, ActionKind::Throttle, subject)
        && let Some(refusal) = breaker_refusal(snapshot)
    {
        return refusal;
    }
    if let Some(step) = next_throttle(snapshot) {
        return Plan::step(step);
    }
    let message = if has_done_to(incident, ActionKind::Throttle, subject) {
        "maxAction is Throttle: the CPU of the pod is reduced, and its traffic continues"
    } else {
        "maxAction is Throttle, and the CPU of the pod cannot be reduced: see the actions for the reason"
    };
    Plan::default().condition(
        IncidentCondition::Contained,
        Some(false),
        Reason::ActionLimited,
        message,
    )
}

/// The next step towards a throttled pod; `None` when it is throttled, or recorded as impossible. Only
/// the Incident's own pod is throttled, whatever the scope: each rogue pod has its own Incident.
fn next_throttle(snapshot: &Snapshot) -> Option<Step> {
    let incident = &snapshot.incident;
    let subject = &incident.spec.subject;
    let pod = snapshot.pods.iter().find(|pod| pod.uid == subject.uid)?;
    if has_settled(incident, ActionKind::Throttle, &pod.uid) {
        return None;
    }
    let is_saved = |entry: &&RestoreEntry| entry.target.uid == pod.uid;
    let saved = incident.restore().iter().filter(is_saved);
    let saved: Vec<RestoreEntry> = saved.cloned().collect();
    Some(match &snapshot.cpu {
        None => Step::ReadCpu(pod.clone()),
        Some(CpuReduction::Possible(entries)) => {
            match entries.iter().find(|entry| !saved.contains(entry)) {
                Some(entry) => Step::RecordRestore(entry.clone()),
                None => Step::Throttle(pod.clone(), saved),
            }
        }
        // Throttled already, but the process ended before recording it: repeat the step to record it.
        Some(CpuReduction::Refused(_)) if !saved.is_empty() => Step::Throttle(pod.clone(), saved),
        Some(CpuReduction::Refused(why)) => {
            Step::Skip(ActionKind::Throttle, pod.target(), why.clone())
        }
    })
}

fn breaker_refusal(snapshot: &Snapshot) -> Option<Plan> {
    let refuse = |message: String| {
        let contained = IncidentCondition::Contained;
        Plan::default().condition(contained, Some(false), Reason::BreakerOpen, message)
    };
    let breaker = snapshot.breaker;
    if breaker.is_open() {
        let message = format!(
            "{} pods of this namespace and {} of others crossed the threshold within 5 minutes and at most {} are \
             acted on: a shared cause is likely, check DNS, the network plug-in and registries first",
            breaker.crossings, breaker.crossings_elsewhere, breaker.crossings_max
        );
        return Some(refuse(message).recheck_in(RECHECK_SLOWLY));
    }
    // After a reset, a finding that was held back is acted on only if there is new evidence.
    let held_back = reason_of(&snapshot.incident, IncidentCondition::Contained)
        == Some(Reason::BreakerOpen.name());
    let is_fresh = newest_evidence(&snapshot.incident)
        .is_some_and(|time| snapshot.now.duration_since(time) <= signed(FRESH));
    let message = "the circuit breaker has reset and this finding is stale: no action without new \
                   evidence";
    (held_back && !is_fresh).then(|| refuse(message.to_owned()))
}

fn isolate(snapshot: &Snapshot) -> Plan {
    if snapshot.pods.is_empty() {
        if let Some(step) = cilium::lift(snapshot) {
            return Plan::step(step);
        }
        let (contained, verified) = (IncidentCondition::Contained, IncidentCondition::Verified);
        let gone = "the pod no longer exists";
        return Plan::default()
            .condition(contained, Some(true), Reason::PodGone, gone)
            .condition(verified, Some(true), Reason::PodGone, gone);
    }
    let pods = snapshot.pods.iter();
    let unlabelled = pods.filter(|pod| pod.quarantine.is_none());
    let unlabelled: Vec<_> = unlabelled.cloned().collect();
    if !unlabelled.is_empty() {
        if let Some(plan) = cilium::before_label(snapshot) {
            return plan;
        }
        return Plan::step(Step::Isolate(unlabelled));
    }
    if !was_isolated(snapshot) && !snapshot.labelled.is_empty() {
        // The process ended between setting the label and recording it: repeat the step to record it.
        return Plan::step(Step::Isolate(snapshot.labelled.clone()));
    }
    if !snapshot.deny.is_stored {
        return Plan::default()
            .condition(
                IncidentCondition::Contained,
                Some(false),
                Reason::ActionFailed,
                "the pod carries the quarantine label, but the deny that selects it is not stored",
            )
            .recheck_in(RECHECK);
    }
    cilium::enforce(snapshot).unwrap_or_else(|| after_isolation(snapshot))
}

fn proof_of(snapshot: &Snapshot) -> Proof {
    let in_force = |observed| cilium::since_in_force(snapshot, observed);
    let observed = snapshot.traffic.map(in_force);
    match observed.as_ref().map_or(Proof::Pending, prove) {
        Proof::Survives(time) if cilium::is_too_early(snapshot, time) => Proof::Pending,
        proof => proof,
    }
}

/// Whether traffic of the pod passes the deny, or may pass it.
fn traffic_continues(snapshot: &Snapshot) -> bool {
    is_widened(snapshot) || matches!(proof_of(snapshot), Proof::Survives(_))
}

/// Whether another policy allows traffic of the pod in spite of the deny.
fn is_widened(snapshot: &Snapshot) -> bool {
    !snapshot.deny.widened_by.is_empty() && !cilium::is_denied(snapshot)
}

/// The pod is isolated: escalate if its traffic continues, and report what was proven.
fn after_isolation(snapshot: &Snapshot) -> Plan {
    let proof = proof_of(snapshot);
    let is_widened = is_widened(snapshot);
    if traffic_continues(snapshot)
        && let Some(step) = next_escalation(snapshot)
    {
        return Plan::step(step);
    }
    if matches!(snapshot.owner, OwnerControl::Unread)
        && has_tried(&snapshot.incident, ActionKind::Suspend)
    {
        // The condition below has to rest on the owner's current state.
        return Plan::step(Step::ReadOwner);
    }
    let is_final = matches!(proof, Proof::Stopped | Proof::SurvivorsUnknown);
    let plan = Plan::default().recheck_in(
        if is_final && !is_widened && !cilium::is_pending(snapshot) {
            RECHECK_SLOWLY
        } else {
            RECHECK
        },
    );
    let plan = add_contained(snapshot, plan, is_widened);
    add_verified(plan, proof, &snapshot.deny.overridden)
}

fn add_contained(snapshot: &Snapshot, plan: Plan, is_widened: bool) -> Plan {
    let contained = IncidentCondition::Contained;
    if is_widened {
        let names = snapshot.deny.widened_by.join(", ");
        let message = format!(
            "the pod is labelled and denied, but network policies are a union and these allow its \
             traffic: {names}; narrow them, or let maxAction reach Suspend"
        );
        return plan.condition(contained, Some(false), Reason::UnionWidened, message);
    }
    if is_suspended(snapshot) {
        let message = "the pod is isolated and its owner suspended";
        return plan.condition(contained, Some(true), Reason::OwnerSuspended, message);
    }
    let message = "a stored policy selects the pod and denies both directions";
    plan.condition(contained, Some(true), Reason::Isolated, message)
}

fn survival_message(time: EventTime, overridden: &[String]) -> String {
    let message = format!("traffic of the pod passed after the isolation, last at {time}");
    if overridden.is_empty() {
        return message;
    }
    format!(
        "{message}; if the network engine does not enforce the ClusterNetworkPolicy, which is stored, these policies allow it: {}",
        overridden.join(", ")
    )
}

fn add_verified(plan: Plan, proof: Proof, overridden: &[String]) -> Plan {
    let verified = IncidentCondition::Verified;
    match proof {
        Proof::Stopped => plan.condition(
            verified,
            Some(true),
            Reason::Verified,
            "the log continued and showed no more traffic of the pod",
        ),
        Proof::Survives(time) => plan.condition(
            verified,
            Some(false),
            Reason::ConnectionsSurvive,
            survival_message(time, overridden),
        ),
        Proof::SurvivorsUnknown => plan.condition(
            verified,
            None,
            Reason::OpenConnectionsUnverifiable,
            "no new traffic of the pod passes, and no source logs connections that were open before \
             the isolation: docs/containment.md has the rule for that",
        ),
        Proof::Pending => plan.condition(
            verified,
            None,
            Reason::AwaitingProof,
            "the log has not continued for long enough since the isolation",
        ),
        Proof::SourceStale => plan.condition(
            verified,
            None,
            Reason::SourceSilent,
            "no source sends records, which proves nothing: check the collector of the egress log",
        ),
    }
}

/// The next action above isolation, if the run allows one and one is left.
fn next_escalation(snapshot: &Snapshot) -> Option<Step> {
    let max_action = snapshot.bounds.max_action;
    if max_action < ResponseAction::Suspend {
        return None;
    }
    if let Some(step) = next_suspension(snapshot) {
        return Some(step);
    }
    // The owner is suspended or cannot be, and the pod is captured. A pod that is being deleted must
    // not keep its surviving connections for as long as it chose.
    let mut pods = snapshot.pods.iter();
    if let Some(pod) = pods.find(|pod| pod.has_long_grace()) {
        return Some(Step::ShortenGracePeriod(pod.clone()));
    }
    // A suspended owner deletes its pods by itself, unless its controller is not running.
    let mut pods = snapshot.pods.iter();
    let pod = pods.find(|pod| pod.grace_s.is_none());
    let terminate = |pod: &PodView| Step::Terminate(pod.clone(), Some(SHORTENED_GRACE_S));
    pod.filter(|_| max_action >= ResponseAction::Terminate)
        .map(terminate)
}

/// The next step towards a suspended owner: capture what the suspension destroys, read the owner,
/// record what must be restored, suspend. `None` when that is done, or recorded as impossible.
fn next_suspension(snapshot: &Snapshot) -> Option<Step> {
    let incident = &snapshot.incident;
    if !has_tried(incident, ActionKind::Capture)
        && let Some(pod) = snapshot.pods.first()
    {
        return Some(Step::Capture(pod.clone()));
    }
    let skip = |why: &str| {
        let subject = &incident.spec.subject;
        let target = ObjectTarget::pod(&subject.name, &subject.uid);
        let is_settled = has_settled(incident, ActionKind::Suspend, &subject.uid);
        (!is_settled).then(|| Step::Skip(ActionKind::Suspend, target, why.to_owned()))
    };
    match &snapshot.owner {
        OwnerControl::Unread => Some(Step::ReadOwner),
        OwnerControl::Suspendable(owners) => owners.iter().find_map(|owner| {
            // Pods are shortened with the last owner: an owner above it would replace them.
            let mut others = owners.iter().filter(|other| *other != owner);
            let pods = if others.all(Suspension::is_suspended) {
                pods_to_shorten(snapshot)
            } else {
                Vec::new()
            };
            next_step_for(snapshot, owner, pods)
        }),
        OwnerControl::NoOwner => skip("the pod has no owner, so there is nothing to suspend"),
        OwnerControl::Unsupported(why) => skip(why),
    }
}

/// The Incident's pod, if its traffic continues. The owner's controller deletes the pod after the
/// suspension with the grace period of the pod's choice, and a kubelet that has begun to stop a pod
/// accepts no shorter one: the first request counts.
fn pods_to_shorten(snapshot: &Snapshot) -> Vec<PodView> {
    if !traffic_continues(snapshot) {
        return Vec::new();
    }
    let subject = &snapshot.incident.spec.subject.uid;
    let own = snapshot.pods.iter().filter(|pod| pod.uid == *subject);
    own.filter(|pod| pod.grace_s.is_none() || pod.has_long_grace())
        .cloned()
        .collect()
}

/// The next step towards the suspension of one owner.
fn next_step_for(snapshot: &Snapshot, owner: &Suspension, pods: Vec<PodView>) -> Option<Step> {
    let incident = &snapshot.incident;
    let is_of_owner = |entry: &&RestoreEntry| owner.matches(entry);
    let saved = incident.restore().iter().find(is_of_owner);
    if !owner.is_suspended() {
        // A value that someone set after it was recorded is the one to restore.
        let is_saved = saved.is_some_and(|entry| entry.original_value == owner.current);
        return Some(if is_saved {
            Step::Suspend(owner.clone(), pods)
        } else {
            Step::RecordRestore(owner.restore_entry())
        });
    }
    if saved.is_some() {
        // Suspended by this Incident. If the process ended before recording the action, or the
        // response was lost, the step is repeated to record it.
        return (!has_done_to(incident, ActionKind::Suspend, &owner.target.uid))
            .then(|| Step::Suspend(owner.clone(), pods));
    }
    // The current value was set by another Incident: take over the original value from there.
    let mut others = snapshot.others.iter().flat_map(|other| &other.restore);
    if let Some(entry) = others.find(is_of_owner) {
        return Some(Step::RecordRestore(entry.clone()));
    }
    (!has_settled(incident, ActionKind::Suspend, &owner.target.uid)).then(|| {
        let why = "the owner was already suspended by someone else".to_owned();
        Step::Skip(ActionKind::Suspend, owner.target.clone(), why)
    })
}

fn is_suspended(snapshot: &Snapshot) -> bool {
    let OwnerControl::Suspendable(owners) = &snapshot.owner else {
        return false;
    };
    !owners.is_empty() && owners.iter().all(Suspension::is_suspended)
}

/// Adds the conditions that every open Incident has: Detected and Closed.
fn add_open_conditions(snapshot: &Snapshot, plan: Plan) -> Plan {
    let worst = snapshot.incident.worst_evidence();
    let summary = worst.map_or("no evidence yet", |entry| entry.summary.as_str());
    let reason = if snapshot.incident.is_actionable() {
        Reason::FindingCrossed
    } else {
        Reason::AlertOnly
    };
    plan.condition(
        IncidentCondition::Detected,
        Some(worst.is_some()),
        reason,
        summary,
    )
    .condition(
        IncidentCondition::Closed,
        Some(false),
        Reason::AwaitingHuman,
        "set spec.disposition to Confirm, Release or Terminate, with by and why",
    )
}

/// A signed duration, for comparisons with differences of times.
fn signed(duration: Duration) -> jiff::SignedDuration {
    jiff::SignedDuration::try_from(duration).unwrap_or(jiff::SignedDuration::MAX)
}
