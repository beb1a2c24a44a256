//! The ladder: throttle, where that is all that is allowed; else isolate; where that does not hold, suspend the owner; where that is not possible or
//! not enough and the run allows it, delete the pod. Never delete first: the owner would bring a
//! replacement that does the same.

use super::{
    HASTENED_S, Hold, Lever, Plan, PodView, RECHECK, RECHECK_SLOWLY, Situation, Step,
    asks_for_action, has_done, has_done_to, has_settled, has_tried, newest_evidence, pod_target,
    reason_of, throttle,
};
use crate::api::{ActionKind, IncidentCondition, Reason, ResponseAction, RestoreEntry};
use crate::respond::verify::proof::{Proof, prove};

/// The next thing to do about an open Incident that no human decided on.
pub fn respond(situation: &Situation<'_>) -> Plan {
    let plan = if situation.labelled.is_empty() && !was_isolated(situation) {
        match refusal(situation) {
            Some(refusal) => refusal,
            None => isolate_or_hold(situation),
        }
    } else {
        isolate_or_hold(situation)
    };
    say_open(situation, plan)
}

/// What a human's `Terminate` asks for: the owner suspended and the pods deleted.
pub fn terminate_for_human(situation: &Situation<'_>) -> Plan {
    if let Some(step) = next_suspension(situation) {
        return Plan::step(step);
    }
    let mut pods = situation.pods.iter().chain(&situation.labelled);
    // A pod that is cut off may end in its own time.
    let goes_on = goes_on(situation);
    let grace_s = goes_on.then_some(HASTENED_S);
    if let Some(pod) = pods.clone().find(|pod| pod.grace_s.is_none()) {
        return Plan::step(Step::Terminate(pod.clone(), grace_s));
    }
    if goes_on && let Some(pod) = pods.clone().find(|pod| pod.lingers()) {
        return Plan::step(Step::Hasten(pod.clone()));
    }
    if pods.next().is_some() {
        let message = "a human ended it, and the pod is still on its way out";
        let closed = IncidentCondition::Closed;
        return Plan::default()
            .say(closed, Some(false), Reason::Terminated, message)
            .again_in(RECHECK);
    }
    let gone = "a human ended it: the pod is gone";
    let plan = Plan {
        close: true,
        ..Plan::default()
    };
    plan.say(
        IncidentCondition::Contained,
        Some(true),
        Reason::PodGone,
        gone,
    )
    .say(
        IncidentCondition::Verified,
        Some(true),
        Reason::PodGone,
        gone,
    )
    .say(
        IncidentCondition::Closed,
        Some(true),
        Reason::Terminated,
        gone,
    )
}

fn was_isolated(situation: &Situation<'_>) -> bool {
    has_done(situation.incident, ActionKind::Isolate)
}

/// Why nothing is done, if so. Only asked before the first action: what stands is never undone
/// because a limit changed.
fn refusal(situation: &Situation<'_>) -> Option<Plan> {
    let refuse = |reason, message: &str| {
        Plan::default().say(IncidentCondition::Contained, Some(false), reason, message)
    };
    let incident = situation.incident;
    if !asks_for_action(incident) {
        let observed = incident
            .spec
            .evidence
            .iter()
            .any(|entry| entry.observe_only);
        return Some(if observed {
            refuse(
                Reason::ObserveOnly,
                "the mode is Observe: with Enforce the pod would be isolated",
            )
        } else {
            refuse(
                Reason::AlertOnly,
                "the evidence is worth a look and does not cross the line",
            )
        });
    }
    if situation.bounds.max_action < ResponseAction::Throttle {
        let message = "maxAction is Alert: the pod is left alone";
        return Some(refuse(Reason::ActionLimited, message));
    }
    if let Some(why) = &situation.protected {
        return Some(refuse(Reason::Protected, why));
    }
    if situation.pods.is_empty() {
        return None;
    }
    if situation.bounds.max_action < ResponseAction::Isolate {
        return Some(throttled(situation));
    }
    breaker_refusal(situation).or_else(|| {
        let wanted = situation
            .pods
            .iter()
            .filter(|pod| pod.quarantine.is_none())
            .count();
        let total = situation.quarantined_elsewhere.saturating_add(wanted);
        (total > situation.quarantine_max).then(|| {
            let message = format!(
                "{} pods are in quarantine and at most {} may be: release some, or raise the cap",
                situation.quarantined_elsewhere, situation.quarantine_max
            );
            refuse(Reason::CapReached, &message).again_in(RECHECK_SLOWLY)
        })
    })
}

