//! Tests of the exchange between nodes without an API server: the others read what one would write.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use parking_lot::RwLock;

use super::outbox::Outbox;
use super::reconciler::ReportAction;
use super::writer::Pause;
use super::*;
use crate::api::{ContactReportSpec, ContactReportStatus, RunReference};
use crate::cluster::{
    LeaderGate, Pod, RunId, RunMembership, StoreWriter, StoreWriters, Stores, Writer,
};
use crate::detect::{Attributed, EngineConfig, HashKey, Origin, Workload};
use crate::limits;
use crate::model::{Flow, Neighbour, Outcome, PodKey, Severity, Signal, Subject, Transport};
use crate::signals::attribute::Membership;

const NAMESPACE: &str = "agents";
const RUN_UID: &str = "uid-of-run";

/// One node's engine and its exchange.
struct Node {
    name: String,
    engine: Engine,
    reports: ContactReports,
    writer: StoreWriter<ContactReport>,
    index: RwLock<Index>,
    findings: Vec<Finding>,
}

fn observer(name: &str) -> ReportObserver {
    ReportObserver {
        name: name.to_owned(),
        is_controller: false,
    }
}

impl Node {
    fn new(name: &str) -> Self {
        let writer = StoreWriter::bounded(limits::CONTACT_REPORTS_MAX);
        let config = EngineConfig {
            hash_key: HashKey::from_seed(name.len() as u64),
            shares_runs: true,
            ..EngineConfig::default()
        };
        Self {
            name: name.to_owned(),
            engine: Engine::new(config),
            reports: ContactReports::new(observer(name), writer.as_reader()),
            writer,
            index: RwLock::default(),
            findings: Vec::new(),
        }
    }

    fn pod_uid(&self, pod: usize) -> String {
        format!("{}-pod-{pod}", self.name)
    }

    fn fail(&mut self, pod: usize, host: usize) {
        let subject = Subject {
            pod: PodKey::from(self.pod_uid(pod).as_str()),
            run: Some(RunKey::from(format!("{NAMESPACE}/{RUN_UID}").as_str())),
        };
        let signal = Signal::Flow(refused(host));
        let found = self.engine.step(&Attributed {
            signal: &signal,
            subject: &subject,
            origin: Origin {
                source: 0,
                node: Some(&self.name),
            },
            neighbour: Neighbour::Stranger,
            workload: Workload::Standard,
        });
        self.findings.extend(found);
    }

    fn exchange(&mut self) {
        let now = EventTime::from(Timestamp::now());
        let index = self.index.read();
        let found = self.reports.exchange(&mut self.engine, &index, now);
        drop(index);
        self.findings.extend(found);
    }

    /// What the writer would write now.
    fn report(&self) -> Option<ContactReport> {
        let outbox: &Outbox = &self.reports.0.outbox;
        let run = outbox.runs().pop()?;
        let outgoing = outbox.take(&run)?;
        Some(report(&self.name, outgoing.pods, outgoing.answered))
    }

    /// Delivers a report, as the watch would.
    fn deliver(&mut self, report: &ContactReport) {
        let (old, new) = self.writer.apply(report.clone());
        self.reports
            .on_report_event(&WatchEvent::Changed { old, new });
    }

    fn quarantined(&self) -> Vec<&str> {
        let findings = self.findings.iter();
        let severe = findings.filter(|finding| finding.severity == Severity::Quarantine);
        let mut pods: Vec<_> = severe.map(|f| f.subject.pod.as_str()).collect();
        pods.sort_unstable();
        pods.dedup();
        pods
    }

    fn count(&self, of: fn(&ContactReportCounters) -> &AtomicU64) -> u64 {
        of(self.reports.counters()).load(Ordering::Relaxed)
    }
}

fn refused(host: usize) -> Flow<'static> {
    Flow {
        time: EventTime::from(Timestamp::now()),
        source: "10.244.0.5".parse().unwrap(),
        source_port: 40_000,
        destination: format!("10.20.{}.{}", host / 250, host % 250 + 1)
            .parse()
            .unwrap(),
        destination_port: 22,
        transport: Transport::Tcp,
        outcome: Outcome::Refused,
        forwarded: true,
        is_inferred: false,
        volume: None,
        destination_name: None,
        pod: None,
        node: None,
    }
}

