//! What an operator of this test lives in: a namespace of its own with pods and AgentRuns, a folder for its logs,
//! and its `/metrics`, from which a test sees how far it has come.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use yellowjack::testing::api::{AgentRun, Incident, condition_of, labels};
use yellowjack_e2e::{Operator, TestEnv, pod, set_pod_ip_since, wait_for};

use crate::compare::Action;

/// How long a state may take; on a loaded machine everything is slow.
pub const LIMIT: Duration = Duration::from_mins(2);

/// How long the last contacts may take: 10 s for an answer, and some for a loaded machine.
const SETTLE_LIMIT: Duration = Duration::from_secs(40);

/// The label of pods that names their run.
const RUN_LABEL: &str = "parity-run";

/// Requests for pods at the same time.
const AT_ONCE: usize = 6;

/// A pod to be made.
#[derive(Clone, Debug)]
pub struct WantedPod {
    pub name: String,
    pub address: IpAddr,
    pub node: Option<String>,
    pub run: String,
    pub since: Timestamp,
}

/// An operator and what it watches.
pub struct World {
    pub env: TestEnv,
    pub folder: tempfile::TempDir,
    operator: Operator,
    metrics: String,
    pods: BTreeMap<String, IpAddr>,
}

/// Makes pods that run since some time with the addresses that they have.
pub async fn make_pods(env: &TestEnv, pods: &[WantedPod]) -> anyhow::Result<()> {
    futures::stream::iter(pods)
        .map(|wanted| make_pod(env, wanted))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await
}

async fn make_pod(env: &TestEnv, wanted: &WantedPod) -> anyhow::Result<()> {
    let mut made = pod(&wanted.name, &[(RUN_LABEL, &wanted.run)])?;
    if let (Some(spec), Some(node)) = (&mut made.spec, &wanted.node) {
        spec.node_name = Some(node.clone());
    }
    let pods: Api<Pod> = env.api();
    pods.create(&PostParams::default(), &made)
        .await
        .with_context(|| format!("failed to make pod {}", wanted.name))?;
    let address = wanted.address.to_string();
    set_pod_ip_since(
        &env.client,
        &env.namespace,
        &wanted.name,
        &address,
        wanted.since,
    )
    .await?;
    Ok(())
}

/// Makes an AgentRun over the pods that name it; `spec` is everything but the target.
pub async fn make_run(env: &TestEnv, name: &str, spec: &Value) -> anyhow::Result<()> {
    let mut spec = spec.clone();
    spec["target"] = json!({ "selector": { "matchLabels": { RUN_LABEL: name } } });
    let run = json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "AgentRun",
        "metadata": { "name": name },
        "spec": spec,
    });
    let runs: Api<AgentRun> = env.api();
    runs.create(&PostParams::default(), &serde_json::from_value(run)?)
        .await
        .with_context(|| format!("failed to make the run {name}"))?;
    Ok(())
}

impl World {
    /// Starts an operator on these sources, which are below `folder`, and waits until it knows every pod.
    pub async fn start(
        env: TestEnv,
        folder: tempfile::TempDir,
        sources: &[String],
        pods: &[WantedPod],
        flags: &[String],
    ) -> anyhow::Result<Self> {
        let mut arguments = vec![
            "controller",
            "--namespace",
            &env.namespace,
            "--agent-namespace",
            &env.namespace,
        ];
        arguments.extend(["--start-at", "beginning", "--listen", "127.0.0.1:0"]);
        // What bounds automatic action is not what is compared.
        arguments.extend([
            "--breaker-pods",
            "1000",
            "--max-quarantines",
            "1000",
            "--actions-per-second",
            "100",
        ]);
        for source in sources {
            arguments.extend(["--source", source]);
        }
        arguments.extend(flags.iter().map(String::as_str));
        let operator = env.operator(env.cluster.kubeconfig(), &arguments).await?;
        let metrics = wait_for("the operator's endpoints", LIMIT, async || {
            let log = operator.log().map_err(|error| error.to_string())?;
            let said = log.lines().find_map(|line| line.split_once("address="));
            said.map(|(_, address)| address.trim().to_owned())
                .ok_or(log)
        })
        .await?;
        let world = Self {
            env,
            folder,
            operator,
            metrics,
            pods: pods
                .iter()
                .map(|pod| (pod.name.clone(), pod.address))
                .collect(),
        };
        world
            .wait_metric("yellowjack_pods", pods.len() as u64)
            .await?;
        Ok(world)
    }

