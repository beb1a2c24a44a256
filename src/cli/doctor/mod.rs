//! `yellowjack doctor`: does this cluster have what Yellowjack rests on? One file per subject; each
//! gathers facts (reads) and judges them (pure). What cannot be known is said to be unknown.

mod check;
mod clock;
mod install;
mod logs;
mod network;
mod probe;
mod rights;
mod signals;

use std::process::ExitCode;
use std::time::Duration;

use jiff::Timestamp;

use super::people::{Cluster, ClusterArgs, OutputFormat, PeopleError, answer, block_on, exit};
use super::source_args::source;
use super::values::duration;
use crate::operator::LogSource;
use check::{Check, Report, Verdict};

/// Arguments of `yellowjack doctor`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 no check failed, 1 one failed or the cluster does not answer, 2 \
bad use. A check that could not be made is unknown, and fails nothing."
)]
pub struct DoctorArgs {
    /// The namespace that Yellowjack is installed in.
    #[arg(long, value_name = "NAME", default_value = "yellowjack-system")]
    operator_namespace: String,

    /// The controller's service account, where its Deployment does not tell.
    #[arg(long, value_name = "NAME", default_value = "yellowjack-controller")]
    service_account: String,

    /// A log to look at, as the controller's and the agents' --source takes it; `-` is standard input. Its beginning and
    /// its end are read. May be given several times.
    #[arg(long = "source", value_name = "[FORMAT:]PATH", value_parser = source)]
    sources: Vec<LogSource>,

    /// Find out whether a network policy takes effect: two pods in a namespace of their own, a deny
    /// between them. All of it is removed afterwards.
    #[arg(long)]
    probe: bool,

    /// The image of the two pods; it must hold this program and start it. Left out, the
    /// controller's own.
    #[arg(long, value_name = "IMAGE", requires = "probe")]
    probe_image: Option<String>,

    /// How long the pods may take to start, and the deny to take effect.
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    probe_limit: Duration,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// What the checks stand on.
struct Context<'a> {
    cluster: &'a Cluster,
    args: &'a DoctorArgs,
    /// When the checks began, by this machine's clock.
    now: Timestamp,
}

/// Runs the subcommand.
pub fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let report = block_on(examine(args))?;
    answer(args.output, &report, Report::text)?;
    let has_failed = report
        .checks
        .iter()
        .any(|check| check.verdict == Verdict::Fail);
    Ok(exit(u8::from(has_failed)))
}

async fn examine(args: &DoctorArgs) -> Result<Report, PeopleError> {
    let mut checks = logs::checks(&args.sources, Timestamp::now());
    match examine_cluster(args, &mut checks).await {
        Ok(()) => {}
        // Logs can be looked at on a node that has no kubeconfig.
        Err(error) if !args.sources.is_empty() => {
            checks.push(Check::cannot(
                "api-server",
                "a cluster that answers",
                &error,
            ));
        }
        Err(error) => return Err(error),
    }
    Ok(Report { checks })
}

async fn examine_cluster(args: &DoctorArgs, checks: &mut Vec<Check>) -> Result<(), PeopleError> {
    let cluster = args.cluster.connect().await?;
    let context = Context {
        cluster: &cluster,
        args,
        now: Timestamp::now(),
    };
    // Where the API server does not answer at all, nothing else is worth asking.
    let server = install::server(&context).await?;
    checks.push(server.check);
    checks.extend(clock::checks(&context).await);
    checks.extend(install::crds(&context).await);
    let operator = install::operator(&context).await;
    checks.extend(operator.checks);
    checks.extend(rights::checks(&context, &operator.account).await);
    checks.extend(rights::admission(&context).await);
    checks.extend(signals::checks(&context).await);
    checks.extend(network::checks(&context, &server.version).await);
    if args.probe {
        let image = args.probe_image.clone().or(operator.image);
        checks.push(probe::check(&context, image).await);
    } else {
        checks.push(probe::not_asked());
    }
    Ok(())
}
