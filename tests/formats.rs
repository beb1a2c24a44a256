//! Sample logs of every format that the project writes itself, through `yellowjack replay` as a
//! user calls it: a scan is found and its neighbours are not, honest traffic gives no finding.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

fn sample(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/samples")
        .join(file)
}

/// The only capture of a replay.
fn replay(format: &str, file: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_yellowjack"))
        .args(["replay", "--output", "json", "--format", format])
        .arg(sample(file))
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let problem = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{file}: {problem}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["captures"][0].clone()
}

fn check_scan(format: &str, file: &str, subject: &str, flows: u64) {
    for format in ["auto", format] {
        let capture = replay(format, file);
        assert_eq!(capture["malformed"], 0, "{file}");
        assert_eq!(capture["flows"], flows, "{file}");
        let subjects = capture["subjects"].as_array().unwrap();
        assert_eq!(subjects.len(), 1, "{file}: {subjects:#?}");
        assert_eq!(subjects[0]["subject"], subject, "{file}");
        assert_eq!(subjects[0]["verdict"], "Scan", "{file}");
        assert_eq!(subjects[0]["action"], "Quarantine", "{file}");
    }
}

fn check_honest(format: &str, file: &str, flows: u64) {
    for format in ["auto", format] {
        let capture = replay(format, file);
        assert_eq!(capture["malformed"], 0, "{file}");
        assert_eq!(capture["flows"], flows, "{file}");
        // A subject is listed too when the log does not show how its only contact went.
        for subject in capture["subjects"].as_array().unwrap() {
            let said = (&subject["verdict"], &subject["action"]);
            let unknown = (&"Unknown".into(), &"None".into());
            assert_eq!(said, unknown, "{file}: {subject:#}");
            assert_eq!(subject["findings"], serde_json::json!([]), "{file}");
        }
    }
}

#[test]
fn a_scan_in_a_vpc_flow_log_is_found_and_a_server_with_many_clients_is_not() {
    // 60 attempts and 10 resets; two records of each page. The server's interface does not count.
    check_scan("vpc", "vpc/scan.log", "10.0.1.5", 70 + 120);
}

#[test]
fn a_vpc_flow_log_without_flags_accuses_no_server_of_its_replies() {
    check_honest("vpc", "vpc/honest.log", 6 * 120);
}

#[test]
fn a_scan_in_a_calico_flow_log_is_found() {
    check_scan("calico", "calico/scan.log", "10.48.1.5", 120);
}

#[test]
fn aggregated_calico_flows_accuse_nobody() {
    check_honest("calico", "calico/honest.log", 180);
}

#[test]
fn a_scan_in_a_suricata_log_is_found() {
    check_scan("suricata", "suricata/scan.json", "10.0.1.5", 120);
}

#[test]
fn dead_links_and_backscatter_in_a_suricata_log_accuse_nobody() {
    check_honest("suricata", "suricata/honest.json", 180);
}
