//! Steps on the CPU of a running pod, through its `resize` subresource. The plan decides the resources of
//! each container.

use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::executor::{Done, Executor, StepOutcome, done, failed, record};
use crate::api::{ActionKind, ActionResult, RestoreEntry};
use crate::cluster::{ApiError, FieldManager};
use crate::respond::plan::throttle::{CPU_LIMIT, cpu_reduction};
use crate::respond::plan::{CpuReduction, PodView};
use crate::respond::snapshot::PendingWrites;

/// Reads how the CPU of a pod can be reduced.
pub(super) async fn read_cpu(
    executor: &Executor,
    namespace: &str,
    pod: &PodView,
    pending: &mut PendingWrites,
) -> StepOutcome {
    let cpu = match executor.read_pod(namespace, pod).await {
        Ok(Some(found)) => cpu_reduction(&serde_json::to_value(&found).unwrap_or_default()),
        Ok(None) => CpuReduction::Refused("the pod is gone".to_owned()),
        Err(error) => return Err(failed(ActionKind::Throttle, pod.target(), error)),
    };
    pending.cpu = Some(cpu);
    Ok(Done::default())
}

/// Sets the resources of a pod's containers to those in the entries. The pod continues to run; its
/// status shows whether the node applied them.
pub(super) async fn throttle(
    executor: &Executor,
    namespace: &str,
    pod: &PodView,
    entries: &[RestoreEntry],
    pending: &mut PendingWrites,
) -> StepOutcome {
    executor.wait_for_turn().await;
    pending.cpu = None;
    let target = pod.target();
    let outcome = |result, message: &str| {
        let record = record(ActionKind::Throttle, target.clone(), result, message);
        Ok(done(record))
    };
    let error = |error| failed(ActionKind::Throttle, target.clone(), error);
    let Some(found) = executor.read_pod(namespace, pod).await.map_err(error)? else {
        return outcome(ActionResult::Skipped, "the pod is gone");
    };
    let wanted: Vec<(&str, &Value)> = entries
        .iter()
        .map(|entry| (entry.field.as_str(), &entry.applied_value))
        .collect();
    match resize(executor, namespace, &found, &wanted).await {
        Ok(()) => {
            let count = entries.len();
            let message = format!("{count} containers may use {CPU_LIMIT} of CPU each");
            outcome(ActionResult::Succeeded, &message)
        }
        // It changed after it was read; the next plan tries again.
        Err(ApiError::Conflict(_)) => Ok(Done::default()),
        Err(refused @ (ApiError::Refused(_) | ApiError::NotFound(_))) => {
            outcome(ActionResult::Skipped, &refused.server_message())
        }
        Err(failure) => Err(error(failure)),
    }
}

/// Restores the original resources of a container.
pub(super) async fn restore_resources(
    executor: &Executor,
    namespace: &str,
    entry: &RestoreEntry,
    pod: &DynamicObject,
) -> Result<(), ApiError> {
    let Some(before) = &entry.original_value else {
        return Ok(());
    };
    let found = serde_json::to_value(pod).and_then(serde_json::from_value::<Pod>);
    let Ok(found) = found else {
        return Ok(());
    };
    let wanted = [(entry.field.as_str(), before)];
    resize(executor, namespace, &found, &wanted).await
}

/// Sets the resources at these fields of the pod, if it was not written since it was read.
async fn resize(
    executor: &Executor,
    namespace: &str,
    pod: &Pod,
    wanted: &[(&str, &Value)],
) -> Result<(), ApiError> {
    let containers = pod.spec.as_ref().map_or(&[][..], |spec| &spec.containers);
    let resized = wanted.iter().filter_map(|(field, resources)| {
        let position = field
            .strip_prefix("/spec/containers/")?
            .strip_suffix("/resources")?;
        let container = containers.get(position.parse::<usize>().ok()?)?;
        Some(json!({
            "name": container.name,
            "resources": {
                "limits": resources.get("limits"),
                "requests": resources.get("requests"),
            },
        }))
    });
    let patch = json!({
        "metadata": { "resourceVersion": pod.metadata.resource_version },
        "spec": { "containers": resized.collect::<Vec<_>>() },
    });
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let manager = FieldManager::responder();
    let written = executor.writer.resize(&manager, namespace, name, &patch);
    written.await.map(drop)
}
