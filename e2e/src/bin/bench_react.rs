//! `make bench-react`: how long from a line in the log to the quarantine label in the API server, with
//! 1,000 AgentRuns present; and what those runs cost at rest. Prints figures, asserts what must hold
//! whatever the machine: a label for every incident, and no write at rest.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{StreamExt, TryStreamExt, pin_mut, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ListParams, ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::json;
use yellowjack::testing::api::{AgentRun, labels};
use yellowjack_e2e::{
    Operator, RequestCounts, TestCluster, install_crds, lines::EgressLog, pod,
    process_resident_bytes, set_pod_ip, wait_for,
};

const RUNS: usize = 1_000;
const NAMESPACES: usize = 10;
const INCIDENTS: usize = 200;
const REST: Duration = Duration::from_mins(1);
const SETTLE_LIMIT: Duration = Duration::from_mins(3);
/// Failed first contacts that the default line takes: ln(5e8) / ln(0.9 / 0.5), rounded up.
const CONTACTS_TO_CROSS: u8 = 35;
/// An address that no pod has: its lines keep the log alive.
const NOBODY: &str = "192.0.2.1";
/// Objects that are made at the same time.
const CONCURRENCY: usize = 16;
/// Nothing here is about the limits of a response.
const NO_LIMITS: [&str; 6] = [
    "--breaker-pods",
    "100000",
    "--max-quarantines",
    "100000",
    "--actions-per-second",
    "1000",
];

fn main() -> anyhow::Result<()> {
    let cluster = TestCluster::start()?;
    let runtime = tokio::runtime::Runtime::new().context("failed to start the runtime")?;
    runtime.block_on(bench(&cluster))
}

async fn bench(cluster: &TestCluster) -> anyhow::Result<()> {
    let client = cluster.client().await?;
    let folder = tempfile::tempdir().context("failed to make a folder")?;
    let log = EgressLog::create()?;
    install_crds(&client).await?;
    println!("Making {RUNS} AgentRuns in {NAMESPACES} namespaces, {INCIDENTS} of them with a pod.");
    make_runs(&client).await?;
    let source = log.source();
    let mut arguments = vec!["controller", "--source", &source];
    arguments.extend(NO_LIMITS);
    let operator_log = folder.path().join("operator.log");
    let started = Instant::now();
    let operator = Operator::start(cluster.kubeconfig(), &arguments, &operator_log).await?;
    wait_until_reconciled(&client).await?;
    println!(
        "figure start.reconciled {:.2} s",
        started.elapsed().as_secs_f64()
    );
    let result = async {
        rest(&client, &operator, &log).await?;
        react(&client, &log).await
    }
    .await;
    if result.is_err() {
        eprintln!("--- log of the operator\n{}", operator.log()?);
    }
    result
}

fn namespace_of(run: usize) -> String {
    format!("bench-{}", run % NAMESPACES)
}

/// Addresses of pods: inside 10.244.0.0/16, one per run.
fn address_of(run: usize) -> String {
    format!("10.244.{}.{}", run / 250, run % 250 + 1)
}

async fn make_runs(client: &Client) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    for number in 0..NAMESPACES {
        let metadata = ObjectMeta {
            name: Some(namespace_of(number)),
            ..ObjectMeta::default()
        };
        let namespace = Namespace {
            metadata,
            ..Namespace::default()
        };
        namespaces
            .create(&PostParams::default(), &namespace)
            .await?;
    }
    let all = stream::iter((0..RUNS).map(|run| make_run(client, run)));
    all.buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

async fn make_run(client: &Client, number: usize) -> anyhow::Result<()> {
    let namespace = namespace_of(number);
    let name = format!("run-{number}");
    let run: AgentRun = serde_json::from_value(json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "AgentRun",
        "metadata": { "name": name },
        "spec": {
            "target": { "selector": { "matchLabels": { "run": name } } },
            "network": { "egress": [{ "cidr": "203.0.113.0/24", "ports": [{ "port": 443 }] }] },
        },
    }))?;
    let runs: Api<AgentRun> = Api::namespaced(client.clone(), &namespace);
    runs.create(&PostParams::default(), &run).await?;
    if number < INCIDENTS {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &namespace);
        pods.create(&PostParams::default(), &pod(&name, &[("run", &name)])?)
            .await?;
        set_pod_ip(client, &namespace, &name, &address_of(number)).await?;
    }
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

