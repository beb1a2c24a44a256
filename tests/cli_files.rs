//! `yellowjack replay` over files as people have them: columns, rotated and compressed files, whole
//! folders, files that are no log. Inputs of the folder beside the repository, and small ones made here.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::fmt::Write as _;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

fn yellowjack(args: &[&Path]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_yellowjack"));
    command
        .args(["replay", "--output", "json"])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// What a replay of these paths says: exit code, report, standard error.
fn replay(args: &[&Path]) -> (i32, Value, String) {
    let output = yellowjack(args);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code().unwrap(), report, stderr)
}

/// A path in the folder beside the repository; `None`, and said so, where it is not.
fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("YELLOWJACK_SHARED").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let path = root.join("cases").join(path);
    if !path.exists() {
        println!(
            "skipped: {} is not here (set YELLOWJACK_SHARED)",
            path.display()
        );
        return None;
    }
    Some(path)
}

/// The one capture of a report, which ran and found this many flows.
#[track_caller]
fn capture(path: &Path, flow_count: u64) -> Value {
    let (code, report, stderr) = replay(&[path]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{report:#}");
    let captures = report["captures"].as_array().unwrap();
    assert_eq!(captures.len(), 1, "{report:#}");
    assert_eq!(captures[0]["flows"], flow_count, "{report:#}");
    captures[0].clone()
}

#[track_caller]
fn assert_scan(capture: &Value, subject: &str) {
    assert_said(capture, subject, "Quarantine");
}

#[track_caller]
fn assert_said(capture: &Value, subject: &str, action: &str) {
    let found = &capture["subjects"][0];
    let found = (&found["subject"], &found["verdict"], &found["action"]);
    assert_eq!(
        found,
        (&subject.into(), &"Scan".into(), &action.into()),
        "{capture:#}"
    );
}

const FIELDS: [&str; 10] = [
    "ts",
    "uid",
    "id.orig_h",
    "id.orig_p",
    "id.resp_h",
    "id.resp_p",
    "proto",
    "conn_state",
    "orig_pkts",
    "resp_pkts",
];

fn values(n: u32) -> [String; 10] {
    [
        format!("{}.250000", 1_764_403_200 + n),
        format!("C{n}"),
        "10.9.1.50".to_owned(),
        (52_000 + n).to_string(),
        format!("10.30.{n}.4"),
        "3389".to_owned(),
        "tcp".to_owned(),
        "S0".to_owned(),
        "1".to_owned(),
        "0".to_owned(),
    ]
}

/// The same scan as columns.
fn columns(numbers: std::ops::Range<u32>, separator: &str, written: &str) -> String {
    let mut log = format!(
        "#separator {written}\n#set_separator{separator};\n#empty_field{separator}(empty)\n\
         #unset_field{separator}-\n#path{separator}conn\n#fields{separator}{}\n#types{separator}x\n",
        FIELDS.join(separator)
    );
    for n in numbers {
        writeln!(log, "{}", values(n).join(separator)).unwrap();
    }
    log
}

/// The same scan as JSON.
fn json(numbers: std::ops::Range<u32>) -> String {
    let mut log = String::new();
    for n in numbers {
        let fields = FIELDS.iter().zip(values(n)).map(|(field, value)| {
            if value.parse::<f64>().is_ok() {
                format!("\"{field}\":{value}")
            } else {
                format!("\"{field}\":\"{value}\"")
            }
        });
        writeln!(log, "{{{}}}", fields.collect::<Vec<_>>().join(",")).unwrap();
    }
    log
}

fn gzip(text: &str) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &str) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(text.as_bytes(), ruzstd::encoding::CompressionLevel::Fastest)
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

#[test]
fn columns_of_zeek_are_read_like_its_json() {
    for (separator, written) in [("\t", "\\x09"), (",", "\\x2c"), ("|", "|")] {
        let folder = Folder::new();
        let log = folder.write("conn.log", columns(0..60, separator, written));
        assert_scan(&capture(&log, 60), "10.9.1.50");
        assert_scan(&capture(folder.path(), 60), "10.9.1.50");
    }
    for input in ["in/z05-tsv", "in/z01-scope-sep-underscore.jsonl"] {
        let Some(path) = shared(input) else { return };
        assert_scan(&capture(&path, 60), "10.9.1.50");
    }
    let Some(path) = shared("detect/zeek-tsv") else {
        return;
    };
    assert_scan(&capture(&path, 60), "10.244.1.7");
}

#[test]
fn rotated_and_compressed_files_are_one_log_in_the_order_of_their_times() {
    let folder = Folder::new();
    folder.write("conn.07:00:00-08:00:00.log.gz", gzip(&json(40..50)));
    folder.write("conn.08:00:00-09:00:00.log", columns(0..20, "\t", "\\x09"));
    folder.write("conn.2025-11-29-09-00-00.log.zst", zstd(&json(20..40)));
    folder.write("conn.log", json(50..60));
    let found = capture(folder.path(), 60);
    assert_scan(&found, "10.9.1.50");
    assert_eq!(found["files"].as_array().unwrap().len(), 4);
    // One of 30 hosts and one of 30 more are no scan: the files are judged together.
    let half = Folder::new();
    half.write("egress.jsonl.1", json(0..30));
    half.write("egress.jsonl.2.gz", gzip(&json(30..60)));
    half.write("egress.jsonl", "");
    assert_scan(&capture(half.path(), 60), "10.9.1.50");
    let Some(path) = shared("in/z14-rotated") else {
        return;
    };
    assert_scan(&capture(&path, 60), "10.9.1.50");
}

#[test]
fn no_line_is_read_twice() {
    let folder = Folder::new();
    folder.write("conn.log", json(0..30));
    folder.write("conn.log.gz", gzip(&json(0..30)));
    folder.write("conn.log.1", json(0..10));
    folder.write("conn.log-20251129.zst", zstd(&json(0..30)));
    folder.write("json_streaming_conn.log", json(0..30));
    let found = capture(folder.path(), 30);
    assert_eq!(found["left_out"].as_array().unwrap().len(), 4, "{found:#}");
}

#[test]
fn files_named_one_by_one_are_one_log_as_in_their_folder() {
    let folder = Folder::new();
    let first = folder.write("conn.log.1.gz", gzip(&json(0..30)));
    let second = folder.write("conn.log", json(30..60));
    let (code, report, stderr) = replay(&[&first, &second]);
    assert_eq!(code, 0, "{stderr}");
    assert_scan(&report["captures"][0], "10.9.1.50");
}

#[test]
fn compressed_logs_are_known_by_their_bytes() {
    let folder = Folder::new();
    for (name, bytes) in [
        ("a.log", gzip(&json(0..60))),
        ("b.jsonl", zstd(&json(0..60))),
    ] {
        assert_scan(&capture(&folder.write(name, bytes), 60), "10.9.1.50");
    }
    let Some(path) = shared("in/v10-gz.log.gz") else {
        return;
    };
    // A log of rejected traffic alone, which quarantines nobody: it is not known to show the rest.
    let found = capture(&path, 60);
    assert_eq!(found["capture"], "v10-gz");
    assert_said(&found, "10.9.1.70", "Alert");
}

#[test]
fn a_compressed_log_that_is_cut_is_told_and_its_good_part_counts() {
    let folder = Folder::new();
    let mut packed = gzip(&json(0..200));
    packed.truncate(packed.len() - 40);
    let log = folder.write("conn.log.gz", packed);
    let (code, report, stderr) = replay(&[&log]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("failed to read") && stderr.contains("beyond line"),
        "{stderr}"
    );
    assert_scan(&report["captures"][0], "10.9.1.50");
}

#[test]
fn the_folder_of_a_zeekctl_is_read_and_its_other_logs_are_passed_over_by_name() {
    let folder = Folder::new();
    folder.write("conn.log", json(0..60));
    folder.write("dns.log", "");
    for name in [
        "capture_loss.log",
        "stats.log",
        "weird.log",
        "stderr.log",
        "conn-summary.log",
        "http.log",
    ] {
        folder.write(name, "anything\n");
    }
    folder.write(
        "packet_filter.log",
        "#separator \\x09\n#path\tpacket_filter\n#fields\tts\n1\n",
    );
    let found = capture(folder.path(), 60);
    assert_scan(&found, "10.9.1.50");
    assert_eq!(found["left_out"].as_array().unwrap().len(), 7, "{found:#}");
    let Some(path) = shared("in/z07-current") else {
        return;
    };
    let found = capture(&path, 60);
    assert_scan(&found, "10.9.1.50");
    assert_eq!(found["left_out"].as_array().unwrap().len(), 6, "{found:#}");
}

#[test]
fn logs_of_json_streaming_are_one_capture() {
    let Some(path) = shared("in/z08-streaming-names") else {
        return;
    };
    let found = capture(&path, 60);
    assert_eq!(found["files"].as_array().unwrap().len(), 2);
    assert_eq!(found["subjects"], serde_json::json!([]), "{found:#}");
}

#[test]
fn a_bad_file_does_not_hide_the_result_of_a_good_one() {
    let folder = Folder::new();
    let (good, bad) = (
        folder.write("good.jsonl", json(0..60)),
        folder.write("bad.csv", "a,b\n1,2\n"),
    );
    let missing = folder.path().join("missing.jsonl");
    for paths in [[&good, &bad], [&bad, &good]] {
        let (code, report, stderr) = replay(&paths.map(PathBuf::as_path));
        assert_eq!(code, 1);
        assert!(
            stderr.contains("bad.csv") && stderr.contains("CSV"),
            "{stderr}"
        );
        let captures = report["captures"].as_array().unwrap();
        let found = captures
            .iter()
            .find(|capture| capture["capture"] == "good")
            .unwrap();
        assert_scan(found, "10.9.1.50");
    }
    let (code, report, stderr) = replay(&[&good, &missing]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("failed to read") && stderr.contains("missing.jsonl"),
        "{stderr}"
    );
    assert_scan(&report["captures"][0], "10.9.1.50");
    let (Some(good), Some(bad)) = (shared("in/y01-good.jsonl"), shared("in/y02-bad.csv")) else {
        return;
    };
    let (code, report, stderr) = replay(&[&good, &bad]);
    assert_eq!(code, 1);
    assert!(
        stderr.contains("y02-bad.csv") && stderr.contains("CSV"),
        "{stderr}"
    );
    assert!(report["captures"][0]["flows"].as_u64().unwrap() > 0);
}

/// Logs of which no line can be used: the report says what became of the lines, and what to do.
#[test]
fn a_log_that_gives_nothing_is_told_with_what_to_do() {
    for (input, expected) in [
        (
            "in/s05-netflow-only.json",
            ["netflow", "add - flow to the types of eve-log"],
        ),
        (
            "in/h06-docs-minimal-field-mask.jsonl",
            ["UnknownDirection", "is_reply"],
        ),
    ] {
        let Some(path) = shared(input) else { return };
        let (code, report, stderr) = replay(&[&path]);
        assert_eq!(code, 1, "{input}: {stderr}");
        let all = format!("{stderr} {report}");
        for part in expected {
            assert!(all.contains(part), "{input}: no {part} in {all}");
        }
        assert_eq!(report["captures"][0]["files"][0]["signals"], 0);
    }
    let Some(path) = shared("newcomer/not-a-log.jsonl") else {
        return;
    };
    let (code, _, stderr) = replay(&[&path]);
    assert_eq!(code, 1);
    assert!(stderr.contains("a program's own messages"), "{stderr}");
    let Some(path) = shared("newcomer/ulogd-read-as-zeek.jsonl") else {
        return;
    };
    let output = Command::new(env!("CARGO_BIN_EXE_yellowjack"))
        .args(["replay", "--format", "zeek"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("they look like ulogd"), "{stderr}");
}

#[test]
fn records_in_wrappers_are_read() {
    let folder = Folder::new();
    let docker: Vec<String> = json(0..60)
        .lines()
        .map(|line| {
            let log = serde_json::to_string(&format!("{line}\n")).unwrap();
            format!("{{\"log\":{log},\"stream\":\"stdout\",\"time\":\"2025-11-29T08:00:00Z\"}}\n")
        })
        .collect();
    let syslog: Vec<String> = json(0..60)
        .lines()
        .map(|line| format!("<134>Nov 29 08:00:00 node1 zeek[7]: {line}\n"))
        .collect();
    for (name, text) in [("docker.log", docker), ("syslog.log", syslog)] {
        assert_scan(
            &capture(&folder.write(name, text.concat()), 60),
            "10.9.1.50",
        );
    }
    let Some(path) = shared("in/u03-at-timestamp.json") else {
        return;
    };
    capture(&path, 60);
    let Some(path) = shared("in/h07-docker-json-file.log") else {
        return;
    };
    let (code, report, _) = replay(&[&path]);
    assert_eq!(code, 0);
    assert!(report["captures"][0]["flows"].as_u64().unwrap() > 0);
}

/// Packets without an end: the log does not show whether anybody answered.
#[test]
fn connections_without_an_outcome_make_nobody_clean() {
    let Some(path) = shared("newcomer/scan-denied-nflog-only.jsonl") else {
        return;
    };
    let (code, report, stderr) = replay(&[&path]);
    assert_eq!(code, 0, "{stderr}");
    let subjects = report["captures"][0]["subjects"].as_array().unwrap();
    let rogue = subjects
        .iter()
        .find(|subject| subject["connections"]["answered"] == 0);
    let rogue = rogue.unwrap_or_else(|| panic!("{report:#}"));
    assert_ne!(rogue["verdict"], "Clean", "{rogue:#}");
    // The honest pod beside it has an end for each of its connections.
    let honest = subjects
        .iter()
        .filter(|subject| subject["subject"] == "10.244.0.21");
    assert_eq!(honest.count(), 0, "{report:#}");
}

#[test]
fn a_burst_at_the_end_of_a_log_is_judged() {
    let Some(path) = shared("detect/miss-burst-at-end-hubble") else {
        return;
    };
    let (code, report, stderr) = replay(&[&path]);
    assert_eq!(code, 0, "{stderr}");
    let subject = &report["captures"][0]["subjects"][0];
    assert_eq!(subject["subject"], "10.244.1.7", "{report:#}");
    assert_ne!(subject["verdict"], "Clean");
}