/// As far as it goes where isolation is not allowed: less CPU, and the traffic goes on.
fn throttled(situation: &Situation<'_>) -> Plan {
    let subject = &situation.incident.spec.subject.uid;
    if !has_settled(situation.incident, ActionKind::Throttle, subject)
        && let Some(refusal) = breaker_refusal(situation)
    {
        return refusal;
    }
    if let Some(next) = throttle::next(situation) {
        return next;
    }
    let message = if has_done_to(situation.incident, ActionKind::Throttle, subject) {
        "maxAction is Throttle: CPU is taken from the pod, and its traffic goes on"
    } else {
        "maxAction is Throttle, and no CPU can be taken from the pod: see the actions for why"
    };
    Plan::default().say(
        IncidentCondition::Contained,
        Some(false),
        Reason::ActionLimited,
        message,
    )
}

fn breaker_refusal(situation: &Situation<'_>) -> Option<Plan> {
    let breaker = situation.breaker;
    if breaker.is_open() {
        let message = format!(
            "{} pods crossed the line within 5 minutes and at most {} are acted on: something that \
             they share may be broken, look at DNS, the network plug-in and registries first",
            breaker.crossings, breaker.crossings_max
        );
        return Some(
            Plan::default()
                .say(
                    IncidentCondition::Contained,
                    Some(false),
                    Reason::BreakerOpen,
                    message,
                )
                .again_in(RECHECK_SLOWLY),
        );
    }
    // The breaker has reset. What was held back while it was open is acted on only if it goes on.
    let held_back = reason_of(situation.incident, IncidentCondition::Contained)
        == Some(Reason::BreakerOpen.name());
    let is_fresh = newest_evidence(situation.incident)
        .is_some_and(|time| situation.now.duration_since(time) <= super::signed(super::FRESH));
    (held_back && !is_fresh).then(|| {
        Plan::default().say(
            IncidentCondition::Contained,
            Some(false),
            Reason::BreakerOpen,
            "the circuit breaker has reset and this finding is stale: dropped unless new evidence comes",
        )
    })
}

fn isolate_or_hold(situation: &Situation<'_>) -> Plan {
    if situation.pods.is_empty() {
        let gone = "the pod no longer exists";
        return Plan::default()
            .say(
                IncidentCondition::Contained,
                Some(true),
                Reason::PodGone,
                gone,
            )
            .say(
                IncidentCondition::Verified,
                Some(true),
                Reason::PodGone,
                gone,
            );
    }
    let free: Vec<_> = situation
        .pods
        .iter()
        .filter(|pod| pod.quarantine.is_none())
        .cloned()
        .collect();
    if !free.is_empty() {
        return Plan::step(Step::Isolate(free));
    }
    if !was_isolated(situation) {
        // A crash came between the label and its record: do it once more, for the record.
        let unrecorded = situation.labelled.clone();
        if !unrecorded.is_empty() {
            return Plan::step(Step::Isolate(unrecorded));
        }
    }
    if !situation.deny.stands {
        return Plan::default()
            .say(
                IncidentCondition::Contained,
                Some(false),
                Reason::ActionFailed,
                "the pod carries the quarantine label, but the deny that selects it is not stored",
            )
            .again_in(RECHECK);
    }
    hold(situation)
}

fn proof_of(situation: &Situation<'_>) -> Proof {
    situation.witnessed.as_ref().map_or(Proof::Awaited, prove)
}

/// Whether the pod's traffic passes the deny, or may.
fn goes_on(situation: &Situation<'_>) -> bool {
    !situation.deny.widened_by.is_empty() || matches!(proof_of(situation), Proof::Survives(_))
}

