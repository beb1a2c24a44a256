//! `yellowjack status`: a line per run, and what to do about runs with problems. Reads AgentRuns and
//! Incidents; `report` makes the report, `text` formats it.

mod report;
mod text;

use std::process::ExitCode;

use jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;

use super::cluster_args::{Cluster, ClusterArgs};
use super::error::CommandError;
use super::lookup;
use super::output::{OutputFormat, print_report};
use super::read::{Listed, block_on, list};
use crate::api::{AgentRun, Incident};
use report::{Incidents, StatusReport};

/// Arguments of `yellowjack status`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 every run is guarded, watched and quiet, or has ended; \
10 a pod is in quarantine; 11 a run is not guarded as its spec requires; 12 an Incident is open and \
nothing is contained; 13 a run is not watched; 1 a failure, 2 bad use. Of several the lowest."
)]
pub(super) struct StatusArgs {
    /// The name of an AgentRun; by default all of the namespace.
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// Show the runs of all namespaces.
    #[arg(short = 'A', long, conflicts_with = "run")]
    all_namespaces: bool,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Format of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs the subcommand.
pub(super) fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let report = block_on(gather(args))?;
    let now = Timestamp::now();
    print_report(args.output, &report, |report| text::of(report, now))?;
    Ok(ExitCode::from(report.exit_code()))
}

async fn gather(args: &StatusArgs) -> Result<StatusReport, CommandError> {
    let cluster = args.cluster.connect().await?;
    let runs: Api<AgentRun> = scoped(&cluster, args.all_namespaces);
    let mut found = list("agentruns", &runs, ListParams::default()).await?;
    if let Some(name) = &args.run {
        choose(&mut found, name, &cluster)?;
    }
    let incidents: Api<Incident> = scoped(&cluster, args.all_namespaces);
    let incidents = match list("incidents", &incidents, ListParams::default()).await {
        Ok(listed) => Incidents::All(listed),
        // With access to AgentRuns alone, the report has what their status contains.
        Err(error) if error.is_forbidden() => Incidents::Forbidden,
        Err(error) => return Err(error),
    };
    Ok(report::of(&found, &incidents, args.run.is_some()))
}

fn scoped<K>(cluster: &Cluster, everywhere: bool) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    if everywhere {
        Api::all(cluster.client.clone())
    } else {
        Api::namespaced(cluster.client.clone(), &cluster.namespace)
    }
}

/// Keeps only the run of this name.
fn choose(found: &mut Listed<AgentRun>, name: &str, cluster: &Cluster) -> Result<(), CommandError> {
    let is_it = |run: &AgentRun| run.metadata.name.as_deref() == Some(name);
    if !found.items.iter().any(is_it) {
        let hint = lookup::similar_run(name, &found.items).unwrap_or_else(|| {
            "look in every namespace: yellowjack status --all-namespaces".to_owned()
        });
        return Err(lookup::no_agent_run(cluster, name, hint));
    }
    found.items.retain(is_it);
    Ok(())
}
