//! The chart rendered, and applied to a test's cluster. Used by the other modules.

use std::path::PathBuf;

use anyhow::Context;
use yellowjack_e2e::TestCluster;
pub use yellowjack_e2e::helm::{helm, root};

/// Where the chart is installed.
pub const NAMESPACE: &str = "yellowjack-system";

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

/// The rendered chart.
pub fn template(more: &[&str]) -> anyhow::Result<String> {
    let mut arguments = vec!["template", "yellowjack", "charts/yellowjack", "--no-hooks"];
    arguments.extend(["--namespace", NAMESPACE]);
    arguments.extend_from_slice(more);
    helm(&arguments)
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
