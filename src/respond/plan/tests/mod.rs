//! The plan as sentences: a world that changes with each step, and what the plan makes of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde_json::{Value, json};

use super::*;
use crate::api::{ActionRecord, IncidentStatus, set_condition};

const NOW_S: i64 = 10_000;

/// The cluster as the plan sees it; steps are carried out on it as the executor would.
struct World {
    incident: Incident,
    pods: Vec<PodView>,
    has_job: bool,
    /// The grace period of the pods that a suspended Job deletes.
    grace_s: Option<i64>,
    /// The Job's controller deletes its pods before the operator does.
    is_outrun: bool,
    suspended: Option<bool>,
    above: Vec<Hold>,
    cpu: Option<Cpu>,
    bounds: Bounds,
    protected: Option<String>,
    deny: Deny,
    breaker: Breaker,
    elsewhere: usize,
    witnessed: Option<Witnessed>,
    others: Vec<OtherIncident>,
    now_s: i64,
    steps: Vec<String>,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn pod(name: &str) -> PodView {
    PodView {
        name: name.to_owned(),
        uid: format!("uid-{name}"),
        node: None,
        quarantine: None,
        grace_s: None,
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
    ObjectTarget {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: name.to_owned(),
        uid: format!("uid-{name}"),
    }
}

fn incident(severity: &str, observe_only: bool) -> Incident {
    let spec = json!({
        "run": { "name": "run", "uid": "uid-run" },
        "subject": { "name": "p1", "uid": "uid-p1" },
        "evidence": [{
            "node": "n", "signature": "HorizontalScan", "severity": severity,
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
        Self {
            incident: incident("Quarantine", false),
            pods: vec![pod("p1")],
            has_job: true,
            grace_s: None,
            is_outrun: false,
            suspended: Some(false),
            above: Vec::new(),
            cpu: None,
            bounds: Bounds {
                max_action: ResponseAction::Suspend,
                scope: ResponseScope::Pod,
            },
            protected: None,
            deny: Deny {
                stands: true,
                widened_by: Vec::new(),
            },
            breaker: Breaker {
                crossings: 1,
                crossings_max: 5,
            },
            elsewhere: 0,
            witnessed: None,
            others: Vec::new(),
            now_s: NOW_S,
            steps: Vec::new(),
        }
    }

    fn lever(&self) -> Lever {
        if self.has_job {
            let mut holds = self.above.clone();
            holds.push(hold(job(), self.suspended));
            return Lever::Owners(holds);
        }
        Lever::None
    }

    fn labelled(&self) -> Vec<PodView> {
        self.pods
            .iter()
            .filter(|p| p.quarantine.as_deref() == Some("i1"))
            .cloned()
            .collect()
    }

    /// The plan, with the looks that it asks for.
    fn plan(&self) -> Plan {
        let unread = self.plan_with(Lever::Unread, None);
        match unread.step {
            Some(Step::LookAtOwner) => self.plan_with(self.lever(), None),
            Some(Step::LookAtCpu(_)) => self.plan_with(Lever::Unread, self.cpu.clone()),
            _ => unread,
        }
    }

    fn plan_with(&self, lever: Lever, cpu: Option<Cpu>) -> Plan {
        plan(&Situation {
            incident: &self.incident,
            now: at(self.now_s),
            bounds: self.bounds,
            protected: self.protected.clone(),
            pods: self.pods.clone(),
            labelled: self.labelled(),
            lever,
            cpu,
            deny: self.deny.clone(),
            breaker: self.breaker,
            quarantined_elsewhere: self.elsewhere,
            quarantine_max: 10,
            witnessed: self.witnessed,
            others: self.others.clone(),
            ttl: Duration::from_secs(100),
        })
    }

    fn status(&mut self) -> &mut IncidentStatus {
        self.incident.status.as_mut().unwrap()
    }

    fn record(&mut self, kind: ActionKind, result: ActionResult) {
        let target = match kind {
            ActionKind::Isolate => pod_target("p1"),
            _ => job(),
        };
        self.record_of(target, kind, result);
    }

    fn record_of(&mut self, target: ObjectTarget, kind: ActionKind, result: ActionResult) {
        let time = Time(at(self.now_s));
        let message = String::new();
        self.status().actions.push(ActionRecord {
            kind,
            target,
            time,
            result,
            message,
        });
    }

    /// Plans and carries out until nothing is left to do; returns the last plan.
    fn settle(&mut self) -> Plan {
        for _ in 0..20 {
            let plan = self.plan();
            let Some(step) = plan.step.clone() else {
                for said in &plan.said {
                    let (name, now) = (said.condition.name(), at(self.now_s));
                    let conditions = &mut self.status().conditions;
                    set_condition(
                        conditions,
                        name,
                        said.status,
                        said.reason,
                        &said.message,
                        None,
                        now,
                    );
                }
                return plan;
            };
            self.carry_out(step);
        }
        panic!("the plan never settles: {:?}", self.steps);
    }

    fn carry_out(&mut self, step: Step) {
        let (name, kind) = match step {
            Step::Isolate(pods) => {
                for wanted in pods {
                    let pod = self
                        .pods
                        .iter_mut()
                        .find(|pod| pod.uid == wanted.uid)
                        .unwrap();
                    pod.quarantine = Some("i1".to_owned());
                }
                ("isolate".to_owned(), Some(ActionKind::Isolate))
            }
            Step::Capture(_) => ("capture".to_owned(), Some(ActionKind::Capture)),
            Step::Save(entry) => {
                let before = entry.before.clone();
                let restore = &mut self.status().restore;
                restore.retain(|other| other.target != entry.target || other.field != entry.field);
                restore.push(entry);
                (format!("save {before:?}"), None)
            }
            Step::Suspend(owner, ending) => (self.suspend(owner, &ending), None),
            Step::Throttle(pod, entries) => {
                let text = format!("throttle {}", entries.len());
                self.record_of(
                    pod_target(&pod.name),
                    ActionKind::Throttle,
                    ActionResult::Succeeded,
                );
                (text, None)
            }
            Step::LookAtOwner | Step::LookAtCpu(_) => unreachable!("the world has looked"),
            Step::Skip(kind, target, _) => {
                self.record_of(target, kind, ActionResult::Skipped);
                (format!("skip {kind:?}"), None)
            }
            Step::Hasten(pod) => {
                let own = self.pods.iter_mut().find(|other| other.uid == pod.uid);
                own.unwrap().grace_s = Some(i64::from(HASTENED_S));
                let target = pod_target(&pod.name);
                self.record_of(target, ActionKind::Suspend, ActionResult::Succeeded);
                ("hasten".to_owned(), None)
            }
            Step::Terminate(pod, grace_s) => {
                self.pods.retain(|other| other.uid != pod.uid);
                let text = grace_s.map_or(String::new(), |seconds| format!(" in {seconds} s"));
                (format!("terminate{text}"), Some(ActionKind::Terminate))
            }
            undo @ (Step::Unlabel { .. } | Step::Restore { .. }) => (self.undo(undo), None),
            Step::Expire => ("expire".to_owned(), None),
        };
        self.steps.push(name);
        if let Some(kind) = kind {
            self.record(kind, ActionResult::Succeeded);
        }
    }

    fn suspend(&mut self, owner: Hold, ending: &[PodView]) -> String {
        match self
            .above
            .iter_mut()
            .find(|hold| hold.target == owner.target)
        {
            Some(hold) => hold.now = Some(json!(true)),
            None => self.suspended = Some(true),
        }
        for pod in &mut self.pods {
            pod.grace_s = self.grace_s;
        }
        self.record_of(owner.target, ActionKind::Suspend, ActionResult::Succeeded);
        for pod in ending {
            let own = self.pods.iter_mut().find(|other| other.uid == pod.uid);
            // Who asks first decides, unless the test says that the controller does.
            if self.is_outrun {
                continue;
            }
            own.unwrap().grace_s = Some(i64::from(HASTENED_S));
        }
        let names: Vec<_> = ending.iter().map(|pod| pod.name.as_str()).collect();
        let text = format!("suspend {}", names.join(" "));
        text.trim_end().to_owned()
    }

    fn undo(&mut self, step: Step) -> String {
        match step {
            Step::Unlabel { pod, pass_to } => {
                let text = format!("unlabel {} for {pass_to:?}", pod.name);
                self.pods
                    .iter_mut()
                    .find(|p| p.uid == pod.uid)
                    .unwrap()
                    .quarantine = pass_to;
                let target = pod_target(&pod.name);
                self.record_of(target, ActionKind::Restore, ActionResult::Succeeded);
                text
            }
            Step::Restore { entry, held_by } => {
                self.status().restore.retain(|other| *other != entry);
                if held_by.is_none() {
                    self.suspended = entry.before.as_ref().and_then(Value::as_bool);
                }
                format!("restore {:?} held by {held_by:?}", entry.before)
            }
            _ => unreachable!("{step:?} undoes nothing"),
        }
    }

    fn human_says(&mut self, verdict: Verdict) {
        let (by, why) = ("ana".to_owned(), "false alarm".to_owned());
        self.incident.spec.disposition = Some(crate::api::Disposition { verdict, by, why });
    }

    fn survives(&mut self) {
        self.witnessed = Some(Witnessed {
            since: EventTime::from_seconds(100, 0),
            log_time: EventTime::from_seconds(106, 0),
            last_passed: Some(EventTime::from_seconds(105, 0)),
            source_speaks: true,
            shows_survivors: true,
        });
    }

    fn hold_lever(&mut self, name: &str, before: Option<Value>) {
        let restore = vec![entry(before)];
        let other = other(name, "uid-p2");
        self.others.push(OtherIncident { restore, ..other });
    }
}

use crate::model::EventTime;

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

fn hold(target: ObjectTarget, suspended: Option<bool>) -> Hold {
    Hold {
        target,
        field: "/spec/suspend".to_owned(),
        set: json!(true),
        now: suspended.map(Value::Bool),
        resting: json!(false),
    }
}

fn entry(before: Option<Value>) -> RestoreEntry {
    RestoreEntry {
        target: job(),
        field: "/spec/suspend".to_owned(),
        before,
        set: json!(true),
    }
}

/// Checks one condition of a plan by status and reason.
#[track_caller]
fn check(plan: &Plan, condition: IncidentCondition, status: Option<bool>, reason: Reason) {
    let said = plan.said.iter().find(|said| said.condition == condition);
    let got = said.map(|said| (said.status, said.reason));
    assert_eq!(
        got,
        Some((status, reason)),
        "{:?} in {plan:?}",
        condition.name()
    );
}

use IncidentCondition::{Closed, Contained, Verified};

#[test]
fn a_finding_that_crosses_the_line_isolates_the_pod_and_nothing_more() {
    let mut world = World::new();
    let plan = world.settle();
    assert_eq!(world.steps, ["isolate"]);
    check(&plan, Contained, Some(true), Reason::Isolated);
    check(&plan, Verified, None, Reason::AwaitingProof);
    check(&plan, Closed, Some(false), Reason::AwaitingHuman);
}

#[test]
fn contained_is_not_said_before_the_deny_is_stored() {
    let mut world = World::new();
    world.deny.stands = false;
    let plan = world.settle();
    check(&plan, Contained, Some(false), Reason::ActionFailed);
}

#[test]
fn an_alert_or_a_run_in_observe_mode_is_left_alone() {
    let mut world = World::new();
    world.incident = incident("Alert", false);
    check(&world.settle(), Contained, Some(false), Reason::AlertOnly);
    world.incident = incident("Quarantine", true);
    check(&world.settle(), Contained, Some(false), Reason::ObserveOnly);
    assert!(world.steps.is_empty());
}

#[test]
fn a_limit_below_isolation_or_a_protected_pod_is_left_alone() {
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
fn the_cap_of_quarantines_holds_back_the_next_one() {
    let mut world = World::new();
    world.elsewhere = 10;
    check(&world.settle(), Contained, Some(false), Reason::CapReached);
    world.elsewhere = 9;
    check(&world.settle(), Contained, Some(true), Reason::Isolated);
}

#[test]
fn an_open_breaker_holds_back_and_drops_what_is_stale_when_it_resets() {
    let mut world = World::new();
    world.breaker.crossings = 6;
    check(&world.settle(), Contained, Some(false), Reason::BreakerOpen);
    world.breaker.crossings = 5;
    world.now_s += 301;
    check(&world.settle(), Contained, Some(false), Reason::BreakerOpen);
    assert!(world.steps.is_empty());
    world.incident.spec.evidence[0].last_seen = Time(at(world.now_s - 5));
    check(&world.settle(), Contained, Some(true), Reason::Isolated);
}

#[test]
fn an_open_breaker_never_blocks_a_release() {
    let mut world = World::new();
    world.settle();
    world.breaker.crossings = 100;
    world.elsewhere = 100;
    world.human_says(Verdict::Release);
    check(&world.settle(), Closed, Some(true), Reason::Released);
    assert_eq!(world.pods[0].quarantine, None);
}

#[test]
fn what_stands_is_not_undone_because_a_limit_changed() {
    let mut world = World::new();
    world.settle();
    world.bounds.max_action = ResponseAction::Alert;
    world.protected = Some("now protected".to_owned());
    world.breaker.crossings = 100;
    check(&world.settle(), Contained, Some(true), Reason::Isolated);
    assert_eq!(world.pods[0].quarantine.as_deref(), Some("i1"));
}

#[test]
fn a_label_that_somebody_took_off_is_put_back_without_a_release() {
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
        ["isolate", "capture", "save Some(Bool(false))", "suspend p1"]
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
fn the_ladder_ends_where_the_run_says_so() {
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
    world.has_job = false;
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
    let ends = ["capture", "save Some(Bool(false))", "suspend p1"];
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
        world.suspended = before;
        world.survives();
        world.settle();
        world.human_says(Verdict::Release);
        let plan = world.settle();
        assert!(plan.close);
        assert_eq!(world.suspended, before);
        check(&plan, Contained, Some(false), Reason::Released);
    }
}

#[test]
fn a_second_quarantine_inherits_what_the_first_saved() {
    let mut world = World::new();
    world.hold_lever("i0", Some(json!(false)));
    world.suspended = Some(true);
    world.survives();
    world.settle();
    assert!(
        world.steps.contains(&"save Some(Bool(false))".to_owned()),
        "{:?}",
        world.steps
    );
    world.human_says(Verdict::Release);
    world.settle();
    assert_eq!(
        world.steps.last().unwrap(),
        r#"restore Some(Bool(false)) held by Some("i0")"#
    );
    assert_eq!(
        world.suspended,
        Some(true),
        "the first Incident still needs it"
    );
}

#[test]
fn an_owner_that_somebody_else_suspended_stays_theirs() {
    let mut world = World::new();
    world.suspended = Some(true);
    world.survives();
    world.settle();
    world.human_says(Verdict::Release);
    world.settle();
    assert_eq!(world.suspended, Some(true));
    assert!(world.steps.contains(&"skip Suspend".to_owned()));
}

#[test]
fn a_release_passes_the_pod_on_to_another_open_incident() {
    let mut world = World::new();
    world.settle();
    world.others.push(other("i2", "uid-p1"));
    world.human_says(Verdict::Release);
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
fn a_human_can_end_the_run_whatever_the_limits_say() {
    let mut world = World::new();
    world.bounds.max_action = ResponseAction::Alert;
    world.human_says(Verdict::Terminate);
    let plan = world.settle();
    assert_eq!(
        world.steps,
        ["capture", "save Some(Bool(false))", "suspend", "terminate"]
    );
    check(&plan, Closed, Some(true), Reason::Terminated);
}

#[test]
fn a_closed_incident_expires_after_its_time() {
    let mut world = World::new();
    world.human_says(Verdict::Release);
    world.settle();
    world.status().closed_at = Some(MicroTime(at(NOW_S)));
    assert_eq!(world.plan().step, None);
    world.now_s += 100;
    assert_eq!(world.plan().step, Some(Step::Expire));
}

#[test]
fn a_crash_between_any_two_steps_costs_only_a_repeat() {
    let mut straight = World::new();
    straight.survives();
    straight.grace_s = Some(30);
    straight.is_outrun = true;
    straight.settle();
    assert_eq!(straight.steps.last().unwrap(), "hasten");
    for lost in 0..straight.steps.len() {
        let mut world = World::new();
        world.survives();
        world.grace_s = Some(30);
        world.is_outrun = true;
        for _ in 0..lost {
            let step = world.plan().step.unwrap();
            world.carry_out(step);
        }
        // The step happens, and the process dies before anything is written down about it.
        let status = world.incident.status.clone();
        let step = world.plan().step.unwrap();
        let writes_status_only = matches!(step, Step::Save(_) | Step::Skip(..));
        world.carry_out(step);
        if !writes_status_only {
            world.incident.status = status;
        }
        world.settle();
        assert_eq!(
            world.pods[0].quarantine.as_deref(),
            Some("i1"),
            "lost after step {lost}"
        );
        assert_eq!(world.suspended, Some(true), "lost after step {lost}");
        assert_eq!(
            world.status().restore,
            [entry(Some(json!(false)))],
            "lost after step {lost}"
        );
        assert_eq!(world.pods[0].grace_s, Some(1), "lost after step {lost}");
    }
}

#[test]
fn a_label_that_a_crash_kept_out_of_the_record_is_recorded() {
    let mut world = World::new();
    world.pods[0].quarantine = Some("i1".to_owned());
    world.settle();
    assert_eq!(world.steps, ["isolate"]);
}

#[test]
fn a_label_taken_off_that_a_crash_kept_out_of_the_record_is_recorded() {
    let mut world = World::new();
    world.settle();
    world.human_says(Verdict::Release);
    world.pods[0].quarantine = None;
    world.settle();
    assert_eq!(world.steps, ["isolate", "unlabel p1 for None"]);
}

#[test]
fn a_suspension_whose_reply_was_lost_is_recorded_as_done() {
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

mod ending;
mod held;
