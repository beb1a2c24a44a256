//! ClusterNetworkPolicy, which no cluster has by itself: tests install as much of it as they need.

use serde_json::{Value, json};

/// As much of the API as there must be for a server to serve it.
#[must_use]
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": "clusternetworkpolicies.policy.networking.k8s.io",
            "annotations": {
                "api-approved.kubernetes.io": "unapproved, a stand-in for tests",
            },
        },
        "spec": {
            "group": "policy.networking.k8s.io",
            "scope": "Cluster",
            "names": {
                "kind": "ClusterNetworkPolicy",
                "plural": "clusternetworkpolicies",
                "singular": "clusternetworkpolicy",
            },
            "versions": [{
                "name": "v1alpha2",
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": {
                    "type": "object",
                    "x-kubernetes-preserve-unknown-fields": true,
                }},
            }],
        },
    })
}
