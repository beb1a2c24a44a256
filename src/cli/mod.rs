//! The command line: one file per subcommand. Called by `main`; data goes to standard output,
//! logs and notes to standard error.

mod completion;
mod controller;
mod crds;
mod decide;
mod doctor;
mod election_args;
mod held;
mod help;
mod incident;
mod metrics_args;
mod nearest;
mod node;
mod notify_args;
mod operator_args;
mod people;
mod preview;
mod probe_pod;
mod replay;
mod source_args;
mod status;
mod values;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::api::Verdict;
use crate::replay::ReplayError;
use people::{BAD_USE, PeopleError};

/// Guardrails, quarantine and proof of containment for AI-agent workloads on Kubernetes.
#[derive(Parser, Debug)]
#[command(name = "yellowjack", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Say that an Incident is right; the pod stays contained.
    Confirm(decide::DecideArgs),
    /// Print the script that lets a shell complete the arguments.
    Completion(completion::CompletionArgs),
    /// Run the operator: guardrails for AgentRuns, detection, quarantine, verification.
    Controller(Box<controller::ControllerArgs>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds(crds::CrdsArgs),
    /// Look whether the cluster has what Yellowjack rests on.
    Doctor(Box<doctor::DoctorArgs>),
    /// Say what happened in one Incident, why, and what to do next.
    Explain(incident::ExplainArgs),
    /// Name what is held in quarantine, and fail where that is anything; for an uninstall.
    Held(held::HeldArgs),
    /// Run the agent of one node: detection in its log, findings into Incidents.
    Node(Box<node::NodeArgs>),
    /// Say what Enforce would have done about a run in the last hours.
    Preview(preview::PreviewArgs),
    /// What the one pod of `doctor --probe` runs.
    #[command(hide = true)]
    ProbeConnect(probe_pod::ConnectArgs),
    /// What the other one runs.
    #[command(hide = true)]
    ProbeServe,
    /// Release the pod of an Incident: undo exactly what was done about it.
    Release(decide::DecideArgs),
    /// Write the report on one Incident, for a ticket or a browser.
    Report(incident::ReportArgs),
    /// Run detection over recorded logs, without a cluster, and say what would have been done.
    Replay(replay::ReplayArgs),
    /// Say whether runs are safe, and what to do about those that are not.
    Status(status::StatusArgs),
    /// End the owner and the pod of an Incident. There is no way back.
    Terminate(decide::DecideArgs),
}

/// The name under which kubectl finds the program as its plugin.
const PLUGIN: &str = "kubectl-yellowjack";

/// Parses the arguments and runs the subcommand. Exit code 2 is bad use, 1 a failure; `docs/cli.md`
/// lists those of the commands for people.
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
        Command::Explain(args) => incident::explain(&args).map(done),
        Command::Held(args) => held::run(&args).map(done),
        Command::Doctor(args) => doctor::run(&args),
        Command::Preview(args) => preview::run(&args),
        Command::ProbeConnect(args) => probe_pod::connect(&args).map(done),
        Command::ProbeServe => probe_pod::serve().map(done),
        Command::Node(args) => node::run(*args).map(done),
        Command::Release(args) => decide::run(&args, Verdict::Release),
        Command::Report(args) => incident::report(&args).map(done),
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

/// The command line, under the name by which it was called: `kubectl yellowjack` for a plugin.
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
        // Whoever read the output has seen enough, as in `yellowjack crds | head`.
        return ExitCode::SUCCESS;
    }
    if let Some(error) = error.downcast_ref::<PeopleError>() {
        error.say();
        return ExitCode::from(error.code());
    }
    eprintln!("error: {error:#}");
    match error.downcast_ref() {
        Some(ReplayError::BadUse(_)) => ExitCode::from(BAD_USE),
        _ => ExitCode::FAILURE,
    }
}

/// Whether the command line is one that [`run`] would take. The tests of the docs ask this.
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
    fn a_plugin_of_kubectl_speaks_of_itself_as_one() {
        let usage = |program: &str| command(Path::new(program)).render_usage().to_string();
        assert!(usage("/usr/local/bin/kubectl-yellowjack").contains("kubectl yellowjack"));
        assert!(!usage("yellowjack").contains("kubectl"));
    }
}
