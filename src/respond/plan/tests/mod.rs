//! The plan as sentences: a simulated cluster that changes with each step, and what the plan decides.

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde_json::{Value, json};

use super::suspension::Suspension;
use super::*;
use crate::api::{
    ActionKind, ActionRecord, ActionResult, Incident, IncidentCondition, IncidentStatus,
    ObjectTarget, Reason, ResponseAction, ResponseScope, RestoreEntry, Verdict, set_condition,
};
use crate::model::EventTime;
use crate::respond::verify::proof::TrafficObservation;

const NOW_S: i64 = 10_000;

/// A simulation, with the Job's controller and a record of the steps. Fields of the snapshot are used
/// directly.
struct World {
    simulation: Simulation,
    /// The grace period of the pods that a suspended Job deletes.
    grace_s: Option<i64>,
    /// The Job's controller deletes its pods before the operator does.
    is_outrun: bool,
    steps: Vec<String>,
}

impl Deref for World {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.simulation.snapshot
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Snapshot {
        &mut self.simulation.snapshot
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(name: &str) -> PodView {
    PodView {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        ..PodView::default()
    }
}

fn job() -> ObjectTarget {
    ObjectTarget {
        api_version: "batch/v1".to_owned(),
        kind: "Job".to_owned(),
        name: "train".to_owned(),
        uid: "uid-train".to_owned(),
    }
}

fn pod_target(name: &str) -> ObjectTarget {
    ObjectTarget::pod(name, &format!("uid-{name}"))
}

fn incident(severity: &str, observe_only: bool) -> Incident {
    let spec = json!({
        "run": { "name": "run", "uid": "uid-run" },
        "subject": { "name": "p1", "uid": "uid-p1" },
        "evidence": [{
            "observer": "n", "signature": "HorizontalScan", "severity": severity,
            "observeOnly": observe_only, "score": 21.0, "threshold": 20.0,
            "firstSeen": at(NOW_S - 60), "lastSeen": at(NOW_S - 1), "contacts": 36,
            "summary": "36 hosts on tcp/22 did not answer.",
        }],
    });
    let mut incident = Incident::new("i1", serde_json::from_value(spec).unwrap());
    incident.metadata.namespace = Some("ns".to_owned());
    incident.status = Some(IncidentStatus::default());
    incident
}

impl World {
    fn new() -> Self {
        let snapshot = Snapshot {
            incident: incident("Quarantine", false),
            now: at(NOW_S),
            bounds: Bounds {
                max_action: ResponseAction::Suspend,
                scope: ResponseScope::Pod,
            },
            protected: None,
            pods: vec![pod("p1")],
            labelled: Vec::new(),
            owner: OwnerControl::Unread,
            cpu: None,
            deny: Deny {
                is_stored: true,
                widened_by: Vec::new(),
                overridden: Vec::new(),
            },
            identities: Identities::NotUsed,
            interim_deny_failed: false,
            breaker: Breaker {
                crossings: 1,
                crossings_elsewhere: 0,
                crossings_max: 5,
            },
            quarantines: Quarantines {
                elsewhere: 0,
                max: 10,
                elsewhere_in_namespace: 0,
                namespace_max: 8,
            },
            traffic: None,
            others: Vec::new(),
            ttl: Duration::from_secs(100),
            alert_ttl: Duration::from_secs(1_000),
            replacement: None,
        };
        Self {
            simulation: Simulation {
                snapshot,
                owner: OwnerControl::Suspendable(vec![suspension(job(), Some(false))]),
                cpu: CpuReduction::Refused("not part of this test".to_owned()),
            },
            grace_s: None,
            is_outrun: false,
            steps: Vec::new(),
        }
    }

    fn owners(&mut self) -> &mut Vec<Suspension> {
        match &mut self.simulation.owner {
            OwnerControl::Suspendable(owners) => owners,
            other => panic!("{other:?}"),
        }
    }

    /// The Job's `suspend` field.
    fn suspended(&mut self) -> Option<bool> {
        let job = self.owners().last().unwrap();
        job.current.as_ref().and_then(Value::as_bool)
    }

    fn set_suspended(&mut self, value: Option<bool>) {
        self.owners().last_mut().unwrap().current = value.map(Value::Bool);
    }

    /// A CronJob owns the Job.
    fn add_cron_job(&mut self) {
        let cron_job = ObjectTarget {
            kind: "CronJob".to_owned(),
            uid: "uid-nightly".to_owned(),
            ..job()
        };
        self.owners().insert(0, suspension(cron_job, None));
    }

    fn pass_time(&mut self, seconds: i64) {
        let now_s = self.now.as_second() + seconds;
        self.now = at(now_s);
    }

    /// The plan from a new snapshot, with the reads that it requests.
    fn plan(&mut self) -> Plan {
        self.owner = OwnerControl::Unread;
        self.cpu = None;
        let plan = self.simulation.plan();
        match &plan.step {
            Some(read @ (Step::ReadOwner | Step::ReadCpu(_))) => {
                self.simulation.apply(read);
                self.simulation.plan()
            }
            _ => plan,
        }
    }

    fn status(&mut self) -> &mut IncidentStatus {
        self.incident.status.as_mut().unwrap()
    }

    /// Plans and executes until no step is left; returns the last plan.
    fn settle(&mut self) -> Plan {
        for _ in 0..20 {
            let plan = self.plan();
            let Some(step) = plan.step.clone() else {
                let now = self.now;
                for update in &plan.conditions {
                    set_condition(
                        &mut self.status().conditions,
                        update.condition.name(),
                        update.status,
                        update.reason,
                        &update.message,
                        None,
                        now,
                    );
                }
                return plan;
            };
            self.execute(&step);
        }
        panic!("the plan never settles: {:?}", self.steps);
    }

    /// Executes a step, with what the Job's controller does at the same time.
    fn execute(&mut self, step: &Step) {
        let grace_s = self.grace_s;
        if matches!(step, Step::Suspend(..)) {
            self.pods.iter_mut().for_each(|pod| pod.grace_s = grace_s);
        }
        self.simulation.apply(step);
        if matches!(step, Step::Suspend(..)) && self.is_outrun {
            self.pods.iter_mut().for_each(|pod| pod.grace_s = grace_s);
        }
        self.steps.push(text_of(step));
    }

    fn human_decides(&mut self, verdict: Verdict) {
        let (decided_by, justification) = ("ana".to_owned(), "false alarm".to_owned());
        self.incident.spec.disposition = Some(crate::api::Disposition {
            verdict,
            decided_by,
            justification,
        });
    }

    fn survives(&mut self) {
        self.traffic = Some(TrafficObservation {
            since: EventTime::from_seconds(100, 0),
            log_time: EventTime::from_seconds(106, 0),
            last_passed: Some(EventTime::from_seconds(105, 0)),
            source_is_fresh: true,
            shows_survivors: true,
        });
    }

    fn other_suspended_it(&mut self, name: &str, before: Option<Value>) {
        let restore = vec![entry(before)];
        let other = other(name, "uid-p2");
        self.others.push(OtherIncident { restore, ..other });
    }
}

/// Another open Incident of the same run that has saved nothing.
fn other(name: &str, pod_uid: &str) -> OtherIncident {
    OtherIncident {
        name: name.to_owned(),
        pod_uids: vec![pod_uid.to_owned()],
        run_uid: Some("uid-run".to_owned()),
        pod_is_gone: false,
        owners: None,
        restore: Vec::new(),
    }
}

fn suspension(target: ObjectTarget, suspended: Option<bool>) -> Suspension {
    Suspension {
        target,
        field: "/spec/suspend".to_owned(),
        suspended_value: json!(true),
        current: suspended.map(Value::Bool),
        default_value: json!(false),
    }
}

/// A step in a few words.
fn text_of(step: &Step) -> String {
    match step {
        Step::Isolate(_) => "isolate".to_owned(),
        Step::Capture(_) => "capture".to_owned(),
        Step::RecordRestore(entry) => format!("record {:?}", entry.original_value),
        Step::ReadOwner => "read owner".to_owned(),
        Step::ReadCpu(_) => "read CPU".to_owned(),
        Step::Throttle(_, entries) => format!("throttle {}", entries.len()),
        Step::Suspend(_, pods) => {
            let names: Vec<_> = pods.iter().map(|pod| pod.name.as_str()).collect();
            let text = format!("suspend {}", names.join(" "));
            text.trim_end().to_owned()
        }
        Step::Skip(kind, ..) => format!("skip {kind:?}"),
        Step::ShortenGracePeriod(_) => "shorten".to_owned(),
        Step::Terminate(_, None) => "terminate".to_owned(),
        Step::Terminate(_, Some(grace_s)) => format!("terminate in {grace_s} s"),
        Step::RemoveQuarantineLabel { pod, pass_to } => {
            format!("unlabel {} for {pass_to:?}", pod.name)
        }
        Step::Restore { entry, needed_by } => {
            format!("restore {:?} needed by {needed_by:?}", entry.original_value)
        }
        Step::ReadIdentities(_) => "read identities".to_owned(),
        Step::DenyIdentities(_) => "deny identities".to_owned(),
        Step::RecordLabelInForce => "record that the label is in force".to_owned(),
        Step::LiftInterimDeny => "lift the interim deny".to_owned(),
        Step::Expire => "expire".to_owned(),
    }
}

fn entry(before: Option<Value>) -> RestoreEntry {
    RestoreEntry {
        target: job(),
        field: "/spec/suspend".to_owned(),
        original_value: before,
        applied_value: json!(true),
    }
}

/// Checks one condition of a plan by status and reason.
#[track_caller]
fn check(plan: &Plan, condition: IncidentCondition, status: Option<bool>, reason: Reason) {
    let update = plan
        .conditions
        .iter()
        .find(|update| update.condition == condition);
    let got = update.map(|update| (update.status, update.reason));
    assert_eq!(
        got,
        Some((status, reason)),
        "{:?} in {plan:?}",
        condition.name()
    );
}

use IncidentCondition::{Closed, Contained, Verified};

#[test]
fn an_actionable_finding_isolates_the_pod_and_nothing_more() {
    let mut world = World::new();
    let plan = world.settle();
    assert_eq!(world.steps, ["isolate"]);
    check(&plan, Contained, Some(true), Reason::Isolated);
    check(&plan, Verified, None, Reason::AwaitingProof);
    check(&plan, Closed, Some(false), Reason::AwaitingHuman);
}

#[test]
fn contained_is_false_before_the_deny_is_stored() {
    let mut world = World::new();
    world.deny.is_stored = false;
    let plan = world.settle();
    check(&plan, Contained, Some(false), Reason::ActionFailed);
}

#[test]
fn an_alert_or_a_run_in_observe_mode_leads_to_no_action() {
    let mut world = World::new();
    world.incident = incident("Alert", false);
    check(&world.settle(), Contained, Some(false), Reason::AlertOnly);
    world.incident = incident("Quarantine", true);
    check(&world.settle(), Contained, Some(false), Reason::ObserveOnly);
    assert!(world.steps.is_empty());
}

#[test]
fn evidence_about_a_pod_of_another_node_leads_to_no_action() {
    for (named, expected) in [("node-b", None), ("node-a", Some(Reason::NodeMismatch))] {
        let mut world = World::new();
        world.pods[0].node = Some("node-b".to_owned());
        world.incident.spec.subject.node = Some(named.to_owned());
        let plan = world.settle();
        if let Some(reason) = expected {
            check(&plan, Contained, Some(false), reason);
        }
        assert_eq!(world.steps.is_empty(), expected.is_some(), "{named}");
    }
}

#[test]
fn a_limit_below_throttle_or_a_protected_pod_leads_to_no_action() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Alert;
    check(
        &world.settle(),
        Contained,
        Some(false),
        Reason::ActionLimited,
    );
    world.bounds.max_action = ResponseAction::Terminate;
    world.protected = Some("namespace kube-system is protected".to_owned());
    check(&world.settle(), Contained, Some(false), Reason::Protected);
    assert!(world.steps.is_empty());
}

#[test]
fn an_alert_about_a_pod_that_is_gone_is_closed_after_its_time_and_no_other_incident_is() {
    let alert = || {
        let mut world = World::new();
        world.incident = incident("Alert", false);
        world.incident.metadata.creation_timestamp = Some(Time(at(NOW_S - 60)));
        world
    };
    let mut gone = alert();
    gone.pods.clear();
    let settled = gone.settle();
    check(&settled, Contained, Some(false), Reason::AlertOnly);
    check(&settled, Closed, Some(false), Reason::AwaitingHuman);
    gone.pass_time(1_000);
    check(&gone.settle(), Closed, Some(true), Reason::PodGone);
    assert!(gone.steps.is_empty());

    let mut running = alert();
    running.pass_time(10_000);
    check(
        &running.settle(),
        Closed,
        Some(false),
        Reason::AwaitingHuman,
    );
    let mut isolated = World::new();
    isolated.incident.metadata.creation_timestamp = Some(Time(at(NOW_S - 60)));
    isolated.settle();
    isolated.pods.clear();
    isolated.labelled.clear();
    isolated.pass_time(10_000);
    check(
        &isolated.settle(),
        Closed,
        Some(false),
        Reason::AwaitingHuman,
    );
}

#[test]
fn the_cap_on_quarantines_prevents_the_next_isolation() {
    let mut world = World::new();
    world.quarantines.elsewhere = 10;
    check(&world.settle(), Contained, Some(false), Reason::CapReached);
    world.quarantines.elsewhere = 9;
    world.quarantines.elsewhere_in_namespace = 8;
    check(&world.settle(), Contained, Some(false), Reason::CapReached);
    world.quarantines.elsewhere_in_namespace = 7;
    check(&world.settle(), Contained, Some(true), Reason::Isolated);
}

#[test]
fn an_open_breaker_prevents_isolation_and_drops_stale_findings_when_it_resets() {
    let mut world = World::new();
    world.breaker.crossings = 6;
    check(&world.settle(), Contained, Some(false), Reason::BreakerOpen);
    world.breaker.crossings = 5;
    world.pass_time(301);
    check(&world.settle(), Contained, Some(false), Reason::BreakerOpen);
    assert!(world.steps.is_empty());
    world.incident.spec.evidence[0].last_seen = Time(at(world.now.as_second() - 5));
    check(&world.settle(), Contained, Some(true), Reason::Isolated);
}

#[test]
fn an_open_breaker_never_blocks_a_release() {
    let mut world = World::new();
    world.settle();
    world.breaker.crossings = 100;
    world.quarantines.elsewhere = 100;
    world.human_decides(Verdict::Release);
    check(&world.settle(), Closed, Some(true), Reason::Released);
    assert_eq!(world.pods[0].quarantine, None);
}

#[test]
fn an_isolation_is_not_undone_because_a_limit_changed() {
    let mut world = World::new();
    world.settle();
    world.bounds.max_action = ResponseAction::Alert;
    world.protected = Some("now protected".to_owned());
    world.breaker.crossings = 100;
    check(&world.settle(), Contained, Some(true), Reason::Isolated);
    assert_eq!(world.pods[0].quarantine.as_deref(), Some("i1"));
}

#[test]
fn a_removed_label_is_set_again_without_a_release() {
    let mut world = World::new();
    world.settle();
    world.pods[0].quarantine = None;
    world.settle();
    assert_eq!(world.pods[0].quarantine.as_deref(), Some("i1"));
}

#[test]
fn a_wide_union_of_policies_suspends_the_owner_after_a_capture() {
    let mut world = World::new();
    world.deny.widened_by = vec!["allow-all".to_owned()];
    let plan = world.settle();
    assert_eq!(
        world.steps,
        [
            "isolate",
            "capture",
            "record Some(Bool(false))",
            "suspend p1"
        ]
    );
    check(&plan, Contained, Some(false), Reason::UnionWidened);
    world.pods.clear();
    check(&world.settle(), Contained, Some(true), Reason::PodGone);
}

#[test]
fn connections_that_survive_suspend_the_owner() {
    let mut world = World::new();
    world.survives();
    let plan = world.settle();
    assert_eq!(world.steps.last().unwrap(), "suspend p1");
    check(&plan, Contained, Some(true), Reason::OwnerSuspended);
    check(&plan, Verified, Some(false), Reason::ConnectionsSurvive);
}

#[test]
fn the_escalation_ends_at_max_action() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Isolate;
    world.survives();
    check(
        &world.settle(),
        Verified,
        Some(false),
        Reason::ConnectionsSurvive,
    );
    assert_eq!(world.steps, ["isolate"]);
}

