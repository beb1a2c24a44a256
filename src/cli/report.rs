//! `yellowjack report`: the report on one Incident as a document. It only reads.

use std::io::Write;
use std::path::PathBuf;

use anyhow::Context;

use super::incident_material::{IncidentArgs, story};
use crate::report::{self, Story};

/// Arguments of `yellowjack report`.
#[derive(clap::Args, Debug)]
pub(super) struct ReportArgs {
    #[command(flatten)]
    incident: IncidentArgs,
    /// Format of the report; html is one self-contained page.
    #[arg(long, short, value_enum, default_value_t = ReportOutput::Html)]
    output: ReportOutput,
    /// File to write the report to; by default it goes to standard output.
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum ReportOutput {
    Html,
    Json,
    Markdown,
}

/// Runs the subcommand.
pub(super) fn run(args: &ReportArgs) -> anyhow::Result<()> {
    let story = story(&args.incident)?;
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
