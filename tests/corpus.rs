//! The labelled corpus and the project's own recording through decode and detect.
//!
//! The corpus lies outside the repository: `YELLOWJACK_SHARED` names its parent, by default
//! `../shared`. Where it is absent the tests say so and pass. No rule is tuned to a file here: a
//! change that breaks one of these has to be argued in docs/limits.md.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use yellowjack::testing::detect::{EngineConfig, PoolList};
use yellowjack::testing::model::{Severity, Signature};
use yellowjack::testing::replay::{
    Capture, CaptureResult, LabelKind, Labels, Setup, Verdict, find_captures, replay_capture, score,
};

/// Failed first contacts in one walk from which on a scan must be found.
const FAILURES_FOUND: usize = 35;

fn corpus() -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("YELLOWJACK_SHARED")
        .map_or_else(|| repository.join("../shared"), PathBuf::from);
    let corpus = shared.join("corpus");
    if !corpus.join("labels.json").is_file() {
        println!("skipped: no corpus in {}", corpus.display());
        return None;
    }
    Some(corpus)
}

fn replay(paths: &[PathBuf], labels: &Labels, pools: &str) -> Vec<CaptureResult> {
    let (pools, problems) = PoolList::parse(pools);
    assert_eq!(problems, vec![]);
    let setup = Setup {
        config: EngineConfig {
            pools,
            ..EngineConfig::default()
        },
        labels: labels.clone(),
        ..Setup::default()
    };
    let captures = find_captures(paths, None).unwrap();
    let replay = |capture: &Capture| replay_capture(capture, &setup, &mut |_| {});
    captures.iter().map(replay).collect()
}

/// The most failed targets that one labelled originator has on one service or on one host,
/// counted apart from the engine.
fn worst_walk(conn_log: &Path, label: impl Fn(&str) -> bool) -> usize {
    let mut walks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in std::fs::read_to_string(conn_log).unwrap().lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| record[key].to_string().replace('"', "");
        let (source, host, port) = (text("id.orig_h"), text("id.resp_h"), text("id.resp_p"));
        let is_failure = ["S0", "REJ"].contains(&text("conn_state").as_str());
        if is_failure && text("proto") == "tcp" && label(&source) {
            walks
                .entry(format!("{source} on {port}"))
                .or_default()
                .insert(host.clone());
            walks
                .entry(format!("{source} to {host}"))
                .or_default()
                .insert(port);
        }
    }
    walks.values().map(BTreeSet::len).max().unwrap_or_default()
}

#[test]
fn every_scan_with_enough_failures_is_quarantined() {
    let Some(corpus) = corpus() else { return };
    let labels = Labels::read(&corpus.join("labels.json")).unwrap();
    let results = replay(std::slice::from_ref(&corpus), &labels, "");
    let mut checked_count = 0;
    for result in &results {
        let is_scanner = |source: &str| {
            labels.kind(&result.capture, source.parse().unwrap()) == Some(LabelKind::Scan)
        };
        let failed_count = worst_walk(&corpus.join(&result.capture).join("conn.log"), is_scanner);
        if failed_count < FAILURES_FOUND {
            continue;
        }
        checked_count += 1;
        let is_found = result.subjects.iter().any(|(ip, subject)| {
            is_scanner(&ip.to_string()) && subject.is_found(Verdict::Scan, Severity::Quarantine)
        });
        assert!(
            is_found,
            "{} with {failed_count} failures in one walk",
            result.capture
        );
    }
    assert!(
        checked_count >= 4,
        "only {checked_count} captures had enough failures"
    );
    let median = score(&results, &labels).first_action_contacts_median();
    assert!(
        median.is_some_and(|median| median <= 40),
        "{median:?} contacts"
    );
}

#[test]
fn nobody_benign_is_quarantined_and_hardly_anybody_alerted() {
    let Some(corpus) = corpus() else { return };
    let labels = Labels::read(&corpus.join("labels.json")).unwrap();
    let mut alerted = Vec::new();
    for result in replay(std::slice::from_ref(&corpus), &labels, "") {
        for (ip, subject) in &result.subjects {
            if !labels
                .kind(&result.capture, *ip)
                .is_some_and(LabelKind::is_benign)
            {
                continue;
            }
            let severity = subject.severity();
            assert_ne!(
                severity,
                Some(Severity::Quarantine),
                "{}: {ip}",
                result.capture
            );
            if severity.is_some() {
                alerted.push(format!("{} {ip}", result.capture));
            }
        }
    }
    assert!(alerted.len() <= 1, "{alerted:?}");
}

