//! The record of steps in the status of an Incident: how it is written, and what it shows. Written by the
//! responder and by the simulation.

use jiff::Timestamp;

use crate::api::{
    ActionKind, ActionRecord, ActionResult, Incident, IncidentCondition, RestoreEntry, condition_of,
};
use crate::limits;

/// Records the original value of a field, in place of an earlier entry for the same field.
pub(crate) fn push_restore_entry(restore: &mut Vec<RestoreEntry>, entry: &RestoreEntry) {
    restore.retain(|other| other.target != entry.target || other.field != entry.field);
    if restore.len() < limits::RESTORE_MAX {
        restore.push(entry.clone());
    }
}

/// Records an action. A repetition of a recorded action replaces it, so that retries do not fill the
/// list; a full list loses its oldest action that did not succeed.
pub(crate) fn push_action(actions: &mut Vec<ActionRecord>, record: ActionRecord) {
    let is_repeat = |known: &ActionRecord| {
        known.kind == record.kind && known.target == record.target && known.result == record.result
    };
    if let Some(known) = actions.iter_mut().rev().find(|known| is_repeat(known)) {
        // An identical repetition keeps the time of the first one.
        if known.message != record.message {
            *known = record;
        }
        return;
    }
    if actions.len() >= limits::ACTIONS_MAX {
        let failed = actions
            .iter()
            .position(|a| a.result != ActionResult::Succeeded);
        actions.remove(failed.unwrap_or(actions.len() / 2));
    }
    actions.push(record);
}

/// The time of the newest contact in the evidence, as the log recorded it.
pub(super) fn newest_evidence(incident: &Incident) -> Option<Timestamp> {
    incident
        .spec
        .evidence
        .iter()
        .map(|entry| entry.last_seen.0)
        .max()
}

/// Whether an action of this kind is recorded as succeeded.
pub(super) fn has_done(incident: &Incident, kind: ActionKind) -> bool {
    results_of(incident, kind).any(|result| result == ActionResult::Succeeded)
}

/// Whether an action of this kind on this object is recorded as succeeded or skipped.
pub(super) fn has_settled(incident: &Incident, kind: ActionKind, uid: &str) -> bool {
    results_on(incident, kind, uid).any(|result| result != ActionResult::Failed)
}

/// Whether an action of this kind on this object is recorded as succeeded.
pub(super) fn has_done_to(incident: &Incident, kind: ActionKind, uid: &str) -> bool {
    results_on(incident, kind, uid).any(|result| result == ActionResult::Succeeded)
}

/// Whether an action of this kind is recorded, with any result.
pub(super) fn has_tried(incident: &Incident, kind: ActionKind) -> bool {
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
pub(super) fn reason_of(incident: &Incident, condition: IncidentCondition) -> Option<&str> {
    condition_of(incident.conditions(), condition.name()).map(|known| known.reason.as_str())
}

/// When the pod was isolated, according to the recorded actions.
#[must_use]
pub(crate) fn isolated_at(incident: &Incident) -> Option<Timestamp> {
    let isolations = incident.actions().iter().filter(|action| {
        action.kind == ActionKind::Isolate && action.result == ActionResult::Succeeded
    });
    isolations.map(|action| action.time.0).min()
}
