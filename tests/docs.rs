//! The commands in the docs on replay, as a reader would run them in the repository.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::process::{Command, Stdio};

const PROMPT: &str = "$ yellowjack ";

#[test]
fn every_command_of_the_replay_page_runs_and_prints_a_report() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(repository.join("docs/replay.md")).unwrap();
    let commands: Vec<_> = page
        .lines()
        .filter_map(|line| line.strip_prefix(PROMPT))
        .collect();
    assert!(commands.len() >= 8, "only {} commands", commands.len());
    for command in commands {
        let output = Command::new(env!("CARGO_BIN_EXE_yellowjack"))
            .args(command.split_whitespace())
            .current_dir(repository)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command}: {stderr}");
        assert!(
            output.stdout.len() > 100,
            "{command} printed next to nothing"
        );
    }
}

/// A row of the table of cases names its folder, and every folder has a row.
#[test]
fn the_detection_page_names_every_folder_of_cases() {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(repository.join("docs/detection.md")).unwrap();
    for entry in std::fs::read_dir(repository.join("tests/cases")).unwrap() {
        let entry = entry.unwrap();
        if !entry.file_type().unwrap().is_dir() {
            continue;
        }
        let name = entry.file_name().into_string().unwrap();
        assert!(
            page.contains(&format!("| `{name}/` |")),
            "no row for {name}"
        );
    }
}
