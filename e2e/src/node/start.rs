//! Runs a command on a test node: finds what is missing, builds, makes the namespaces, and cleans up
//! behind them. Called by `bin/with_node.rs`.
//!
//! This process stays outside. Everything else lives in a process namespace whose first process is
//! killed when this one ends, in whatever way: the kernel then kills all in it, and mounts, network
//! and links go with the last process. Control groups remain; they are removed here, or by the next
//! run where this process was killed too.

use std::ffi::OsString;
use std::path::Path;
use std::process::{ExitCode, ExitStatus};

use anyhow::Context;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use super::cgroup;
use super::engine::{Engine, FOLDER_VARIABLE};
use super::inside::INSIDE_ARGUMENT;
use super::layout::log_folder;
use crate::binaries::{Binaries, run_build_script};
use crate::operator::forget_package;

/// A node's name is this and the process id of the one that made it. Its control groups and the folder
/// of its logs are called so.
const NAME_PREFIX: &str = "yellowjack-node-";
/// The first process of the namespace. A shell, because it buries the orphans of others: containerd's
/// shims are left to it.
const FIRST_PROCESS: &str = r#""$@"; exit "$?""#;

/// Runs `command` inside a new node and tells its exit code. Must be called from the main thread,
/// whose end is taken for the end of the process.
pub fn run_in_node(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start a runtime")?;
    let built = run_build_script("node/build.sh", &[])?;
    let engine = Engine::of_environment()?.map(Engine::build).transpose()?;
    Binaries::find()?;
    runtime.block_on(async {
        // Somebody else's node, seen from another process namespace, looks like a leftover and resists.
        if let Err(error) = remove_leftovers().await {
            eprintln!("node: {error:#}");
        }
        let name = format!("{NAME_PREFIX}{}", std::process::id());
        cgroup::make(&name)?;
        let outcome = run_and_wait(&name, &built, engine.as_deref(), command).await;
        cgroup::remove(&name).await?;
        let status = outcome?;
        Ok(status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .map_or(ExitCode::FAILURE, Into::into))
    })
}

/// Removes the control groups of runs that were killed before they could do it, and the logs of all
/// that have ended.
pub async fn remove_leftovers() -> anyhow::Result<()> {
    let ended = |name: &str| {
        let pid = name.strip_prefix(NAME_PREFIX);
        pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists())
    };
    for name in cgroup::names_with(NAME_PREFIX)? {
        if ended(&name) {
            eprintln!("node: removing what is left of {name}");
            cgroup::remove(&name).await?;
        }
    }
    let logs = std::fs::read_dir(log_folder(""))
        .into_iter()
        .flatten()
        .flatten();
    for folder in logs {
        if ended(&folder.file_name().to_string_lossy()) {
            std::fs::remove_dir_all(folder.path()).context("failed to remove old logs")?;
        }
    }
    Ok(())
}

async fn run_and_wait(
    name: &str,
    built: &Path,
    engine: Option<&Path>,
    command: &[OsString],
) -> anyhow::Result<ExitStatus> {
    let mut child = spawn(name, built, engine, command)?;
    let mut terminate = signal(SignalKind::terminate()).context("failed to catch SIGTERM")?;
    let mut hangup = signal(SignalKind::hangup()).context("failed to catch SIGHUP")?;
    // Ctrl-C goes to the command too, which decides what it means.
    let mut interrupt = signal(SignalKind::interrupt()).context("failed to catch SIGINT")?;
    loop {
        tokio::select! {
            status = child.wait() => return status.context("failed to wait for the node"),
            _ = terminate.recv() => kill(&mut child)?,
            _ = hangup.recv() => kill(&mut child)?,
            _ = interrupt.recv() => {}
        }
    }
}

fn kill(child: &mut Child) -> anyhow::Result<()> {
    child.start_kill().context("failed to kill the node")
}

/// `setpriv` has the kernel kill `unshare` when this thread ends, and `unshare` has it kill the first
/// process of the namespace when itself ends.
fn spawn(
    name: &str,
    built: &Path,
    engine: Option<&Path>,
    command: &[OsString],
) -> anyhow::Result<Child> {
    let own = std::env::current_exe().context("failed to find this program")?;
    let mut outer = std::process::Command::new("setpriv");
    forget_package(&mut outer);
    outer
        .args(["--pdeathsig", "KILL", "unshare"])
        .args(["--net", "--mount", "--pid", "--ipc", "--uts"])
        .args([
            "--propagation",
            "private",
            "--fork",
            "--kill-child=KILL",
            "--mount-proc",
        ])
        .args(["sh", "-c", FIRST_PROCESS, "node"])
        .arg(own)
        .arg(INSIDE_ARGUMENT)
        .arg(name)
        .arg(built)
        .args(command)
        // The control plane's folder must end with the node, and the user's cluster is not used here.
        .env("TMPDIR", "/run")
        .env_remove("KUBECONFIG")
        .env_remove("KUBEBUILDER_ASSETS");
    if let Some(folder) = engine {
        outer.env(FOLDER_VARIABLE, folder);
    }
    Command::from(outer)
        .spawn()
        .context("failed to make the namespaces of the node")
}