#[test]
fn a_pod_without_an_owner_is_deleted_only_where_terminate_is_allowed() {
    let mut world = World::new();
    world.simulation.owner = OwnerControl::NoOwner;
    world.survives();
    world.settle();
    assert_eq!(world.steps, ["isolate", "capture", "skip Suspend"]);
    world.bounds.max_action = ResponseAction::Terminate;
    check(&world.settle(), Contained, Some(true), Reason::PodGone);
    assert_eq!(world.steps.last().unwrap(), "terminate in 1 s");
}

#[test]
fn a_pod_with_a_job_is_never_deleted_before_the_job_is_suspended() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Terminate;
    world.survives();
    world.settle();
    let ends = ["capture", "record Some(Bool(false))", "suspend p1"];
    assert!(
        world.steps.ends_with(&ends.map(ToOwned::to_owned)),
        "{:?}",
        world.steps
    );
}

#[test]
fn a_release_restores_exactly_what_was_before() {
    for before in [None, Some(false)] {
        let mut world = World::new();
        world.set_suspended(before);
        world.survives();
        world.settle();
        world.human_decides(Verdict::Release);
        let plan = world.settle();
        assert!(plan.close);
        assert_eq!(world.suspended(), before);
        check(&plan, Contained, Some(false), Reason::Released);
    }
}

