//! Removes from objects what Yellowjack does not use, before they enter a store. Pure; called by `watch`.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ResourceQuota;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ManagedFieldsEntry;
use kube::{Resource, ResourceExt};

use super::pod::Pod;
use crate::api::labels;

/// Removes the managed fields, which are the largest part of a small object, and the copy of the object
/// that `kubectl apply` stores.
pub(crate) fn prune_metadata<K: Resource<DynamicType = ()>>(object: &mut K) {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    object.meta_mut().managed_fields = None;
    if let Some(annotations) = &mut object.meta_mut().annotations {
        annotations.remove(LAST_APPLIED);
    }
}

/// Removes the managed fields of other writers from a ResourceQuota. The own ones are used to find
/// which keys Yellowjack set.
pub(crate) fn prune_quota(quota: &mut ResourceQuota) {
    let is_ours = |entry: &ManagedFieldsEntry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        manager.starts_with(labels::FIELD_MANAGER_PREFIX)
    };
    let mut entries = std::mem::take(quota.managed_fields_mut());
    entries.retain(is_ours);
    prune_metadata(quota);
    quota.metadata.managed_fields = Some(entries);
}

/// Removes the managed fields and the pod template from a Job.
pub(crate) fn prune_job(job: &mut Job) {
    prune_metadata(job);
    if let Some(spec) = &mut job.spec {
        spec.template.spec = None;
    }
}

/// Removes the annotations and conditions of a pod that are not used.
pub(crate) fn prune_pod(pod: &mut Pod) {
    /// Set by the kubelet on the API object of a static pod.
    const MIRROR: &str = "kubernetes.io/config.mirror";
    prune_metadata(pod);
    pod.annotations_mut().retain(|key, _| key == MIRROR);
    if let Some(status) = &mut pod.status {
        let conditions = status.conditions.iter_mut();
        conditions.for_each(|all| all.retain(|one| one.type_ == "PodReadyToStartContainers"));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_the_used_fields_of_a_pod_are_kept() {
        let mut pod: Pod = serde_json::from_value(json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": "p",
                "labels": { "app": "agent" },
                "annotations": { "kubernetes.io/config.mirror": "x", "other": "y" },
                "managedFields": [{ "manager": "kubelet" }],
            },
            "spec": {
                "nodeName": "n", "hostNetwork": true, "priorityClassName": "low",
                "containers": [{ "name": "c", "env": [{ "name": "A", "value": "B" }] }],
            },
            "status": {
                "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }],
                "startTime": "2026-01-01T00:00:00Z",
                "conditions": [
                    { "type": "Ready", "status": "True" },
                    { "type": "PodReadyToStartContainers", "status": "True" },
                ],
            },
        }))
        .unwrap();
        prune_pod(&mut pod);
        let kept = serde_json::to_value(&pod).unwrap();
        let expected = json!({
            "metadata": {
                "name": "p",
                "labels": { "app": "agent" },
                "annotations": { "kubernetes.io/config.mirror": "x" },
            },
            "spec": { "nodeName": "n", "hostNetwork": true, "priorityClassName": "low" },
            "status": {
                "phase": "Running", "podIP": "10.0.0.1", "podIPs": [{ "ip": "10.0.0.1" }],
                "startTime": "2026-01-01T00:00:00Z",
                "conditions": [{
                    "type": "PodReadyToStartContainers", "status": "True", "lastTransitionTime": null,
                }],
            },
        });
        assert_eq!(kept, expected);
    }
}
