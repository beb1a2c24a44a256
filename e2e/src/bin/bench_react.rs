//! `make bench-react`: how long from a line in the log to the quarantine label in the API server, with 1,000 AgentRuns
//! present: one pod after another, beside 1,000 open Incidents, and 20 pods at once. Also what an Incident and those runs
//! at rest cost. Prints figures, and asserts what must hold on any machine: a label for every pod that crosses the
//! threshold, and no write at rest.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use kube::api::ListParams;
use kube::{Api, Client};
use yellowjack::testing::api::AgentRun;
use yellowjack_e2e::bench::{
    AgentPod, CONCURRENCY, NO_LIMITS, OpenIncident, as_f64, at_once, create_incidents,
    create_namespace, figure, heartbeat, one_after_another, pause, print_machine, print_quantiles,
    process_cpu_seconds,
};
use yellowjack_e2e::{
    Operator, RequestCounts, TestCluster, install_crds, lines::EgressLog, process_resident_bytes,
    wait_for,
};

const RUNS: usize = 1_000;
const NAMESPACES: usize = 10;
/// Pods that cross the threshold one after another, in all namespaces.
const INCIDENTS: usize = 200;
/// Open Incidents in the first namespace, before others of its pods cross the threshold.
const OPEN_INCIDENTS: usize = 1_000;
/// Pods that cross the threshold at once.
const BURST: usize = 20;
const REST: Duration = Duration::from_mins(1);
const SETTLE_LIMIT: Duration = Duration::from_mins(5);
/// Kinds that the operator writes; others (leases, events) are not its own alone.
const KINDS: [&str; 7] = [
    "agentruns",
    "incidents",
    "networkpolicies",
    "resourcequotas",
    "limitranges",
    "jobs",
    "pods",
];

fn main() -> anyhow::Result<()> {
    let cluster = TestCluster::start()?;
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(bench(&cluster))
}

async fn bench(cluster: &TestCluster) -> anyhow::Result<()> {
    let client = cluster.client().await?;
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    install_crds(&client).await?;
    println!("Making {RUNS} AgentRuns in {NAMESPACES} namespaces, some of them with a pod.");
    make_runs(&client).await?;
    let log = EgressLog::create()?;
    let operator = start(cluster, &client, &log, folder.path()).await?;
    let bench = Bench {
        client,
        operator,
        log,
    };
    let result = tokio::select! {
        result = bench.phases() => result,
        () = heartbeat(&bench.log) => Ok(()),
    };
    if result.is_err() {
        eprintln!("--- log of the operator\n{}", bench.operator.log()?);
    }
    result
}

async fn start(
    cluster: &TestCluster,
    client: &Client,
    log: &EgressLog,
    folder: &Path,
) -> anyhow::Result<Operator> {
    let source = log.source();
    let mut arguments = vec!["controller", "--source", &source];
    arguments.extend(NO_LIMITS);
    let operator_log = folder.join("operator.log");
    let started = Instant::now();
    let operator = Operator::start(cluster.kubeconfig(), &arguments, &operator_log).await?;
    wait_until_reconciled(client).await?;
    println!(
        "figure start.reconciled {:.2} s",
        started.elapsed().as_secs_f64()
    );
    Ok(operator)
}

/// The runs by number: the n-th is in namespace n modulo [`NAMESPACES`].
fn agent(run: usize) -> AgentPod {
    AgentPod {
        namespace: format!("bench-{}", run % NAMESPACES),
        name: format!("run-{run}"),
        // Inside 10.244.0.0/16, one per run.
        address: format!("10.244.{}.{}", run / 250, run % 250 + 1),
    }
}

/// Runs with a pod that crosses the threshold, none of them twice: in all namespaces, in the one with many open
/// Incidents, and those of the burst in another one.
fn crossing() -> [Vec<usize>; 3] {
    let of_namespace = |number: usize| (INCIDENTS + number..RUNS).step_by(NAMESPACES);
    [
        (0..INCIDENTS).collect(),
        of_namespace(0).collect(),
        of_namespace(1).take(BURST).collect(),
    ]
}