#[test]
fn a_second_incident_takes_over_the_original_value_from_the_first() {
    let mut world = World::new();
    world.other_suspended_it("i0", Some(json!(false)));
    world.set_suspended(Some(true));
    world.survives();
    world.settle();
    assert!(
        world.steps.contains(&"record Some(Bool(false))".to_owned()),
        "{:?}",
        world.steps
    );
    world.human_decides(Verdict::Release);
    world.settle();
    assert_eq!(
        world.steps.last().unwrap(),
        r#"restore Some(Bool(false)) needed by Some("i0")"#
    );
    assert_eq!(
        world.suspended(),
        Some(true),
        "the first Incident still needs it"
    );
}

#[test]
fn an_owner_that_someone_else_suspended_is_not_resumed() {
    let mut world = World::new();
    world.set_suspended(Some(true));
    world.survives();
    world.settle();
    world.human_decides(Verdict::Release);
    world.settle();
    assert_eq!(world.suspended(), Some(true));
    assert!(world.steps.contains(&"skip Suspend".to_owned()));
}

#[test]
fn a_release_passes_the_pod_on_to_another_open_incident() {
    let mut world = World::new();
    world.settle();
    world.others.push(other("i2", "uid-p1"));
    world.human_decides(Verdict::Release);
    world.settle();
    assert_eq!(world.pods[0].quarantine.as_deref(), Some("i2"));
}