/// One line a second about nobody keeps the log alive; nothing else happens.
async fn rest(client: &Client, operator: &Operator, log: &EgressLog) -> anyhow::Result<()> {
    // The first heartbeat turns SignalsFresh for every run, which is work and not rest.
    log.scan_hosts(NOBODY, 0, 1)?;
    settle(client, log).await?;
    let before = RequestCounts::read(client).await?;
    let until = Instant::now() + REST;
    while Instant::now() < until {
        log.scan_hosts(NOBODY, 0, 1)?;
        pause(Duration::from_secs(1)).await;
    }
    let writes = writes_since(client, &before).await?;
    println!("figure idle.writes {writes} count");
    let resident = process_resident_bytes(operator.pid()).context("the operator is gone")?;
    #[allow(clippy::cast_precision_loss)] // a figure for people
    let resident_mib = resident as f64 / f64::from(1 << 20);
    println!("figure idle.rss {resident_mib:.1} MiB");
    ensure!(
        writes == 0,
        "{RUNS} runs at rest cost {writes} API writes in {REST:?}"
    );
    Ok(())
}

/// Waits until five seconds pass without a write.
async fn settle(client: &Client, log: &EgressLog) -> anyhow::Result<()> {
    wait_for("the operator to come to rest", SETTLE_LIMIT, async || {
        let before = RequestCounts::read(client)
            .await
            .map_err(|error| error.to_string())?;
        for _ in 0..5 {
            log.scan_hosts(NOBODY, 0, 1).map_err(|e| e.to_string())?;
            pause(Duration::from_secs(1)).await;
        }
        match writes_since(client, &before).await {
            Ok(0) => Ok(()),
            Ok(writes) => Err(format!("{writes} writes in 5 s")),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
}

/// Writes of the kinds that the operator writes; others (leases, events) are not its own.
async fn writes_since(client: &Client, before: &RequestCounts) -> anyhow::Result<u64> {
    const KINDS: [&str; 7] = [
        "agentruns",
        "incidents",
        "networkpolicies",
        "resourcequotas",
        "limitranges",
        "jobs",
        "pods",
    ];
    let after = RequestCounts::read(client).await?;
    let count = |counts: &RequestCounts| -> u64 {
        KINDS.iter().map(|kind| counts.writes(Some(kind))).sum()
    };
    Ok(count(&after) - count(before))
}

/// One incident after another: all contacts but the last, then the one that crosses the line.
async fn react(client: &Client, log: &EgressLog) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::all(client.clone());
    let config = watcher::Config::default().labels(labels::QUARANTINE);
    let labelled = watcher(pods, config).default_backoff().applied_objects();
    pin_mut!(labelled);
    let mut took_ms = Vec::with_capacity(INCIDENTS);
    for number in 0..INCIDENTS {
        let source = address_of(number);
        log.scan_hosts(&source, 0, CONTACTS_TO_CROSS - 1)?;
        // The reader is done with these when the last one comes, as in a scan at 20 per second.
        pause(Duration::from_millis(50)).await;
        let written = Instant::now();
        log.scan_hosts(&source, 1, 1)?;
        let wanted = format!("run-{number}");
        let seen = async {
            while let Some(pod) = labelled.try_next().await? {
                if pod.metadata.name.as_deref() == Some(&wanted) {
                    return anyhow::Ok(written.elapsed());
                }
            }
            anyhow::bail!("the watch ended")
        };
        let took = tokio::time::timeout(Duration::from_secs(10), seen)
            .await
            .with_context(|| format!("pod {wanted} is not in quarantine after 10 s"))??;
        took_ms.push(took.as_secs_f64() * 1000.0);
    }
    took_ms.sort_by(f64::total_cmp);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    println!("{INCIDENTS} incidents with {RUNS} AgentRuns present, {cores} cores:");
    println!("figure react.p50 {:.1} ms", quantile(&took_ms, 0.50));
    println!("figure react.p99 {:.1} ms", quantile(&took_ms, 0.99));
    Ok(())
}

/// Nearest-rank quantile of sorted values.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)]
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or(f64::NAN)
}

/// A bench lets time pass; it waits for nothing that could be looked at.
async fn pause(span: Duration) {
    tokio::time::sleep(span).await;
}
