//! What runs inside the node's namespaces: mounts, network, control plane, containerd, kubelet, and
//! then the command, with the node in its environment. Called by `bin/with_node.rs`, which `start`
//! runs anew inside the namespaces.
//!
//! Nothing here is taken down: the end of this process is the end of the namespaces.

use std::ffi::OsString;
use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Instant;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use super::layout::{FOLDER, NODE_IP, NODE_NAME, STATE_VARIABLE, log_folder, path};
use super::program::{run, run_command, write};
use super::{cluster_dns, egress_log, engine, kubelet, network, runtime, world};
use crate::binaries::{Binaries, words_of};
use crate::cluster::KUBECTL_VARIABLE;
use crate::control_plane::{ControlPlane, NodeIdentity, client_of};
use crate::operator::forget_package;
use crate::supervise::Supervised;

/// The first argument of the process inside; the rest are the node's name, the folder that
/// `e2e/node/build.sh` made, and the command.
pub const INSIDE_ARGUMENT: &str = "--inside-the-node";

/// What another process must know of a node; `handle` reads it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct State {
    pub kubeconfig: std::path::PathBuf,
    pub egress_log: std::path::PathBuf,
    pub arrivals: std::path::PathBuf,
    pub built: std::path::PathBuf,
    pub start_ms: u64,
    /// Process ids of the parts that tests may stop and kill.
    pub pids: std::collections::BTreeMap<String, u32>,
}

/// Starts the node, runs the command, and tells its exit code. Blocks.
pub fn run_inside(arguments: &[OsString]) -> anyhow::Result<ExitCode> {
    let [name, built, program, rest @ ..] = arguments else {
        bail!("wanted a name, a folder and a command");
    };
    let name = name.to_str().context("a node's name is text")?;
    let started = Instant::now();
    let node = Node::start(name, Path::new(built), started)?;
    let mut command = Command::new(program);
    // The command is cargo, most of the time.
    forget_package(&mut command);
    let status = command
        .args(rest)
        .envs(node.environment)
        .status()
        .with_context(|| format!("failed to run {}", program.display()))?;
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, Into::into))
}

/// The running parts; they end with the process.
struct Node {
    environment: Vec<(&'static str, String)>,
    _plane: ControlPlane,
    _parts: Vec<Supervised>,
}

impl Node {
    fn start(name: &str, built: &Path, started: Instant) -> anyhow::Result<Self> {
        prepare_mounts(name)?;
        let binaries = Binaries::find()?;
        let engine = engine::chosen()?;
        network::make()?;
        let certificates = path("certificates");
        std::fs::create_dir_all(&certificates).context("failed to make a folder")?;
        let mut make = Command::new(built.join("toolbox"));
        run_command(make.arg("certificates").arg(&certificates))?;
        let identity = NodeIdentity {
            name: NODE_NAME,
            address: NODE_IP,
            certificates: &certificates,
        };
        let plane = ControlPlane::start(&binaries, Some(identity))?;
        let runtime = tokio::runtime::Runtime::new().context("failed to start a runtime")?;
        let mut pids = std::collections::BTreeMap::new();
        let mut parts = Vec::new();
        runtime.block_on(async {
            let mut keep = |name: &str, part: Supervised| {
                if let Some(pid) = part.pid() {
                    pids.insert(name.to_owned(), pid);
                }
                parts.push(part);
            };
            keep("ulogd", egress_log::start().await?);
            keep("containerd", runtime::start(built, engine.as_ref()).await?);
            for part in world::start(built).await? {
                keep("world", part);
            }
            let client = client_of(&plane.kubeconfig()).await?;
            for (name, part) in kubelet::start(&binaries, &plane, &client, name).await? {
                keep(name, part);
            }
            if let Some(engine) = &engine {
                let part = engine::start(engine, &binaries, &plane, &client).await?;
                keep(engine.0.name(), part);
            }
            cluster_dns::start(&client).await
        })?;
        for (name, pid) in plane.pids() {
            pids.insert(name.to_owned(), pid);
        }
        let state = State {
            kubeconfig: plane.kubeconfig(),
            egress_log: egress_log::file(),
            arrivals: world::arrivals_file(),
            built: built.to_owned(),
            start_ms: u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            pids,
        };
        let file = path("node.json");
        let text = serde_json::to_string(&state).context("failed to describe the node")?;
        write(&file, &text)?;
        println!("figure node.start {:.1} s", started.elapsed().as_secs_f64());
        Ok(Self {
            environment: vec![
                (STATE_VARIABLE, file.display().to_string()),
                ("KUBECONFIG", plane.kubeconfig().display().to_string()),
                (KUBECTL_VARIABLE, words_of(&binaries.command("kubectl"))),
                ("PATH", program_path(&binaries, built)?),
                (
                    "CONTAINERD_ADDRESS",
                    runtime::socket().display().to_string(),
                ),
                ("CONTAINERD_NAMESPACE", "k8s.io".to_owned()),
            ],
            _plane: plane,
            _parts: parts,
        })
    }
}

/// A file system in memory for all that the node stores, and for what its programs write into the
/// machine's folders whatever they are told.
fn prepare_mounts(name: &str) -> anyhow::Result<()> {
    // Volumes need shared mounts; they are shared with nobody outside this namespace.
    run("mount", ["--make-rshared", "/"])?;
    for folder in ["/run", "/var/log"] {
        run("mount", ["-t", "tmpfs", "-o", "mode=0755", "none", folder])?;
    }
    for folder in ["bin", "lib", "lib-work"] {
        std::fs::create_dir_all(path(folder)).context("failed to make a folder")?;
    }
    // The network plugins and the kubelet make folders in /var/lib, which stays as it is below.
    let layers = format!("lowerdir=/var/lib,upperdir={FOLDER}/lib,workdir={FOLDER}/lib-work");
    run(
        "mount",
        ["-t", "overlay", "-o", &layers, "none", "/var/lib"],
    )?;
    let logs = log_folder(name);
    std::fs::create_dir_all(&logs).context("failed to make the folder for logs")?;
    let logs = logs
        .canonicalize()
        .context("failed to find the folder for logs")?;
    std::os::unix::fs::symlink(&logs, path("logs")).context("failed to link the folder for logs")
}

/// The node's own programs come first for the command: kubectl, ctr and the toolbox.
fn program_path(binaries: &Binaries, built: &Path) -> anyhow::Result<String> {
    let bin = path("bin");
    if let Binaries::MultiCall(file) = binaries {
        std::os::unix::fs::symlink(file, bin.join("kubectl")).context("failed to link kubectl")?;
    }
    let before = std::env::var("PATH").unwrap_or_default();
    Ok(format!("{}:{}:{before}", bin.display(), built.display()))
}
