//! Release: a human's word, and nothing else, undoes what was done, exactly.
//!
//! No limit is asked here: neither the circuit breaker nor the cap ever blocks a release.

use super::{OtherIncident, Plan, PodView, Situation, Step, suspension};
use crate::api::{ActionKind, ActionResult, IncidentCondition, Reason, RestoreEntry};

/// The next thing to undo; closes the Incident when nothing is left.
pub fn release(situation: &Situation<'_>) -> Plan {
    if let Some(pod) = situation.labelled.first() {
        return Plan::step(Step::Unlabel {
            pod: pod.clone(),
            pass_to: keeper_of(situation, pod),
        });
    }
    if let Some(pod) = unrecorded(situation) {
        return Plan::step(Step::Unlabel {
            pass_to: keeper_of(situation, &pod),
            pod,
        });
    }
    let saved = situation
        .incident
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.restore);
    if let Some(entry) = saved.first() {
        return Plan::step(Step::Restore {
            entry: entry.clone(),
            held_by: holder_of(situation, entry),
        });
    }
    let disposition = situation.incident.spec.disposition.as_ref();
    let by = disposition.map_or("a human", |disposition| disposition.by.as_str());
    let released = format!("released by {by}");
    Plan {
        close: true,
        ..Plan::default()
    }
    .say(
        IncidentCondition::Contained,
        Some(false),
        Reason::Released,
        released.clone(),
    )
    .say(
        IncidentCondition::Verified,
        None,
        Reason::Released,
        "no longer contained",
    )
    .say(
        IncidentCondition::Closed,
        Some(true),
        Reason::Released,
        released,
    )
}

/// The other Incident that needs this field as we set it: it noted so, or its pod went before it
/// could, and may be gone only because the owner is held. Who owned such a pod may not be known any
/// more, so every owner that its run's Incidents hold stays held until it is released too.
fn holder_of(situation: &Situation<'_>, entry: &RestoreEntry) -> Option<String> {
    let same = |held: &RestoreEntry| held.target == entry.target && held.field == entry.field;
    let holds = |other: &&OtherIncident| other.restore.iter().any(same);
    let run = situation.incident.spec.run.as_ref().map(|run| &run.uid);
    let may_rest_on = |other: &&OtherIncident| {
        // Kueue's Workload stands in no chain of owners.
        let is_owner = |owners: &Vec<String>| {
            owners.contains(&entry.target.uid) || entry.target.kind == suspension::WORKLOAD
        };
        entry.target.kind != "Pod"
            && other.pod_is_gone
            && run.is_some()
            && other.run_uid.as_ref() == run
            && !other.restore.iter().any(|held| held.target.kind != "Pod")
            && other.owners.as_ref().is_none_or(is_owner)
    };
    let mut others = situation.others.iter();
    let holder = others
        .clone()
        .find(holds)
        .or_else(|| others.find(may_rest_on));
    holder.map(|other| other.name.clone())
}

/// The other Incident that keeps this pod in quarantine.
fn keeper_of(situation: &Situation<'_>, pod: &PodView) -> Option<String> {
    let keeps = |other: &&OtherIncident| other.pod_uids.contains(&pod.uid);
    let keeper = situation.others.iter().find(keeps);
    keeper.map(|other| other.name.clone())
}

/// A pod that was isolated and no longer carries the label, of which the record says nothing: a
/// crash came in between. Taking the label off once more changes nothing, and completes the record.
fn unrecorded(situation: &Situation<'_>) -> Option<PodView> {
    let status = situation.incident.status.as_ref()?;
    let has = |pod: &PodView, kind: ActionKind| {
        status.actions.iter().any(|action| {
            action.kind == kind
                && action.target.uid == pod.uid
                && action.result == ActionResult::Succeeded
        })
    };
    let is_unrecorded = |pod: &&PodView| {
        has(pod, ActionKind::Isolate)
            && !has(pod, ActionKind::Restore)
            && pod.quarantine == keeper_of(situation, pod)
    };
    situation.pods.iter().find(is_unrecorded).cloned()
}
