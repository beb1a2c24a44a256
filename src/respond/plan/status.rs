//! How steps are recorded in the status of an Incident. Called by the responder and by `simulation`.

use crate::api::{ActionRecord, ActionResult, RestoreEntry};
use crate::limits;

/// Records the original value of a field, in place of an earlier entry for the same field.
pub fn push_restore_entry(restore: &mut Vec<RestoreEntry>, entry: &RestoreEntry) {
    restore.retain(|other| other.target != entry.target || other.field != entry.field);
    if restore.len() < limits::RESTORE_MAX {
        restore.push(entry.clone());
    }
}

/// Records an action. A repetition of a recorded action replaces it, so that retries do not fill the
/// list; a full list loses its oldest action that did not succeed.
pub fn push_action(actions: &mut Vec<ActionRecord>, record: ActionRecord) {
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
