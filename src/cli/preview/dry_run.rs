//! A dry run of the response to one finding in Enforce mode: the responder's own plan, simulated on a copy of
//! the Incident. Pure.

use jiff::Timestamp;

use crate::api::{Incident, IncidentCondition, IncidentStatus};
use crate::limits;
use crate::model::EventTime;
use crate::respond::plan::{
    Bounds, Breaker, ConditionUpdate, CpuReduction, Deny, Identities, OwnerControl, PodView,
    Quarantines, Simulation, Snapshot, Step,
};
use crate::respond::verify::proof::{QUIET, TrafficObservation};

/// What a plan needs besides the Incident: the pod, its owners and its policies.
#[derive(Clone, Debug)]
pub(super) struct PodContext {
    /// How far the response may go.
    pub bounds: Bounds,
    /// How the owner can be suspended.
    pub owner: OwnerControl,
    /// How the CPU of the pod can be reduced.
    pub cpu: CpuReduction,
    /// NetworkPolicies that would still allow its traffic.
    pub widened_by: Vec<String>,
    /// Why the pod is protected from automatic action, if it is.
    pub protected: Option<String>,
}

/// Whether the isolation stops the pod's traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Traffic {
    /// It stops.
    Stops,
    /// It continues, as an established connection may.
    Continues,
}

/// The result of a dry run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DryRun {
    /// The steps, in order, as text.
    pub steps: Vec<String>,
    /// Reason and message of the condition Contained at the end.
    pub contained: String,
}

/// Simulates the plan until no step is left.
pub(super) fn dry_run(
    incident: &Incident,
    context: &PodContext,
    traffic: Traffic,
    now: Timestamp,
) -> DryRun {
    let mut simulation = Simulation {
        snapshot: snapshot(incident, context, traffic, now),
        owner: context.owner.clone(),
        cpu: context.cpu.clone(),
    };
    let mut steps = Vec::new();
    for _ in 0..limits::STEPS_MAX {
        let planned = simulation.plan();
        let Some(step) = planned.step else {
            let is_contained =
                |update: &&ConditionUpdate| update.condition == IncidentCondition::Contained;
            let contained = planned.conditions.iter().find(is_contained);
            let contained = contained.map_or_else(String::new, |update| {
                format!("{}: {}", update.reason.name(), update.message)
            });
            return DryRun { steps, contained };
        };
        simulation.apply(&step);
        simulation.end_shortened_pods();
        steps.extend(description(&step));
    }
    DryRun {
        steps,
        contained: "the plan does not end".to_owned(),
    }
}

fn snapshot(
    incident: &Incident,
    context: &PodContext,
    traffic: Traffic,
    now: Timestamp,
) -> Snapshot {
    let subject = &incident.spec.subject;
    Snapshot {
        incident: enforced(incident),
        now,
        bounds: context.bounds,
        protected: context.protected.clone(),
        pods: vec![PodView {
            name: subject.name.clone(),
            uid: subject.uid.clone(),
            node: subject.node.clone(),
            ..PodView::default()
        }],
        labelled: Vec::new(),
        owner: OwnerControl::Unread,
        cpu: None,
        deny: Deny {
            is_stored: true,
            widened_by: context.widened_by.clone(),
            overridden: Vec::new(),
        },
        identities: Identities::NotUsed,
        interim_deny_failed: false,
        breaker: Breaker::default(),
        quarantines: Quarantines {
            elsewhere: 0,
            max: usize::MAX,
            elsewhere_in_namespace: 0,
            namespace_max: usize::MAX,
        },
        traffic: Some(observation(traffic, now)),
        others: Vec::new(),
        ttl: std::time::Duration::MAX,
        alert_ttl: std::time::Duration::MAX,
        replacement: None,
    }
}

/// The Incident as it would have been in Enforce mode, before any action.
fn enforced(incident: &Incident) -> Incident {
    let mut copy = incident.clone();
    for entry in &mut copy.spec.evidence {
        entry.observe_only = false;
    }
    copy.spec.disposition = None;
    copy.status = Some(IncidentStatus::default());
    copy
}

fn observation(traffic: Traffic, now: Timestamp) -> TrafficObservation {
    let since = EventTime::from(now);
    let quiet = i64::try_from(QUIET.as_micros()).unwrap_or(i64::MAX);
    let later = since.plus_micros(quiet);
    TrafficObservation {
        since,
        log_time: later,
        last_passed: (traffic == Traffic::Continues).then_some(later),
        source_is_fresh: true,
        shows_survivors: true,
    }
}

