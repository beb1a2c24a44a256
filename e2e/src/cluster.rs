//! The API server that tests use: the one that `KUBECONFIG` names, else one of their own.
//!
//! One per process, shared by all its tests; `make test` starts one for all test binaries
//! (`bin/with_cluster.rs`) and hands it over through `KUBECONFIG`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use kube::Client;

use crate::binaries::{Binaries, words_of};
use crate::control_plane::{ControlPlane, client_of};

/// Names a kubectl that fits the server, for processes that were handed a `KUBECONFIG`.
pub(crate) const KUBECTL_VARIABLE: &str = "YELLOWJACK_KUBECTL";

/// An API server for tests.
#[derive(Debug)]
pub struct TestCluster {
    kubeconfig: PathBuf,
    binaries: Option<Binaries>,
    plane: Option<ControlPlane>,
}

impl TestCluster {
    /// The cluster of this process, started on first use. Nothing of it outlives the process.
    pub fn shared() -> anyhow::Result<&'static Self> {
        static SHARED: OnceLock<Result<TestCluster, String>> = OnceLock::new();
        let shared = SHARED.get_or_init(|| {
            // The start has a runtime of its own, and a test's thread may be inside one already.
            let start = std::thread::spawn(|| Self::start().map_err(|error| format!("{error:#}")));
            start
                .join()
                .unwrap_or_else(|_| Err("the start of the cluster panicked".to_owned()))
        });
        shared.as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// The cluster that `KUBECONFIG` names, else a new control plane. Blocks; not for use inside
    /// a runtime.
    pub fn start() -> anyhow::Result<Self> {
        if let Some(kubeconfig) = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()) {
            return Ok(Self {
                kubeconfig: PathBuf::from(kubeconfig),
                binaries: None,
                plane: None,
            });
        }
        Self::own()
    }

    /// A new control plane, whatever `KUBECONFIG` says. Blocks, as `start` does.
    pub fn own() -> anyhow::Result<Self> {
        let binaries = Binaries::find()?;
        let plane = ControlPlane::start(&binaries, None)?;
        Ok(Self {
            kubeconfig: plane.kubeconfig(),
            binaries: Some(binaries),
            plane: Some(plane),
        })
    }

    /// The administrator's kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// A client. It belongs to the runtime that it was made in, so each test makes its own.
    pub async fn client(&self) -> anyhow::Result<Client> {
        client_of(&self.kubeconfig).await
    }

    /// Whether controllers run: without them Jobs make no pods and nothing is garbage-collected.
    /// A cluster that was there already is taken for a whole one.
    #[must_use]
    pub fn has_controllers(&self) -> bool {
        self.binaries
            .as_ref()
            .is_none_or(|binaries| binaries.has("kube-controller-manager"))
    }

    /// How long the start took; none where the cluster was there already.
    #[must_use]
    pub fn start_time(&self) -> Option<Duration> {
        self.plane.as_ref().map(ControlPlane::start_time)
    }

    /// Resident memory of each part in bytes; empty where the cluster is not ours.
    #[must_use]
    pub fn resident_bytes(&self) -> Vec<(&'static str, u64)> {
        self.plane
            .as_ref()
            .map(ControlPlane::resident_bytes)
            .unwrap_or_default()
    }

    /// The environment through which another process finds this cluster.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("KUBECONFIG", self.kubeconfig.display().to_string()),
            (KUBECTL_VARIABLE, words_of(&self.kubectl_command())),
        ]
    }

    /// Runs kubectl as the administrator; the error holds what it said.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let mut command = tokio::process::Command::from(self.kubectl_command());
        command
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .args(arguments)
            .kill_on_drop(true);
        let output = command.output().await.context("failed to run kubectl")?;
        ensure!(
            output.status.success(),
            "kubectl {} failed: {}",
            arguments.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        String::from_utf8(output.stdout).context("kubectl printed invalid UTF-8")
    }

    /// kubectl, without any argument.
    #[must_use]
    pub fn kubectl_command(&self) -> Command {
        if let Some(binaries) = &self.binaries
            && binaries.has("kubectl")
        {
            return binaries.command("kubectl");
        }
        let words = std::env::var(KUBECTL_VARIABLE).unwrap_or_default();
        let mut words = words.split_whitespace();
        let mut command = Command::new(words.next().unwrap_or("kubectl"));
        command.args(words);
        command
    }
}
