//! The network policy engine of the node, a real one, where `YELLOWJACK_ENGINE` names it: Cilium with the settings of its
//! Helm chart, or kube-router. Without it pods have the plugin `ptp`, and scenarios start the stand-in.
//!
//! `start` builds it outside of the node, and `inside` starts it once the node is registered.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use super::layout::{NODE_IP, NODE_NAME, POD_NETWORK, POD_NETWORK_V6};
use super::program::{run, run_command, stay};
use crate::binaries::{Binaries, run_build_script};
use crate::control_plane::ControlPlane;
use crate::standin::StandinMode;
use crate::supervise::Supervised;
use crate::wait::wait_for;

/// Names the engine.
pub const ENGINE_VARIABLE: &str = "YELLOWJACK_ENGINE";
/// More flags for Cilium's agent, with spaces between them.
pub const FLAGS_VARIABLE: &str = "YELLOWJACK_CILIUM_FLAGS";
/// Where `build` has put the engine; for the process inside the node.
pub(super) const FOLDER_VARIABLE: &str = "YELLOWJACK_ENGINE_FOLDER";
/// Where Cilium's agent exports flows.
pub const HUBBLE_LOG: &str = "/run/hubble/events.log";
/// A cold start compiles BPF programs.
const READY_LIMIT: Duration = Duration::from_mins(3);
/// The agent's health server.
const HEALTH_ADDRESS: &str = "127.0.0.1:9879";

/// A network policy engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Cilium.
    Cilium,
    /// kube-router, for network policies alone.
    KubeRouter,
}

impl Engine {
    /// The engine that the environment names; `None` where it names none.
    pub fn of_environment() -> anyhow::Result<Option<Self>> {
        match std::env::var(ENGINE_VARIABLE).as_deref() {
            Err(_) | Ok("") => Ok(None),
            Ok("cilium") => Ok(Some(Self::Cilium)),
            Ok("kube-router") => Ok(Some(Self::KubeRouter)),
            Ok(other) => {
                bail!("{ENGINE_VARIABLE} is {other:?}; wanted cilium, kube-router or nothing")
            }
        }
    }

    /// As figures and folders name it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cilium => "cilium",
            Self::KubeRouter => "kube-router",
        }
    }

    /// What it does with a connection that was open before a deny.
    #[must_use]
    pub const fn mode(self) -> StandinMode {
        match self {
            Self::Cilium => StandinMode::Packet,
            Self::KubeRouter => StandinMode::Connection,
        }
    }

    /// Builds it if that was not done yet; returns its folder.
    pub(super) fn build(self) -> anyhow::Result<PathBuf> {
        run_build_script("engines/build.sh", &[self.name()])
    }
}

/// The engine of this node and its folder.
pub(super) fn chosen() -> anyhow::Result<Option<(Engine, PathBuf)>> {
    let Some(engine) = Engine::of_environment()? else {
        return Ok(None);
    };
    let folder = std::env::var_os(FOLDER_VARIABLE).context("the engine was not built")?;
    Ok(Some((engine, PathBuf::from(folder))))
}

/// Starts the engine, and waits until it works.
pub(super) async fn start(
    (engine, folder): &(Engine, PathBuf),
    binaries: &Binaries,
    plane: &ControlPlane,
    client: &Client,
) -> anyhow::Result<Supervised> {
    match engine {
        Engine::Cilium => start_cilium(folder, binaries, plane, client).await,
        Engine::KubeRouter => start_kube_router(folder, plane).await,
    }
}

/// What the pods' network plugin is, where the engine has its own.
pub(super) fn network_text(engine: Engine) -> Option<String> {
    (engine == Engine::Cilium).then(|| {
        json!({ "cniVersion": "0.3.1", "name": "cilium", "plugins": [{ "type": "cilium-cni" }] })
            .to_string()
    })
}

async fn start_cilium(
    folder: &Path,
    binaries: &Binaries,
    plane: &ControlPlane,
    client: &Client,
) -> anyhow::Result<Supervised> {
    for version in ["v2", "v2alpha1"] {
        let mut apply = binaries.command("kubectl");
        apply
            .args(["apply", "--server-side", "--filename"])
            .arg(folder.join("crds").join(version))
            .env("KUBECONFIG", plane.kubeconfig());
        run_command(&mut apply)?;
    }
    let ranges = json!({ "spec": {
        "podCIDR": POD_NETWORK,
        "podCIDRs": [POD_NETWORK, POD_NETWORK_V6],
    } });
    let nodes: Api<Node> = Api::all(client.clone());
    nodes
        .patch(NODE_NAME, &PatchParams::default(), &Patch::Merge(&ranges))
        .await
        .context("failed to give the node its pod ranges")?;
    run("mount", ["-t", "bpf", "bpf", "/sys/fs/bpf"])?;
    for folder in ["/run/cilium/cgroupv2", "/run/hubble", "/var/lib/cilium"] {
        std::fs::create_dir_all(folder).context("failed to make a folder")?;
    }
    run("mount", ["-t", "cgroup2", "none", "/run/cilium/cgroupv2"])?;
    std::os::unix::fs::symlink(folder.join("lib/bpf"), "/var/lib/cilium/bpf")
        .context("failed to link the BPF sources")?;
    let programs = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(folder.join("cilium-agent"));
    command
        .arg(format!(
            "--k8s-kubeconfig-path={}",
            plane.kubeconfig().display()
        ))
        .arg(format!("--ipv4-native-routing-cidr={POD_NETWORK}"))
        .arg(format!("--ipv6-native-routing-cidr={POD_NETWORK_V6}"))
        .arg(format!("--hubble-export-file-path={HUBBLE_LOG}"))
        .args(CILIUM_FLAGS)
        .env("PATH", format!("{}:{programs}", folder.display()))
        .env("K8S_NODE_NAME", NODE_NAME)
        .env("CILIUM_K8S_NAMESPACE", "kube-system");
    let more = std::env::var(FLAGS_VARIABLE).unwrap_or_default();
    command.args(more.split_whitespace());
    publish_settings(&command, client).await?;
    let mut process = stay("cilium-agent", &command)?;
    wait_for("Cilium's agent to be healthy", READY_LIMIT, async || {
        if let Ok(Some(status)) = process.exited() {
            return Ok(Err(format!(
                "Cilium's agent ended with {status}: {}",
                process.log_tail(8)
            )));
        }
        match health() {
            Ok(answer) if answer.contains(" 200 ") => Ok(Ok(())),
            other => Err(format!("{other:?}")),
        }
    })
    .await?
    .map_err(anyhow::Error::msg)?;
    Ok(process)
}

