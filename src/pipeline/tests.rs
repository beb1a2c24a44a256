//! Tests of the pipeline together with the controller, as the operator combines them: from lines of a log to findings.
//! Each value that the controller provides (runs, nodes, ranges) has a control without it.

mod deferral;

use parking_lot::Mutex;

use super::contact_reports::ReportObserver;
use super::*;
use crate::api::AgentRun;
use crate::cluster::{ClusterDeny, LeaderGate, RunMembership, StoreWriter, Stores, Writer};
use crate::controller::{Controller, Parts, Role};
use crate::detect::EngineConfig;
use crate::guardrails::ClusterFacts;
use crate::model::{PodKey, Severity};
use crate::signals::attribute::PodFacts;
use crate::signals::decode::Format;
use crate::signals::source::{Position, SourceHealth, SourceState};

const START: i64 = 1_771_922_619;

/// Health of a reader that has this many unread bytes.
fn reading(lag_bytes: u64) -> SourceHealth {
    SourceHealth {
        state: SourceState::Reading,
        last_line_at: None,
        batches: 0,
        bytes: 0,
        oversized_lines: 0,
        rotations: 0,
        truncations: 0,
        gaps: 0,
        unfollowed: 0,
        checkpoint_failures: 0,
        lag_bytes,
    }
}

/// A pipeline, and the parts that surround it in the operator.
struct Fixture {
    pipeline: Pipeline,
    state: PipelineState,
    found: mpsc::Receiver<AttributedFinding>,
    controller: Arc<Controller>,
    health: Arc<Mutex<SourceHealth>>,
    start: Instant,
}

impl Fixture {
    /// Pods `p0`, `p1`, ... with addresses 10.244.0.1, ..., of which the first of three is on node n0.
    fn new(pod_count: usize) -> Self {
        let mut index = Index::new();
        for n in 0..pod_count {
            index.apply(
                facts(n, &address(n)),
                EventTime::from_seconds(START - 60, 0),
            );
        }
        let (sender, found) = mpsc::channel(1_000);
        let (scopes, receiver) = watch::channel(Scopes::default());
        let health = Arc::new(Mutex::new(reading(0)));
        let source = |n: usize| {
            let health = Arc::clone(&health);
            SourceInfo {
                name: format!("log-{n}"),
                format: Some(Format::Hubble),
                health: Box::new(move || health.lock().clone()),
                gap_count: 0,
            }
        };
        let names = ["log-0".to_owned(), "log-1".to_owned()];
        let index = Arc::new(RwLock::new(index));
        let pipeline = Pipeline {
            engine: Engine::new(EngineConfig::default()),
            index: Arc::clone(&index),
            traffic: TrafficMonitor::default(),
            health: SignalHealth::new(names),
            is_namespaced: false,
            scopes: receiver,
            resets: ResetQueue::default(),
            sources: vec![source(0), source(1)],
            reports: ContactReports::new(
                ReportObserver {
                    name: "node-1".into(),
                    is_controller: false,
                },
                StoreWriter::default().as_reader(),
            ),
            findings: sender,
            counters: Arc::default(),
            saver: StateSaver::default(),
            unrecorded: Vec::new(),
        };
        Self {
            pipeline,
            state: PipelineState::default(),
            found,
            controller: controller(&index, scopes),
            health,
            start: Instant::now(),
        }
    }

    /// The controller assigns all pods to one run.
    fn enroll(&mut self, pod_count: usize) {
        self.enroll_as(pod_count, "Standard");
    }

    fn enroll_as(&mut self, pod_count: usize, profile: &str) {
        let uids: Vec<String> = (0..pod_count).map(|n| key(n).as_str().to_owned()).collect();
        let run = run(profile);
        let profile = run.spec.detection.profile;
        self.controller.update_membership(&run, profile, &uids);
    }

    fn read(&mut self, source: usize, lines: &[String]) {
        let mut bytes = lines.join("\n").into_bytes();
        bytes.push(b'\n');
        let batch = Batch {
            source: crate::signals::source::SourceId(source),
            bytes,
            position: Position::for_tests(),
        };
        self.pipeline.process_batch(&batch, &mut self.state);
    }