#[test]
fn a_pod_in_quarantine_for_another_incident_keeps_that_label() {
    let mut world = World::new();
    world.pods[0].quarantine = Some("i0".to_owned());
    check(&world.settle(), Contained, Some(true), Reason::Isolated);
    assert!(world.steps.is_empty());
}

#[test]
fn scope_run_isolates_every_pod_and_those_that_come_later() {
    let mut world = World::new();
    world.bounds.scope = ResponseScope::Run;
    world.pods.push(pod("p2"));
    world.settle();
    world.pods.push(pod("p3"));
    world.settle();
    assert!(
        world
            .pods
            .iter()
            .all(|pod| pod.quarantine.as_deref() == Some("i1"))
    );
}

#[test]
fn a_human_can_terminate_whatever_the_limits_are() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Alert;
    world.human_decides(Verdict::Terminate);
    let plan = world.settle();
    assert_eq!(
        world.steps,
        [
            "capture",
            "record Some(Bool(false))",
            "suspend",
            "terminate"
        ]
    );
    check(&plan, Closed, Some(true), Reason::Terminated);
}

#[test]
fn a_closed_incident_expires_after_its_time() {
    let mut world = World::new();
    world.human_decides(Verdict::Release);
    world.settle();
    world.status().closed_at = Some(MicroTime(at(NOW_S)));
    assert_eq!(world.plan().step, None);
    world.pass_time(100);
    assert_eq!(world.plan().step, Some(Step::Expire));
}

