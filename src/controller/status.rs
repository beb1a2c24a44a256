//! Fourth step: what the run's status says, from everything that was observed and done. Pure; the
//! controller stores it only where it differs from what is stored.
//!
//! A condition is True only for what was seen, never for what was ordered.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use super::apply::{Applied, State};
use super::condition::{Said, say};
use super::containment::{quarantined, survives, suspicious};
use super::dereference::Observed;
use super::start::{Ended, ended, has_completed};
use super::validate::{Stamp, Validated, is_quarantined, is_selected};
use crate::api::{
    AgentRunCondition, AgentRunStatus, Incident, PodsSummary, Reason, condition_of, set_condition,
};
use crate::cluster::Pod;
use crate::guardrails::quota::{self, QuotaPod};
use crate::limits;
use crate::signals::health::{Certainty, SignalsVerdict, WhyUnusable};

/// The status of the run. Conditions that say the same as before keep their time.
#[must_use]
pub fn status(
    observed: &Observed,
    validated: &Validated,
    applied: &Applied,
    now: Timestamp,
) -> AgentRunStatus {
    let mut next = observed.run.status.clone().unwrap_or_default();
    let open: Vec<&Arc<Incident>> = observed.incidents.iter().filter(|i| i.is_open()).collect();
    let said = all_conditions(observed, validated, applied, &open, now);
    let generation = observed.run.metadata.generation;
    for (condition, said) in said {
        set_condition(
            &mut next.conditions,
            condition.name(),
            said.status,
            said.reason,
            &said.message,
            generation,
            now,
        );
    }
    next.observed_generation = generation;
    next.pods = Some(pods_summary(validated));
    next.open_incidents = open
        .iter()
        .take(limits::OPEN_INCIDENTS_MAX)
        .map(|incident| incident.name_any())
        .collect();
    next
}

fn all_conditions(
    observed: &Observed,
    validated: &Validated,
    applied: &Applied,
    open: &[&Arc<Incident>],
    now: Timestamp,
) -> Vec<(AgentRunCondition, Said)> {
    let accepted = accepted(observed, validated);
    let resolved = target_resolved(observed, validated, applied);
    let network = network_guarded(validated, applied, open);
    let quota = quota_bound(observed, validated, applied);
    let quarantined = quarantined(validated, applied, open);
    let rests_on = [
        (AgentRunCondition::Accepted, &accepted),
        (AgentRunCondition::TargetResolved, &resolved),
        (AgentRunCondition::NetworkGuarded, &network),
        (AgentRunCondition::QuotaBound, &quota),
    ];
    let ready = ready(observed, applied, &rests_on, &quarantined);
    let stalled = stalled(applied);
    let reconciling = reconciling(applied, &rests_on, &stalled);
    vec![
        (
            AgentRunCondition::SignalsFresh,
            signals_fresh(observed, validated, now),
        ),
        (AgentRunCondition::Suspicious, suspicious(open)),
        (AgentRunCondition::Quarantined, quarantined),
        (AgentRunCondition::Ready, ready),
        (AgentRunCondition::Reconciling, reconciling),
        (AgentRunCondition::Stalled, stalled),
        (AgentRunCondition::Accepted, accepted),
        (AgentRunCondition::TargetResolved, resolved),
        (AgentRunCondition::NetworkGuarded, network),
        (AgentRunCondition::QuotaBound, quota),
    ]
}

fn accepted(observed: &Observed, validated: &Validated) -> Said {
    let problems = validated.problems();
    let Some(first) = problems.first() else {
        let policy = &observed.run.spec.policy;
        let message = if observed.policy.is_some() {
            format!("the run is inside GuardrailPolicy {policy}")
        } else {
            "the run is inside the built-in defaults; there is no GuardrailPolicy default"
                .to_owned()
        };
        return say(Some(true), Reason::Valid, message);
    };
    // The gravest reason leads; the message has all of them.
    let gravest = [
        Reason::PolicyNotFound,
        Reason::Invalid,
        Reason::ExceedsPolicy,
    ]
    .into_iter()
    .find(|reason| problems.iter().any(|problem| problem.reason == *reason))
    .unwrap_or(first.reason);
    let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
    say(Some(false), gravest, messages.join("; "))
}

