//! Arguments that `controller` and `node` share: sources, detection, namespaces, endpoints, logs.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use ipnet::IpNet;

use super::metrics_args::MetricsArgs;
use super::source_args::{RelayArgs, source};
use super::values::duration;
use crate::detect::{EngineConfig, ErrorBudget, HashKey, PoolList, Scopes};
use crate::guardrails::{ClusterFacts, DnsTarget};
use crate::observability::{LogFormat, start_log};
use crate::operator::{self, Component, LogSource, OperatorConfig};
use crate::signals::source::StartAt;

/// Arguments that `controller` and `node` share.
#[derive(clap::Args, Debug)]
pub(super) struct OperatorArgs {
    /// An egress log: a file or a folder that may rotate, or `-` for standard input. The prefix is its
    /// format (`hubble:`, `zeek:`, `ulogd:`, `vpc:`, `calico:`, `suricata:`); without it the format is
    /// detected. `hubble-relay:HOST:PORT` reads the flows of all nodes from Hubble Relay,
    /// `hubble-relay:https://HOST:PORT` with TLS. May be given several times.
    #[arg(long = "source", value_name = "[FORMAT:]PATH", value_parser = source)]
    sources: Vec<LogSource>,

    #[command(flatten)]
    relay: RelayArgs,

    #[command(flatten)]
    metrics: MetricsArgs,

    /// Where reading starts in a log that has no checkpoint yet.
    #[arg(long, value_enum, default_value_t = StartArg::End)]
    start_at: StartArg,

    /// Folder for the checkpoints of logs and the detection state, which survive a restart.
    #[arg(long, value_name = "FOLDER")]
    checkpoint_dir: Option<PathBuf>,

    /// A list of mining pools: one name, address, range or host:port per line. May be given several
    /// times.
    #[arg(long = "pool-list", value_name = "FILE")]
    pool_lists: Vec<PathBuf>,

    /// A list of tunnel services, in the same format. May be given several times.
    #[arg(long = "tunnel-list", value_name = "FILE")]
    tunnel_lists: Vec<PathBuf>,

    /// A starter list of mining pools, such as that of the chart: a match is an alert, and is not combined
    /// with other evidence. May be given several times.
    #[arg(long = "starter-pool-list", value_name = "FILE")]
    starter_pool_lists: Vec<PathBuf>,

    /// A starter list of tunnel services, with the same effect. May be given several times.
    #[arg(long = "starter-tunnel-list", value_name = "FILE")]
    starter_tunnel_lists: Vec<PathBuf>,

    /// The namespace of the node agents' Leases: the one in which Yellowjack is installed.
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "yellowjack-system"
    )]
    agent_namespace: String,

    /// Watch only this namespace. Flows of pods in others are not attributed, and runs there are ignored.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Treat every run as in Observe mode: detect, but never act.
    #[arg(long)]
    observe_all: bool,

    /// The silence after which a source is stale.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    stale_after: Duration,

    /// A range of pod addresses, in addition to those in the API. May be given several times.
    #[arg(long = "pod-cidr", value_name = "CIDR")]
    pod_cidrs: Vec<IpNet>,

    /// A range of service addresses, in addition to those in the API. May be given several times.
    #[arg(long = "service-cidr", value_name = "CIDR")]
    service_cidrs: Vec<IpNet>,

    /// A range of addresses of nodes, or of anything else that pods must not reach. May be given several
    /// times.
    #[arg(long = "node-cidr", value_name = "CIDR")]
    node_cidrs: Vec<IpNet>,

    /// The accepted number of false quarantines per day; with `--budget-pods` it sets the threshold of
    /// the scan detector.
    #[arg(long, value_name = "COUNT", default_value_t = ErrorBudget::default().false_quarantines_per_day)]
    budget_false_quarantines: f64,

    /// The number of pods that the budget is for.
    #[arg(long, value_name = "COUNT", default_value_t = ErrorBudget::default().pods)]
    budget_pods: f64,

    /// The address of /livez, /readyz and /metrics, for example `0.0.0.0:8080`. Without it they are not
    /// served.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// The log filter: a level, or a filter as in RUST_LOG.
    #[arg(
        long,
        value_name = "FILTER",
        env = "YELLOWJACK_LOG",
        default_value = "info"
    )]
    log: String,

    /// The format of log lines.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum StartArg {
    /// At the end: only lines that are written from now on.
    End,
    /// At the beginning.
    Beginning,
}

impl OperatorArgs {
    fn engine(&self) -> anyhow::Result<EngineConfig> {
        let budget = ErrorBudget {
            pods: self.budget_pods,
            false_quarantines_per_day: self.budget_false_quarantines,
            ..ErrorBudget::default()
        };
        Ok(EngineConfig {
            scopes: Scopes::new(
                self.pod_cidrs.iter().chain(&self.service_cidrs),
                &self.node_cidrs,
            ),
            pools: hosts(&self.pool_lists)?,
            tunnels: hosts(&self.tunnel_lists)?,
            starter_pools: hosts(&self.starter_pool_lists)?,
            starter_tunnels: hosts(&self.starter_tunnel_lists)?,
            threshold_nats: budget.threshold_nats(),
            alert_nats: budget.alert_nats(),
            hash_key: HashKey::from_seed(random_seed()),
            shares_runs: true,
        })
    }

    const fn start_at(&self) -> StartAt {
        match self.start_at {
            StartArg::End => StartAt::End,
            StartArg::Beginning => StartAt::Beginning,
        }
    }
}

/// Runs the component until a signal stops it. `dns` adds to the usual DNS servers of a cluster.
pub(super) fn run_operator(
    args: OperatorArgs,
    component: Component,
    dns: Vec<DnsTarget>,
) -> anyhow::Result<()> {
    start_log(&args.log, args.log_format);
    let engine = args.engine()?;
    let start_at = args.start_at();
    let node = match &component {
        Component::Controller(_) => None,
        Component::NodeAgent { name, .. } => Some(name.as_str()),
    };
    let metrics = args.metrics.sources(node, args.namespace.as_deref())?;
    let config = OperatorConfig {
        component,
        sources: args.relay.add_tls(args.sources)?,
        metrics,
        start_at,
        checkpoint_dir: args.checkpoint_dir,
        engine,
        observe_all: args.observe_all,
        stale_after: args.stale_after,
        listen: args.listen,
        facts: ClusterFacts {
            dns: ClusterFacts::usual_dns().into_iter().chain(dns).collect(),
            pod_cidrs: args.pod_cidrs,
            service_cidrs: args.service_cidrs,
            node_cidrs: args.node_cidrs,
            unread_policy_kinds: Vec::new(),
            cilium_policies: Vec::new(),
        },
        namespace: args.namespace,
        agent_namespace: args.agent_namespace,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("failed to start the runtime")?;
    runtime.block_on(operator::run(config))
}

fn hosts(files: &[PathBuf]) -> anyhow::Result<PoolList> {
    let mut hosts = PoolList::default();
    for file in files {
        let text = std::fs::read_to_string(file)
            .with_context(|| format!("failed to read the list {}", file.display()))?;
        let (list, problems) = PoolList::parse(&text);
        for problem in problems.iter().take(PROBLEMS_SHOWN) {
            log_problem(file, problem);
        }
        hosts.merge(list);
    }
    Ok(hosts)
}

const PROBLEMS_SHOWN: usize = 5;

/// A secret seed: the standard library keys its hash maps with random numbers of the system.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

fn log_problem(file: &Path, problem: &crate::detect::ParseProblem) {
    tracing::warn!(file = %file.display(), %problem, "Ignored an invalid line of a list.");
}