    /// Ticks as if this many seconds had passed since the last line.
    fn wait(&mut self, seconds: u64, is_idle: bool) {
        let now = Instant::now().max(self.start) + Duration::from_secs(seconds);
        self.pipeline.tick(now, is_idle, &mut self.state);
    }

    /// The most severe finding.
    fn severity(&mut self) -> Option<Severity> {
        let found = std::iter::from_fn(|| self.found.try_recv().ok());
        found.map(|found| found.finding.severity).max()
    }

    /// Names of the pods with a finding that requires a quarantine.
    fn quarantined(&mut self) -> Vec<String> {
        let mut pods: Vec<String> = Vec::new();
        while let Ok(found) = self.found.try_recv() {
            if found.finding.severity == Severity::Quarantine && !pods.contains(&found.pod) {
                pods.push(found.pod);
            }
        }
        pods.sort();
        pods
    }
}

/// A controller that writes to this index and to these scopes. It has no API server.
fn controller(index: &Arc<RwLock<Index>>, scopes: watch::Sender<Scopes>) -> Arc<Controller> {
    // The client needs a runtime to be created, and is never used.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let _entered = runtime.enter();
    let nowhere = http::Uri::from_static("http://127.0.0.1:1/");
    let client = crate::cluster::connect_plain(&nowhere).unwrap();
    Controller::new(Parts {
        role: Role::Operator,
        stores: Stores::new().0,
        writer: Writer::new(client, Duration::from_secs(1), LeaderGate::closed()),
        membership: RunMembership::default(),
        index: Arc::clone(index),
        cluster_deny: ClusterDeny::default(),
        signal_health: SignalHealth::default(),
        signals_stale_after: Duration::from_mins(1),
        configured_facts: ClusterFacts::default(),
        scopes,
        namespace: String::new(),
    })
}

fn run(profile: &str) -> AgentRun {
    serde_json::from_value(serde_json::json!({
        "metadata": { "namespace": "team", "name": "run", "uid": "uid-run" },
        "spec": {
            "target": { "selector": { "matchLabels": { "app": "agent" } } },
            "detection": { "profile": profile },
        },
    }))
    .unwrap()
}

fn key(n: usize) -> PodKey {
    PodKey::from(format!("uid-{n}").as_str())
}

fn address(n: usize) -> String {
    format!("10.244.0.{}", n + 1)
}

fn facts(n: usize, ip: &str) -> PodFacts {
    PodFacts {
        key: key(n),
        namespace: "team".into(),
        name: format!("p{n}"),
        ips: vec![ip.parse().unwrap()],
        host_network: false,
        node: Some(format!("n{}", n % 3)),
        since: EventTime::from_seconds(START - 60, 0),
        ended_at: None,
        terminating_since: None,
        workload: None,
    }
}

/// A record of Hubble about the first packet of a connection.
fn record(from: &str, to: &str, second: i64, verdict: &str) -> String {
    let time = EventTime::from_seconds(START + second, 0);
    format!(
        r#"{{"flow":{{"time":"{time}","verdict":"{verdict}","IP":{{"source":"{from}","destination":"{to}","ipVersion":"IPv4"}},"l4":{{"TCP":{{"source_port":40000,"destination_port":22,"flags":{{"SYN":true}}}}}},"traffic_direction":"EGRESS","is_reply":false,"drop_reason_desc":"POLICY_DENIED","trace_reason":"NEW"}},"node_name":"n0","time":"{time}"}}"#
    )
}

fn denied(pod: usize, to: &str, second: i64) -> String {
    record(&address(pod), to, second, "DROPPED")
}