fn report(
    node: &str,
    pods: Vec<crate::api::ContactingPod>,
    answered: Vec<crate::api::FirstContact>,
) -> ContactReport {
    ContactReport {
        metadata: ObjectMeta {
            name: Some(convert::report_name("run", RUN_UID, node)),
            namespace: Some(NAMESPACE.to_owned()),
            uid: Some(format!("uid-of-report-of-{node}")),
            creation_timestamp: Some(Time(Timestamp::now())),
            ..ObjectMeta::default()
        },
        spec: ContactReportSpec {
            run: RunReference {
                name: "run".to_owned(),
                uid: RUN_UID.to_owned(),
            },
            node: Some(node.to_owned()),
            pods,
            answered,
        },
        status: None,
    }
}

fn verified(mut report: ContactReport) -> ContactReport {
    report.status = Some(ContactReportStatus {
        verified_pods: report.spec.pods.iter().map(|pod| pod.uid.clone()).collect(),
        has_pods: true,
    });
    report
}

/// A node with two pods that failed on ten targets each, and its report.
fn busy(name: &str, block: usize) -> (Node, ContactReport) {
    let mut node = Node::new(name);
    for n in 0..20 {
        node.fail(n % 2, block * 100 + n);
    }
    node.exchange();
    let report = node.report().unwrap();
    (node, report)
}

#[test]
fn what_a_node_reports_adds_up_on_another_once_the_controller_has_found_its_pods() {
    let (mut here, _) = busy("here", 0);
    let (_, report) = busy("elsewhere", 1);
    here.deliver(&report);
    here.exchange();
    assert!(
        here.quarantined().is_empty(),
        "the pods are not verified yet"
    );
    assert_eq!(here.count(|c| &c.refused), 20);
    here.deliver(&verified(report));
    here.exchange();
    assert_eq!(here.quarantined(), ["here-pod-0", "here-pod-1"]);
    assert_eq!(here.count(|c| &c.taken), 20);
}

#[test]
fn pods_that_the_controller_did_not_find_add_nothing() {
    let (mut here, _) = busy("here", 0);
    let (_, report) = busy("liar", 1);
    let mut report = verified(report);
    if let Some(status) = &mut report.status {
        status.verified_pods = vec!["another".to_owned()];
    }
    here.deliver(&report);
    here.exchange();
    assert!(here.quarantined().is_empty());
    assert_eq!(here.count(|c| &c.taken), 0);
}

#[test]
fn contacts_of_a_time_to_come_and_of_impossible_shapes_are_refused() {
    let (mut here, _) = busy("here", 0);
    let (_, report) = busy("liar", 1);
    let mut report = verified(report);
    let far = Timestamp::now() + Duration::from_hours(1);
    for pod in &mut report.spec.pods {
        for (nth, contact) in pod.failed.iter_mut().enumerate() {
            match nth % 4 {
                0 => contact.time.0 = far,
                1 => contact.port = 70_000,
                2 => contact.protocol_number = -1,
                _ => contact.outcome = crate::api::ContactOutcome::Answered,
            }
        }
    }
    here.deliver(&report);
    here.exchange();
    assert_eq!(here.count(|c| &c.refused), 20);
    assert!(here.quarantined().is_empty());
}

#[test]
fn a_report_that_is_delivered_again_contributes_only_its_new_contacts() {
    let (mut here, _) = busy("here", 0);
    let (mut elsewhere, first) = busy("elsewhere", 1);
    here.deliver(&verified(first.clone()));
    here.exchange();
    here.deliver(&verified(first));
    here.exchange();
    assert_eq!(here.count(|c| &c.taken), 20);
    elsewhere.fail(0, 190);
    elsewhere.exchange();
    here.deliver(&verified(elsewhere.report().unwrap()));
    here.exchange();
    assert_eq!(here.count(|c| &c.taken), 21);
}

#[test]
fn a_report_waits_for_the_first_pod_of_its_run() {
    let mut here = Node::new("here");
    let (_, report) = busy("elsewhere", 1);
    here.deliver(&verified(report));
    here.exchange();
    assert_eq!(here.count(|c| &c.taken), 0);
    here.fail(0, 0);
    here.exchange();
    assert_eq!(here.count(|c| &c.taken), 20);
}

