//! Pods for scenarios: what they run is a shell script with the programs of `layout::IMAGE`.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, PodSpec};
use kube::Api;
use serde_json::json;

use super::layout::IMAGE;
use crate::wait::wait_for;

/// A pod runs within two seconds of its creation; a loaded machine is slower.
const RUNNING_LIMIT: Duration = Duration::from_mins(1);

/// What runs in a pod, for pods and for pod templates: this script, until it ends. It is asked for a
/// third of a processor and held to one, so that its QoS class allows a resize.
pub fn agent_spec(script: &str) -> anyhow::Result<PodSpec> {
    serde_json::from_value(json!({
        "restartPolicy": "Never",
        // The shell is the first process of its namespace and ignores SIGTERM.
        "terminationGracePeriodSeconds": 1,
        "containers": [{
            "name": "agent",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "command": ["sh", "-c", script],
            "resources": {
                "requests": { "cpu": "300m", "memory": "64Mi" },
                "limits": { "cpu": "1", "memory": "256Mi" },
            },
        }],
    }))
    .context("failed to build a pod's spec")
}

/// A pod with these labels that runs a script.
pub fn agent_pod(name: &str, labels: &[(&str, &str)], script: &str) -> anyhow::Result<Pod> {
    let mut pod = crate::build::pod(name, labels)?;
    pod.spec = Some(agent_spec(script)?);
    Ok(pod)
}

/// Waits until a pod runs and tells its addresses, IPv4 first.
pub async fn running(pods: &Api<Pod>, name: &str) -> anyhow::Result<Vec<IpAddr>> {
    wait_for(&format!("pod {name} to run"), RUNNING_LIMIT, async || {
        let pod = pods.get(name).await.map_err(|error| error.to_string())?;
        let status = pod.status.unwrap_or_default();
        let started = matches!(status.phase.as_deref(), Some("Running" | "Succeeded"));
        let addresses = status.pod_ips.iter().flatten();
        let parsed: Result<Vec<IpAddr>, _> = addresses.map(|address| address.ip.parse()).collect();
        match parsed {
            Ok(all) if started && !all.is_empty() => Ok(all),
            _ => Err(serde_json::to_string(&status).unwrap_or_default()),
        }
    })
    .await
}
