//! Helm itself, for tests that render or install the chart: the pinned version that
//! `charts/build-helm.sh` builds.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, anyhow, ensure};

/// The repository's root.
#[must_use]
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Runs Helm in the repository's root and returns what it printed. It takes the cluster that
/// `KUBECONFIG` names.
pub fn helm(arguments: &[&str]) -> anyhow::Result<String> {
    let mut command = Command::new(binary()?);
    let output = command.args(arguments).current_dir(root()).output();
    let output = output.context("failed to run helm")?;
    ensure!(
        output.status.success(),
        "helm {} failed: {}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).context("helm printed invalid UTF-8")
}

fn binary() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!("{error}"))
}

fn build() -> anyhow::Result<PathBuf> {
    let script = root().join("charts/build-helm.sh");
    let output = Command::new(script)
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run charts/build-helm.sh")?;
    ensure!(output.status.success(), "failed to build Helm");
    let path = String::from_utf8(output.stdout).context("not a path")?;
    Ok(PathBuf::from(path.trim()))
}
