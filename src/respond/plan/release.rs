//! Release: undoes exactly what was done, and only on a human's disposition (INV-7).
//!
//! Neither the circuit breaker nor the cap on quarantines blocks a release.

use super::snapshot::{OtherIncident, PodView, Snapshot};
use super::step::{Plan, Step};
use super::{cilium, suspension};
use crate::api::{ActionKind, ActionResult, IncidentCondition, Reason, RestoreEntry};

/// The next step to undo; closes the Incident when nothing is left.
pub(super) fn release(snapshot: &Snapshot) -> Plan {
    if let Some(step) = cilium::lift(snapshot) {
        return Plan::step(step);
    }
    let pod = snapshot.labelled.first().cloned();
    if let Some(pod) = pod.or_else(|| unrecorded(snapshot)) {
        return Plan::step(Step::RemoveQuarantineLabel {
            pass_to: quarantined_by(snapshot, &pod),
            pod,
        });
    }
    if let Some(entry) = snapshot.incident.restore().first() {
        return Plan::step(Step::Restore {
            entry: entry.clone(),
            needed_by: needed_by(snapshot, entry),
        });
    }
    let disposition = snapshot.incident.spec.disposition.as_ref();
    let by = disposition.map_or("a human", |disposition| disposition.decided_by.as_str());
    let released = format!("released by {by}");
    Plan {
        close: true,
        ..Plan::default()
    }
    .condition(
        IncidentCondition::Contained,
        Some(false),
        Reason::Released,
        released.clone(),
    )
    .condition(
        IncidentCondition::Verified,
        None,
        Reason::Released,
        "no longer contained",
    )
    .condition(
        IncidentCondition::Closed,
        Some(true),
        Reason::Released,
        released,
    )
}

/// The other Incident that still needs the changed value of this field: it has recorded the field, or
/// its pod was deleted before it could, possibly because the owner is suspended. The owner of such a
/// pod may be unknown, so every owner that Incidents of the same run suspended stays suspended until
/// those are released too.
fn needed_by(snapshot: &Snapshot, entry: &RestoreEntry) -> Option<String> {
    let is_same = |other: &RestoreEntry| other.target == entry.target && other.field == entry.field;
    let has_recorded = |other: &&OtherIncident| other.restore.iter().any(is_same);
    let run = snapshot.incident.spec.run.as_ref().map(|run| &run.uid);
    let may_depend = |other: &&OtherIncident| {
        // Kueue's Workload is not in the chain of owners.
        let is_owner = |owners: &Vec<String>| {
            owners.contains(&entry.target.uid) || entry.target.kind == suspension::WORKLOAD
        };
        entry.target.kind != "Pod"
            && other.pod_is_gone
            && run.is_some()
            && other.run_uid.as_ref() == run
            && !other.restore.iter().any(|other| other.target.kind != "Pod")
            && other.owners.as_ref().is_none_or(is_owner)
    };
    let mut others = snapshot.others.iter();
    let found = others
        .clone()
        .find(has_recorded)
        .or_else(|| others.find(may_depend));
    found.map(|other| other.name.clone())
}

/// The other Incident that keeps this pod in quarantine.
fn quarantined_by(snapshot: &Snapshot, pod: &PodView) -> Option<String> {
    let contains = |other: &&OtherIncident| other.pod_uids.contains(&pod.uid);
    let other = snapshot.others.iter().find(contains);
    other.map(|other| other.name.clone())
}

/// A pod that was isolated and no longer has the label, without a recorded action: the process ended
/// in between. Removing the label again changes nothing and completes the record.
fn unrecorded(snapshot: &Snapshot) -> Option<PodView> {
    let actions = snapshot.incident.actions();
    let has = |pod: &PodView, kind: ActionKind| {
        actions.iter().any(|action| {
            action.kind == kind
                && action.target.uid == pod.uid
                && action.result == ActionResult::Succeeded
        })
    };
    let is_unrecorded = |pod: &&PodView| {
        has(pod, ActionKind::Isolate)
            && !has(pod, ActionKind::Restore)
            && pod.quarantine == quarantined_by(snapshot, pod)
    };
    snapshot.pods.iter().find(is_unrecorded).cloned()
}
