//! The command line: one file per subcommand. Called by `main`; data goes to standard output,
//! logs and notes to standard error.

mod controller;
mod crds;
mod election;
mod held;
mod metrics;
mod node;
mod operator;
mod replay;
mod signals;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::replay::ReplayError;

/// Guardrails, quarantine and proof of containment for AI-agent workloads on Kubernetes.
#[derive(Parser, Debug)]
#[command(name = "yellowjack", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the operator: guardrails for AgentRuns, detection, quarantine, verification.
    Controller(Box<controller::ControllerArgs>),
    /// Print the CustomResourceDefinitions as YAML.
    Crds(crds::CrdsArgs),
    /// Name what is held in quarantine, and fail where that is anything; for an uninstall.
    Held(held::HeldArgs),
    /// Run the agent of one node: detection in its log, findings into Incidents.
    Node(Box<node::NodeArgs>),
    /// Run detection over recorded logs, without a cluster, and say what would have been done.
    Replay(replay::ReplayArgs),
}

/// The exit code of clap, for what it cannot see.
const BAD_USE: u8 = 2;

/// Parses the arguments and runs the subcommand. Exit code 2 is bad use, 1 a failure.
#[must_use]
pub fn run() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Controller(args) => controller::run(*args).map(|()| ExitCode::SUCCESS),
        Command::Crds(args) => crds::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Held(args) => held::run(&args).map(|()| ExitCode::SUCCESS),
        Command::Node(args) => node::run(*args).map(|()| ExitCode::SUCCESS),
        Command::Replay(args) => replay::run(&args).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        if is_closed_pipe(&error) {
            // Whoever read the output has seen enough, as in `yellowjack crds | head`.
            return ExitCode::SUCCESS;
        }
        eprintln!("error: {error:#}");
        match error.downcast_ref() {
            Some(ReplayError::BadUse(_)) => ExitCode::from(BAD_USE),
            _ => ExitCode::FAILURE,
        }
    })
}

fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
