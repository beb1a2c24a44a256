//! What `controller` and `node` have in common: where signals come from, how they are judged, where
//! the program is looked at.

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

/// Arguments about signals.
#[derive(clap::Args, Debug)]
pub struct OperatorArgs {
    /// An egress log: a file or a folder that may rotate, or `-` for standard input. A format in
    /// front (`hubble:`, `zeek:`, `ulogd:`, `vpc:`, `calico:`, `suricata:`) saves guessing it. Or
    /// `hubble-relay:HOST:PORT`, the flows of all nodes from Hubble Relay; `hubble-relay:https://HOST:PORT`
    /// is with TLS. May be given several times.
    #[arg(long = "source", value_name = "[FORMAT:]PATH", value_parser = source)]
    sources: Vec<LogSource>,

    #[command(flatten)]
    relay: RelayArgs,

    #[command(flatten)]
    metrics: MetricsArgs,

    /// Where a log is begun that has no checkpoint yet.
    #[arg(long, value_enum, default_value_t = StartArg::End)]
    start_at: StartArg,

    /// Folder in which the place in each log and the state of detection are kept over restarts.
    #[arg(long, value_name = "FOLDER")]
    checkpoint_dir: Option<PathBuf>,

    /// A list of mining pools: one name, address, range or host:port a line. May be given several
    /// times.
    #[arg(long = "pool-list", value_name = "FILE")]
    pool_lists: Vec<PathBuf>,

    /// A list of tunnel services, in the same form. May be given several times.
    #[arg(long = "tunnel-list", value_name = "FILE")]
    tunnel_lists: Vec<PathBuf>,

    /// A starter list of mining pools, such as the one of the chart: a match is an alert and adds to no
    /// other evidence. May be given several times.
    #[arg(long = "starter-pool-list", value_name = "FILE")]
    starter_pool_lists: Vec<PathBuf>,

    /// A starter list of tunnel services, in the same way. May be given several times.
    #[arg(long = "starter-tunnel-list", value_name = "FILE")]
    starter_tunnel_lists: Vec<PathBuf>,

    /// The namespace in which node agents keep their Leases: Yellowjack's own.
    #[arg(
        long,
        value_name = "NAMESPACE",
        env = "POD_NAMESPACE",
        default_value = "yellowjack-system"
    )]
    agent_namespace: String,

    /// Watch this namespace only. Pods of others are nobody then, and runs there are left alone.
    #[arg(long, value_name = "NAMESPACE")]
    namespace: Option<String>,

    /// Observe everything and act on nothing, whatever the runs say.
    #[arg(long)]
    observe_all: bool,

    /// After this silence a source counts as stale.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    stale_after: Duration,

    /// A range of pod addresses, besides what the API server knows. May be given several times.
    #[arg(long = "pod-cidr", value_name = "CIDR")]
    pod_cidrs: Vec<IpNet>,

    /// A range of service addresses. May be given several times.
    #[arg(long = "service-cidr", value_name = "CIDR")]
    service_cidrs: Vec<IpNet>,

    /// A range of node addresses or of whatever else pods must not reach. May be given several times.
    #[arg(long = "node-cidr", value_name = "CIDR")]
    node_cidrs: Vec<IpNet>,

    /// False quarantines per day that are accepted; with `--budget-pods` it sets the line that a
    /// scan has to cross.
    #[arg(long, value_name = "COUNT", default_value_t = ErrorBudget::default().false_quarantines_per_day)]
    budget_false_quarantines: f64,

    /// Pods that the budget is reckoned for.
    #[arg(long, value_name = "COUNT", default_value_t = ErrorBudget::default().pods)]
    budget_pods: f64,

    /// Where /livez, /readyz and /metrics are served, for example `0.0.0.0:8080`. Left out, nowhere.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,

    /// What is logged: a level, or a filter as in RUST_LOG.
    #[arg(
        long,
        value_name = "FILTER",
        env = "YELLOWJACK_LOG",
        default_value = "info"
    )]
    log: String,

    /// How log lines are written.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum StartArg {
    /// At the end: only what comes from now on.
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

/// Runs the program until a signal ends it. `dns` adds to where the cluster's DNS usually answers.
pub fn run_operator(
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
        sources: args.relay.equip(args.sources)?,
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
            say_problem(file, problem);
        }
        hosts.merge(list);
    }
    Ok(hosts)
}

const PROBLEMS_SHOWN: usize = 5;

/// A seed that nobody outside knows: the standard library keys its hash maps from the system's
/// random numbers.
fn random_seed() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0)
}

fn say_problem(file: &Path, problem: &crate::detect::ParseProblem) {
    tracing::warn!(file = %file.display(), %problem, "A line of a list is left out.");
}