    /// Appends to a file below the folder.
    pub fn append(&self, file: &Path, text: &[u8]) -> anyhow::Result<()> {
        let path = self.folder.path().join(file);
        let mut log = std::fs::OpenOptions::new().append(true).open(&path)?;
        log.write_all(text)
            .with_context(|| format!("failed to write {}", path.display()))
    }

    /// The sum of a metric over all its labels that have these words.
    pub async fn metric(&self, name: &str, words: &str) -> anyhow::Result<u64> {
        let text = self.metrics_text().await?;
        let of_name = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(words)
        });
        let values = of_name.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        Ok(values.sum())
    }

    async fn metrics_text(&self) -> anyhow::Result<String> {
        let mut stream = tokio::net::TcpStream::connect(&self.metrics).await?;
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
            .await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        Ok(answer)
    }

    /// Waits until a metric has come to this value or beyond.
    pub async fn wait_metric(&self, name: &str, wanted: u64) -> anyhow::Result<()> {
        self.wait_labelled(name, "", wanted).await
    }

    /// The same of the values whose labels have these words.
    pub async fn wait_labelled(&self, name: &str, words: &str, wanted: u64) -> anyhow::Result<()> {
        wait_for(
            &format!("{name} {words} to reach {wanted}"),
            LIMIT,
            async || match self.metric(name, words).await {
                Ok(value) if value >= wanted => Ok(()),
                Ok(value) => Err(value.to_string()),
                Err(error) => Err(format!("{error:#}")),
            },
        )
        .await
    }

    /// Waits until nothing waits for an answer any more: what was read is judged to its end.
    pub async fn wait_settled(&self) -> anyhow::Result<()> {
        wait_for(
            "the last contacts to be judged",
            SETTLE_LIMIT,
            async || match self.metric("yellowjack_contacts_waiting", "").await {
                Ok(0) => Ok(()),
                Ok(waiting) => Err(format!("{waiting} wait")),
                Err(error) => Err(format!("{error:#}")),
            },
        )
        .await
    }

    /// What is known and done about each pod now.
    pub async fn findings(&self) -> anyhow::Result<BTreeMap<IpAddr, BTreeMap<String, Action>>> {
        let incidents: Api<Incident> = self.env.api();
        let pods: Api<Pod> = self.env.api();
        let held: BTreeMap<_, _> = pods
            .list(&ListParams::default().labels(labels::QUARANTINE))
            .await?
            .items
            .iter()
            .map(|pod| (pod.name_any(), ()))
            .collect();
        let mut findings: BTreeMap<IpAddr, BTreeMap<String, Action>> = BTreeMap::new();
        for incident in incidents.list(&ListParams::default()).await?.items {
            let name = &incident.spec.subject.name;
            let address = *self
                .pods
                .get(name)
                .with_context(|| format!("an Incident of an unknown pod {name}"))?;
            for evidence in &incident.spec.evidence {
                let action = if held.contains_key(name) {
                    Action::of(evidence.severity.name())
                } else {
                    Action::Alert
                };
                let known = findings
                    .entry(address)
                    .or_default()
                    .entry(evidence.signature.clone())
                    .or_default();
                *known = action.max(*known);
            }
        }
        Ok(findings)
    }

    /// Status and reason of a condition of each run, with its message.
    pub async fn condition(&self, kind: &str) -> anyhow::Result<Vec<String>> {
        let runs: Api<AgentRun> = self.env.api();
        let runs = runs.list(&ListParams::default()).await?.items;
        let said = runs.iter().map(|run| {
            let conditions = run
                .status
                .as_ref()
                .map_or(&[][..], |status| &status.conditions);
            condition_of(conditions, kind).map_or_else(
                || "none".to_owned(),
                |c| format!("{} {}: {}", c.status, c.reason, c.message),
            )
        });
        Ok(said.collect())
    }

    /// Asks the operator to end, which first deals with everything that it has read, and waits for that.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        let pid = self.operator.pid().to_string();
        let asked = tokio::process::Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .await?;
        ensure!(asked.success(), "failed to ask the operator to end");
        self.operator.ended(LIMIT).await?;
        Ok(())
    }

    /// Everything that the operator printed.
    pub fn log(&self) -> anyhow::Result<String> {
        self.operator.log()
    }
}