/// The step as text. `None` for steps that are not visible to a user.
fn description(step: &Step) -> Option<String> {
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
        Step::Suspend(owner, _) => Some(format!(
            "hold {} {}: {} becomes {}, with all its pods",
            owner.target.kind, owner.target.name, owner.field, owner.suspended_value
        )),
        Step::Skip(kind, _, why) => Some(format!("no {kind:?}: {why}")),
        Step::Terminate(pod, _) => Some(format!("delete pod {}", pod.name)),
        Step::Capture(_)
        | Step::RecordRestore(_)
        | Step::ReadOwner
        | Step::ReadCpu(_)
        | Step::ReadIdentities(_)
        | Step::DenyIdentities(_)
        | Step::RecordLabelInForce
        | Step::LiftInterimDeny
        | Step::ShortenGracePeriod(_)
        | Step::RemoveQuarantineLabel { .. }
        | Step::Restore { .. }
        | Step::Expire => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{ObjectTarget, ResponseAction, ResponseScope};
    use crate::respond::plan::suspension::Suspension;
    use serde_json::json;

    fn incident() -> Incident {
        serde_json::from_value(json!({
            "apiVersion": "yellowjack.dev/v1alpha1", "kind": "Incident",
            "metadata": { "name": "i", "namespace": "ns" },
            "spec": { "subject": { "name": "p", "uid": "u" },
                "evidence": [{ "observer": "n", "signature": "HorizontalScan", "severity": "Quarantine",
                    "observeOnly": true, "score": 30.0, "threshold": 20.0, "contacts": 40, "summary": "s",
                    "firstSeen": "2026-01-01T00:00:00Z", "lastSeen": "2026-01-01T00:00:00Z" }] },
        }))
        .unwrap()
    }

    fn context(max_action: ResponseAction) -> PodContext {
        let owner = Suspension {
            target: ObjectTarget {
                api_version: "batch/v1".to_owned(),
                kind: "Job".to_owned(),
                name: "work".to_owned(),
                uid: "j".to_owned(),
            },
            field: "/spec/suspend".to_owned(),
            suspended_value: json!(true),
            current: Some(json!(false)),
            default_value: json!(false),
        };
        PodContext {
            bounds: Bounds {
                max_action,
                scope: ResponseScope::Pod,
            },
            owner: OwnerControl::Suspendable(vec![owner]),
            cpu: CpuReduction::Refused("no limit".to_owned()),
            widened_by: Vec::new(),
            protected: None,
        }
    }

    fn steps(context: &PodContext, traffic: Traffic) -> Vec<String> {
        let now = Timestamp::from_second(1_767_225_600).unwrap();
        dry_run(&incident(), context, traffic, now).steps
    }

    #[test]
    fn escalation_ends_with_the_traffic_or_at_max_action() {
        let isolate = "isolate pod p";
        let hold = "hold Job work: /spec/suspend becomes true, with all its pods";
        let all = context(ResponseAction::Terminate);
        assert_eq!(steps(&all, Traffic::Stops), [isolate]);
        // The suspension ends the pod with it.
        assert_eq!(steps(&all, Traffic::Continues), [isolate, hold]);
        let suspend = context(ResponseAction::Suspend);
        assert_eq!(steps(&suspend, Traffic::Continues), [isolate, hold]);
        assert_eq!(
            steps(&context(ResponseAction::Alert), Traffic::Continues),
            [""; 0]
        );
    }

    #[test]
    fn a_policy_that_allows_traffic_leads_to_the_owner_at_once() {
        let wide = PodContext {
            widened_by: vec!["theirs".to_owned()],
            ..context(ResponseAction::Suspend)
        };
        assert_eq!(steps(&wide, Traffic::Stops).len(), 2);
    }

    #[test]
    fn an_owner_that_cannot_be_suspended_is_named() {
        let bare = PodContext {
            owner: OwnerControl::NoOwner,
            ..context(ResponseAction::Suspend)
        };
        let steps = steps(&bare, Traffic::Continues);
        assert!(steps[1].contains("the pod has no owner"), "{steps:?}");
    }
}
