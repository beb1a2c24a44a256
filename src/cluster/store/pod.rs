//! A pod as the store holds it: only what Yellowjack looks at.
//!
//! `k8s_openapi`'s own type takes 2 KiB even where nearly all of it is empty, and ten times as much while a list is read;
//! 20,000 pods are the largest part of the operator's memory. Whoever needs the rest of a pod asks the API server for it.

use k8s_openapi::api::core::v1::PodIP;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource;
use serde::{Deserialize, Serialize};

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