#[test]
fn an_observer_that_restarts_continues_from_its_own_report() {
    let (_, own) = busy("here", 0);
    let mut again = Node::new("here");
    let (old, new) = again.writer.apply(own.clone());
    drop((old, new));
    again.reports.on_report_event(&WatchEvent::Listed);
    // Its log continues with one more contact.
    again.fail(0, 50);
    again.exchange();
    let next = again.report().unwrap();
    let count = |report: &ContactReport| -> usize {
        report.spec.pods.iter().map(|pod| pod.failed.len()).sum()
    };
    assert_eq!(count(&own), 20);
    assert_eq!(count(&next), 21);
    assert_eq!(
        again.count(|c| &c.taken),
        0,
        "its own are no others' contacts"
    );
}

#[test]
fn pods_that_are_silent_after_a_restart_are_found_by_the_reports_of_others() {
    let (_, own) = busy("here", 0);
    let (_, report) = busy("elsewhere", 1);
    let mut again = Node::new("here");
    let run = RunKey::from(format!("{NAMESPACE}/{RUN_UID}").as_str());
    for pod in &own.spec.pods {
        let membership = Membership {
            run: Some(run.clone()),
            workload: Workload::Standard,
        };
        let key = PodKey::from(pod.uid.as_str());
        again.index.write().enroll(&key, Some(membership));
    }
    again.deliver(&own);
    again.deliver(&verified(report));
    again.exchange();
    assert_eq!(again.quarantined(), ["here-pod-0", "here-pod-1"]);
}

#[test]
fn an_honest_node_has_nothing_to_write() {
    let mut node = Node::new("here");
    (0..3).for_each(|host| node.fail(0, host));
    node.exchange();
    let outgoing = node.report();
    let is_empty = |report: &ContactReport| report.spec.pods.is_empty();
    assert!(outgoing.is_none_or(|report| is_empty(&report)));
}

#[test]
fn the_pause_between_writes_of_a_report_doubles_until_it_has_been_unchanged_for_a_while() {
    let start = Instant::now();
    let mut pause = Pause::after(None, start);
    let mut waits = Vec::new();
    for _ in 0..5 {
        let end = pause.end();
        pause = Pause::after(Some(pause), end);
        waits.push((pause.end() - end).as_secs());
    }
    assert_eq!(waits, [2, 4, 8, 8, 8]);
    let later = pause.end() + Duration::from_mins(2);
    assert_eq!(
        Pause::after(Some(pause), later).end() - later,
        Duration::from_secs(1)
    );
}

#[test]
fn runs_that_do_not_fit_in_the_outbox_are_counted() {
    let (outbox, counters) = (Outbox::default(), ContactReportCounters::default());
    for n in 0..=limits::CONTACT_REPORTS_MAX {
        let run = RunKey::from(format!("ns/{n}").as_str());
        outbox.put(run.clone(), convert::Outgoing::default(), &counters);
        outbox.put(run, convert::Outgoing::default(), &counters);
    }
    assert_eq!(outbox.runs().len(), limits::CONTACT_REPORTS_MAX);
    assert_eq!(counters.left_out.load(Ordering::Relaxed), 2);
}

/// A reconciler of a cluster with the run and these pods: name, node, and whether it is the run's.
fn reconciler(pods: &[(&str, &str, bool)]) -> ReportReconciler {
    let (stores, writers) = Stores::new();
    let StoreWriters {
        mut runs,
        pods: mut pod_writer,
        ..
    } = writers;
    runs.apply(
        serde_json::from_value(serde_json::json!({
            "metadata": { "namespace": NAMESPACE, "name": "run", "uid": RUN_UID },
            "spec": { "target": { "selector": { "matchLabels": { "app": "a" } } } },
        }))
        .unwrap(),
    );
    for (name, node, _) in pods {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": { "namespace": NAMESPACE, "name": name, "uid": format!("uid-{name}") },
            "spec": { "nodeName": node },
        }))
        .unwrap();
        pod_writer.apply(pod);
    }
    let membership = RunMembership::default();
    let id = RunId {
        namespace: NAMESPACE.to_owned(),
        name: "run".to_owned(),
        uid: RUN_UID.to_owned(),
    };
    let of_run = pods.iter().filter(|(.., is_of_run)| *is_of_run);
    membership.set(&id, of_run.map(|(name, ..)| format!("uid-{name}")));
    let client = crate::cluster::connect_plain(&http::Uri::from_static("http://127.0.0.1:1/"));
    ReportReconciler {
        stores,
        membership,
        writer: Writer::new(
            client.unwrap(),
            Duration::from_secs(1),
            LeaderGate::closed(),
        ),
    }
}

