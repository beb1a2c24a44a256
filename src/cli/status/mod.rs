//! `yellowjack status`: one line per run, and what to do about those that are not fine. Reads AgentRuns
//! and Incidents; `report` judges, `text` writes.

mod report;
mod text;

use std::process::ExitCode;

use jiff::Timestamp;
use kube::Api;
use kube::api::ListParams;

use super::nearest::near;
use super::people::{
    Cluster, ClusterArgs, Listed, OutputFormat, PeopleError, answer, block_on, exit, list,
};
use crate::api::{AgentRun, Incident};
use report::{Known, StatusReport};

/// Arguments of `yellowjack status`.
#[derive(clap::Args, Debug)]
#[command(
    after_help = "Exit codes: 0 every run is guarded, watched and quiet, or has ended; \
10 a pod is in quarantine; 11 a run is not guarded as its spec says; 12 an Incident is open and \
nothing is contained; 13 a run is not watched; 1 a failure, 2 bad use. Of several the lowest."
)]
pub struct StatusArgs {
    /// The AgentRun; left out, all of the namespace.
    #[arg(value_name = "RUN")]
    run: Option<String>,

    /// The runs of every namespace.
    #[arg(short = 'A', long, conflicts_with = "run")]
    all_namespaces: bool,

    #[command(flatten)]
    cluster: ClusterArgs,

    /// Form of the answer.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs the subcommand.
pub fn run(args: &StatusArgs) -> anyhow::Result<ExitCode> {
    let report = block_on(gather(args))?;
    let now = Timestamp::now();
    answer(args.output, &report, |report| text::of(report, now))?;
    Ok(exit(report.exit_code()))
}

async fn gather(args: &StatusArgs) -> Result<StatusReport, PeopleError> {
    let cluster = args.cluster.connect().await?;
    let runs: Api<AgentRun> = scoped(&cluster, args.all_namespaces);
    let mut found = list("agentruns", &runs, ListParams::default()).await?;
    if let Some(name) = &args.run {
        choose(&mut found, name, &cluster.namespace)?;
    }
    let incidents: Api<Incident> = scoped(&cluster, args.all_namespaces);
    let known = match list("incidents", &incidents, ListParams::default()).await {
        Ok(known) => Known::All(known),
        // Whoever may read runs alone still gets what their status says.
        Err(error) if error.is_forbidden() => Known::Forbidden,
        Err(error) => return Err(error),
    };
    Ok(report::of(&found, &known, args.run.is_some()))
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

/// Leaves the run of this name alone, or says which names come near.
fn choose(found: &mut Listed<AgentRun>, name: &str, namespace: &str) -> Result<(), PeopleError> {
    let is_it = |run: &AgentRun| run.metadata.name.as_deref() == Some(name);
    if !found.items.iter().any(is_it) {
        let names = found
            .items
            .iter()
            .filter_map(|run| run.metadata.name.as_deref());
        let hint = near(name, names).unwrap_or_else(|| {
            "look in every namespace: yellowjack status --all-namespaces".to_owned()
        });
        let what =
            format!("wanted the AgentRun {name}, and namespace {namespace} has none of that name");
        return Err(PeopleError::refused(what, hint, 1));
    }
    found.items.retain(is_it);
    Ok(())
}
