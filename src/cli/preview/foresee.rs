//! What Enforce would do about one finding: the responder's own plan, step by step, on a copy of the
//! Incident. Pure; each step is taken for done at once.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::{
    ActionKind, ActionRecord, ActionResult, Incident, IncidentCondition, IncidentStatus,
    ObjectTarget,
};
use crate::limits;
use crate::model::EventTime;
use crate::respond::plan::{
    Bounds, Breaker, BreakerLimits, Cpu, Deny, Lever, PodView, Said, Situation, Step, plan,
};
use crate::respond::verify::proof::{QUIET, Witnessed};

/// What is known of the pod and its surroundings.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// How far a response may go.
    pub bounds: Bounds,
    /// The owner.
    pub lever: Lever,
    /// What CPU can be taken from the pod.
    pub cpu: Cpu,
    /// Policies that let its traffic through all the same.
    pub widened_by: Vec<String>,
    /// Why nothing may be done to it, if so.
    pub protected: Option<String>,
}

/// Whether the pod's traffic ends with the isolation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// It ends.
    Stops,
    /// It goes on, as a connection that stands may.
    GoesOn,
}

/// What would be done, in words, and what would be said in the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Foreseen {
    /// The steps, in order.
    pub steps: Vec<String>,
    /// What Contained would say: its reason and message.
    pub contained: String,
}

/// The world as it would be after the steps so far.
struct Play {
    copy: Incident,
    around: Surroundings,
    pods: Vec<PodView>,
    lever: Lever,
    cpu: Option<Cpu>,
    witnessed: Witnessed,
    now: Timestamp,
}

/// Plays the plan through.
pub fn foresee(
    incident: &Incident,
    around: &Surroundings,
    traffic: Traffic,
    now: Timestamp,
) -> Foreseen {
    let mut play = Play {
        copy: enforced(incident),
        around: around.clone(),
        pods: vec![PodView {
            name: incident.spec.subject.name.clone(),
            uid: incident.spec.subject.uid.clone(),
            node: incident.spec.subject.node.clone(),
            quarantine: None,
            grace_s: None,
        }],
        lever: Lever::Unread,
        cpu: None,
        witnessed: witnessed(traffic, now),
        now,
    };
    let mut steps = Vec::new();
    for _ in 0..limits::STEPS_MAX {
        let planned = plan(&play.situation());
        let Some(step) = planned.step else {
            let is_contained = |said: &&Said| said.condition == IncidentCondition::Contained;
            let contained = planned.said.iter().find(is_contained);
            let contained = contained.map_or_else(String::new, |said| {
                format!("{}: {}", said.reason.name(), said.message)
            });
            return Foreseen { steps, contained };
        };
        play.carry_out(&step);
        note(&mut play.copy, &step, now);
        steps.extend(words(&step));
    }
    Foreseen {
        steps,
        contained: "the plan comes to no end".to_owned(),
    }
}

impl Play {
    fn situation(&self) -> Situation<'_> {
        let labelled = self.pods.iter().filter(|pod| pod.quarantine.is_some());
        Situation {
            incident: &self.copy,
            now: self.now,
            bounds: self.around.bounds,
            protected: self.around.protected.clone(),
            labelled: labelled.cloned().collect(),
            pods: self.pods.clone(),
            lever: self.lever.clone(),
            cpu: self.cpu.clone(),
            deny: Deny {
                stands: true,
                widened_by: self.around.widened_by.clone(),
            },
            breaker: Breaker::at(self.now, std::iter::empty(), 0, BreakerLimits::default()),
            quarantined_elsewhere: 0,
            quarantine_max: usize::MAX,
            witnessed: Some(self.witnessed),
            others: Vec::new(),
            ttl: std::time::Duration::MAX,
        }
    }

    /// What the step changes outside the Incident.
    fn carry_out(&mut self, step: &Step) {
        match step {
            Step::LookAtOwner => self.lever = self.around.lever.clone(),
            Step::LookAtCpu(_) => self.cpu = Some(self.around.cpu.clone()),
            Step::Suspend(hold, ended) => {
                self.pods
                    .retain(|pod| ended.iter().all(|one| one.uid != pod.uid));
                if let Lever::Owners(holds) = &mut self.around.lever {
                    let same = holds.iter_mut().find(|one| one.target == hold.target);
                    if let Some(one) = same {
                        one.now = Some(hold.set.clone());
                    }
                }
                self.lever = self.around.lever.clone();
            }
            Step::Isolate(chosen) => {
                for pod in &mut self.pods {
                    if chosen.iter().any(|one| one.uid == pod.uid) {
                        pod.quarantine = Some("foreseen".to_owned());
                    }
                }
            }
            Step::Terminate(pod, _) | Step::Hasten(pod) => {
                self.pods.retain(|one| one.uid != pod.uid);
            }
            _ => {}
        }
    }
}

/// The Incident as it would be, had the run's modes been Enforce: nothing done yet.
fn enforced(incident: &Incident) -> Incident {
    let mut copy = incident.clone();
    for entry in &mut copy.spec.evidence {
        entry.observe_only = false;
    }
    copy.spec.disposition = None;
    copy.status = Some(IncidentStatus::default());
    copy
}

fn witnessed(traffic: Traffic, now: Timestamp) -> Witnessed {
    let since = EventTime::from(now);
    let quiet = i64::try_from(QUIET.as_micros()).unwrap_or(i64::MAX);
    let later = since.plus_micros(quiet);
    Witnessed {
        since,
        log_time: later,
        last_passed: (traffic == Traffic::GoesOn).then_some(later),
        source_speaks: true,
        shows_survivors: true,
    }
}

