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

mod cilium;
mod grace_period;
mod ladder;
mod owners;
