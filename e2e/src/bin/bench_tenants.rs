//! `make bench-tenants`: what a noisy tenant costs the others. One namespace has 8,000 open Incidents, most about pods
//! that do not exist, and the labels of its pods change 100 times a second; in another namespace 100 pods of 100 runs
//! cross the threshold one after another. `ARGS="--incidents 1000"` makes it small. Prints figures, each with a control
//! without the Incidents, and asserts what must hold on any machine: every one of those pods gets its label.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::MissedTickBehavior;
use yellowjack::testing::api::Incident;
use yellowjack_e2e::bench::{
    AgentPod, CONCURRENCY, NO_LIMITS, OpenIncident, as_f64, at_once, create_incidents,
    create_namespace, figure, heartbeat, one_after_another, pause, print_machine, print_quantiles,
    process_cpu_seconds,
};
use yellowjack_e2e::{
    Operator, RequestCounts, TestCluster, install_crds, lines::EgressLog, process_resident_bytes,
    wait_for,
};

const NOISY: &str = "bench-noisy";
const OTHER: &str = "bench-other";
/// Pods of the other namespace that cross the threshold one after another, in each of two phases.
const CROSSING: usize = 100;
/// Those that cross it at once, while the operator processes the new Incidents of the noisy namespace.
const CROSSING_AT_ONCE: usize = 20;
const OTHERS: usize = 2 * CROSSING + CROSSING_AT_ONCE;
/// Pods of the noisy namespace that exist, and the Incidents about them.
const LIVING: usize = 50;
const INCIDENTS_OF_LIVING: usize = 200;
const PATCH_EVERY: Duration = Duration::from_millis(10);
/// How long the processor time is measured.
const CPU_SPAN: Duration = Duration::from_secs(30);
/// A bar that is missed is a figure; this limit only ends what will not end.
const SETTLE_LIMIT: Duration = Duration::from_mins(20);

fn main() -> anyhow::Result<()> {
    let incidents = incidents_max(std::env::args().skip(1))?;
    let cluster = TestCluster::start()?;
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(bench(&cluster, incidents))
}

/// The number of open Incidents, from the command line.
fn incidents_max(mut arguments: impl Iterator<Item = String>) -> anyhow::Result<usize> {
    match (
        arguments.next().as_deref(),
        arguments.next(),
        arguments.next(),
    ) {
        (None, _, _) => Ok(8_000),
        (Some("--incidents"), Some(number), None) => number
            .parse()
            .with_context(|| format!("--incidents is a number, not {number:?}")),
        _ => bail!("unknown arguments; hint: --incidents 8000"),
    }
}

async fn bench(cluster: &TestCluster, incidents: usize) -> anyhow::Result<()> {
    let client = cluster.client().await?;
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    install_crds(&client).await?;
    let living = make_pods(&client).await?;
    let log = EgressLog::create()?;
    let operator = start(cluster, &log, folder.path()).await?;
    let bench = Bench {
        client,
        operator,
        log,
        living,
        patches: AtomicUsize::new(0),
    };
    let result = tokio::select! {
        result = bench.phases(incidents) => result,
        () = heartbeat(&bench.log) => Ok(()),
    };
    if result.is_err() {
        eprintln!("--- log of the operator\n{}", bench.operator.log()?);
    }
    result
}

fn noisy_agent(number: usize) -> AgentPod {
    AgentPod {
        namespace: NOISY.to_owned(),
        name: format!("noisy-{number}"),
        address: format!("10.245.0.{}", number + 1),
    }
}

fn other_agent(number: usize) -> AgentPod {
    AgentPod {
        namespace: OTHER.to_owned(),
        name: format!("agent-{number}"),
        address: format!("10.244.0.{}", number + 1),
    }
}

