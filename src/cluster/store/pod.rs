//! The pod type of the store: only the fields that Yellowjack uses.
//!
//! The pod type of `k8s_openapi` takes 2 KiB even if most fields are empty, and ten times as much while a
//! list is decoded; 20,000 pods are the largest part of the operator's memory. Code that needs other
//! fields reads the pod from the API server.

use k8s_openapi::api::core::v1::PodIP;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Serialize};

/// A pod, reduced to the fields that are used.
#[derive(Resource, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[resource(inherit = "k8s_openapi::api::core::v1::Pod")]
pub struct Pod {
    /// Metadata without managed fields and annotations, except the annotation of a mirror pod.
    pub metadata: ObjectMeta,
    /// The desired state.
    pub spec: Option<PodSpec>,
    /// The observed state.
    pub status: Option<PodStatus>,
}

impl Pod {
    /// Whether its containers have ended and do not start again.
    #[must_use]
    pub(crate) fn has_ended(&self) -> bool {
        let status = self.status.as_ref();
        let phase = status.and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }
}

/// The desired state of a pod.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PodSpec {
    /// The node that it runs on.
    pub node_name: Option<String>,
    /// Whether it uses the host network.
    pub host_network: Option<bool>,
    /// Its priority class, which quotas may select.
    pub priority_class_name: Option<String>,
}

/// The observed state of a pod.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Its phase.
    pub phase: Option<String>,
    /// Its first address.
    #[serde(rename = "podIP")]
    pub pod_ip: Option<String>,
    /// All of its addresses.
    #[serde(rename = "podIPs")]
    pub pod_ips: Option<Vec<PodIP>>,
    /// When a kubelet accepted it.
    pub start_time: Option<Time>,
    /// Only the condition that its network is ready.
    pub conditions: Option<Vec<PodCondition>>,
}

/// A condition of a pod.
#[derive(Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PodCondition {
    /// The type of the condition.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// When the status last changed.
    pub last_transition_time: Option<Time>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_takes_less_than_a_kibibyte_without_its_texts() {
        let whole = size_of::<k8s_openapi::api::core::v1::Pod>();
        let held = size_of::<Pod>();
        assert!(held < 1024 && held * 2 < whole, "{held} of {whole} bytes");
    }
}
