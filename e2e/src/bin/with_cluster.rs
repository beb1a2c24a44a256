//! `with-cluster COMMAND...`: runs a command with a test cluster in its `KUBECONFIG`, and exits
//! with its code. `make test` uses it, so that all test binaries share one cluster.

use std::process::{Command, ExitCode};

use anyhow::Context;
use yellowjack_e2e::{TestCluster, forget_package};

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments
        .next()
        .context("no command given; usage: with-cluster COMMAND...")?;
    let cluster = TestCluster::start()?;
    if let Some(time) = cluster.start_time() {
        println!("figure cluster.start {:.1} s", time.as_secs_f64());
    }
    let mut command = Command::new(&program);
    // The command is cargo, most of the time.
    forget_package(&mut command);
    let status = command
        .args(arguments)
        .envs(cluster.environment())
        .status()
        .with_context(|| format!("failed to run {}", program.display()))?;
    for (part, bytes) in cluster.resident_bytes() {
        println!("figure cluster.rss.{part} {} MiB", bytes / (1024 * 1024));
    }
    // The command's own code; 1 where a signal ended it.
    Ok(status
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, Into::into))
}