fn reported(names: &[&str]) -> ContactReport {
    let (_, report) = busy("node-1", 0);
    let pod = report.spec.pods[0].clone();
    let contacting = |name: &&str| crate::api::ContactingPod {
        name: (*name).to_owned(),
        uid: format!("uid-{name}"),
        ..pod.clone()
    };
    let pods = names.iter().map(contacting).collect();
    ContactReport {
        spec: ContactReportSpec {
            pods,
            ..report.spec
        },
        ..report
    }
}

#[tokio::test]
async fn a_pod_of_a_report_is_verified_only_if_it_belongs_to_the_run_and_is_on_that_node() {
    let reconciler = reconciler(&[
        ("right", "node-1", true),
        ("elsewhere", "node-2", true),
        ("foreign", "node-1", false),
    ]);
    let mut report = reported(&["right", "elsewhere", "foreign", "invented"]);
    let now = Timestamp::now();
    let expected = ContactReportStatus {
        verified_pods: vec!["uid-right".to_owned()],
        has_pods: true,
    };
    assert_eq!(
        reconciler.action_for(&report, now),
        ReportAction::Verify(expected.clone())
    );
    report.status = Some(expected);
    assert_eq!(reconciler.action_for(&report, now), ReportAction::Keep);
    // A controller's log may show pods of any node; admission lets no agent write such a report.
    report.spec.node = None;
    let both = ContactReportStatus {
        verified_pods: vec!["uid-elsewhere".to_owned(), "uid-right".to_owned()],
        has_pods: true,
    };
    assert_eq!(
        reconciler.action_for(&report, now),
        ReportAction::Verify(both)
    );
}

#[tokio::test]
async fn a_verified_pod_still_counts_after_its_deletion() {
    let reconciler = reconciler(&[]);
    let mut report = reported(&["gone"]);
    let status = ContactReportStatus {
        verified_pods: vec!["uid-gone".to_owned()],
        has_pods: true,
    };
    report.status = Some(status);
    assert_eq!(
        reconciler.action_for(&report, Timestamp::now()),
        ReportAction::Keep
    );
}

#[tokio::test]
async fn reports_that_are_empty_old_or_of_no_run_are_deleted() {
    let reconciler = reconciler(&[("right", "node-1", true)]);
    let now = Timestamp::now();
    assert_eq!(
        reconciler.action_for(&reported(&[]), now),
        ReportAction::Delete
    );
    let report = verified(reported(&["right"]));
    let later = |hours| now + Duration::from_hours(hours);
    assert_eq!(reconciler.action_for(&report, later(6)), ReportAction::Keep);
    assert_eq!(
        reconciler.action_for(&report, later(8)),
        ReportAction::Delete
    );
    let mut foreign = report;
    foreign.spec.run.uid = "another".to_owned();
    assert_eq!(reconciler.action_for(&foreign, now), ReportAction::Keep);
    assert_eq!(
        reconciler.action_for(&foreign, later(1)),
        ReportAction::Delete
    );
}

#[test]
fn a_report_is_named_by_run_and_observer_within_the_bounds_of_a_name() {
    let long = "r".repeat(250);
    let name = convert::report_name(&long, RUN_UID, "node-1");
    assert!(name.len() <= 63, "{name}");
    assert_eq!(name, convert::report_name(&long, RUN_UID, "node-1"));
    assert_ne!(name, convert::report_name(&long, RUN_UID, "node-2"));
    assert_ne!(name, convert::report_name(&long, "other", "node-1"));
}
