//! Runs tests with cargo, and reads what became of each.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use yellowjack_e2e::attacks::TestPath;
use yellowjack_e2e::forget_package;

use crate::outcome::{Row, TestResult};

/// Tries the replayed attacks. The second value is whether all is as their tables state.
pub fn replayed() -> anyhow::Result<(Vec<Row>, bool)> {
    let text = test("yellowjack", "attacks", &["--nocapture"])?;
    let rows: Vec<_> = text.lines().filter_map(Row::of_line).collect();
    ensure!(!rows.is_empty(), "tests/attacks tried nothing:\n{text}");
    Ok((rows, text.contains("test result: ok")))
}

/// Runs these tests, each once, and one program after the other.
pub fn run_tests(
    tests: impl Iterator<Item = TestPath>,
) -> anyhow::Result<BTreeMap<TestPath, TestResult>> {
    let mut programs: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for test in tests {
        programs.entry(test.program).or_default().insert(test.path);
    }
    let mut results = BTreeMap::new();
    for (program, paths) in programs {
        let package = if program == "lib" {
            "yellowjack"
        } else {
            "yellowjack-e2e"
        };
        let mut arguments = vec!["--exact", "--show-output"];
        arguments.extend(&paths);
        eprintln!("attacks: {} tests of {program}", paths.len());
        let text = test(package, program, &arguments)?;
        let has_passed = results_in(&text);
        for path in paths {
            let result = has_passed.get(path).copied();
            if result != Some(TestResult::Passed) {
                eprintln!("attacks: {program} {path}: {result:?}");
            }
            if let Some(result) = result {
                results.insert(TestPath { program, path }, result);
            }
        }
        if has_passed
            .values()
            .any(|result| *result == TestResult::Failed)
        {
            eprintln!("{text}");
        }
    }
    Ok(results)
}

/// The output of one test program with these arguments, whether its tests pass or not.
fn test(package: &str, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    forget_package(&mut command);
    command.args(["test", "--locked", "--package", package]);
    if program == "lib" {
        command.arg("--lib");
    } else {
        command.args(["--test", program]);
    }
    let output = command
        .arg("--")
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context("failed to run cargo")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The results that a test program printed, with `--show-output`, by test.
fn results_in(text: &str) -> BTreeMap<&str, TestResult> {
    let mut results = BTreeMap::new();
    let mut shown = "";
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("---- ") {
            shown = name.trim_end_matches(" ----").trim_end_matches(" stdout");
        } else if line.starts_with("skipped:") {
            results
                .entry(shown)
                .and_modify(|result| *result = TestResult::Skipped);
        } else if let Some((name, result)) = line
            .strip_prefix("test ")
            .and_then(|rest| rest.rsplit_once(" ... "))
        {
            let result = match result {
                "ok" => TestResult::Passed,
                _ => TestResult::Failed,
            };
            results.insert(name, result);
        }
    }
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_each_test_is_read() {
        let text = "running 3 tests\ntest a::b ... ok\ntest a::c ... FAILED\ntest d ... ok\n\n\
                    successes:\n\n---- d stdout ----\nskipped: no browser\n\ntest result: FAILED.\n";
        let results = results_in(text);
        let expected = [
            ("a::b", TestResult::Passed),
            ("a::c", TestResult::Failed),
            ("d", TestResult::Skipped),
        ];
        assert_eq!(results, expected.into_iter().collect());
    }
}
