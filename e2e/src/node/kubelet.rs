//! The kubelet, kube-proxy and the scheduler. Called by `inside` once the API server serves and
//! containerd answers.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Node;
use kube::{Api, Client};
use serde_json::json;

use super::layout::{CLUSTER_DNS_IP, DNS_IP, NODE_IP, NODE_IP_V6, NODE_NAME, POD_NETWORK, path};
use super::program::{stay, sysctl, write};
use super::runtime;
use crate::binaries::Binaries;
use crate::control_plane::ControlPlane;
use crate::supervise::Supervised;
use crate::wait::wait_for;

const READY_LIMIT: Duration = Duration::from_mins(2);
/// What the kubelet wants of the kernel for the whole machine. It is shown these values and leaves
/// the real ones alone: nothing of a test may outlive it.
const MACHINE_SETTINGS: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Starts all three and waits until the node is ready.
pub(super) async fn start(
    binaries: &Binaries,
    plane: &ControlPlane,
    client: &Client,
    cgroup: &str,
) -> anyhow::Result<Vec<(&'static str, Supervised)>> {
    sysctl("net/ipv4/conf/all/route_localnet", "1")?;
    show_machine_settings()?;
    let scheduler = start_scheduler(binaries, plane)?;
    let proxy = start_proxy(binaries, plane)?;
    let mut kubelet = start_kubelet(binaries, plane, cgroup)?;
    let nodes: Api<Node> = Api::all(client.clone());
    wait_for("the node to be ready", READY_LIMIT, async || {
        if let Ok(Some(status)) = kubelet.exited() {
            return Ok(Err(format!(
                "the kubelet ended with {status}: {}",
                kubelet.log_tail(8)
            )));
        }
        let node = nodes
            .get(NODE_NAME)
            .await
            .map_err(|error| error.to_string())?;
        let conditions = node
            .status
            .and_then(|status| status.conditions)
            .unwrap_or_default();
        let ready = conditions
            .iter()
            .find(|condition| condition.type_ == "Ready");
        match ready {
            Some(condition) if condition.status == "True" => Ok(Ok(())),
            other => Err(format!("{other:?}")),
        }
    })
    .await?
    .map_err(anyhow::Error::msg)?;
    Ok(vec![
        ("kube-scheduler", scheduler),
        ("kube-proxy", proxy),
        ("kubelet", kubelet),
    ])
}

fn show_machine_settings() -> anyhow::Result<()> {
    for (name, value) in MACHINE_SETTINGS {
        let shown = path("settings").join(name);
        write(&shown, value)?;
        let real = Path::new("/proc/sys").join(name);
        super::program::run("mount", [Path::new("--bind"), &shown, &real])
            .with_context(|| format!("failed to hide {name}"))?;
    }
    Ok(())
}

fn start_scheduler(binaries: &Binaries, plane: &ControlPlane) -> anyhow::Result<Supervised> {
    let mut command = binaries.command("kube-scheduler");
    command
        .arg(format!(
            "--kubeconfig={}",
            plane.kubeconfig_of("scheduler").display()
        ))
        .args(["--leader-elect=false", "--secure-port=0"]);
    stay("kube-scheduler", &command)
}

fn start_proxy(binaries: &Binaries, plane: &ControlPlane) -> anyhow::Result<Supervised> {
    let configuration = path("kube-proxy.json");
    let text = json!({
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": { "kubeconfig": plane.kubeconfig_of("kube-proxy") },
        "clusterCIDR": POD_NETWORK,
        "hostnameOverride": NODE_NAME,
        "mode": "iptables",
        "metricsBindAddress": "127.0.0.1:10249",
        // Settings of the whole machine, which a network namespace may not write.
        "conntrack": { "maxPerCore": 0, "min": 0 },
        "iptables": { "minSyncPeriod": "0s" },
    });
    write(&configuration, &text.to_string())?;
    let mut command = binaries.command("kube-proxy");
    command.arg(format!("--config={}", configuration.display()));
    stay("kube-proxy", &command)
}

fn start_kubelet(
    binaries: &Binaries,
    plane: &ControlPlane,
    cgroup: &str,
) -> anyhow::Result<Supervised> {
    let configuration = path("kubelet.json");
    write(&configuration, &kubelet_text(cgroup))?;
    write(&path("resolv.conf"), &format!("nameserver {DNS_IP}\n"))?;
    let mut command = binaries.command("kubelet");
    command
        .arg(format!("--config={}", configuration.display()))
        .arg(format!(
            "--kubeconfig={}",
            plane.kubeconfig_of("kubelet").display()
        ))
        .arg(format!("--root-dir={}", path("kubelet").display()))
        .arg(format!("--cert-dir={}", path("kubelet/pki").display()))
        .arg(format!("--hostname-override={NODE_NAME}"))
        .arg(format!("--node-ip={NODE_IP},{NODE_IP_V6}"));
    stay("kubelet", &command)
}

fn kubelet_text(cgroup: &str) -> String {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": { "enabled": false },
            "webhook": { "enabled": true, "cacheTTL": "5s" },
            "x509": { "clientCAFile": path("certificates/ca.crt") },
        },
        "authorization": { "mode": "Webhook" },
        "containerRuntimeEndpoint": format!("unix://{}", runtime::socket().display()),
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": format!("/{cgroup}"),
        "failCgroupV1": false,
        "failSwapOn": false,
        // Lowering a score is refused in many a container.
        "oomScoreAdj": 0,
        "clusterDomain": "cluster.local",
        "clusterDNS": [CLUSTER_DNS_IP],
        "resolvConf": path("resolv.conf"),
        "podLogsDir": path("pods"),
        "volumePluginDir": path("volume-plugins"),
        "staticPodPath": "",
        // The disk and the memory are the machine's: how full they are is not this node's matter.
        "evictionHard": {
            "memory.available": "1Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        "nodeStatusUpdateFrequency": "2s",
        "syncFrequency": "10s",
        "registerNode": true,
        "shutdownGracePeriod": "0s",
    })
    .to_string()
}