/// The ConfigMap in which Cilium's chart keeps the settings; here it has those of the command line.
async fn publish_settings(command: &Command, client: &Client) -> anyhow::Result<()> {
    let flags = command.get_args().filter_map(|flag| {
        let (name, value) = flag.to_str()?.strip_prefix("--")?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    });
    let map = ConfigMap {
        metadata: ObjectMeta {
            name: Some("cilium-config".to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(flags.collect()),
        ..ConfigMap::default()
    };
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "kube-system");
    maps.create(&PostParams::default(), &map)
        .await
        .context("failed to store Cilium's settings")?;
    Ok(())
}

/// The first bytes that the agent's health server answers.
fn health() -> std::io::Result<String> {
    let mut connection = TcpStream::connect(HEALTH_ADDRESS)?;
    connection.set_read_timeout(Some(Duration::from_secs(2)))?;
    connection.write_all(b"GET /healthz HTTP/1.0\r\nbrief: true\r\n\r\n")?;
    let mut answer = [0; 64];
    let count = connection.read(&mut answer)?;
    let answer = answer.get(..count).unwrap_or_default();
    Ok(String::from_utf8_lossy(answer).into_owned())
}

/// What Cilium's Helm chart sets, as far as it concerns policies and flows, in native routing: the node routes between its
/// pods and the Internet. `identity-max-jitter` and `identity-change-grace-period` have their defaults.
const CILIUM_FLAGS: [&str; 29] = [
    "--state-dir=/run/cilium",
    "--bpf-root=/sys/fs/bpf",
    "--cgroup-root=/run/cilium/cgroupv2",
    "--cluster-name=default",
    "--cluster-id=0",
    "--identity-allocation-mode=crd",
    "--ipam=kubernetes",
    "--enable-ipv4=true",
    "--enable-ipv6=true",
    "--enable-ipv4-masquerade=false",
    "--enable-ipv6-masquerade=false",
    "--routing-mode=native",
    "--kube-proxy-replacement=false",
    "--bpf-lb-sock=false",
    "--enable-endpoint-routes=true",
    "--devices=eth0",
    "--enable-health-checking=false",
    "--enable-endpoint-health-checking=false",
    "--enable-l7-proxy=true",
    "--enable-policy=default",
    "--cni-exclusive=false",
    "--monitor-aggregation=medium",
    "--monitor-aggregation-interval=5s",
    "--monitor-aggregation-flags=all",
    "--enable-hubble=true",
    "--hubble-disable-tls=true",
    "--hubble-listen-address=127.0.0.1:4244",
    "--hubble-export-file-max-size-mb=10",
    "--hubble-export-file-max-backups=5",
];

async fn start_kube_router(folder: &Path, plane: &ControlPlane) -> anyhow::Result<Supervised> {
    let mut command = Command::new(folder.join("kube-router"));
    command
        .arg(format!("--kubeconfig={}", plane.kubeconfig().display()))
        .args([
            "--run-router=false",
            "--run-service-proxy=false",
            "--run-firewall=true",
            "--enable-cni=false",
            "--enable-ipv6=true",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--metrics-port=0",
            "--health-port=20244",
        ])
        .arg(format!("--hostname-override={NODE_NAME}"))
        .env("NODE_NAME", NODE_NAME);
    let mut process = stay("kube-router", &command)?;
    wait_for("kube-router's chains", READY_LIMIT, async || {
        if let Ok(Some(status)) = process.exited() {
            return Ok(Err(format!(
                "kube-router ended with {status}: {}",
                process.log_tail(8)
            )));
        }
        let rules = run("iptables", ["-S", "KUBE-ROUTER-FORWARD"]);
        rules
            .map(|_| Ok(()))
            .map_err(|error| format!("{error:#}, on the node {NODE_IP}"))
    })
    .await?
    .map_err(anyhow::Error::msg)?;
    Ok(process)
}