/// Writes the step into the copy, as the responder would.
fn note(copy: &mut Incident, step: &Step, now: Timestamp) {
    let status = copy.status.get_or_insert_default();
    let mut record = |kind, target: ObjectTarget, result| {
        status.actions.push(ActionRecord {
            kind,
            target,
            time: Time(now),
            result,
            message: String::new(),
        });
    };
    match step {
        Step::Isolate(pods) => {
            for pod in pods {
                record(ActionKind::Isolate, target_of(pod), ActionResult::Succeeded);
            }
        }
        Step::Capture(pod) => record(ActionKind::Capture, target_of(pod), ActionResult::Succeeded),
        Step::Terminate(pod, _) => record(
            ActionKind::Terminate,
            target_of(pod),
            ActionResult::Succeeded,
        ),
        Step::Throttle(pod, _) => record(
            ActionKind::Throttle,
            target_of(pod),
            ActionResult::Succeeded,
        ),
        Step::Suspend(hold, _) => record(
            ActionKind::Suspend,
            hold.target.clone(),
            ActionResult::Succeeded,
        ),
        Step::Skip(kind, target, _) => record(*kind, target.clone(), ActionResult::Skipped),
        Step::Save(entry) => status.restore.push(entry.clone()),
        Step::LookAtOwner
        | Step::LookAtCpu(_)
        | Step::Hasten(_)
        | Step::Unlabel { .. }
        | Step::Restore { .. }
        | Step::Expire => {}
    }
}

fn target_of(pod: &PodView) -> ObjectTarget {
    ObjectTarget {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.name.clone(),
        uid: pod.uid.clone(),
    }
}

/// What people would see of a step.
fn words(step: &Step) -> Option<String> {
    match step {
        Step::Isolate(pods) => {
            let names: Vec<&str> = pods.iter().map(|pod| pod.name.as_str()).collect();
            Some(format!("isolate pod {}", names.join(", ")))
        }
        Step::Throttle(pod, entries) => Some(format!(
            "take CPU from {} containers of pod {}",
            entries.len(),
            pod.name
        )),
        Step::Suspend(hold, _) => Some(format!(
            "hold {} {}: {} becomes {}, with all its pods",
            hold.target.kind, hold.target.name, hold.field, hold.set
        )),
        Step::Skip(kind, _, why) => Some(format!("no {kind:?}: {why}")),
        Step::Terminate(pod, _) => Some(format!("delete pod {}", pod.name)),
        Step::Capture(_)
        | Step::Save(_)
        | Step::LookAtOwner
        | Step::LookAtCpu(_)
        | Step::Hasten(_)
        | Step::Unlabel { .. }
        | Step::Restore { .. }
        | Step::Expire => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ResponseAction, ResponseScope};
    use crate::respond::plan::Hold;
    use serde_json::json;

    fn incident() -> Incident {
        serde_json::from_value(json!({
            "apiVersion": "yellowjack.dev/v1alpha1", "kind": "Incident",
            "metadata": { "name": "i", "namespace": "ns" },
            "spec": { "subject": { "name": "p", "uid": "u" },
                "evidence": [{ "node": "n", "signature": "HorizontalScan", "severity": "Quarantine",
                    "observeOnly": true, "score": 30.0, "threshold": 20.0, "contacts": 40, "summary": "s",
                    "firstSeen": "2026-01-01T00:00:00Z", "lastSeen": "2026-01-01T00:00:00Z" }] },
        }))
        .unwrap()
    }

    fn around(max_action: ResponseAction) -> Surroundings {
        let hold = Hold {
            target: ObjectTarget {
                api_version: "batch/v1".to_owned(),
                kind: "Job".to_owned(),
                name: "work".to_owned(),
                uid: "j".to_owned(),
            },
            field: "/spec/suspend".to_owned(),
            set: json!(true),
            now: Some(json!(false)),
            resting: json!(false),
        };
        Surroundings {
            bounds: Bounds {
                max_action,
                scope: ResponseScope::Pod,
            },
            lever: Lever::Owners(vec![hold]),
            cpu: Cpu::Refused("no limit".to_owned()),
            widened_by: Vec::new(),
            protected: None,
        }
    }

    fn steps(around: &Surroundings, traffic: Traffic) -> Vec<String> {
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        foresee(&incident(), around, traffic, now).steps
    }

    #[test]
    fn the_ladder_ends_where_the_run_or_the_traffic_ends_it() {
        let isolate = "isolate pod p";
        let hold = "hold Job work: /spec/suspend becomes true, with all its pods";
        let all = around(ResponseAction::Terminate);
        assert_eq!(steps(&all, Traffic::Stops), [isolate]);
        // The suspension ends the pod with it.
        assert_eq!(steps(&all, Traffic::GoesOn), [isolate, hold]);
        let suspend = around(ResponseAction::Suspend);
        assert_eq!(steps(&suspend, Traffic::GoesOn), [isolate, hold]);
        assert_eq!(
            steps(&around(ResponseAction::Alert), Traffic::GoesOn),
            [""; 0]
        );
    }

    #[test]
    fn a_policy_that_widens_leads_to_the_owner_at_once() {
        let wide = Surroundings {
            widened_by: vec!["theirs".to_owned()],
            ..around(ResponseAction::Suspend)
        };
        assert_eq!(steps(&wide, Traffic::Stops).len(), 2);
    }

    #[test]
    fn what_cannot_be_held_is_said() {
        let bare = Surroundings {
            lever: Lever::None,
            ..around(ResponseAction::Suspend)
        };
        let steps = steps(&bare, Traffic::GoesOn);
        assert!(steps[1].contains("nothing owns the pod"), "{steps:?}");
    }
}
