//! The third way: the shipped operator on a real API server, with the pods and AgentRuns of the case.
//!
//! The times of a case stay what they are; its pods have been running since an hour before. The lines are appended
//! in their order, and the next file's only when the operator has read the ones before, so that it sees what
//! `replay` sees. Only one thing in them is changed: the namespace that a line names is the case's own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use yellowjack::testing::api::GuardrailPolicy;
use yellowjack_e2e::{TestEnv, wait_for, with_namespace};

use crate::case::Case;
use crate::compare::{Outcome, summary_of};
use crate::recorded::{Item, Recorded, RecordedSample, runs_of};
use crate::samples::Server;
use crate::world::{WantedPod, World, make_pods, make_run};

/// How long after everything was read a result may take until it is taken for final: recording and labelling
/// are some requests to the API server each.
const RESULT_LIMIT: Duration = Duration::from_secs(30);

/// A pod for a case whose log names none, so that there is a run whose conditions can be asked.
const BYSTANDER: [u8; 4] = [10, 255, 0, 1];

/// Plays a case to an operator. `engine` is what the engine came to: it says how long to wait, not what is found.
pub async fn by_operator(case: &Case, engine: &Outcome) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::default();
    with_namespace(async |env| {
        outcome = play(case, engine, &env).await?;
        // Pods on a node wait for its kubelet otherwise.
        let pods: Api<Pod> = env.api();
        pods.delete_collection(
            &DeleteParams::default().grace_period(0),
            &ListParams::default(),
        )
        .await?;
        Ok(())
    })
    .await?;
    Ok(outcome)
}

async fn play(case: &Case, engine: &Outcome, env: &TestEnv) -> anyhow::Result<Outcome> {
    let recorded = Recorded::read(case)?;
    let pods = pods_of(case, &recorded)?;
    make_runs(case, env, &pods).await?;
    make_pods(env, &pods).await?;
    let folder = tempfile::tempdir()?;
    for file in &recorded.files {
        let path = folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap_or(folder.path()))?;
        std::fs::write(&path, "")?;
    }
    let sources: Vec<_> = recorded
        .sources
        .iter()
        .map(|path| folder.path().join(path).display().to_string())
        .collect();
    let server = Server::start().await?;
    let mut flags = Vec::new();
    for option in ["--pool-list", "--tunnel-list"] {
        let file = case.option(option).map(|file| file.display().to_string());
        flags.extend(file.into_iter().flat_map(|file| [option.to_owned(), file]));
    }
    if case.option("--samples").is_some() {
        flags.extend(server.flags());
    }
    let stale_after = if case.signals.is_some() { "5s" } else { "1h" };
    flags.extend(["--stale-after", stale_after].map(str::to_owned));
    let mut world = World::start(env.clone(), folder, &sources, &pods, &flags).await?;
    let names = pods
        .iter()
        .map(|pod| (pod.address, (env.namespace.clone(), pod.name.clone())))
        .collect();
    Play {
        recorded: &recorded,
        world: &world,
        server: &server,
        names,
        lines: 0,
        fetches: BTreeMap::new(),
    }
    .run()
    .await?;
    world.wait_settled().await?;
    let reached = wait_for("the result", RESULT_LIMIT, async || {
        match world.findings().await {
            Ok(findings) if findings == engine.findings => Ok(()),
            Ok(findings) => Err(format!("{findings:?}")),
            Err(error) => Err(format!("{error:#}")),
        }
    });
    // Another result is no failure here: it is reported as a difference.
    let _ = reached.await;
    let signals = match &case.signals {
        Some(wanted) => Some(signals(&world, wanted).await?),
        None => None,
    };
    world.stop().await?;
    let findings = world.findings().await?;
    let summary = summary_of(&findings, engine);
    Ok(Outcome {
        findings,
        summary,
        said: world.log()?,
        signals,
        ..Outcome::default()
    })
}