fn target_resolved(observed: &Observed, validated: &Validated, applied: &Applied) -> Said {
    if let Some(overlap) = validated.overlaps.first() {
        let more = validated.overlaps.len() - 1;
        let message = if more == 0 {
            overlap.clone()
        } else {
            format!("{overlap}; {more} more pods are contested")
        };
        return say(Some(false), Reason::Overlap, message);
    }
    let target = &observed.run.spec.target;
    let pods = validated.members.len();
    if target.template.is_some() {
        let name = observed.owner.object_name();
        return match (&applied.job, &applied.waits_for) {
            (State::Conflict(whom), _) => {
                let message = format!("Job {name} belongs to {whom}; rename the AgentRun");
                say(Some(false), Reason::NameConflict, message)
            }
            (State::Refused(said) | State::Unproven(said), _) => {
                say(None, Reason::TargetNotFound, said.clone())
            }
            (_, Some(why)) => {
                let message = format!("Job {name} is kept suspended: {why}");
                say(Some(true), Reason::Resolved, message)
            }
            _ => say(
                Some(true),
                Reason::Resolved,
                format!("Job {name} has {pods} pods"),
            ),
        };
    }
    if let Some(owner) = &target.reference {
        let name = format!("{} {}", owner.kind, owner.name);
        return if pods > 0 || observed.owner_exists {
            say(
                Some(true),
                Reason::Resolved,
                format!("{name} has {pods} pods"),
            )
        } else {
            let message = format!("{name} does not exist in this namespace, or may not be read");
            say(Some(false), Reason::TargetNotFound, message)
        };
    }
    if pods > 0 {
        say(
            Some(true),
            Reason::Resolved,
            format!("the selector selects {pods} pods"),
        )
    } else {
        say(
            Some(false),
            Reason::TargetNotFound,
            "the selector selects no pod yet",
        )
    }
}

fn network_guarded(validated: &Validated, applied: &Applied, open: &[&Arc<Incident>]) -> Said {
    for (name, state) in [
        ("the guard", &applied.network),
        ("the standing deny", &applied.standing_deny),
    ] {
        match state {
            State::Conflict(whom) => {
                let message =
                    format!("{name} cannot be made: a NetworkPolicy of its name belongs to {whom}");
                return say(Some(false), Reason::NameConflict, message);
            }
            State::Refused(why) | State::Unproven(why) => {
                let message = format!("{name} is not known to be stored: {why}");
                return say(None, Reason::Unverified, message);
            }
            State::Stands | State::Unwanted => {}
        }
    }
    let members = &validated.members;
    if let Some(member) = members.iter().find(|member| is_on_host(&member.pod)) {
        let message = format!(
            "pod {} uses the host's network, which no policy holds",
            member.pod.name_any()
        );
        return say(Some(false), Reason::HostNetwork, message);
    }
    if !validated.widened_by.is_empty() {
        let message = format!(
            "NetworkPolicies add up, and these let more through: {}; take them away, list what the run needs in its network rules, or accept their names in the GuardrailPolicy",
            validated.widened_by.join(", ")
        );
        return say(Some(false), Reason::UnionWidened, message);
    }
    if let Some(incident) = open.iter().find(|incident| survives(incident)) {
        let message = format!(
            "Incident {} shows traffic that a deny should have stopped; the network backend does not enforce it, or not on connections that stood before",
            incident.name_any()
        );
        return say(Some(false), Reason::NoEnforcement, message);
    }
    let unselected = members
        .iter()
        .find(|member| !is_selected(&validated.wanted, &member.pod));
    if let Some(member) = unselected {
        let pod = member.pod.name_any();
        let message = match &member.stamp {
            Stamp::Other(run) => {
                format!("pod {pod} carries the label of the run {run}, which is left alone")
            }
            Stamp::Missing | Stamp::Right => {
                format!(
                    "pod {pod} does not carry the run label yet, so the guard does not select it"
                )
            }
        };
        return say(None, Reason::Unverified, message);
    }
    let others = said_of_others(&validated.accepted);
    say(
        Some(true),
        Reason::PoliciesApplied,
        format!(
            "the guard is stored, selects {} pods, and {others}; whether the network backend enforces it is not probed",
            members.len()
        ),
    )
}

fn is_on_host(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}

/// Whether other NetworkPolicies widen the run's.
fn said_of_others(accepted: &[String]) -> String {
    if accepted.is_empty() {
        "no other NetworkPolicy widens them".to_owned()
    } else {
        let names = accepted.join(", ");
        format!("no NetworkPolicy widens them but those that the GuardrailPolicy accepts: {names}")
    }
}

