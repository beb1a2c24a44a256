//! Logs that cannot show what they are silent about convict nobody, and say so.
//!
//! The inputs are real shapes of logs, written anew, in the folder `cases` of the shared data:
//! `YELLOWJACK_SHARED` names it, by default `../shared`. Where it is absent the tests say so and pass.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::path::{Path, PathBuf};

use yellowjack::testing::model::Severity;
use yellowjack::testing::replay::{CaptureResult, Setup, Verdict, find_captures, replay_capture};

fn input(name: &str) -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("YELLOWJACK_SHARED")
        .map_or_else(|| repository.join("../shared"), PathBuf::from);
    let path = shared.join("cases").join(name);
    if !path.exists() {
        println!("skipped: no {}", path.display());
        return None;
    }
    Some(path)
}

fn replay(path: PathBuf) -> CaptureResult {
    let captures = find_captures(&[path], None).unwrap();
    assert_eq!(captures.len(), 1);
    replay_capture(&captures[0], &Setup::default(), &mut |_| {})
}

/// The verdict on the only subject that began so many connections, with its findings' severity.
fn judged(name: &str, subject: &str) -> Option<(Verdict, Option<Severity>)> {
    let result = replay(input(name)?);
    let subject = &result.subjects[&subject.parse().unwrap()];
    Some((subject.verdict(), subject.severity()))
}

#[track_caller]
fn check(name: &str, subject: &str, expected: (Verdict, Option<Severity>)) {
    if let Some(found) = judged(name, subject) {
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn a_log_without_answers_finds_nothing_and_calls_nobody_clean() {
    let unknown = (Verdict::Unknown, None);
    check(
        "in/h35-policy-verdicts-only-honest.jsonl",
        "10.9.1.33",
        unknown,
    );
    check("in/h39-denylist-replies-honest.jsonl", "10.9.1.35", unknown);
    check("in/z15-one-sided-honest.jsonl", "10.9.1.52", unknown);
    check("in/s16-one-sided-honest.json", "10.9.1.62", unknown);
}

#[test]
fn a_syn_ack_is_an_answer_in_logs_that_do_not_say_which_packets_are_replies() {
    let clean = (Verdict::Clean, None);
    check(
        "in/h32-mask-without-is_reply-honest.jsonl",
        "10.9.1.32",
        clean,
    );
    check(
        "in/h04-retina-no-conntrack-honest.jsonl",
        "10.9.1.30",
        clean,
    );
}

#[test]
fn denials_in_a_log_of_drops_alone_are_an_alert_at_most() {
    let alert = (Verdict::Scan, Some(Severity::Alert));
    check("in/h38-mixed-drops-only.jsonl", "10.9.1.34", alert);
}

#[test]
fn answers_of_a_udp_server_are_no_scan_of_its_clients_ports() {
    let clean = (Verdict::Clean, None);
    check(
        "in/h02-udp-replies-dropped-one-client.jsonl",
        "10.9.1.20",
        clean,
    );
    check("detect/false-udp-answers/conn.log", "10.244.1.7", clean);
    check(
        "detect/false-udp-answers-suricata/eve.json",
        "10.244.1.7",
        clean,
    );
}

#[test]
fn a_log_that_lacks_outcomes_says_which() {
    let lacking = |name: &str| -> Option<Vec<String>> {
        Some(replay(input(name)?).lacking.into_iter().collect())
    };
    for (name, expected) in [
        (
            "in/h35-policy-verdicts-only-honest.jsonl",
            "no answers over tcp",
        ),
        ("in/h38-mixed-drops-only.jsonl", "no allowed flows over tcp"),
    ] {
        if let Some(lacking) = lacking(name) {
            assert_eq!(lacking, [expected], "{name}");
        }
    }
}
