//! `attacks`: tries every attack on the operator with its control, and prints what became of each.
//!
//! `make attacks` runs it. The attacks on detection are replayed by `tests/attacks`, those on the API are the tests that
//! `yellowjack_e2e::attacks` names. It ends with figures, and fails if an attack succeeded or a control was not caught.

mod cargo;
mod outcome;

use std::process::ExitCode;

use outcome::{Result, Row};
use yellowjack_e2e::attacks;

fn main() -> ExitCode {
    run().unwrap_or_else(|error| {
        eprintln!("error: {error:#}");
        ExitCode::FAILURE
    })
}

fn run() -> anyhow::Result<ExitCode> {
    let (mut rows, are_tables_right) = cargo::replayed()?;
    let tests = attacks::all().flat_map(|attack| [attack.test, attack.control]);
    let results = cargo::run_tests(tests)?;
    rows.extend(attacks::all().map(|attack| Row::of(attack, &results)));
    rows.sort_by(|a, b| (&a.kind, &a.name).cmp(&(&b.kind, &b.name)));
    for row in &rows {
        println!("{row}");
    }
    let count = |result: Result| rows.iter().filter(|row| row.result == result).count();
    let failed_count = rows.iter().filter(|row| !row.is_control_caught).count();
    let skipped_count = count(Result::Skipped);
    println!("figure attacks.tried {}", rows.len() - skipped_count);
    println!("figure attacks.stopped {}", count(Result::Stopped));
    println!("figure attacks.remaining {}", count(Result::Remains));
    println!("figure attacks.skipped {skipped_count}");
    println!("figure attacks.succeeded {}", count(Result::Succeeded));
    println!("figure attacks.controls_failed {failed_count}");
    if !are_tables_right {
        println!("tests/attacks failed: its messages are above");
    }
    let is_fine = are_tables_right && count(Result::Succeeded) == 0 && failed_count == 0;
    Ok(if is_fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