async fn make_runs(client: &Client) -> anyhow::Result<()> {
    for number in 0..NAMESPACES {
        create_namespace(client, &agent(number).namespace).await?;
    }
    let create_run = async |run: usize| agent(run).create_run(client).await;
    stream::iter((0..RUNS).map(create_run))
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await?;
    let create_pod = async |run: usize| agent(run).create_pod(client).await.map(drop);
    stream::iter(crossing().into_iter().flatten().map(create_pod))
        .buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

async fn wait_until_reconciled(client: &Client) -> anyhow::Result<()> {
    let runs: Api<AgentRun> = Api::all(client.clone());
    wait_for("all runs to be reconciled", SETTLE_LIMIT, async || {
        let list = runs
            .list(&ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let done = list.items.iter().filter(|run| is_reconciled(run)).count();
        if done == RUNS {
            Ok(())
        } else {
            Err(format!("{done} of {RUNS}"))
        }
    })
    .await
}

fn is_reconciled(run: &AgentRun) -> bool {
    run.status.as_ref().is_some_and(|status| {
        let settled = |type_: &str, value: &str| {
            status
                .conditions
                .iter()
                .any(|c| c.type_ == type_ && c.status == value)
        };
        status.observed_generation == run.metadata.generation && settled("NetworkGuarded", "True")
    })
}

struct Bench {
    client: Client,
    operator: Operator,
    log: EgressLog,
}

impl Bench {
    async fn phases(&self) -> anyhow::Result<()> {
        let [sequence, busy, burst] =
            crossing().map(|runs| runs.into_iter().map(agent).collect::<Vec<_>>());
        let rest_cores = self.rest().await?;
        self.sequence(&sequence, rest_cores).await?;
        self.busy(&busy).await?;
        print_machine("burst");
        let times_ms = at_once(Api::all(self.client.clone()), &self.log, &burst).await?;
        let last_ms = times_ms.iter().copied().fold(0.0, f64::max);
        let per_second = 1000.0 * as_f64(burst.len()) / last_ms;
        figure("react.burst_per_s", per_second, "per_s");
        Ok(())
    }

    /// One line a second that is about no pod keeps the log alive; nothing else happens. Returns the share of a core
    /// that the operator takes.
    async fn rest(&self) -> anyhow::Result<f64> {
        // The first line turns SignalsFresh for every run, which is work and not rest.
        self.settle().await?;
        print_machine("rest");
        let before = RequestCounts::read(&self.client).await?;
        let cpu = process_cpu_seconds(self.operator.pid())?;
        pause(REST).await;
        let cpu = process_cpu_seconds(self.operator.pid())? - cpu;
        let writes = self.writes_since(&before).await?;
        println!("figure idle.writes {writes} count");
        let resident = process_resident_bytes(self.operator.pid());
        let resident = resident.context("the operator does not run any more")?;
        figure(
            "idle.rss",
            as_f64(usize::try_from(resident >> 10)?) / 1024.0,
            "MiB",
        );
        figure("idle.cpu", 100.0 * cpu / REST.as_secs_f64(), "percent");
        ensure!(
            writes == 0,
            "{RUNS} runs at rest cost {writes} API writes in {REST:?}"
        );
        Ok(cpu / REST.as_secs_f64())
    }

    /// One Incident after another, and what each costs until the operator is at rest again.
    async fn sequence(&self, agents: &[AgentPod], rest_cores: f64) -> anyhow::Result<()> {
        print_machine("sequence");
        let count = as_f64(agents.len());
        let before = RequestCounts::read(&self.client).await?;
        let cpu = process_cpu_seconds(self.operator.pid())?;
        let started = Instant::now();
        let all = Api::all(self.client.clone());
        let times_ms = one_after_another(all, &self.log, agents).await?;
        self.settle().await?;
        let cpu = process_cpu_seconds(self.operator.pid())? - cpu;
        let cpu = cpu - rest_cores * started.elapsed().as_secs_f64();
        let writes = self.writes_since(&before).await?;
        let requests = requests(&RequestCounts::read(&self.client).await?) - requests(&before);
        println!("{count} incidents with {RUNS} AgentRuns present:");
        print_quantiles("react.", times_ms);
        figure("react.cpu_ms", 1000.0 * cpu / count, "ms");
        figure(
            "react.requests",
            as_f64(usize::try_from(requests)?) / count,
            "count",
        );
        figure(
            "react.writes",
            as_f64(usize::try_from(writes)?) / count,
            "count",
        );
        Ok(())
    }

    /// Pods cross the threshold in a namespace that has many open Incidents.
    async fn busy(&self, agents: &[AgentPod]) -> anyhow::Result<()> {
        let namespace = &agents.first().context("no pod")?.namespace;
        let open = (0..OPEN_INCIDENTS).map(OpenIncident::without_pod);
        create_incidents(&self.client, namespace, open).await?;
        self.settle().await?;
        print_machine("busy");
        let pods = Api::namespaced(self.client.clone(), namespace);
        let times_ms = one_after_another(pods, &self.log, agents).await?;
        let count = agents.len();
        println!("{count} incidents beside {OPEN_INCIDENTS} open ones of their namespace:");
        print_quantiles("react.busy_", times_ms);
        Ok(())
    }

    /// Waits until five seconds pass without a write.
    async fn settle(&self) -> anyhow::Result<()> {
        wait_for("the operator to come to rest", SETTLE_LIMIT, async || {
            let before = RequestCounts::read(&self.client)
                .await
                .map_err(|error| error.to_string())?;
            pause(Duration::from_secs(5)).await;
            match self.writes_since(&before).await {
                Ok(0) => Ok(()),
                Ok(writes) => Err(format!("{writes} writes in 5 s")),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }

    async fn writes_since(&self, before: &RequestCounts) -> anyhow::Result<u64> {
        let after = RequestCounts::read(&self.client).await?;
        let count = |counts: &RequestCounts| -> u64 {
            KINDS.iter().map(|kind| counts.writes(Some(kind))).sum()
        };
        Ok(count(&after) - count(before))
    }
}

/// Requests for kinds that the operator reads and writes, without watches. The bench makes none of them in that time.
fn requests(counts: &RequestCounts) -> u64 {
    let of_kind =
        |kind: &&str| counts.writes(Some(kind)) + counts.total(&["GET", "LIST"], Some(kind));
    KINDS.iter().chain(&["events"]).map(of_kind).sum()
}
