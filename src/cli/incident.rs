//! `yellowjack explain` and `yellowjack report`: two views on one Incident. They only read.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::ListParams;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;

use super::decide::find;
use super::people::{ClusterArgs, OutputFormat, PeopleError, answer, block_on};
use crate::api::{AgentRun, Incident};
use crate::limits;
use crate::model::escape::for_terminal;
use crate::report::{self, Colour, Lookup, ReportInput, Story};

/// Arguments of `yellowjack explain`.
#[derive(clap::Args, Debug)]
pub struct ExplainArgs {
    #[command(flatten)]
    which: Which,
    /// In which form.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Arguments of `yellowjack report`.
#[derive(clap::Args, Debug)]
pub struct ReportArgs {
    #[command(flatten)]
    which: Which,
    /// Form of the report; html is one self-contained page.
    #[arg(long, short, value_enum, default_value_t = ReportOutput::Html)]
    output: ReportOutput,
    /// Where to write it; left out, to standard output.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
struct Which {
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Name of the Incident.
    #[arg(value_name = "INCIDENT")]
    incident: String,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum ReportOutput {
    Html,
    Json,
    Markdown,
}

/// Runs `yellowjack explain`.
pub fn explain(args: &ExplainArgs) -> anyhow::Result<()> {
    let story = story(&args.which)?;
    answer(args.output, &story, |story| {
        report::text(story, colour(), columns())
    })
}

/// Runs `yellowjack report`.
pub fn report(args: &ReportArgs) -> anyhow::Result<()> {
    let story = story(&args.which)?;
    let text = match args.output {
        ReportOutput::Html => report::page(&story)?,
        ReportOutput::Json => json(&story)?,
        ReportOutput::Markdown => report::markdown(&story),
    };
    let Some(file) = &args.file else {
        return print(&text);
    };
    std::fs::write(file, text).with_context(|| format!("failed to write {}", file.display()))
}

fn json(story: &Story) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(story).context("failed to write the story as JSON")?;
    Ok(text + "\n")
}

fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
        .context("failed to write to standard output")
}

fn story(which: &Which) -> anyhow::Result<Story> {
    let input = block_on(read(which))?;
    Ok(report::story(&input))
}

/// Reads what a story is made of. Only the Incident itself is needed; what else cannot be read is
/// said in the story.
async fn read(which: &Which) -> Result<ReportInput, PeopleError> {
    let cluster = which.cluster.connect().await?;
    let (client, namespace) = (&cluster.client, cluster.namespace.as_str());
    let incidents: Api<Incident> = Api::namespaced(client.clone(), namespace);
    let incident = find(&cluster, &incidents, &which.incident).await?;
    let run = match &incident.spec.run {
        Some(run) => get::<AgentRun>(client, namespace, &run.name).await,
        None => Lookup::Gone,
    };
    let pod = get::<Pod>(client, namespace, &incident.spec.subject.name).await;
    let policies = policies(client, namespace).await;
    Ok(ReportInput {
        incident,
        run,
        pod,
        policies,
        now: jiff::Timestamp::now(),
    })
}

async fn get<K>(client: &Client, namespace: &str, name: &str) -> Lookup<K>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
    K::DynamicType: Default,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    match limited(api.get_opt(name)).await {
        Ok(Some(found)) => Lookup::Found(found),
        Ok(None) => Lookup::Gone,
        Err(why) => Lookup::Unread(why),
    }
}

async fn policies(client: &Client, namespace: &str) -> Lookup<Vec<NetworkPolicy>> {
    let api: Api<NetworkPolicy> = Api::namespaced(client.clone(), namespace);
    let page = ListParams::default().limit(limits::REPORT_POLICIES_READ_MAX);
    match limited(api.list(&page)).await {
        // Half of them would make the rest look as if it were not there.
        Ok(list) if list.metadata.continue_.is_some() => Lookup::Unread(format!(
            "the namespace has more than {}",
            limits::REPORT_POLICIES_READ_MAX
        )),
        Ok(list) => Lookup::Found(list.items),
        Err(why) => Lookup::Unread(why),
    }
}

async fn limited<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, String> {
    let limit = Duration::from_secs(limits::API_TIMEOUT_S);
    match tokio::time::timeout(limit, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(kube::Error::Api(status))) => Err(for_terminal(&status.message)),
        Ok(Err(error)) => Err(crate::observability::chain(&error)),
        Err(_) => Err(format!("no answer within {} s", limits::API_TIMEOUT_S)),
    }
}

/// Columns of the terminal; without one, as many as a screen has.
fn columns() -> usize {
    if std::io::stdout().is_terminal() {
        textwrap::termwidth()
    } else {
        limits::SCREEN_COLUMNS_MAX
    }
}

/// Colours on a terminal, unless the user wants none (no-color.org) or the terminal has none.
pub(super) fn colour() -> Colour {
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if std::io::stdout().is_terminal() && !is_unwanted && !is_dumb {
        Colour::Ansi
    } else {
        Colour::Plain
    }
}
