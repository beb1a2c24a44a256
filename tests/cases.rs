//! The cases under `tests/cases`: input, options and what must come out, run as a user runs them.
//!
//! A case is a folder `<detector>/<case>` with logs, a `README.md` that says why, an
//! `expected.json`, and optionally `pools.txt`, `policy.yaml`, `runs.json` and `samples.jsonl`,
//! which become the options of that meaning. `UPDATE_CASES=1 cargo test --test cases` writes what
//! came out into `expected.json`: read the difference before you commit it.
//!
//! `expected.json` names the flows that were read and every subject with a finding. A subject has
//! either `action` with `verdict`, `signature` and the range of `contacts` after which the action
//! came, or `at_most`, an action that may come and need not. `some` stands for any one subject.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

#[path = "cases/expected.rs"]
mod expected;

use expected::{COMPANIONS, agrees, cases, differences, name, summary};

fn all_cases() -> Vec<PathBuf> {
    cases(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases"))
}

/// The logs of a case: what is not one of its other files.
fn logs(case: &Path) -> Vec<PathBuf> {
    let names = ["conn.log", "dns.log", "ssl.log", "flows.ndjson"];
    let paths = names.iter().map(|name| case.join(name));
    paths.filter(|path| path.is_file()).collect()
}

fn replay(case: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yellowjack"));
    command
        .args(["replay", "--output", "json"])
        .stdin(Stdio::null());
    for (option, file) in COMPANIONS {
        if case.join(file).is_file() {
            command.arg(option).arg(case.join(file));
        }
    }
    let output = command.arg(case).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {stderr}", name(case));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let captures = report["captures"].as_array().unwrap();
    assert_eq!(captures.len(), 1, "{}: one capture per case", name(case));
    captures[0].clone()
}

/// Keeps what was expected and still holds, and takes the rest from what came out.
fn updated(expected: &Value, found: &Value) -> Value {
    let mut updated = found.clone();
    let Some(wanted) = expected["subjects"].as_object() else {
        return updated;
    };
    for (subject, wanted) in wanted {
        let was_found = found["subjects"].get(subject);
        if subject == "some" || agrees(wanted, was_found) {
            updated["subjects"][subject] = wanted.clone();
        }
    }
    updated
}

#[test]
fn every_case_comes_out_as_expected() {
    let is_update = std::env::var_os("UPDATE_CASES").is_some();
    let mut report = String::new();
    for case in all_cases() {
        let file = case.join("expected.json");
        let expected: Value = std::fs::read(&file)
            .map(|text| serde_json::from_slice(&text).unwrap())
            .unwrap_or_default();
        let found = summary(&replay(&case));
        if is_update {
            let text = format!("{:#}\n", updated(&expected, &found));
            std::fs::write(&file, text).unwrap();
            continue;
        }
        let lines = differences(&expected, &found);
        if !lines.is_empty() {
            let _ = writeln!(report, "\n{}\n  {}", name(&case), lines.join("\n  "));
        }
    }
    assert!(
        report.is_empty(),
        "{report}\nUPDATE_CASES=1 takes over what was found, if that is right"
    );
}

#[test]
fn every_case_says_why() {
    let cases = all_cases();
    assert!(cases.len() >= 20, "only {} cases", cases.len());
    for case in cases {
        let why = std::fs::read_to_string(case.join("README.md")).unwrap_or_default();
        assert!(why.contains("Expected:"), "{} has no README", name(&case));
        assert!(!logs(&case).is_empty(), "{} has no log", name(&case));
        assert!(case.join("expected.json").is_file(), "{}", name(&case));
    }
}

#[test]
fn a_case_that_comes_out_differently_is_told_in_words() {
    let expected = json!({"flows": 2, "malformed": 0, "subjects": {
        "10.0.0.1": {"verdict": "Scan", "action": "Quarantine", "signature": "HorizontalScan", "contacts": [30, 40]},
        "10.0.0.2": {"at_most": "Alert"},
    }});
    let found = json!({"flows": 2, "malformed": 0, "subjects": {
        "10.0.0.1": {"verdict": "Scan", "action": "Quarantine", "signature": "HorizontalScan", "contacts": [41, 41]},
        "10.0.0.2": {"verdict": "Scan", "action": "Quarantine", "signature": "HorizontalScan", "contacts": [35, 35]},
        "10.0.0.3": {"verdict": "Mining", "action": "Alert", "signature": "Mining", "contacts": [1, 1]},
    }});
    let lines = differences(&expected, &found);
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("10.0.0.3: expected no finding"))
    );
    assert!(differences(&updated(&expected, &found), &found).is_empty());
}
