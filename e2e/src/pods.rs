//! Pods without a kubelet: the status that a kubelet would write, and the end of a pod.

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

/// Writes what a kubelet would: the pod runs since now and has this address.
pub async fn set_pod_ip(client: &Client, ns: &str, name: &str, ip: &str) -> anyhow::Result<Pod> {
    set_pod_ip_since(client, ns, name, ip, Timestamp::now()).await
}

/// The same of a pod that runs since an earlier time.
pub async fn set_pod_ip_since(
    client: &Client,
    ns: &str,
    name: &str,
    ip: &str,
    since: Timestamp,
) -> anyhow::Result<Pod> {
    let condition =
        |kind: &str| json!({ "type": kind, "status": "True", "lastTransitionTime": since });
    let status = json!({ "status": {
        "phase": "Running",
        "podIP": ip,
        "podIPs": [{ "ip": ip }],
        "startTime": since,
        "conditions": [
            condition("PodScheduled"),
            condition("Initialized"),
            condition("ContainersReady"),
            condition("Ready"),
        ],
    }});
    let pods: Api<Pod> = Api::namespaced(client.clone(), ns);
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .with_context(|| format!("failed to write the status of pod {name}"))
}

/// Deletes a pod at once, as its kubelet would in the end.
pub async fn delete_pod(client: &Client, ns: &str, name: &str) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), ns);
    pods.delete(name, &DeleteParams::default().grace_period(0))
        .await
        .with_context(|| format!("failed to delete pod {name}"))?;
    Ok(())
}
