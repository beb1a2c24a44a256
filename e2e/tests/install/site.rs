//! Where the product is installed: the node with a policy stand-in and the image, and a namespace of
//! agents. The other modules act on it; nothing here knows what they test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use kube::{Api, Client};
use serde_json::Value;
use yellowjack_e2e::node::{POD_NETWORK, POD_NETWORK_V6, TestNode, skip_reason};
use yellowjack_e2e::standin::{Standin, StandinMode, build};
use yellowjack_e2e::{TestCluster, wait_for};

/// How long a state may take. A loaded machine is slow.
pub const LIMIT: Duration = Duration::from_mins(2);
/// Where the chart is installed.
pub const SYSTEM: &str = "yellowjack-system";
/// Where agents run.
pub const AGENTS: &str = "agents";
/// A network of which every host refuses.
pub const REFUSING_NETWORK: &str = "198.18.0.0/20";
/// The archive that `deploy/image.sh` wrote.
const IMAGE_VARIABLE: &str = "YELLOWJACK_IMAGE";

/// The node, and what stands on it before the product does.
pub struct Site {
    pub cluster: &'static TestCluster,
    pub client: Client,
    pub node: TestNode,
    folder: tempfile::TempDir,
    _standin: Standin,
}

/// Runs the test, and tells what there is to see where it fails.
pub async fn on_site<F>(test: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&Site) -> anyhow::Result<()>,
{
    if let Some(reason) = skip_reason() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let Some(image) = std::env::var_os(IMAGE_VARIABLE) else {
        println!("skipped: no image: `make e2e-install` builds one");
        return Ok(());
    };
    let site = Site::start(Path::new(&image)).await?;
    let outcome = test(&site).await;
    if outcome.is_err() {
        site.tell().await;
    }
    outcome
}

impl Site {
    async fn start(image: &Path) -> anyhow::Result<Self> {
        build("standin")?;
        let node = TestNode::find()?;
        let cluster = TestCluster::shared()?;
        let client = cluster.client().await?;
        let folder = tempfile::tempdir().context("failed to make a folder")?;
        run(Command::new("ctr").args(["images", "import"]).arg(image))?;
        // With the kernel's two minutes a scan is found that much later.
        node.set_network("netfilter/nf_conntrack_tcp_timeout_syn_sent", "5")?;
        let mut route = node.outside("ip");
        run(route.args(["route", "replace", "local", REFUSING_NETWORK, "dev", "lo"]))?;
        let log = folder.path().join("standin.log");
        let networks = [POD_NETWORK, POD_NETWORK_V6];
        let mode = StandinMode::Connection;
        let standin = Standin::start(mode, node.kubeconfig(), &networks, &log).await?;
        let site = Self {
            cluster,
            client,
            node,
            folder,
            _standin: standin,
        };
        site.kubectl(&["create", "namespace", AGENTS]).await?;
        Ok(site)
    }

    /// kubectl as the administrator.
    pub async fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        self.cluster.kubectl(arguments).await
    }

    /// Applies a manifest in the namespace of agents.
    pub async fn apply(&self, manifest: &Value) -> anyhow::Result<String> {
        let file = self.file("manifest.json");
        std::fs::write(&file, manifest.to_string()).context("failed to write a manifest")?;
        let file = file.display().to_string();
        self.kubectl(&["apply", "-n", AGENTS, "-f", &file]).await
    }

    /// Objects as kubectl gives them.
    pub async fn get(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let mut all = vec!["get", "-o", "json"];
        all.extend_from_slice(arguments);
        let text = self.kubectl(&all).await?;
        serde_json::from_str(&text).context("failed to read kubectl's answer")
    }

    /// Waits until objects satisfy this; `wanted` tells what is wrong with them.
    pub async fn until(
        &self,
        what: &str,
        arguments: &[&str],
        wanted: impl Fn(&Value) -> Result<(), String>,
    ) -> anyhow::Result<Value> {
        wait_for(what, LIMIT, async || {
            let found = self.get(arguments).await.map_err(|e| format!("{e:#}"))?;
            wanted(&found).map(|()| found)
        })
        .await
    }

    /// Objects of the namespace of agents.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), AGENTS)
    }

    /// A file of this test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn tell(&self) {
        let kinds = "pods,deployments,daemonsets,jobs,agentruns,incidents,networkpolicies,leases";
        for arguments in [
            vec!["get", kinds, "-A", "-o", "wide"],
            vec!["get", "incidents", "-A", "-o", "yaml"],
            vec!["get", "events", "-n", SYSTEM],
            vec!["describe", "pods", "-n", SYSTEM],
            vec![
                "logs",
                "-n",
                SYSTEM,
                "--prefix",
                "--tail=40",
                "-l",
                INSTANCE,
            ],
        ] {
            let text = self.kubectl(&arguments).await;
            eprintln!("{}", text.unwrap_or_else(|error| format!("{error:#}")));
        }
    }
}

/// Selects what the release made.
pub const INSTANCE: &str = "app.kubernetes.io/instance=yellowjack";

/// Runs a command and returns what it printed.
pub fn run(command: &mut Command) -> anyhow::Result<String> {
    let program = command.get_program().display().to_string();
    let output = command.output();
    let output = output.with_context(|| format!("failed to run {program}"))?;
    ensure!(
        output.status.success(),
        "{program} failed: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