/// The pod is isolated: does that hold, and if not, what comes next?
fn hold(situation: &Situation<'_>) -> Plan {
    let proof = proof_of(situation);
    let is_wide = !situation.deny.widened_by.is_empty();
    if goes_on(situation)
        && let Some(step) = next_rung(situation)
    {
        return Plan::step(step);
    }
    if matches!(situation.lever, Lever::Unread)
        && has_tried(situation.incident, ActionKind::Suspend)
    {
        // What is said below must be seen, not remembered.
        return Plan::step(Step::LookAtOwner);
    }
    let is_final = matches!(proof, Proof::Stopped | Proof::OpenUnseen);
    let plan = Plan::default().again_in(if is_final && !is_wide {
        RECHECK_SLOWLY
    } else {
        RECHECK
    });
    say_proof(say_contained(situation, plan, is_wide), proof)
}

fn say_contained(situation: &Situation<'_>, plan: Plan, is_wide: bool) -> Plan {
    let contained = IncidentCondition::Contained;
    if is_wide {
        let names = situation.deny.widened_by.join(", ");
        let message = format!(
            "the pod is labelled and denied, but network policies are a union and these allow its \
             traffic: {names}; narrow them, or let maxAction reach Suspend"
        );
        return plan.say(contained, Some(false), Reason::UnionWidened, message);
    }
    if is_suspended(situation) {
        let message = "the pod is isolated and its owner suspended";
        return plan.say(contained, Some(true), Reason::OwnerSuspended, message);
    }
    let message = "a deny of both directions stands and selects the pod";
    plan.say(contained, Some(true), Reason::Isolated, message)
}

fn say_proof(plan: Plan, proof: Proof) -> Plan {
    let verified = IncidentCondition::Verified;
    match proof {
        Proof::Stopped => plan.say(
            verified,
            Some(true),
            Reason::Verified,
            "the log went on and showed no more traffic of the pod",
        ),
        Proof::Survives(time) => plan.say(
            verified,
            Some(false),
            Reason::ConnectionsSurvive,
            format!("traffic of the pod passed after the isolation, last at {time}"),
        ),
        Proof::OpenUnseen => plan.say(
            verified,
            None,
            Reason::OpenConnectionsUnseen,
            "nothing new of the pod passes, and no source tells of connections that were open \
             before the isolation: docs/containment.md has the rule for that",
        ),
        Proof::Awaited => plan.say(
            verified,
            None,
            Reason::AwaitingProof,
            "the log has not spoken for long enough since the isolation",
        ),
        Proof::Silent => plan.say(
            verified,
            None,
            Reason::SourceSilent,
            "no source speaks, and silence proves nothing: look at the egress log's collector",
        ),
    }
}

/// The next rung above isolation, if the run allows one and one is left.
fn next_rung(situation: &Situation<'_>) -> Option<Step> {
    let max_action = situation.bounds.max_action;
    if max_action < ResponseAction::Suspend {
        return None;
    }
    if let Some(step) = next_suspension(situation) {
        return Some(step);
    }
    // The owner is held by now, or cannot be, and the pod is kept in the Incident. A pod that is being
    // deleted is lost already; what survives in it must not live as long as it likes to take.
    if let Some(pod) = situation.pods.iter().find(|pod| pod.lingers()) {
        return Some(Step::Hasten(pod.clone()));
    }
    // An owner that is held deletes its pods by itself, unless its controller is away.
    let pod = situation.pods.iter().find(|pod| pod.grace_s.is_none());
    (max_action >= ResponseAction::Terminate)
        .then(|| pod.map(|pod| Step::Terminate(pod.clone(), Some(HASTENED_S))))
        .flatten()
}