/// Both namespaces with their runs and pods. Returns the pods of the noisy one.
async fn make_pods(client: &Client) -> anyhow::Result<Vec<Pod>> {
    for namespace in [NOISY, OTHER] {
        create_namespace(client, namespace).await?;
    }
    let create = async |agent: AgentPod| -> anyhow::Result<Pod> {
        agent.create_run(client).await?;
        agent.create_pod(client).await
    };
    let others = (0..OTHERS).map(other_agent);
    let all = stream::iter((0..LIVING).map(noisy_agent).chain(others));
    let pods = all.map(create).buffer_unordered(CONCURRENCY);
    let mut pods: Vec<Pod> = pods.try_collect().await?;
    pods.retain(|pod| pod.namespace().as_deref() == Some(NOISY));
    Ok(pods)
}

async fn start(cluster: &TestCluster, log: &EgressLog, folder: &Path) -> anyhow::Result<Operator> {
    let source = log.source();
    let mut arguments = vec!["controller", "--listen", "127.0.0.1:0", "--source", &source];
    arguments.extend(NO_LIMITS);
    let operator = Operator::start(
        cluster.kubeconfig(),
        &arguments,
        &folder.join("operator.log"),
    )
    .await?;
    let enrolled = format!("yellowjack_pods {}", LIVING + OTHERS);
    wait_for("the pods of all runs", SETTLE_LIMIT, async || {
        let text = operator.http_get("/metrics").await;
        let text = text.map_err(|error| format!("{error:#}"))?;
        let line = text
            .lines()
            .find(|line| line.starts_with("yellowjack_pods "));
        let line = line.unwrap_or("no count");
        (line == enrolled)
            .then_some(())
            .ok_or_else(|| line.to_owned())
    })
    .await?;
    Ok(operator)
}

struct Bench {
    client: Client,
    operator: Operator,
    log: EgressLog,
    /// Pods of the noisy namespace.
    living: Vec<Pod>,
    /// How often their labels were changed.
    patches: AtomicUsize,
}

impl Bench {
    async fn phases(&self, incidents: usize) -> anyhow::Result<()> {
        self.settle().await?;
        self.isolation("tenants.quiet", 0).await?;
        self.settle().await?;
        tokio::select! {
            result = self.noisy_phases(incidents) => result,
            () = self.patch_labels() => Ok(()),
        }
    }

    /// While the labels of the noisy tenant's pods change all the time.
    async fn noisy_phases(&self, incidents: usize) -> anyhow::Result<()> {
        self.cpu("tenants.quiet_cpu").await?;
        print_machine("flood");
        let started = Instant::now();
        create_incidents(&self.client, NOISY, self.flood(incidents)).await?;
        figure("tenants.made", started.elapsed().as_secs_f64(), "s");
        // A pod that waits for its label must not delay the other figures.
        tokio::try_join!(self.during_flood(), self.after_flood(started))?;
        let resident = process_resident_bytes(self.operator.pid());
        let resident = resident.context("the operator does not run any more")?;
        let resident_kib = as_f64(usize::try_from(resident >> 10)?);
        figure("tenants.rss", resident_kib / 1024.0, "MiB");
        Ok(())
    }

    /// Pods of the other namespace cross the threshold while the operator processes the new Incidents.
    async fn during_flood(&self) -> anyhow::Result<()> {
        let agents: Vec<AgentPod> = (2 * CROSSING..OTHERS).map(other_agent).collect();
        let pods = Api::namespaced(self.client.clone(), OTHER);
        print_quantiles("tenants.flood_", at_once(pods, &self.log, &agents).await?);
        Ok(())
    }

    async fn after_flood(&self, started: Instant) -> anyhow::Result<()> {
        self.settle().await?;
        figure("tenants.settled", started.elapsed().as_secs_f64(), "s");
        self.count_incidents().await?;
        self.cpu("tenants.cpu").await?;
        self.isolation("tenants.isolation", CROSSING).await
    }

    /// Half of the Incidents are actionable, and half of the pods have only alerts.
    fn flood(&self, incidents: usize) -> impl Iterator<Item = OpenIncident> {
        let living = self
            .living
            .iter()
            .cycle()
            .take(INCIDENTS_OF_LIVING.min(incidents));
        let of_living = living.enumerate().map(|(number, pod)| OpenIncident {
            name: format!("living-{number}"),
            pod_name: pod.name_any(),
            pod_uid: pod.uid().unwrap_or_default(),
            is_actionable: number.is_multiple_of(2),
        });
        of_living.chain((INCIDENTS_OF_LIVING..incidents).map(OpenIncident::without_pod))
    }

