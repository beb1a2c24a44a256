//! `containment-table [FILE]`: prints what the scenarios measured, and fails where an honest packet was
//! lost. Bars on times are printed as met or missed.
//! `make e2e-node` runs it after them.

use std::path::PathBuf;
use std::process::ExitCode;

use yellowjack_e2e::scenario::{read, report, rows_file};

fn main() -> anyhow::Result<ExitCode> {
    let named = std::env::args_os().nth(1).map(PathBuf::from);
    let file = named.unwrap_or_else(rows_file);
    if !file.exists() {
        println!("skipped: no scenario ran");
        return Ok(ExitCode::SUCCESS);
    }
    let (text, failed) = report(&read(&file)?);
    print!("{text}");
    for bar in &failed {
        eprintln!("error: {bar}");
    }
    Ok(if failed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
