//! Pods and pod templates.

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

/// The image of pods that no kubelet starts.
pub const PLACEHOLDER_IMAGE: &str = "registry.invalid/agent:1";

/// A pod with these labels. It has no node, so that deleting it needs no kubelet.
pub fn pod(name: &str, labels: &[(&str, &str)]) -> anyhow::Result<Pod> {
    let labels: serde_json::Map<_, _> = labels
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(value)))
        .collect();
    serde_json::from_value(json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": name, "labels": labels },
        "spec": { "containers": [{ "name": "agent", "image": PLACEHOLDER_IMAGE }] },
    }))
    .with_context(|| format!("failed to build the pod {name}"))
}

/// A pod with this label `app` on this node.
pub fn pod_on_node(name: &str, app: &str, node: &str) -> anyhow::Result<Pod> {
    let mut pod = pod(name, &[("app", app)])?;
    if let Some(spec) = pod.spec.as_mut() {
        spec.node_name = Some(node.to_owned());
    }
    Ok(pod)
}

/// A template of pods with this label `app` and this restart policy.
#[must_use]
pub fn pod_template(app: &str, restart_policy: &str) -> Value {
    json!({ "metadata": { "labels": { "app": app } }, "spec": {
        "restartPolicy": restart_policy,
        "containers": [{ "name": "agent", "image": PLACEHOLDER_IMAGE }],
    }})
}