    /// Pods of the other namespace cross the threshold, beginning with this one.
    async fn isolation(&self, name: &str, first: usize) -> anyhow::Result<()> {
        print_machine(name);
        let agents: Vec<AgentPod> = (first..first + CROSSING).map(other_agent).collect();
        let pods = Api::namespaced(self.client.clone(), OTHER);
        print_quantiles(
            &format!("{name}_"),
            one_after_another(pods, &self.log, &agents).await?,
        );
        Ok(())
    }

    /// The processor time of the operator, in percent of one core, while no pod crosses the threshold.
    async fn cpu(&self, name: &str) -> anyhow::Result<()> {
        print_machine(name);
        let patches = self.patches.load(Ordering::Relaxed);
        let cpu = process_cpu_seconds(self.operator.pid())?;
        let started = Instant::now();
        pause(CPU_SPAN).await;
        let cpu = process_cpu_seconds(self.operator.pid())? - cpu;
        let patches = self.patches.load(Ordering::Relaxed) - patches;
        let seconds = started.elapsed().as_secs_f64();
        println!("{:.0} patches per second", as_f64(patches) / seconds);
        figure(name, 100.0 * cpu / seconds, "percent");
        Ok(())
    }

    /// Changes a label of one living pod after another. Never returns.
    async fn patch_labels(&self) {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NOISY);
        let mut interval = tokio::time::interval(PATCH_EVERY);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let names = self.living.iter().map(ResourceExt::name_any).cycle();
        let due = stream::unfold((interval, names), async |(mut interval, mut names)| {
            interval.tick().await;
            Some((names.next()?, (interval, names)))
        });
        due.for_each_concurrent(CONCURRENCY, async |name| {
            let number = self.patches.fetch_add(1, Ordering::Relaxed);
            let labels = json!({ "metadata": { "labels": { "bench": number.to_string() } } });
            let (params, patch) = (PatchParams::default(), Patch::Merge(&labels));
            if let Err(error) = pods.patch(&name, &params, &patch).await {
                eprintln!("failed to change the labels of {name}: {error}");
            }
        })
        .await;
    }

    /// Waits until five seconds pass without a write of an Incident or a run.
    async fn settle(&self) -> anyhow::Result<()> {
        let writes = async || -> Result<u64, String> {
            let counts = RequestCounts::read(&self.client).await;
            let counts = counts.map_err(|error| format!("{error:#}"))?;
            Ok(counts.writes(Some("incidents")) + counts.writes(Some("agentruns")))
        };
        wait_for("the operator to come to rest", SETTLE_LIMIT, async || {
            let before = writes().await?;
            pause(Duration::from_secs(5)).await;
            match writes().await? - before {
                0 => Ok(()),
                count => Err(format!("{count} writes in 5 s")),
            }
        })
        .await
    }

    /// Prints how many Incidents of the noisy namespace are open, and how many have no status yet.
    async fn count_incidents(&self) -> anyhow::Result<()> {
        let incidents: Api<Incident> = Api::namespaced(self.client.clone(), NOISY);
        let mut params = ListParams::default().limit(500);
        let (mut open, mut without_status) = (0, 0);
        loop {
            let page = incidents.list(&params).await?;
            open += page.items.iter().filter(|i| i.is_open()).count();
            let is_new = |incident: &&Incident| incident.conditions().is_empty();
            without_status += page.items.iter().filter(is_new).count();
            match page.metadata.continue_ {
                Some(next) if !next.is_empty() => params = params.continue_token(&next),
                _ => break,
            }
        }
        figure("tenants.open", as_f64(open), "count");
        figure("tenants.without_status", as_f64(without_status), "count");
        Ok(())
    }
}