fn quota_bound(observed: &Observed, validated: &Validated, applied: &Applied) -> Said {
    for (name, state) in [
        ("ResourceQuota", &applied.quota),
        ("LimitRange", &applied.limit_range),
    ] {
        match state {
            State::Conflict(whom) => {
                let message = format!("a {name} of our name belongs to {whom}");
                return say(Some(false), Reason::NameConflict, message);
            }
            State::Refused(why) | State::Unproven(why) => {
                let message = format!("the {name} is not known to be stored: {why}");
                return say(None, Reason::QuotaNotCounted, message);
            }
            State::Stands | State::Unwanted => {}
        }
    }
    let mut pods: Vec<QuotaPod<'_>> = validated
        .members
        .iter()
        .map(|member| QuotaPod {
            priority_class: member
                .pod
                .spec
                .as_ref()
                .and_then(|spec| spec.priority_class_name.as_deref()),
        })
        .collect();
    // Before there are pods, the template tells that none will be counted.
    if pods.is_empty() && validated.template_misses_quota {
        pods.push(QuotaPod {
            priority_class: None,
        });
    }
    let name = observed.owner.object_name();
    let stored = observed
        .quotas
        .iter()
        .find(|quota| quota.metadata.name.as_deref() == Some(&name));
    let bound = quota::bound(
        validated.evaluation.effective.quota.as_ref(),
        stored.map(AsRef::as_ref),
        &pods,
    );
    say(bound.status, bound.reason, bound.message)
}

fn signals_fresh(observed: &Observed, validated: &Validated, now: Timestamp) -> Said {
    let nodes = validated.members.iter().filter_map(|member| {
        let spec = member.pod.spec.as_ref()?;
        spec.node_name.as_deref()
    });
    let own = observed.signals.clone();
    // An operator that starts again has heard nothing yet. What it said before holds for as long as a source may be
    // silent, and that a log is of no use until a line of it is or it was judged again; else each start would take the
    // condition of every run back and forth.
    let before = match (observed.certainty, &own) {
        (Certainty::Known, _) | (_, SignalsVerdict::Unusable { .. }) => None,
        (Certainty::NothingHeard, _) => was_fresh(observed).or_else(|| was_unusable(observed)),
        (Certainty::NothingUsed, _) => was_unusable(observed),
    };
    if let Some(before) = before {
        return before;
    }
    match &observed.agents.verdict(own, nodes, now) {
        SignalsVerdict::Fresh => say(
            Some(true),
            Reason::SourcesFresh,
            "every source spoke lately",
        ),
        SignalsVerdict::NoSource => say(
            Some(false),
            Reason::NoSource,
            "no source is configured, so nothing that the pods do is seen",
        ),
        SignalsVerdict::Stale(names) => {
            let message = format!("silent sources: {}", names.join(", "));
            say(Some(false), Reason::FlowsStale, message)
        }
        SignalsVerdict::NodesUnseen { nodes, .. } => {
            let nodes = super::signals_annotation::some_of(nodes.clone());
            let message = format!("nodes that the relay does not hear: {}", nodes.join(", "));
            say(Some(false), Reason::NodesUnseen, message)
        }
        SignalsVerdict::AnswersNotShown { lacking, .. } => {
            let said = super::signals_annotation::said_of(lacking).join(", ");
            let message = format!("{said}: silence and denials there lead to no quarantine");
            say(Some(false), Reason::AnswersNotShown, message)
        }
        SignalsVerdict::MetricsStale(names) => {
            let message = format!("silent metrics: {}", names.join(", "));
            say(Some(false), Reason::MetricsStale, message)
        }
        SignalsVerdict::Lossy(names) => {
            let message = format!("sources that lost events: {}", names.join(", "));
            say(Some(false), Reason::EventsLost, message)
        }
        SignalsVerdict::Unusable { why, details } => {
            say(Some(false), reason_of(*why), details.join("; "))
        }
        SignalsVerdict::PartlyUnreadable(names) => {
            let names = names.join(", ");
            let message =
                format!("every source spoke lately; many lines of these cannot be read: {names}");
            say(Some(true), Reason::SourcesFresh, message)
        }
    }
}

const fn reason_of(why: WhyUnusable) -> Reason {
    match why {
        WhyUnusable::NotUnderstood => Reason::NotUnderstood,
        WhyUnusable::ClockAhead => Reason::ClockAhead,
        WhyUnusable::NothingUsable => Reason::NothingUsable,
        WhyUnusable::NothingAttributed => Reason::NothingAttributed,
    }
}

