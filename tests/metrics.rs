//! Node metrics and fair judgement of mining: the shared inputs, as a user would replay them.
//!
//! The inputs lie outside the repository: `YELLOWJACK_SHARED` names their parent, by default
//! `../shared`. Where they are absent the tests say so and pass; the same kinds are in `tests/cases`.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use yellowjack::testing::model::EventTime;
use yellowjack::testing::signals::decode::{MetricsFormat, MetricsReader};

fn shared(path: &str) -> Option<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("YELLOWJACK_SHARED")
        .map_or_else(|| repository.join("../shared"), PathBuf::from);
    let found = shared.join("cases").join(path);
    if !found.exists() {
        println!("skipped: no {}", found.display());
        return None;
    }
    Some(found)
}

fn replay(arguments: &[&str]) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_yellowjack"))
        .args(["replay", "--output", "json"])
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {stderr}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    report["captures"][0].clone()
}

/// The action on each subject that has a finding.
fn actions(capture: &Value) -> Vec<(String, String)> {
    let subjects = capture["subjects"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    subjects
        .iter()
        .map(|subject| (text(&subject["subject"]), text(&subject["action"])))
        .collect()
}

fn at(second: i64) -> EventTime {
    EventTime::from_seconds(second, 0)
}

#[test]
fn pods_on_one_accelerator_that_are_named_in_turn_are_nobodys() {
    let Some(folder) = shared("metrics") else {
        return;
    };
    let mut reader = MetricsReader::new(MetricsFormat::Dcgm);
    let (mut given, mut withdrawn, mut shared_gpus) = (Vec::new(), Vec::new(), 0);
    for n in 0..8_i64 {
        let file = folder.join(format!("m05-alternating-{n}.prom"));
        let read = reader.read(&std::fs::read(file).unwrap(), at(1_790_000_000 + 15 * n));
        given.extend(read.samples.iter().map(|sample| sample.name.clone()));
        withdrawn.extend(read.withdrawn.iter().map(|sample| sample.name.clone()));
        shared_gpus += read.shared_gpus;
    }
    // Until a second pod is named, nothing shows that the device is shared.
    assert!(
        given.iter().all(|name| withdrawn.contains(name)),
        "{given:?}"
    );
    assert!(
        given.len() <= 2 && shared_gpus >= 6,
        "{given:?} {shared_gpus}"
    );
}

#[test]
fn a_part_of_a_device_has_no_power_and_no_links() {
    let Some(file) = shared("metrics/m08-mig.prom") else {
        return;
    };
    let mut reader = MetricsReader::new(MetricsFormat::Dcgm);
    let read = reader.read(&std::fs::read(file).unwrap(), at(1_790_000_000));
    assert_eq!((read.samples.len(), read.shared_gpus), (3, 0));
    for sample in &read.samples {
        let gpu = sample.sample.gpu.unwrap();
        assert!(gpu.sm_active.is_some() && gpu.tensor_active.is_some());
        assert_eq!((gpu.power_watts, gpu.link_bytes_per_second), (None, None));
    }
}

#[test]
fn odd_items_of_the_metrics_api_cost_nobody_else_a_sample() {
    for (file, malformed, impossible) in
        [("m20-huge.json", 0, 1), ("m23-null-timestamp.json", 1, 0)]
    {
        let Some(path) = shared(&format!("metrics/{file}")) else {
            return;
        };
        let mut reader = MetricsReader::new(MetricsFormat::PodMetrics);
        let read = reader.read(&std::fs::read(path).unwrap(), at(1_790_000_000));
        let names: Vec<_> = read.samples.iter().map(|s| s.name.as_str()).collect();
        assert_eq!(names, ["agent-1"], "{file}");
        assert_eq!(
            (read.malformed, read.impossible),
            (malformed, impossible),
            "{file}"
        );
    }
}

#[test]
fn accelerators_that_may_be_a_neighbours_convict_nobody_and_power_that_nobody_measured_is_not_named()
 {
    let Some(folder) = shared("gpu") else { return };
    let log = folder.join("conn.log");
    for samples in ["neighbour", "mig-device-power", "mig-no-device-figures"] {
        let file = folder.join(format!("{samples}.samples.jsonl"));
        let capture = replay(&["--samples", file.to_str().unwrap(), log.to_str().unwrap()]);
        assert_eq!(actions(&capture), vec![], "{samples}");
        // Not in the list of files, whose names may say it.
        for said in ["subjects", "cannot_show", "notes"] {
            let said = capture[said].to_string();
            assert!(!said.contains("power"), "{samples}: {said}");
        }
        assert!(
            capture["unnamed_devices"].as_u64().unwrap() > 0,
            "{samples}"
        );
    }
}

#[test]
fn mining_is_judged_fairly() {
    for (case, samples, most, least) in [
        ("false-bitcoin-node", None, "None", "None"),
        (
            "false-cpu-and-sse-ulogd",
            Some("samples.jsonl"),
            "Alert",
            "None",
        ),
        ("miss-catalogue", None, "Quarantine", "Alert"),
    ] {
        let Some(folder) = shared(&format!("detect/{case}")) else {
            return;
        };
        let samples = samples.map(|name| folder.join(name).display().to_string());
        let folder = folder.display().to_string();
        let mut arguments = vec![folder.as_str()];
        if let Some(samples) = &samples {
            arguments.extend(["--samples", samples]);
        }
        let found = actions(&replay(&arguments));
        let rank = |action: &str| {
            ["None", "Alert", "Quarantine"]
                .iter()
                .position(|a| *a == action)
        };
        let worst = found
            .iter()
            .map(|(_, action)| rank(action))
            .max()
            .unwrap_or(Some(0));
        assert!(
            rank(least) <= worst && worst <= rank(most),
            "{case}: {found:?}"
        );
    }
}

#[test]
fn one_sample_a_minute_is_judged_as_one_per_15_s() {
    let Some(folder) = shared("detect/samples-60s") else {
        return;
    };
    let log = folder.join("conn.log").display().to_string();
    let judged = |samples: &str| {
        let samples = folder.join(samples).display().to_string();
        actions(&replay(&["--samples", &samples, &log]))
    };
    let expected = judged("samples-15s.jsonl");
    assert_eq!(expected.len(), 1);
    assert_eq!(judged("samples-60s.jsonl"), expected);
}

/// A long thin session with a host that was looked up by this name.
fn session_with(folder: &Path, name: &str) {
    let dns = json!({"ts": 1_790_000_000, "id.orig_h": "10.244.1.7", "id.orig_p": 5353, "id.resp_h": "10.96.0.10",
        "id.resp_p": 53, "proto": "udp", "query": name, "qtype_name": "A", "rcode": 0, "rcode_name": "NOERROR",
        "answers": ["203.0.113.9"]});
    let conn = json!({"ts": 1_790_000_001, "id.orig_h": "10.244.1.7", "id.orig_p": 40_001, "id.resp_h": "203.0.113.9",
        "id.resp_p": 9001, "proto": "tcp", "conn_state": "SF", "history": "ShADadFf", "duration": 1200,
        "orig_bytes": 30_000, "resp_bytes": 90_000, "orig_pkts": 400, "resp_pkts": 420});
    std::fs::write(folder.join("dns.log"), format!("{dns}\n")).unwrap();
    std::fs::write(folder.join("conn.log"), format!("{conn}\n")).unwrap();
}

#[test]
fn the_starter_lists_of_the_chart_lead_to_alerts_and_a_list_of_ones_own_to_a_quarantine() {
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/yellowjack/files/starter");
    let pools = starter.join("pools.txt").display().to_string();
    let tunnels = starter.join("tunnels.txt").display().to_string();
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().display().to_string();
    for (name, option, list, signature) in [
        ("auto.nicehash.com", "--starter-pool-list", &pools, "Mining"),
        (
            "connect.ngrok-agent.com",
            "--starter-tunnel-list",
            &tunnels,
            "TunnelService",
        ),
    ] {
        session_with(folder.path(), name);
        let capture = replay(&[option, list, &log]);
        let [finding] = &capture["subjects"][0]["findings"].as_array().unwrap()[..] else {
            panic!("one finding: {capture}");
        };
        assert_eq!(finding["signature"], signature);
        assert_eq!(finding["action"], "Alert", "{finding}");
        assert!(finding.to_string().contains("starter list"), "{finding}");
        assert_eq!(actions(&replay(&[&log])), vec![], "{name} without a list");
    }
    session_with(folder.path(), "auto.nicehash.com");
    let own = actions(&replay(&["--pool-list", &pools, &log]));
    assert_eq!(own, [("10.244.1.7".to_owned(), "Quarantine".to_owned())]);
}

#[test]
fn every_line_of_the_starter_lists_can_be_used_and_names_its_source_and_licence() {
    let starter = Path::new(env!("CARGO_MANIFEST_DIR")).join("charts/yellowjack/files/starter");
    for file in ["pools.txt", "tunnels.txt"] {
        let text = std::fs::read_to_string(starter.join(file)).unwrap();
        let (_, problems) = yellowjack::testing::detect::PoolList::parse(&text);
        assert_eq!(problems, vec![], "{file}");
        assert!(text.lines().next().unwrap().contains("Date: 20"), "{file}");
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let (_, comment) = line.split_once('#').unwrap();
            let parts: Vec<_> = comment.split("; ").collect();
            assert_eq!(parts.len(), 3, "{line}");
            assert!(
                parts[1].starts_with("https://") && parts[2].starts_with("licence:"),
                "{line}"
            );
        }
    }
}
