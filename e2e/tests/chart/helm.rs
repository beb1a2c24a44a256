//! Helm, and the chart installed into a test's cluster. Used by the other modules.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, anyhow, ensure};
use yellowjack_e2e::TestCluster;

/// Where the chart is installed.
pub const NAMESPACE: &str = "yellowjack-system";

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The files with values that the tests render the chart with; none is its defaults.
pub fn values_files() -> anyhow::Result<Vec<Option<PathBuf>>> {
    let folder = root().join("charts/yellowjack/ci");
    let entries = std::fs::read_dir(folder).context("failed to list the values files")?;
    let mut files: Vec<_> = entries
        .map(|entry| entry.map(|entry| Some(entry.path())))
        .collect::<Result<_, _>>()?;
    files.sort();
    files.insert(0, None);
    Ok(files)
}

/// Runs Helm in the repository's root and returns what it printed.
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

/// The rendered chart.
pub fn template(more: &[&str]) -> anyhow::Result<String> {
    let mut arguments = vec!["template", "yellowjack", "charts/yellowjack", "--no-hooks"];
    arguments.extend(["--namespace", NAMESPACE]);
    arguments.extend_from_slice(more);
    helm(&arguments)
}

fn binary() -> anyhow::Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.clone().map_err(|error| anyhow!("{error}"))
}

fn build() -> anyhow::Result<PathBuf> {
    let script = root().join("charts/build-helm.sh");
    let output = Command::new(script)
        .stderr(std::process::Stdio::inherit())
        .output()
        .context("failed to run charts/build-helm.sh")?;
    ensure!(output.status.success(), "failed to build Helm");
    let path = String::from_utf8(output.stdout).context("not a path")?;
    Ok(PathBuf::from(path.trim()))
}

/// Applies the chart as it is rendered with its defaults. The pods that its workloads would make
/// find no node; nothing here needs them.
pub async fn install(cluster: &TestCluster) -> anyhow::Result<()> {
    // The namespace of a cluster that is handed over may be there already.
    let made = cluster.kubectl(&["create", "namespace", NAMESPACE]).await;
    if let Err(error) = made
        && !format!("{error:#}").contains("AlreadyExists")
    {
        return Err(error);
    }
    apply(cluster, &template(&[])?, &[]).await.map(drop)
}

/// `kubectl apply --server-side` of these manifests; returns what kubectl printed.
pub async fn apply(
    cluster: &TestCluster,
    manifests: &str,
    more: &[&str],
) -> anyhow::Result<String> {
    let file = tempfile::NamedTempFile::new().context("failed to make a file")?;
    std::fs::write(file.path(), manifests).context("failed to write the manifests")?;
    let path = file.path().display().to_string();
    let mut arguments = vec!["apply", "--server-side", "--force-conflicts"];
    arguments.extend(["--filename", &path]);
    arguments.extend_from_slice(more);
    cluster.kubectl(&arguments).await
}