/// What the runs say of their signals, once it is what the case expects; else what they say after some time.
async fn signals(world: &World, wanted: &str) -> anyhow::Result<String> {
    let said = wait_for("SignalsFresh", RESULT_LIMIT, async || {
        match world.condition("SignalsFresh").await {
            Ok(said) if said.iter().all(|said| said.starts_with(wanted)) => Ok(said),
            Ok(said) => Err(format!("{said:?}")),
            Err(error) => Err(format!("{error:#}")),
        }
    });
    match said.await {
        Ok(said) => Ok(said.into_iter().next().unwrap_or_default()),
        Err(_) => Ok(world
            .condition("SignalsFresh")
            .await?
            .into_iter()
            .find(|said| !said.starts_with(wanted))
            .unwrap_or_default()),
    }
}

/// The pods of a case. Each has a run of its own where the case does not say otherwise: an operator says nothing
/// about pods of no run.
pub fn pods_of(case: &Case, recorded: &Recorded) -> anyhow::Result<Vec<WantedPod>> {
    let runs = runs_of(case)?;
    let start = recorded
        .span
        .and_then(|(first, _)| first.to_timestamp())
        .unwrap_or_else(Timestamp::now);
    let since = start - jiff::SignedDuration::from_hours(1);
    let mut pods = recorded.pods.clone();
    if pods.is_empty() {
        pods.entry(IpAddr::from(BYSTANDER)).or_default();
    }
    let pods = pods.iter().map(|(address, pod)| {
        let plain = format!(
            "pod-{}",
            address
                .to_string()
                .replace(['.', ':'], "-")
                .trim_end_matches('-')
        );
        let name = pod.named.as_ref().map_or(plain, |(_, name)| name.clone());
        WantedPod {
            run: runs
                .get(address)
                .cloned()
                .unwrap_or_else(|| format!("run-{name}")),
            name,
            address: *address,
            node: pod.node.clone(),
            since,
        }
    });
    Ok(pods.collect())
}

/// The AgentRuns of a case, under the case's policy if it has one, as `replay` reads it.
async fn make_runs(case: &Case, env: &TestEnv, pods: &[WantedPod]) -> anyhow::Result<()> {
    let manifests = manifests_of(case, env).await?;
    let of_kind = |kind: &str| {
        manifests
            .iter()
            .filter(|object| object["kind"] == kind)
            .cloned()
            .collect::<Vec<_>>()
    };
    let policies: Api<GuardrailPolicy> = Api::all(env.client.clone());
    for mut policy in of_kind("GuardrailPolicy") {
        // Policies are of the whole cluster, and another case may have one of this name.
        policy["metadata"] = json!({ "name": policy_name(env, &policy["metadata"]["name"]) });
        policies
            .create(&PostParams::default(), &serde_json::from_value(policy)?)
            .await?;
    }
    let runs = of_kind("AgentRun");
    let names: BTreeSet<_> = pods.iter().map(|pod| pod.run.clone()).collect();
    for name in names {
        let own = runs
            .iter()
            .find(|run| run["metadata"]["name"] == name.as_str());
        let only = runs.first().filter(|_| runs.len() == 1);
        let mut spec = own
            .or(only)
            .map_or_else(|| json!({}), |run| run["spec"].clone());
        let policy = spec
            .get("policy")
            .cloned()
            .unwrap_or_else(|| json!("default"));
        if manifests.iter().any(|object| {
            object["kind"] == "GuardrailPolicy" && object["metadata"]["name"] == policy
        }) {
            spec["policy"] = json!(policy_name(env, &policy));
        }
        make_run(env, &name, &spec).await?;
    }
    Ok(())
}

fn policy_name(env: &TestEnv, name: &Value) -> String {
    format!("{}-{}", name.as_str().unwrap_or_default(), env.namespace)
}

/// The objects of the case's policy file; kubectl reads YAML.
async fn manifests_of(case: &Case, env: &TestEnv) -> anyhow::Result<Vec<Value>> {
    let Some(file) = case.option("--policy") else {
        return Ok(Vec::new());
    };
    let file = file.display().to_string();
    let arguments = [
        "create",
        "--dry-run=client",
        "--output=json",
        "--validate=false",
        "--filename",
        &file,
    ];
    let text = env.cluster.kubectl(&arguments).await?;
    let objects: Vec<Value> = serde_json::Deserializer::from_str(&text)
        .into_iter()
        .collect::<Result<_, _>>()
        .context("failed to read what kubectl made of the policy")?;
    let lists = objects
        .into_iter()
        .flat_map(|object| match object["items"].as_array() {
            Some(items) => items.clone(),
            None => vec![object],
        });
    Ok(lists.collect())
}