/// The stored SignalsFresh, where it is True.
fn was_fresh(observed: &Observed) -> Option<Said> {
    let status = observed.run.status.as_ref()?;
    let stored = condition_of(&status.conditions, AgentRunCondition::SignalsFresh.name())?;
    let is_fresh = stored.status == "True" && stored.reason == Reason::SourcesFresh.name();
    is_fresh.then(|| say(Some(true), Reason::SourcesFresh, stored.message.clone()))
}

/// The stored SignalsFresh, where it says that a log is of no use.
fn was_unusable(observed: &Observed) -> Option<Said> {
    let status = observed.run.status.as_ref()?;
    let stored = condition_of(&status.conditions, AgentRunCondition::SignalsFresh.name())?;
    let mut whys = WhyUnusable::ALL.into_iter();
    let why = whys.find(|why| why.name() == stored.reason)?;
    Some(say(Some(false), reason_of(why), stored.message.clone()))
}

fn ready(
    observed: &Observed,
    applied: &Applied,
    rests_on: &[(AgentRunCondition, &Said)],
    quarantined: &Said,
) -> Said {
    if quarantined.status == Some(true) {
        return say(
            Some(false),
            Reason::PodsQuarantined,
            quarantined.message.clone(),
        );
    }
    if let Some(message) = completion(observed) {
        return say(Some(true), Reason::Completed, message);
    }
    let missing = rests_on
        .iter()
        .filter(|(_, said)| said.status != Some(true) && said.reason != Reason::NoQuotaRequested)
        // What is known to be wrong says more than what is not known yet.
        .min_by_key(|(_, said)| said.status.is_none());
    if let Some((condition, said)) = missing {
        let message = format!(
            "{} is {}: {}",
            condition.name(),
            said.reason.name(),
            said.message
        );
        return say(said.status, Reason::GuardrailsIncomplete, message);
    }
    if let Some(why) = &applied.waits_for {
        return say(
            None,
            Reason::GuardrailsIncomplete,
            format!("the Job is suspended: {why}"),
        );
    }
    say(
        Some(true),
        Reason::GuardrailsInPlace,
        "the guardrails stand and nothing is quarantined",
    )
}

/// How the run ended, in words; a run of pods that something else owns does not end by itself.
fn completion(observed: &Observed) -> Option<&'static str> {
    let is_template = observed.run.spec.target.template.is_some();
    match observed.job.as_deref() {
        Some(job) => ended(job).map(|how| match how {
            Ended::Complete => "the Job has completed",
            Ended::Failed => "the Job has failed",
        }),
        None => {
            (is_template && has_completed(&observed.run)).then_some("the Job has ended and is gone")
        }
    }
}

fn stalled(applied: &Applied) -> Said {
    for (name, state) in applied.states() {
        match state {
            State::Refused(said) => {
                let message = format!("the API server refuses the {name}: {said}");
                return say(Some(true), Reason::ApiRefused, message);
            }
            State::Conflict(whom) => {
                let message = format!("a {name} of our name belongs to {whom}");
                return say(Some(true), Reason::NameConflict, message);
            }
            State::Stands | State::Unproven(_) | State::Unwanted => {}
        }
    }
    say(Some(false), Reason::UpToDate, "Yellowjack can act")
}

fn reconciling(applied: &Applied, rests_on: &[(AgentRunCondition, &Said)], stalled: &Said) -> Said {
    let is_under_way = applied
        .states()
        .iter()
        .any(|(_, state)| matches!(state, State::Unproven(_)))
        || applied.waits_for.is_some();
    let unknown = rests_on.iter().find(|(_, said)| said.status.is_none());
    match unknown {
        _ if stalled.status == Some(true) => {
            say(Some(false), Reason::UpToDate, "nothing can be done now")
        }
        Some((condition, said)) => {
            let message = format!("{}: {}", condition.name(), said.message);
            say(Some(true), Reason::InProgress, message)
        }
        None if is_under_way => say(
            Some(true),
            Reason::InProgress,
            "the guardrails are being made",
        ),
        None => say(Some(false), Reason::UpToDate, "nothing is left to do"),
    }
}

fn pods_summary(validated: &Validated) -> PodsSummary {
    let count = |pods: usize| i32::try_from(pods).unwrap_or(i32::MAX);
    let quarantined = validated.members.iter().filter(|m| is_quarantined(&m.pod));
    PodsSummary {
        total: count(validated.members.len()),
        quarantined: count(quarantined.count()),
    }
}