#[test]
fn after_a_crash_between_any_two_steps_one_step_is_repeated() {
    let mut straight = World::new();
    straight.survives();
    straight.grace_s = Some(30);
    straight.is_outrun = true;
    straight.settle();
    assert_eq!(straight.steps.last().unwrap(), "shorten");
    for lost in 0..straight.steps.len() {
        let mut world = World::new();
        world.survives();
        world.grace_s = Some(30);
        world.is_outrun = true;
        for _ in 0..lost {
            let step = world.plan().step.unwrap();
            world.execute(&step);
        }
        // The step happens, and the process dies before anything is written down about it.
        let status = world.incident.status.clone();
        let step = world.plan().step.unwrap();
        let writes_status_only = matches!(step, Step::RecordRestore(_) | Step::Skip(..));
        world.execute(&step);
        if !writes_status_only {
            world.incident.status = status;
        }
        world.settle();
        assert_eq!(
            world.pods[0].quarantine.as_deref(),
            Some("i1"),
            "lost after step {lost}"
        );
        assert_eq!(world.suspended(), Some(true), "lost after step {lost}");
        assert_eq!(
            world.status().restore,
            [entry(Some(json!(false)))],
            "lost after step {lost}"
        );
        assert_eq!(world.pods[0].grace_s, Some(1), "lost after step {lost}");
    }
}

