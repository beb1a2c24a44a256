//! `with-node COMMAND...`: runs a command inside the namespaces of a new test node, with the cluster
//! in its `KUBECONFIG`, and exits with its code. `make e2e-node` uses it; `with-node sh` gives a
//! human a shell there.
//!
//! Where no node can run it says so in one line and exits with 0, or with 1 where
//! `YELLOWJACK_NODE_REQUIRED` is set. `with-node --check` only looks: it exits with 3 where it
//! is skipped.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Context;
use yellowjack_e2e::node::{INSIDE_ARGUMENT, missing, run_in_node, run_inside};

/// The exit code of a check where no node can run and none must.
const SKIPPED: u8 = 3;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((first, rest)) if first == INSIDE_ARGUMENT => run_inside(rest),
        _ => run(&arguments),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let first = command
        .first()
        .context("no command given; usage: with-node COMMAND...")?;
    let is_check = first == "--check";
    if let Some(reason) = missing() {
        println!("skipped: {reason}");
        let is_required = std::env::var_os("YELLOWJACK_NODE_REQUIRED").is_some();
        return Ok(if is_required {
            ExitCode::FAILURE
        } else if is_check {
            ExitCode::from(SKIPPED)
        } else {
            ExitCode::SUCCESS
        });
    }
    if is_check {
        return Ok(ExitCode::SUCCESS);
    }
    run_in_node(command)
}
