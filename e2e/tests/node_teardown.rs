//! What is left of a test node after its command ended, failed or was killed: nothing.
//!
//! Starts nodes of its own, outside of any; `make e2e-node` asks for it, other runs say that it is
//! skipped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use yellowjack_e2e::node::{missing, remove_leftovers};
use yellowjack_e2e::wait_for;

const LIMIT: Duration = Duration::from_mins(3);
const WITH_NODE: &str = env!("CARGO_BIN_EXE_with-node");

fn skip_reason() -> Option<String> {
    if std::env::var_os("YELLOWJACK_NODE_TESTS").is_none() {
        return Some("`make e2e-node` runs this".to_owned());
    }
    missing()
}

/// Starts a node whose command says in a file of its own folder that it runs a pod, and then waits.
fn start(folder: &Path) -> anyhow::Result<Child> {
    let script = format!(
        "kubectl run sleeper --image=yellowjack.test/toolbox:test --image-pull-policy=Never && \
         kubectl wait --for=condition=Ready pod/sleeper --timeout=60s && touch {} && \
         exec tail -f /dev/null",
        folder.join("ready").display()
    );
    Command::new(WITH_NODE)
        .args(["sh", "-c", &script])
        .stdin(Stdio::null())
        .spawn()
        .context("failed to start with-node")
}

async fn ready(folder: &Path) -> anyhow::Result<()> {
    let file = folder.join("ready");
    wait_for("the pod to run", LIMIT, async || {
        file.exists()
            .then_some(())
            .ok_or_else(|| "no file yet".to_owned())
    })
    .await
}

/// Everything on this machine that carries the node's name or lies in its namespaces: control groups,
/// processes, mounts.
fn left(pid: u32) -> anyhow::Result<BTreeSet<String>> {
    let name = format!("yellowjack-node-{pid}");
    let mut found = BTreeSet::new();
    for root in std::fs::read_dir("/sys/fs/cgroup")?.flatten() {
        let group = root.path().join(&name);
        if group.exists() {
            found.insert(group.display().to_string());
        }
    }
    for process in std::fs::read_dir("/proc")?.flatten() {
        let folder = process.path();
        let command = std::fs::read(folder.join("cmdline")).unwrap_or_default();
        let groups = std::fs::read_to_string(folder.join("cgroup")).unwrap_or_default();
        if String::from_utf8_lossy(&command).contains(&name) || groups.contains(&name) {
            found.insert(format!("process {}", folder.display()));
        }
    }
    Ok(found)
}

/// What the node would have changed if it were not in namespaces of its own.
fn machine() -> anyhow::Result<Vec<String>> {
    let mut state = Vec::new();
    for file in [
        "/proc/sys/kernel/panic",
        "/proc/sys/vm/overcommit_memory",
        "/proc/sys/net/ipv4/ip_forward",
    ] {
        state.push(std::fs::read_to_string(file)?);
    }
    // Programs of others mount and unmount meanwhile: only what could be ours counts.
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    state.extend(
        mounts
            .lines()
            .filter(|line| line.contains("yellowjack"))
            .map(str::to_owned),
    );
    for folder in ["/run", "/var/lib", "/var/log", "/etc"] {
        let mut names: Vec<PathBuf> = std::fs::read_dir(folder)?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        names.sort();
        state.extend(names.into_iter().map(|name| name.display().to_string()));
    }
    let links = Command::new("ip").args(["-brief", "link"]).output()?;
    let links = String::from_utf8(links.stdout)?;
    state.extend(
        links
            .lines()
            .filter(|line| line.starts_with("veth"))
            .map(str::to_owned),
    );
    Ok(state)
}

async fn gone(pid: u32) -> anyhow::Result<()> {
    wait_for("the node to be gone", LIMIT, async || {
        let found = left(pid).map_err(|error| format!("{error:#}"))?;
        if found.is_empty() {
            Ok(())
        } else {
            Err(format!("{found:?}"))
        }
    })
    .await
}

#[tokio::test]
async fn nothing_is_left_when_the_node_is_told_to_end_or_killed() -> anyhow::Result<()> {
    if let Some(reason) = skip_reason() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let before = machine()?;
    for signal in ["TERM", "KILL"] {
        let folder = tempfile::tempdir()?;
        let mut child = start(folder.path())?;
        ready(folder.path()).await?;
        assert!(
            left(child.id())?.len() > 5,
            "the node has no processes: {:?}",
            left(child.id())?
        );
        let status = Command::new("kill")
            .arg(format!("-{signal}"))
            .arg(child.id().to_string())
            .status()?;
        assert!(status.success());
        child.wait()?;
        if signal == "KILL" {
            // It could not clean up itself: the next start does, with this.
            remove_leftovers().await?;
        }
        gone(child.id()).await?;
    }
    assert_eq!(machine()?, before, "the machine is not as it was");
    Ok(())
}

#[tokio::test]
async fn the_commands_exit_code_is_handed_on_and_nothing_is_left() -> anyhow::Result<()> {
    if let Some(reason) = skip_reason() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let mut child = Command::new(WITH_NODE)
        .args(["sh", "-c", "exit 7"])
        .stdin(Stdio::null())
        .spawn()?;
    assert_eq!(child.wait()?.code(), Some(7));
    assert!(left(child.id())?.is_empty(), "{:?}", left(child.id())?);
    Ok(())
}