/// The next step towards a suspended owner: look at it, capture what the suspension destroys, note
/// what must be restored, suspend. `None` once that is done, or impossible and said so.
fn next_suspension(situation: &Situation<'_>) -> Option<Step> {
    let incident = situation.incident;
    let pod = situation.pods.first();
    if !has_tried(incident, ActionKind::Capture)
        && let Some(pod) = pod
    {
        return Some(Step::Capture(pod.clone()));
    }
    let skip = |why: &str| {
        let subject = &incident.spec.subject;
        let target = pod_target(&PodView {
            name: subject.name.clone(),
            uid: subject.uid.clone(),
            node: None,
            quarantine: None,
            grace_s: None,
        });
        (!has_settled(incident, ActionKind::Suspend, &subject.uid)).then_some(Step::Skip(
            ActionKind::Suspend,
            target,
            why.to_owned(),
        ))
    };
    match &situation.lever {
        Lever::Unread => Some(Step::LookAtOwner),
        Lever::Owners(holds) => holds.iter().find_map(|hold| {
            // The one above must be held by then, or the pod comes back.
            let is_last = holds.iter().all(|other| other == hold || other.is_set());
            let ending = if is_last {
                ending(situation)
            } else {
                Vec::new()
            };
            next_hold(situation, hold, ending)
        }),
        Lever::None => skip("nothing owns the pod, so nothing can be suspended"),
        Lever::Unsupported(why) => skip(why),
    }
}

/// The Incident's pod, where its traffic goes on. Its owner's controller deletes it as soon as that is
/// held, with the grace period of the pod's choice, and a kubelet that has begun to stop it takes no
/// shorter one: whoever asks first decides.
fn ending(situation: &Situation<'_>) -> Vec<PodView> {
    let subject = &situation.incident.spec.subject.uid;
    let own = situation.pods.iter().filter(|pod| pod.uid == *subject);
    let own = own.filter(|pod| pod.grace_s.is_none() || pod.lingers());
    if goes_on(situation) {
        own.cloned().collect()
    } else {
        Vec::new()
    }
}

/// The next step towards one owner that is held.
fn next_hold(situation: &Situation<'_>, hold: &Hold, ending: Vec<PodView>) -> Option<Step> {
    let incident = situation.incident;
    let own = incident
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.restore);
    let is_ours = |entry: &&RestoreEntry| hold.is_of(entry);
    let saved = own.iter().find(is_ours);
    if !hold.is_set() {
        // What somebody set since it was saved, or since we set it, is what a release goes back to.
        let is_saved = saved.is_some_and(|entry| entry.before == hold.now);
        return Some(if is_saved {
            Step::Suspend(hold.clone(), ending)
        } else {
            Step::Save(hold.entry())
        });
    }
    if saved.is_some() {
        // Suspended by us. After a crash between the change and its record the record is missing, and
        // after a lost reply it says that it failed.
        return (!has_done_to(incident, ActionKind::Suspend, &hold.target.uid))
            .then(|| Step::Suspend(hold.clone(), ending));
    }
    // A second Incident must not take the value that the first one set for the original.
    let inherited = situation
        .others
        .iter()
        .flat_map(|other| &other.restore)
        .find(is_ours);
    if let Some(entry) = inherited {
        return Some(Step::Save(entry.clone()));
    }
    (!has_settled(incident, ActionKind::Suspend, &hold.target.uid)).then(|| {
        let why = "the owner was suspended by somebody else already".to_owned();
        Step::Skip(ActionKind::Suspend, hold.target.clone(), why)
    })
}

fn is_suspended(situation: &Situation<'_>) -> bool {
    let Lever::Owners(holds) = &situation.lever else {
        return false;
    };
    !holds.is_empty() && holds.iter().all(Hold::is_set)
}

/// Detected and Closed, as they are for every Incident that is open.
fn say_open(situation: &Situation<'_>, plan: Plan) -> Plan {
    let worst = situation.incident.spec.evidence.iter().max_by(|a, b| {
        // "Quarantine" sorts after "Alert"; then by how far the line was crossed.
        (a.severity.as_str(), a.score / a.threshold)
            .partial_cmp(&(b.severity.as_str(), b.score / b.threshold))
            .unwrap_or(std::cmp::Ordering::Equal)
    });
    let summary = worst.map_or("no evidence yet", |entry| entry.summary.as_str());
    let reason = if asks_for_action(situation.incident) {
        Reason::FindingCrossed
    } else {
        Reason::AlertOnly
    };
    let has_evidence = worst.is_some();
    plan.say(
        IncidentCondition::Detected,
        Some(has_evidence),
        reason,
        summary,
    )
    .say(
        IncidentCondition::Closed,
        Some(false),
        Reason::AwaitingHuman,
        "set spec.disposition to Confirm, Release or Terminate, with by and why",
    )
}
