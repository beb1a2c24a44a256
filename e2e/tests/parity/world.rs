//! What an operator of this test lives in: a namespace of its own with pods and AgentRuns, a folder for its logs,
//! and its `/metrics`, from which a test sees how far it has come.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use yellowjack::testing::api::{AgentRun, condition_of, labels};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{Fixture, LIMIT, run_conditions};
use yellowjack_e2e::{Operator, TestEnv, http_get, wait_for};

use crate::compare::Action;

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
    let mut pod = build::pod(&wanted.name, &[(RUN_LABEL, &wanted.run)])?;
    if let (Some(spec), Some(node)) = (&mut pod.spec, &wanted.node) {
        spec.node_name = Some(node.clone());
    }
    env.start_pod_since(&pod, &wanted.address.to_string(), wanted.since)
        .await
}

/// Makes an AgentRun over the pods that name it; `spec` is everything but the target.
pub async fn make_run(env: &TestEnv, name: &str, spec: &Value) -> anyhow::Result<()> {
    let target = json!({ "selector": { "matchLabels": { RUN_LABEL: name } } });
    env.create_run_for(name, target, spec.clone())
        .await
        .map(drop)
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
        let metrics = operator.http_address().await?;
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
        let text = http_get(&self.metrics, "/metrics").await?;
        let of_name = text.lines().filter(|line| {
            let rest = line.strip_prefix(name);
            rest.is_some_and(|rest| rest.starts_with(['{', ' '])) && line.contains(words)
        });
        let values = of_name.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok());
        Ok(values.sum())
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
        let pods: Api<Pod> = self.env.api();
        let held: BTreeSet<String> = pods
            .list(&ListParams::default().labels(labels::QUARANTINE))
            .await?
            .items
            .iter()
            .map(ResourceExt::name_any)
            .collect();
        let mut findings: BTreeMap<IpAddr, BTreeMap<String, Action>> = BTreeMap::new();
        for incident in self.env.incidents().await? {
            let name = &incident.spec.subject.name;
            let address = *self
                .pods
                .get(name)
                .with_context(|| format!("an Incident of an unknown pod {name}"))?;
            for evidence in &incident.spec.evidence {
                let action = if held.contains(name) {
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
            condition_of(run_conditions(run), kind).map_or_else(
                || "none".to_owned(),
                |c| format!("{} {}: {}", c.status, c.reason, c.message),
            )
        });
        Ok(said.collect())
    }

    /// Asks the operator to end, which first deals with everything that it has read, and waits for that.
    pub async fn stop(&mut self) -> anyhow::Result<()> {
        self.operator.signal("TERM")?;
        self.operator.ended(LIMIT).await?;
        Ok(())
    }

    /// Everything that the operator printed.
    pub fn log(&self) -> anyhow::Result<String> {
        self.operator.log()
    }
}
