//! CPU taken from a running pod and given back, through the pod's `resize` subresource. Carries out
//! steps of the plan, which says what each container gets.

use k8s_openapi::api::core::v1::Pod;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::executor::{Done, Outcome, done, failed, pod_target, record};
use crate::api::{ActionKind, ActionResult, RestoreEntry};
use crate::cluster::{ApiError, FieldManager};
use crate::respond::plan::throttle::{CPU_LIMIT, cpu_of};
use crate::respond::plan::{Cpu, PodView};
use crate::respond::responder::Responder;
use crate::respond::snapshot::Known;

impl Responder {
    /// Finds out what CPU can be taken from a pod.
    pub(in crate::respond) async fn look_at_cpu(
        &self,
        namespace: &str,
        pod: &PodView,
        known: &mut Known,
    ) -> Outcome {
        let cpu = match self.read_pod(namespace, pod).await {
            Ok(Some(found)) => {
                let found = serde_json::to_value(&found).unwrap_or_default();
                cpu_of(&found)
            }
            Ok(None) => Cpu::Refused("the pod is gone".to_owned()),
            Err(error) => return Err(failed(ActionKind::Throttle, pod_target(pod), error)),
        };
        known.cpu = Some(cpu);
        Ok(Done::default())
    }

    /// Gives a pod's containers the resources that the entries set. The pod runs on; whether its node
    /// follows stands in the pod's status.
    pub(in crate::respond) async fn throttle(
        &self,
        namespace: &str,
        pod: &PodView,
        entries: &[RestoreEntry],
        known: &mut Known,
    ) -> Outcome {
        self.wait_for_turn().await;
        known.cpu = None;
        let target = pod_target(pod);
        let settle = |result, message: &str| {
            let record = record(ActionKind::Throttle, target.clone(), result, message);
            Ok(done(vec![record]))
        };
        let error = |error| failed(ActionKind::Throttle, target.clone(), error);
        let Some(found) = self.read_pod(namespace, pod).await.map_err(error)? else {
            return settle(ActionResult::Skipped, "the pod is gone");
        };
        let wanted: Vec<(&str, &Value)> = entries
            .iter()
            .map(|entry| (entry.field.as_str(), &entry.set))
            .collect();
        match self.resize(namespace, &found, &wanted).await {
            Ok(()) => {
                let count = entries.len();
                let message = format!("{count} containers may use {CPU_LIMIT} of CPU each");
                settle(ActionResult::Succeeded, &message)
            }
            // It changed between the two: once more.
            Err(ApiError::Conflict(_)) => Ok(Done::default()),
            Err(refused @ (ApiError::Refused(_) | ApiError::NotFound(_))) => {
                settle(ActionResult::Skipped, &refused.server_message())
            }
            Err(failure) => Err(error(failure)),
        }
    }

    /// Gives a container back what was taken.
    pub(in crate::respond) async fn give_back(
        &self,
        namespace: &str,
        entry: &RestoreEntry,
        pod: &DynamicObject,
    ) -> Result<(), ApiError> {
        let Some(before) = &entry.before else {
            return Ok(());
        };
        let found = serde_json::to_value(pod).and_then(serde_json::from_value::<Pod>);
        let Ok(found) = found else {
            return Ok(());
        };
        self.resize(namespace, &found, &[(&entry.field, before)])
            .await
    }

    /// Sets the resources at these fields of the pod, if nobody wrote it since it was read.
    async fn resize(
        &self,
        namespace: &str,
        pod: &Pod,
        wanted: &[(&str, &Value)],
    ) -> Result<(), ApiError> {
        let containers = pod.spec.as_ref().map_or(&[][..], |spec| &spec.containers);
        let named = wanted.iter().filter_map(|(field, resources)| {
            let place = field
                .strip_prefix("/spec/containers/")?
                .strip_suffix("/resources")?;
            let container = containers.get(place.parse::<usize>().ok()?)?;
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
            "spec": { "containers": named.collect::<Vec<_>>() },
        });
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        let manager = FieldManager::responder();
        let resized = self.writer.resize(&manager, namespace, name, &patch);
        resized.await.map(drop)
    }
}
