//! A pod as the store holds it: only what Yellowjack looks at.
//!
//! `k8s_openapi`'s own type takes 2 KiB even where nearly all of it is empty, and ten times as much while a list is read;
//! 20,000 pods are the largest part of the operator's memory. Whoever needs the rest of a pod asks the API server for it.

use k8s_openapi::api::core::v1::PodIP;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::{Resource, ResourceExt};
use serde::{Deserialize, Serialize};

use super::stores::prune_metadata;

/// A pod.
#[derive(Resource, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[resource(inherit = "k8s_openapi::api::core::v1::Pod")]
pub struct Pod {
    /// Metadata without managed fields and annotations, but with the mark of a mirror pod.
    pub metadata: ObjectMeta,
    /// What it should be.
    pub spec: Option<PodSpec>,
    /// What it is.
    pub status: Option<PodStatus>,
}

/// What a pod should be.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// Where it runs.
    pub node_name: Option<String>,
    /// Whether it uses the node's network.
    pub host_network: Option<bool>,
    /// What a quota may count it by.
    pub priority_class_name: Option<String>,
}

/// What a pod is.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Where it is in its life.
    pub phase: Option<String>,
    /// Its first address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// All of its addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIP>>,
    /// When a kubelet took it.
    pub start_time: Option<Time>,
    /// When its network came up, and nothing else.
    pub conditions: Option<Vec<PodCondition>>,
}

/// A condition of a pod.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodCondition {
    /// Which one.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// Since when.
    pub last_transition_time: Option<Time>,
}

/// Takes away what the type still holds and nobody looks at.
pub fn prune_pod(pod: &mut Pod) {
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
    fn of_a_pod_what_is_looked_at_is_kept_and_the_rest_is_not() {
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

    #[test]
    fn a_pod_takes_less_than_a_kibibyte_without_its_texts() {
        let whole = size_of::<k8s_openapi::api::core::v1::Pod>();
        let held = size_of::<Pod>();
        assert!(held < 1024 && held * 2 < whole, "{held} of {whole} bytes");
    }
}