#[test]
fn every_miner_whose_pool_is_listed_is_found() {
    let Some(corpus) = corpus() else { return };
    let labels = Labels::read(&corpus.join("labels.json")).unwrap();
    // A name where the capture holds names, else the address.
    let pools = "authedmine.com\n113.21.199.11\n74.84.128.158:3333\n185.71.66.0/24\n178.32.196.217\n94.23.199.191\n116.211.167.195\n";
    let results = replay(std::slice::from_ref(&corpus), &labels, pools);
    let score = score(&results, &labels);
    assert_eq!(score.mining.0, score.mining.1);
    assert_eq!(score.quarantined_benign, 0);
}

#[test]
fn half_of_the_miners_are_found_without_any_list() {
    let Some(corpus) = corpus() else { return };
    let labels = Labels::read(&corpus.join("labels.json")).unwrap();
    let results = replay(std::slice::from_ref(&corpus), &labels, "");
    let (found, of) = score(&results, &labels).mining;
    assert!(found * 2 >= of, "{found} of {of}");
}

#[test]
fn nobody_benign_is_taken_for_a_miner_or_a_tunnel() {
    let Some(corpus) = corpus() else { return };
    let labels = Labels::read(&corpus.join("labels.json")).unwrap();
    let mut found = Vec::new();
    for result in replay(std::slice::from_ref(&corpus), &labels, "") {
        for (ip, subject) in &result.subjects {
            let kind = labels.kind(&result.capture, *ip);
            let is_taken = subject.is_found(Verdict::Mining, Severity::Alert)
                || subject.is_found(Verdict::Tunnel, Severity::Alert);
            if is_taken && kind != Some(LabelKind::Mining) {
                found.push(format!("{} {ip}", result.capture));
            }
        }
    }
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn the_recording_shows_the_rogue_pod_and_leaves_the_honest_one_alone() {
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/recording");
    let labels = Labels::read(&recording.join("labels.json")).unwrap();
    let pools = std::fs::read_to_string(recording.join("pools.txt")).unwrap();
    // The log holds no names, so the pool's address goes onto the list too.
    let pools = format!("{pools}\n203.0.113.133");
    let results = replay(&[recording.join("egress.jsonl")], &labels, &pools);
    let [result] = results.as_slice() else {
        panic!("one capture")
    };
    assert_eq!(
        (result.capture.as_str(), result.malformed_count),
        ("egress", 0)
    );
    let subject = |ip: &str| &result.subjects[&ip.parse().unwrap()];

    let rogue = subject("10.244.0.66");
    assert!(rogue.is_found(Verdict::Scan, Severity::Quarantine));
    let horizontal = rogue
        .findings
        .iter()
        .find(|r| r.latest.signature == Signature::HorizontalScan)
        .unwrap();
    assert!(horizontal.quarantined.unwrap().1 <= 40);

    assert!(subject("10.244.0.21").findings.is_empty());

    let miner = subject("10.244.0.67");
    assert!(miner.is_found(Verdict::Mining, Severity::Alert));
}

/// A real ulogd2 log of a pod that walks through a network, 60 contacts long.
#[test]
fn the_walking_pod_of_the_ulogd_samples_is_found() {
    let Some(corpus) = corpus() else { return };
    let log = corpus.join("../samples/netfilter/nfct.json");
    if !log.is_file() {
        println!("skipped: no {}", log.display());
        return;
    }
    let results = replay(&[log], &Labels::default(), "");
    let walker = &results[0].subjects[&"10.244.0.22".parse().unwrap()];
    assert!(walker.is_found(Verdict::Scan, Severity::Alert));
}

#[test]
fn a_replay_gives_the_same_again() {
    let recording = Path::new(env!("CARGO_MANIFEST_DIR")).join("e2e/recording/egress.jsonl");
    let labels = Labels::default();
    let once = replay(std::slice::from_ref(&recording), &labels, "");
    let again = replay(&[recording], &labels, "");
    assert_eq!(
        yellowjack::testing::replay::json(&once, &labels, None),
        yellowjack::testing::replay::json(&again, &labels, None)
    );
}
