//! Steps on the owner of a pod: read it, and set the field that suspends it.
//!
//! Every write names the object by UID and by the resource version that was read, so that it changes
//! exactly that object or nothing (INV-5).

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::executor::{Done, Executor, StepOutcome, done, failed, record};
use super::owner::{data_of, owner_control};
use super::pods;
use crate::api::{ActionKind, ActionResult, Incident, ObjectTarget};
use crate::cluster::{ApiError, FieldManager, kind_of};
use crate::respond::plan::suspension::{Suspension, patch_of, value_at};
use crate::respond::plan::{OwnerControl, PodView, SHORTENED_GRACE_S};
use crate::respond::snapshot::{PendingWrites, subject_pod};

/// Reads how the owner of the Incident's pod can be suspended.
pub(super) async fn read_owner(
    executor: &Executor,
    incident: &Incident,
    namespace: &str,
    pending: &mut PendingWrites,
) -> StepOutcome {
    match control_of(executor, incident, namespace).await {
        Ok(owner) => {
            pending.owner = Some(owner);
            Ok(Done::default())
        }
        Err(error) => {
            let subject = &incident.spec.subject;
            let target = ObjectTarget::pod(&subject.name, &subject.uid);
            Err(failed(ActionKind::Suspend, target, error))
        }
    }
}

async fn control_of(
    executor: &Executor,
    incident: &Incident,
    namespace: &str,
) -> Result<OwnerControl, ApiError> {
    let (owners, client) = (&executor.owners, executor.reader.client());
    let links = if let Some(pod) = subject_pod(&executor.stores, incident) {
        let chain = owners.resolve(client, &executor.stores, &pod, true);
        chain.await?.links
    } else {
        // The pod is gone, but its owners may still be known.
        let chain = owners.chain_of(&incident.spec.subject.uid);
        chain.unwrap_or_default().links
    };
    owner_control(owners, client, namespace, links).await
}

/// Suspends an owner, unless it changed since it was read. Then shortens the grace period of these pods
/// before the owner's controller deletes them.
pub(super) async fn suspend(
    executor: &Executor,
    namespace: &str,
    owner: &Suspension,
    pods: &[PodView],
    pending: &mut PendingWrites,
) -> StepOutcome {
    executor.wait_for_turn().await;
    // The next plan reads the owner again, whatever the outcome.
    pending.owner = None;
    let target = &owner.target;
    let error = |error| failed(ActionKind::Suspend, target.clone(), error);
    let found = executor.read_target(namespace, target).await;
    let Some(object) = found.map_err(error)? else {
        return Ok(Done::default());
    };
    if value_at(data_of(&object), &owner.field) != owner.current {
        return Ok(Done::default());
    }
    if !owner.is_suspended() {
        let value = &owner.suspended_value;
        match set_field(executor, namespace, target, &object, &owner.field, value).await {
            Ok(()) => {}
            // It changed after it was read; the next plan reads it again.
            Err(ApiError::Conflict(_) | ApiError::NotFound(_)) => return Ok(Done::default()),
            Err(refused) => return Err(error(refused)),
        }
    }
    let mut message = format!(
        "{} is {}, so that the pod is not replaced",
        owner.field, owner.suspended_value
    );
    for pod in pods {
        // The suspension is recorded even if this fails; the next plan shortens the grace period again.
        let note = match pods::shorten_grace_period(executor, namespace, pod, pending).await {
            Ok(_) => {
                format!("; its pod has {SHORTENED_GRACE_S} s to end, because its traffic continues")
            }
            Err(failed) => format!(
                "; the grace period of its pod was not shortened: {}",
                failed.record.message
            ),
        };
        message.push_str(&note);
    }
    let (kind, result) = (ActionKind::Suspend, ActionResult::Succeeded);
    Ok(done(record(kind, target.clone(), result, &message)))
}

/// Sets one field of the object, if it was not written since it was read. `null` removes the field.
pub(super) async fn set_field(
    executor: &Executor,
    namespace: &str,
    target: &ObjectTarget,
    read: &DynamicObject,
    field: &str,
    value: &Value,
) -> Result<(), ApiError> {
    let kind = kind_of(&target.api_version, &target.kind);
    let client = executor.reader.client();
    let Some(resource) = executor.owners.resource(client, kind).await? else {
        return Ok(());
    };
    let mut patch = patch_of(field, value);
    if let Some(fields) = patch.as_object_mut() {
        let version = &read.metadata.resource_version;
        let metadata = json!({ "uid": target.uid, "resourceVersion": version });
        fields.insert("metadata".to_owned(), metadata);
    }
    let manager = FieldManager::responder();
    executor
        .writer
        .merge_dynamic(&manager, &resource, namespace, &target.name, &patch)
        .await
        .map(drop)
}
