//! Running the programs that set the node up, and starting those that stay. Used by this folder.

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};

use super::layout::{WORLD, path};
use crate::binaries::words_of;
use crate::supervise::Supervised;

/// Runs a program to its end and returns what it printed; the error holds what it complained about.
pub(super) fn run<I, S>(program: impl AsRef<OsStr>, arguments: I) -> anyhow::Result<String>
where
    I: IntoIterator<Item = S>,
    S: AsRef<OsStr>,
{
    let mut command = Command::new(program);
    command.args(arguments);
    run_command(&mut command)
}

/// The same for a command that is there already.
pub(super) fn run_command(command: &mut Command) -> anyhow::Result<String> {
    let what = words_of(command);
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("failed to run {what}"))?;
    ensure!(
        output.status.success(),
        "{what} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    String::from_utf8(output.stdout).with_context(|| format!("{what} printed invalid UTF-8"))
}

/// Runs lines of `ip` commands in one process; in the Internet's namespace where `world` says so.
pub(super) fn ip_batch(world: bool, lines: &[String]) -> anyhow::Result<()> {
    let mut command = Command::new("ip");
    if world {
        command.args(["-netns", WORLD]);
    }
    let mut child = command
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("failed to run ip")?;
    if let Some(mut input) = child.stdin.take() {
        input
            .write_all((lines.join("\n") + "\n").as_bytes())
            .context("failed to write to ip")?;
    }
    let output = child.wait_with_output().context("failed to wait for ip")?;
    ensure!(
        output.status.success(),
        "ip failed: {}",
        String::from_utf8_lossy(&output.stderr).trim_end()
    );
    Ok(())
}

/// A command in the Internet's network namespace.
pub(super) fn in_world(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{WORLD}"))
        .arg("--")
        .arg(program);
    command
}

/// Starts a program that stays; its output goes to a log of that name.
pub(super) fn stay(name: &str, command: &Command) -> anyhow::Result<Supervised> {
    let log = path("logs").join(format!("{name}.log"));
    Supervised::start(command, &log, None).with_context(|| format!("failed to start {name}"))
}

/// Writes a file of the node.
pub(super) fn write(path: &Path, text: &str) -> anyhow::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("failed to make {}", folder.display()))?;
    }
    std::fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
}

/// Writes a setting of the kernel, by its path below `/proc/sys`.
pub(super) fn sysctl(name: &str, value: &str) -> anyhow::Result<()> {
    let path = Path::new("/proc/sys").join(name);
    std::fs::write(&path, value).with_context(|| format!("failed to set {}", path.display()))
}