/// A case on its way to an operator.
struct Play<'a> {
    recorded: &'a Recorded,
    world: &'a World,
    server: &'a Server,
    /// Namespace and name of the pod with an address.
    names: BTreeMap<IpAddr, (String, String)>,
    /// Lines that were written.
    lines: u64,
    /// Answers with something new, by who gave them.
    fetches: BTreeMap<&'static str, u64>,
}

impl Play<'_> {
    async fn run(mut self) -> anyhow::Result<()> {
        let mut items = self.recorded.items.iter().peekable();
        while let Some(item) = items.next() {
            match item {
                Item::Line(file, line) => {
                    let mut text = self.line(line);
                    while let Some(Item::Line(_, next)) = items
                        .next_if(|next| matches!(next, Item::Line(number, _) if number == file))
                    {
                        text.extend(self.line(next));
                    }
                    self.world.append(&self.file(*file)?, &text)?;
                    self.world
                        .wait_metric("yellowjack_lines_total", self.lines)
                        .await?;
                }
                Item::Sample(sample) => self.show(&Recorded::moment(sample, &mut items)).await?,
            }
        }
        Ok(())
    }

    fn file(&self, number: usize) -> anyhow::Result<PathBuf> {
        self.recorded
            .files
            .get(number)
            .cloned()
            .context("no such file")
    }

    /// A line with the case's namespace in it, and its end.
    fn line(&mut self, line: &[u8]) -> Vec<u8> {
        self.lines += 1;
        let mut text = String::from_utf8_lossy(line).into_owned();
        let named: BTreeSet<_> = self
            .recorded
            .pods
            .values()
            .filter_map(|pod| pod.named.as_ref())
            .collect();
        for (namespace, _) in named {
            let forms = [
                ("\"namespace\":\"", "\""),
                ("\"namespace\": \"", "\""),
                // Inside the line of a wrapper.
                ("\\\"namespace\\\":\\\"", "\\\""),
            ];
            for (before, after) in forms {
                let own = format!("{before}{}{after}", self.world.env.namespace);
                text = text.replace(&format!("{before}{namespace}{after}"), &own);
            }
        }
        let mut bytes = if text.as_bytes() == line || std::str::from_utf8(line).is_ok() {
            text.into_bytes()
        } else {
            line.to_vec()
        };
        bytes.push(b'\n');
        bytes
    }

    /// Lets the operator fetch the samples of one moment.
    async fn show(&mut self, samples: &[&RecordedSample]) -> anyhow::Result<()> {
        let Some(time) = samples.first().map(|sample| sample.time) else {
            return Ok(());
        };
        let cores = samples
            .iter()
            .filter_map(|sample| Some((self.pod_of(&sample.pod)?, sample.cores?)));
        let cores: Vec<_> = cores.collect();
        let accelerators = samples
            .iter()
            .filter_map(|sample| Some((self.pod_of(&sample.pod)?, sample.gpu.clone()?)));
        let accelerators: Vec<_> = accelerators.collect();
        let begun: Vec<_> = cores
            .iter()
            .map(|(pod, _)| self.server.figures().begin(pod, time))
            .collect();
        if begun.contains(&true) {
            self.fetched("kubelet").await?;
        }
        for (pod, cores) in &cores {
            self.server.figures().use_cores(pod, time, *cores);
        }
        if !cores.is_empty() {
            self.fetched("kubelet").await?;
        }
        if !accelerators.is_empty() {
            self.server.figures().use_accelerators(time, &accelerators);
            self.fetched("dcgm").await?;
        }
        Ok(())
    }

    async fn fetched(&mut self, kind: &'static str) -> anyhow::Result<()> {
        let fetches = self.fetches.entry(kind).or_default();
        *fetches += 1;
        let news = self.server.news(kind);
        self.world
            .wait_labelled("yellowjack_scrapes_total", &news, *fetches)
            .await
    }

    fn pod_of(&self, named: &str) -> Option<(String, String)> {
        self.names.get(&self.recorded.address_of(named)?).cloned()
    }
}
