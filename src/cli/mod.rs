//! The command line: one file or folder per subcommand. Called by `main`. Data goes to standard output,
//! logs and notes to standard error.

mod cluster_args;
mod completion;
mod controller;
mod crds;
mod decide;
mod doctor;
mod election_args;
mod error;
mod explain;
mod held;
mod help;
mod incident_material;
mod lookup;
mod metrics_args;
mod node;
mod notify_args;
mod operator_args;
mod output;
mod preview;
mod probe_pod;
mod read;
mod replay;
mod report;
mod source_args;
mod status;
mod suggestion;
mod values;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::api::Verdict;
use crate::replay::ReplayError;
use error::CommandError;
use output::BAD_USE;

/// Guardrails, quarantine and proof of containment for AI-agent workloads on Kubernetes.
#[derive(Parser, Debug)]
#[command(name = "yellowjack", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Confirm an Incident: the pod stays contained.
    Confirm(decide::DecideArgs),
    /// Print a script for shell completion.
    Completion(completion::CompletionArgs),
    /// Run the controller: guardrails for AgentRuns, detection, quarantine, verification.
    Controller(Box<controller::ControllerArgs>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds(crds::CrdsArgs),
    /// Check whether the cluster has what Yellowjack needs.
    Doctor(Box<doctor::DoctorArgs>),
    /// Explain one Incident: what happened, why, and what to do next.
    Explain(explain::ExplainArgs),
    /// List what is held in quarantine, and fail if there is anything; used before an uninstall.
    Held(held::HeldArgs),
    /// Run the agent of one node: it detects in the node's log and writes findings into Incidents.
    Node(Box<node::NodeArgs>),
    /// Preview what Enforce would have done about a run in the last hours.
    Preview(preview::PreviewArgs),
    /// Run the client of `doctor --probe`.
    #[command(hide = true)]
    ProbeConnect(probe_pod::ConnectArgs),
    /// Run the server of `doctor --probe`.
    #[command(hide = true)]
    ProbeServe,
    /// Release the pod of an Incident: revert exactly what was done to it.
    Release(decide::DecideArgs),
    /// Write the report on one Incident, for a ticket or a browser.
    Report(report::ReportArgs),
    /// Run detection over recorded logs, without a cluster, and report what would have been done.
    Replay(replay::ReplayArgs),
    /// Show whether runs are safe, and what to do about those that are not.
    Status(status::StatusArgs),
    /// Suspend the owner of an Incident's pod and delete the pod. This cannot be undone.
    Terminate(decide::DecideArgs),
}

/// The name under which kubectl finds the program as its plugin.
const PLUGIN: &str = "kubectl-yellowjack";

/// Parses the arguments and runs the subcommand. Exit code 2 is bad use, 1 a failure; `docs/cli.md`
/// lists the further ones.
#[must_use]
pub fn run() -> ExitCode {
    let program = std::env::args_os().next().unwrap_or_default();
    let matches = command(Path::new(&program)).get_matches();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let done = |()| ExitCode::SUCCESS;
    let outcome = match cli.command {
        Command::Confirm(args) => decide::run(&args, Verdict::Confirm),
        Command::Completion(args) => completion::run(&args, Cli::command()).map(done),
        Command::Controller(args) => controller::run(*args).map(done),
        Command::Crds(args) => crds::run(&args).map(done),
        Command::Explain(args) => explain::run(&args).map(done),
        Command::Held(args) => held::run(&args).map(done),
        Command::Doctor(args) => doctor::run(&args),
        Command::Preview(args) => preview::run(&args),
        Command::ProbeConnect(args) => probe_pod::connect(&args).map(done),
        Command::ProbeServe => probe_pod::serve().map(done),
        Command::Node(args) => node::run(*args).map(done),
        Command::Release(args) => decide::run(&args, Verdict::Release),
        Command::Report(args) => report::run(&args).map(done),
        Command::Replay(args) => replay::run(&args).map(done),
        Command::Status(args) => status::run(&args),
        Command::Terminate(args) => decide::run(&args, Verdict::Terminate),
    };
    outcome.unwrap_or_else(|error| failure(&error))
}

/// The help texts of all subcommands, for `docs/cli.md`.
#[must_use]
pub fn help_page() -> String {
    help::page(Cli::command())
}

/// The command line, under the name by which it was called: `kubectl yellowjack` as a plugin.
fn command(program: &Path) -> clap::Command {
    let is_plugin = program.file_name().is_some_and(|name| name == PLUGIN);
    if is_plugin {
        Cli::command().bin_name("kubectl yellowjack")
    } else {
        Cli::command()
    }
}

fn failure(error: &anyhow::Error) -> ExitCode {
    if is_closed_pipe(error) {
        // The reader closed the pipe, as in `yellowjack crds | head`.
        return ExitCode::SUCCESS;
    }
    if let Some(error) = error.downcast_ref::<CommandError>() {
        error.print();
        return ExitCode::from(error.code());
    }
    eprintln!("error: {error:#}");
    match error.downcast_ref() {
        Some(ReplayError::BadUse(_)) => ExitCode::from(BAD_USE),
        _ => ExitCode::FAILURE,
    }
}

/// Whether [`run`] accepts this command line. Used by the tests of the docs.
pub fn check(words: &[String]) -> Result<(), String> {
    Cli::try_parse_from(words)
        .map(drop)
        .map_err(|error| error.to_string())
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_argument_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_plugin_of_kubectl_names_itself_as_one() {
        let usage = |program: &str| command(Path::new(program)).render_usage().to_string();
        assert!(usage("/usr/local/bin/kubectl-yellowjack").contains("kubectl yellowjack"));
        assert!(!usage("yellowjack").contains("kubectl"));
    }
}