fn silent(pod: usize, to: &str, second: i64) -> String {
    record(&address(pod), to, second, "FORWARDED")
        .replace(r#""drop_reason_desc":"POLICY_DENIED","#, "")
}

/// A connection of another pod that is allowed and answered, so the log is known to contain both.
fn others(second: i64) -> [String; 2] {
    let (client, server) = ("10.244.9.9", "203.0.113.7");
    let anywhere = |line: String| line.replace(r#""node_name":"n0","#, "");
    let forwarded = |from, to| {
        record(from, to, second, "FORWARDED").replace(r#""drop_reason_desc":"POLICY_DENIED","#, "")
    };
    let reply = forwarded(server, client)
        .replace(r#""is_reply":false"#, r#""is_reply":true"#)
        .replace(r#""SYN":true"#, r#""SYN":true,"ACK":true"#)
        .replace(r#""trace_reason":"NEW""#, r#""trace_reason":"REPLY""#);
    [anywhere(forwarded(client, server)), anywhere(reply)]
}

fn target(n: usize) -> String {
    format!("10.9.{}.{}", n / 200, n % 200 + 1)
}

fn lost(node: Option<&str>, second: i64) -> String {
    let time = EventTime::from_seconds(START + second, 0);
    let node = node.map_or_else(String::new, |node| format!(r#""node_name":"{node}","#));
    format!(r#"{{"lost_events":{{"num_events_lost":"90"}},{node}"time":"{time}"}}"#)
}

#[test]
fn a_scan_that_ten_pods_of_a_run_share_is_found_and_without_the_run_it_is_not() {
    for is_run in [true, false] {
        let mut fixture = Fixture::new(10);
        if is_run {
            fixture.enroll(10);
        }
        fixture.read(0, &others(0));
        let lines: Vec<String> = (0..120)
            .map(|n| denied(n % 10, &target(n), i64::try_from(n).unwrap()))
            .collect();
        fixture.read(0, &lines);
        let expected: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
        let expected = if is_run { expected } else { Vec::new() };
        assert_eq!(fixture.quarantined(), expected);
    }
}

#[test]
fn a_worker_with_siblings_that_refuse_causes_no_finding_and_one_of_another_run_does() {
    for is_run in [true, false] {
        let mut fixture = Fixture::new(60);
        if is_run {
            fixture.enroll(60);
        }
        fixture.read(0, &others(0));
        let lines: Vec<String> = (1..60).map(|n| denied(0, &address(n), 0)).collect();
        fixture.read(0, &lines);
        let expected: &[&str] = if is_run { &[] } else { &["p0"] };
        assert_eq!(fixture.quarantined(), expected);
    }
}

#[test]
fn the_contacts_of_a_run_outlive_a_pod_that_ends_and_its_late_lines_still_count() {
    let mut fixture = Fixture::new(10);
    fixture.enroll(10);
    // Each pod contacts a dozen silent targets, and ends before their answers are overdue.
    for pod in 0..10 {
        let second = i64::try_from(pod).unwrap() * 20;
        let lines: Vec<String> = (0..12)
            .map(|n| silent(pod, &target(pod * 12 + n), second))
            .collect();
        let end = EventTime::from_seconds(START + second + 1, 0);
        if pod < 9 {
            fixture.pipeline.index.write().delete(&key(pod), end);
        }
        fixture.read(0, &others(second));
        fixture.read(0, &lines);
    }
    fixture.wait(11, true);
    let found = fixture.quarantined();
    assert!(found.contains(&"p9".to_owned()), "{found:?}");
}

#[test]
fn the_losses_of_another_node_do_not_hide_a_scan_and_those_of_its_own_do() {
    for (source, node, expected) in [
        (0, Some("n0"), false),
        (0, Some("prod/n1"), true),
        (0, None, false),
        // A node name that matches no pod's node may refer to any of them.
        (0, Some("n0.example.net"), false),
        (1, Some("n1"), true),
        (1, None, true),
    ] {
        let mut fixture = Fixture::new(3);
        fixture.read(0, &others(0));
        let mut lines: Vec<String> = (0..60).map(|n| silent(0, &target(n), 0)).collect();
        lines.push(silent(0, &target(0), 1));
        fixture.read(source, &[lost(node, 1)]);
        fixture.read(0, &lines);
        fixture.wait(11, true);
        let found = fixture.quarantined();
        assert_eq!(found == ["p0"], expected, "{source} {node:?}: {found:?}");
    }
}

#[test]
fn a_scan_at_the_end_of_a_log_is_evaluated_by_the_clock_unless_lines_are_unread() {
    let mut scan = others(0).to_vec();
    scan.extend((0..60).map(|n| silent(0, &target(n), 0)));
    let mut fixture = Fixture::new(1);
    fixture.read(0, &scan);
    fixture.wait(9, true);
    assert_eq!(fixture.quarantined(), [""; 0], "an answer may still come");
    fixture.wait(11, true);
    assert_eq!(fixture.quarantined(), ["p0"]);

    // Queued batches, or bytes that the reader has not read.
    for (is_idle, lag_bytes) in [(false, 0), (true, 1)] {
        let mut fixture = Fixture::new(1);
        *fixture.health.lock() = reading(lag_bytes);
        fixture.read(0, &scan);
        (1..60).for_each(|seconds| fixture.wait(seconds, is_idle));
        assert_eq!(fixture.quarantined(), [""; 0]);
        *fixture.health.lock() = reading(0);
        fixture.wait(80, true);
        assert_eq!(fixture.quarantined(), ["p0"]);
    }
    // The reader lost lines, which may have contained the answers.
    let mut fixture = Fixture::new(1);
    fixture.read(0, &scan);
    fixture.health.lock().gaps = 1;
    fixture.wait(20, true);
    assert_eq!(fixture.quarantined(), [""; 0]);
}

#[test]
fn the_ranges_of_the_cluster_reach_detection_when_they_are_known() {
    for is_known in [true, false] {
        let mut fixture = Fixture::new(1);
        if is_known {
            fixture.controller.set_facts(ClusterFacts {
                pod_cidrs: vec!["198.51.0.0/16".parse().unwrap()],
                ..ClusterFacts::default()
            });
        }
        fixture.read(0, &others(0));
        let lines: Vec<String> = (0..60)
            .map(|n| denied(0, &format!("198.51.100.{}", n + 1), n))
            .collect();
        fixture.read(0, &lines);
        let expected = if is_known {
            Severity::Quarantine
        } else {
            Severity::Alert
        };
        assert_eq!(
            fixture.severity(),
            Some(expected),
            "denied inside is a scan"
        );
    }
}

#[test]
fn dead_links_of_a_run_that_is_declared_a_crawler_are_no_scan_and_those_of_another_run_are() {
    for (profile, expected) in [("Crawler", false), ("Standard", true)] {
        let mut fixture = Fixture::new(1);
        fixture.enroll_as(1, profile);
        fixture.read(0, &others(0));
        let lines: Vec<String> = (0..45)
            .map(|n| silent(0, &format!("203.0.113.{}", n + 100), 0))
            .collect();
        fixture.read(0, &lines);
        fixture.wait(11, true);
        assert_eq!(fixture.quarantined() == ["p0"], expected, "{profile}");
    }
}

#[test]
fn without_records_of_other_pods_silence_and_denials_lead_to_no_quarantine() {
    for of_pod in [silent, denied] {
        let mut fixture = Fixture::new(1);
        let scan: Vec<String> = (0..60).map(|n| of_pod(0, &target(n), 0)).collect();
        fixture.read(0, &scan);
        fixture.wait(11, true);
        assert_eq!(fixture.quarantined(), [""; 0]);
    }
}

#[test]
fn the_state_of_a_pod_is_removed_with_its_index_entry_and_not_before() {
    let mut fixture = Fixture::new(1);
    fixture.read(0, &[denied(0, &target(1), 0)]);
    assert_eq!(fixture.pipeline.engine.pod_count(), 1);
    fixture.wait(0, true);
    fixture.wait(60, true);
    assert_eq!(fixture.pipeline.engine.pod_count(), 1);
    let end = EventTime::from_seconds(START + 10, 0);
    fixture.pipeline.index.write().delete(&key(0), end);
    fixture.wait(120, true);
    assert_eq!(fixture.pipeline.engine.pod_count(), 0, "it ended long ago");
}