#[test]
fn a_label_that_was_not_recorded_before_a_crash_is_recorded() {
    let mut world = World::new();
    world.pods[0].quarantine = Some("i1".to_owned());
    world.settle();
    assert_eq!(world.steps, ["isolate"]);
}

#[test]
fn a_label_removal_that_was_not_recorded_before_a_crash_is_recorded() {
    let mut world = World::new();
    world.settle();
    world.human_decides(Verdict::Release);
    world.pods[0].quarantine = None;
    world.settle();
    assert_eq!(world.steps, ["isolate", "unlabel p1 for None"]);
}

#[test]
fn a_suspension_with_a_lost_response_is_recorded_as_succeeded() {
    let mut world = World::new();
    world.survives();
    world.settle();
    let mut actions = world.status().actions.iter_mut();
    let is_of_job =
        |action: &&mut ActionRecord| action.kind == ActionKind::Suspend && action.target == job();
    let of_job = actions.find(is_of_job).unwrap();
    of_job.result = ActionResult::Failed;
    world.steps.clear();
    world.settle();
    assert_eq!(world.steps, ["suspend"]);
}

#[test]
fn traffic_in_spite_of_a_cluster_network_policy_names_the_policies_that_it_should_override() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Isolate;
    world.deny.overridden = vec!["wide".to_owned()];
    let plan = world.settle();
    let verified = |plan: &Plan| {
        let mut all = plan.conditions.iter();
        let found = all.find(|update| update.condition == IncidentCondition::Verified);
        found.unwrap().message.clone()
    };
    assert!(!verified(&plan).contains("wide"), "{}", verified(&plan));
    world.survives();
    let plan = world.settle();
    assert!(verified(&plan).contains("wide"), "{}", verified(&plan));
}

mod cilium;
mod grace_period;
mod owners;
