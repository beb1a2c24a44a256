//! `yellowjack doctor`: checks whether the cluster has what Yellowjack needs. One file per subject; each
//! reads facts and evaluates them with pure functions. What cannot be read is reported as unknown.

mod check;
mod cilium;
mod clock;
mod context;
mod install;
mod logs;
mod network;
mod probe;
mod rights;
mod signals;

use std::process::ExitCode;

use jiff::Timestamp;

use super::error::CommandError;
use super::output::print_report;
use super::read::block_on;
pub(crate) use context::DoctorArgs;

use check::{Check, Report, Verdict};
use context::Context;

/// Runs the subcommand.
pub(super) fn run(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let report = block_on(examine(args))?;
    print_report(args.output, &report, Report::text)?;
    let has_failed = report
        .checks
        .iter()
        .any(|check| check.verdict == Verdict::Fail);
    Ok(ExitCode::from(u8::from(has_failed)))
}

async fn examine(args: &DoctorArgs) -> Result<Report, CommandError> {
    let mut checks = logs::checks(&args.sources, Timestamp::now());
    match examine_cluster(args, &mut checks).await {
        Ok(()) => {}
        // Logs can be checked on a node without a kubeconfig.
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

async fn examine_cluster(args: &DoctorArgs, checks: &mut Vec<Check>) -> Result<(), CommandError> {
    let cluster = args.cluster.connect().await?;
    let context = Context {
        cluster: &cluster,
        args,
        now: Timestamp::now(),
    };
    // Where the API server does not answer at all, no other check can be made.
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
        checks.push(probe::not_requested());
    }
    Ok(())
}
