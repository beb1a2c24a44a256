//! `yellowjack completion`: a script for shell completion.

use std::io::Write;

use anyhow::Context;
use clap_complete::Shell;

/// Arguments of `yellowjack completion`.
#[derive(clap::Args, Debug)]
pub(super) struct CompletionArgs {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

/// Runs the subcommand. `command` is the whole command line of the program.
pub(super) fn run(args: &CompletionArgs, mut command: clap::Command) -> anyhow::Result<()> {
    // To memory first: the generator panics where standard output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "yellowjack", &mut script);
    std::io::stdout()
        .write_all(&script)
        .context("failed to write to standard output")
}
