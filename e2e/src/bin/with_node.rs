//! `with-node COMMAND...`: runs a command inside the namespaces of a new test node, with the cluster
//! in its `KUBECONFIG`, and exits with its code. `make e2e-node` uses it; `with-node sh` gives a
//! human a shell there.
//!
//! Where no node can run it says so in one line and exits with 0, or with 1 where `CI=true` asks for one.
//! `with-node --check` only looks: it exits with 0 where one can run, with 3 where it is skipped.

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::{Context, bail};
use yellowjack_e2e::node::{INSIDE_ARGUMENT, is_required, missing, run_in_node, run_inside};

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
        if is_required() {
            bail!("with CI=true a test node is required: {reason}");
        }
        println!("skipped: {reason}");
        let code = if is_check { SKIPPED } else { 0 };
        return Ok(ExitCode::from(code));
    }
    if is_check {
        return Ok(ExitCode::SUCCESS);
    }
    if is_check {
        return Ok(ExitCode::SUCCESS);
    }
    run_in_node(command)
}
