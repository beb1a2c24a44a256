//! Steps of a release: restore the original value of a field, or hand it over to another Incident.

use serde_json::Value;

use super::executor::{Done, Executor, StepOutcome, done, failed, needs_retry, record};
use super::owner::data_of;
use super::{suspend, throttle};
use crate::api::{ActionKind, ActionResult, Incident, RestoreEntry};
use crate::cluster::{ApiError, FieldManager};
use crate::respond::plan::push_restore_entry;
use crate::respond::plan::suspension::{default_of, value_at};
use crate::respond::snapshot::{PendingWrites, may_hold};

/// Restores the original value of a field, unless someone changed the field in the meantime.
pub(super) async fn restore(
    executor: &Executor,
    namespace: &str,
    entry: &RestoreEntry,
    pending: &mut PendingWrites,
) -> StepOutcome {
    pending.owner = None;
    let target = &entry.target;
    let error = |error| failed(ActionKind::Restore, target.clone(), error);
    let found = executor.read_target(namespace, target).await;
    let Some(object) = found.map_err(error)? else {
        return Ok(restored(entry, ActionResult::Skipped, "it is gone"));
    };
    let now = value_at(data_of(&object), &entry.field);
    let default = default_of(entry);
    let before = entry.original_value.as_ref();
    let message = format!("{} is {} again", entry.field, text(before));
    if now.as_ref().or(default.as_ref()) == before.or(default.as_ref()) {
        // Restored by someone else, or by this operator before it could record it.
        return Ok(restored(entry, ActionResult::Succeeded, &message));
    }
    if now.as_ref() != Some(&entry.applied_value) {
        let why = "someone changed it in the meantime, so it is left as it is";
        return Ok(restored(entry, ActionResult::Skipped, why));
    }
    let written = if target.kind == "Pod" {
        throttle::restore_resources(executor, namespace, entry, &object).await
    } else {
        let value = before.cloned().unwrap_or(Value::Null);
        suspend::set_field(executor, namespace, target, &object, &entry.field, &value).await
    };
    match written {
        Ok(()) => Ok(restored(entry, ActionResult::Succeeded, &message)),
        // It changed after it was read.
        Err(ApiError::Conflict(_)) => Ok(needs_retry()),
        Err(refused) => Err(error(refused)),
    }
}

/// Leaves a field as it is for another Incident that needs it. The restore entry is recorded there
/// before it is removed here, so that the last release finds it.
pub(super) async fn hand_over(
    executor: &Executor,
    namespace: &str,
    entry: &RestoreEntry,
    other: &str,
    pending: &mut PendingWrites,
) -> StepOutcome {
    let error = |error| failed(ActionKind::Restore, entry.target.clone(), error);
    let found = executor.reader.get_opt::<Incident>(namespace, other).await;
    let Some(incident) = found.map_err(error)?.filter(may_hold) else {
        pending.closed_incidents.insert(other.to_owned());
        return Ok(needs_retry());
    };
    let mut status = incident.status.clone().unwrap_or_default();
    let is_same = |known: &RestoreEntry| known.target == entry.target && known.field == entry.field;
    if !status.restore.iter().any(is_same) {
        push_restore_entry(&mut status.restore, entry);
        let manager = FieldManager::responder();
        match executor.writer.status(&manager, &incident, &status).await {
            Ok(_) => {}
            // It was written after it was read.
            Err(ApiError::Conflict(_) | ApiError::NotFound(_)) => return Ok(needs_retry()),
            Err(failure) => return Err(error(failure)),
        }
    }
    let why = format!("Incident {other} still needs it as it is");
    Ok(restored(entry, ActionResult::Skipped, &why))
}

fn restored(entry: &RestoreEntry, result: ActionResult, message: &str) -> Done {
    let target = entry.target.clone();
    done(record(ActionKind::Restore, target, result, message))
}

fn text(value: Option<&Value>) -> String {
    value.map_or_else(|| "unset".to_owned(), Value::to_string)
}
