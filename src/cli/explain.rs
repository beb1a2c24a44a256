//! `yellowjack explain`: the story of one Incident, for a terminal. It only reads.

use std::io::IsTerminal;

use super::incident_material::{IncidentArgs, story};
use super::output::{OutputFormat, colour, print_report};
use crate::limits;
use crate::report;

/// Arguments of `yellowjack explain`.
#[derive(clap::Args, Debug)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    incident: IncidentArgs,
    /// Format of the output.
    #[arg(short, long, value_enum, default_value_t)]
    output: OutputFormat,
}

/// Runs the subcommand.
pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<()> {
    let story = story(&args.incident)?;
    print_report(args.output, &story, |story| {
        report::text(story, colour(), columns())
    })
}

/// Columns of the terminal. Without a terminal, those of a usual screen.
fn columns() -> usize {
    if std::io::stdout().is_terminal() {
        textwrap::termwidth()
    } else {
        limits::SCREEN_COLUMNS_MAX
    }
}
