//! Fourth step: computes the run's status from what was observed and applied. Pure; the controller writes it only if it
//! differs from the stored status.
//!
//! A condition is True only for what was observed, never for what was requested.

use std::sync::Arc;

use jiff::Timestamp;
use kube::ResourceExt;

use super::apply::{Applied, ApplyState};
use super::condition::{ConditionUpdate, update};
use super::containment::{has_surviving_traffic, quarantined, suspicious};
use super::dereference::Observed;
use super::signals_annotation::{describe_lacking, shorten_list};
use super::start::{Ended, ended, has_completed};
use super::validate::{Member, RunLabel, Validated, is_quarantined, is_selected};
use crate::api::{
    AgentRunCondition, AgentRunStatus, Incident, PodsSummary, Reason, condition_of, set_condition,
};
use crate::cluster::Pod;
use crate::guardrails::cilium::ranges_without_effect;
use crate::guardrails::quota::{self, QuotaPod};
use crate::limits;
use crate::signals::health::{Certainty, SignalsVerdict, UnusableReason};

/// Status of the run. Unchanged conditions keep their transition time.
#[must_use]
pub(super) fn status(
    observed: &Observed,
    validated: &Validated,
    applied: &Applied,
    now: Timestamp,
) -> AgentRunStatus {
    let mut next = observed.run.status.clone().unwrap_or_default();
    let open: Vec<&Arc<Incident>> = observed.incidents.iter().filter(|i| i.is_open()).collect();
    let updates = all_conditions(observed, validated, applied, &open, now);
    let generation = observed.run.metadata.generation;
    for (condition, update) in updates {
        set_condition(
            &mut next.conditions,
            condition.name(),
            update.status,
            update.reason,
            &update.message,
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
) -> Vec<(AgentRunCondition, ConditionUpdate)> {
    let accepted = accepted(observed, validated);
    let resolved = target_resolved(observed, validated, applied);
    let network = network_guarded(observed, validated, applied, open);
    let quota = quota_bound(observed, validated, applied);
    let quarantined = quarantined(validated, applied, open);
    let prerequisites = [
        (AgentRunCondition::Accepted, &accepted),
        (AgentRunCondition::TargetResolved, &resolved),
        (AgentRunCondition::NetworkGuarded, &network),
        (AgentRunCondition::QuotaBound, &quota),
    ];
    let ready = ready(observed, applied, &prerequisites, &quarantined);
    let stalled = stalled(applied);
    let reconciling = reconciling(applied, &prerequisites, &stalled);
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

fn accepted(observed: &Observed, validated: &Validated) -> ConditionUpdate {
    let problems = validated.problems();
    let Some(first) = problems.first() else {
        let policy = &observed.run.spec.policy;
        let message = if observed.policy.is_some() {
            format!("the run is inside GuardrailPolicy {policy}")
        } else {
            "the run is inside the built-in defaults; there is no GuardrailPolicy default"
                .to_owned()
        };
        return update(Some(true), Reason::Valid, message);
    };
    // The most severe reason comes first; the message contains all problems.
    let most_severe = [
        Reason::PolicyNotFound,
        Reason::Invalid,
        Reason::ExceedsPolicy,
    ]
    .into_iter()
    .find(|reason| problems.iter().any(|problem| problem.reason == *reason))
    .unwrap_or(first.reason);
    let messages: Vec<&str> = problems.iter().map(|p| p.message.as_str()).collect();
    update(Some(false), most_severe, messages.join("; "))
}

fn target_resolved(
    observed: &Observed,
    validated: &Validated,
    applied: &Applied,
) -> ConditionUpdate {
    if let Some(overlap) = validated.overlaps.first() {
        let more = validated.overlaps.len() - 1;
        let message = if more == 0 {
            overlap.clone()
        } else {
            format!("{overlap}; {more} more pods are contested")
        };
        return update(Some(false), Reason::Overlap, message);
    }
    let target = &observed.run.spec.target;
    let pods = validated.members.len();
    if target.template.is_some() {
        let name = observed.owner.object_name();
        return match (&applied.job, &applied.waits_for) {
            (ApplyState::Conflict(holder), _) => {
                let message = format!("Job {name} belongs to {holder}; rename the AgentRun");
                update(Some(false), Reason::NameConflict, message)
            }
            (ApplyState::Refused(message) | ApplyState::Unconfirmed(message), _) => {
                update(None, Reason::TargetNotFound, message.clone())
            }
            (_, Some(why)) => {
                let message = format!("Job {name} is kept suspended: {why}");
                update(Some(true), Reason::Resolved, message)
            }
            _ => update(
                Some(true),
                Reason::Resolved,
                format!("Job {name} has {pods} pods"),
            ),
        };
    }
    if let Some(owner) = &target.reference {
        let name = format!("{} {}", owner.kind, owner.name);
        return if pods > 0 || observed.owner_exists {
            update(
                Some(true),
                Reason::Resolved,
                format!("{name} has {pods} pods"),
            )
        } else {
            let message = format!("{name} does not exist in this namespace, or may not be read");
            update(Some(false), Reason::TargetNotFound, message)
        };
    }
    if pods > 0 {
        update(
            Some(true),
            Reason::Resolved,
            format!("the selector selects {pods} pods"),
        )
    } else {
        update(
            Some(false),
            Reason::TargetNotFound,
            "the selector selects no pod yet",
        )
    }
}

fn network_guarded(
    observed: &Observed,
    validated: &Validated,
    applied: &Applied,
    open: &[&Arc<Incident>],
) -> ConditionUpdate {
    for (name, state) in [
        ("the guard", &applied.network),
        ("the standing deny", &applied.standing_deny),
    ] {
        match state {
            ApplyState::Conflict(holder) => {
                let message = format!(
                    "{name} cannot be created: a NetworkPolicy of its name belongs to {holder}"
                );
                return update(Some(false), Reason::NameConflict, message);
            }
            ApplyState::Refused(why) | ApplyState::Unconfirmed(why) => {
                let message = format!("{name} is not known to be stored: {why}");
                return update(None, Reason::Unverified, message);
            }
            ApplyState::UpToDate | ApplyState::NotDesired => {}
        }
    }
    let members = &validated.members;
    if let Some(member) = members.iter().find(|member| is_on_host(&member.pod)) {
        let message = format!(
            "pod {} uses the host's network, to which no policy applies",
            member.pod.name_any()
        );
        return update(Some(false), Reason::HostNetwork, message);
    }
    if let Some(message) = left_message(validated) {
        return update(Some(false), Reason::PodLeft, message);
    }
    if !validated.widened_by.is_empty() {
        let message = format!(
            "NetworkPolicies add up, and these allow more: {}; delete them, list what the run needs in its network rules, or accept their names in the GuardrailPolicy",
            validated.widened_by.join(", ")
        );
        return update(Some(false), Reason::UnionWidened, message);
    }
    if let Some(incident) = open.iter().find(|incident| has_surviving_traffic(incident)) {
        let message = format!(
            "Incident {} shows traffic that a deny should have stopped; the network backend does not enforce it, or not for connections that existed before",
            incident.name_any()
        );
        return update(Some(false), Reason::NoEnforcement, message);
    }
    if let Some(message) = unselected_message(validated) {
        return update(None, Reason::Unverified, message);
    }
    if let Some(pod) = &applied.awaiting_identity {
        let message = format!(
            "Cilium does not select pod {pod} by the label of the run yet: with its default settings that takes up to 36 s from the label, and the guard does not hold before"
        );
        return update(None, Reason::EnforcementPending, message);
    }
    let mut others = describe_others(&validated.accepted, &observed.facts.unread_policy_kinds);
    others.push_str(&describe_ranges(observed, validated));
    update(
        Some(true),
        Reason::PoliciesApplied,
        format!(
            "the guard is stored, selects {} pods, and {others}; whether the network backend enforces it is not probed",
            members.len()
        ),
    )
}

/// About a pod that the target does not cover any more.
fn left_message(validated: &Validated) -> Option<String> {
    let member = validated.members.iter().find(|member| member.has_left)?;
    let guard = if is_selected(&validated.desired, &member.pod) {
        "the guard still selects it"
    } else {
        "the guard does not select it any more"
    };
    Some(format!(
        "the labels or owner references of pod {} were changed so that the target does not cover it: it stays in the run, and {guard}",
        member.pod.name_any()
    ))
}

/// About a pod that the run's NetworkPolicy does not select.
fn unselected_message(validated: &Validated) -> Option<String> {
    let is_unselected =
        |member: &&Member| member.is_attributed && !is_selected(&validated.desired, &member.pod);
    let member = validated.members.iter().find(is_unselected)?;
    let pod = member.pod.name_any();
    Some(match &member.run_label {
        RunLabel::OtherRun(run) => {
            format!("pod {pod} carries the label of the run {run}, so the guard does not select it")
        }
        RunLabel::Missing | RunLabel::Correct => {
            format!("pod {pod} does not carry the run label yet, so the guard does not select it")
        }
    })
}

fn is_on_host(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true)
}

/// Which other NetworkPolicies widen the run's, and which kinds of policy are not known to leave them alone.
fn describe_others(accepted: &[String], unread_kinds: &[&str]) -> String {
    let widening = if accepted.is_empty() {
        "no other NetworkPolicy widens them".to_owned()
    } else {
        let names = accepted.join(", ");
        format!("no NetworkPolicy widens them but those that the GuardrailPolicy accepts: {names}")
    };
    if unread_kinds.is_empty() {
        return widening;
    }
    format!(
        "{widening}; the cluster also serves kinds of policy that are not read and can widen them: {}",
        unread_kinds.join(", ")
    )
}

/// The ranges of rules that match nothing on Cilium.
fn describe_ranges(observed: &Observed, validated: &Validated) -> String {
    let network = &validated.evaluation.effective.network;
    let ranges = if observed.on_cilium {
        ranges_without_effect(network, &observed.facts)
    } else {
        Vec::new()
    };
    if ranges.is_empty() {
        return String::new();
    }
    format!(
        "; Cilium matches no node, pod or Service by its address, unless its policy-cidr-match-mode names them, so that these ranges have no effect: {}",
        ranges.join(", ")
    )
}

fn quota_bound(observed: &Observed, validated: &Validated, applied: &Applied) -> ConditionUpdate {
    for (name, state) in [
        ("ResourceQuota", &applied.quota),
        ("LimitRange", &applied.limit_range),
    ] {
        match state {
            ApplyState::Conflict(holder) => {
                let message = format!("a {name} of our name belongs to {holder}");
                return update(Some(false), Reason::NameConflict, message);
            }
            ApplyState::Refused(why) | ApplyState::Unconfirmed(why) => {
                let message = format!("the {name} is not known to be stored: {why}");
                return update(None, Reason::QuotaNotCounted, message);
            }
            ApplyState::UpToDate | ApplyState::NotDesired => {}
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
    // Before the first pod exists, the template already determines that none will be counted.
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
    update(bound.status, bound.reason, bound.message)
}

fn signals_fresh(observed: &Observed, validated: &Validated, now: Timestamp) -> ConditionUpdate {
    let nodes = validated.members.iter().filter_map(|member| {
        let spec = member.pod.spec.as_ref()?;
        spec.node_name.as_deref()
    });
    let own = observed.signals.clone();
    // After a restart no source has delivered anything yet. Until a source counts as silent, the stored condition
    // stays; a log that was unusable stays so until one of its lines is used or it is evaluated again. Otherwise every
    // restart would change the condition of every run twice.
    let before = match (observed.certainty, &own) {
        (Certainty::Known, _) | (_, SignalsVerdict::Unusable { .. }) => None,
        (Certainty::NothingReceived, _) => was_fresh(observed).or_else(|| was_unusable(observed)),
        (Certainty::NothingUsed, _) => was_unusable(observed),
    };
    if let Some(before) = before {
        return before;
    }
    match &observed.agents.verdict(own, nodes, now) {
        SignalsVerdict::Fresh => update(
            Some(true),
            Reason::SourcesFresh,
            "every source delivered data recently",
        ),
        SignalsVerdict::NoSource => update(
            Some(false),
            Reason::NoSource,
            "no source is configured, so the pods are not observed",
        ),
        SignalsVerdict::Stale(names) => {
            let message = format!("silent sources: {}", names.join(", "));
            update(Some(false), Reason::FlowsStale, message)
        }
        SignalsVerdict::NodesUnseen { nodes, .. } => {
            let nodes = shorten_list(nodes.clone());
            let message = format!(
                "nodes that Hubble Relay does not reach: {}",
                nodes.join(", ")
            );
            update(Some(false), Reason::NodesUnseen, message)
        }
        SignalsVerdict::AnswersNotShown { lacking, .. } => {
            let lacking = describe_lacking(lacking).join(", ");
            let message = format!("{lacking}: silence and denials there lead to no quarantine");
            update(Some(false), Reason::AnswersNotShown, message)
        }
        SignalsVerdict::MetricsStale(names) => {
            let message = format!("silent metrics: {}", names.join(", "));
            update(Some(false), Reason::MetricsStale, message)
        }
        SignalsVerdict::Lossy(names) => {
            let message = format!("sources that lost events: {}", names.join(", "));
            update(Some(false), Reason::EventsLost, message)
        }
        SignalsVerdict::Unusable { why, details } => {
            update(Some(false), reason_of(*why), details.join("; "))
        }
        SignalsVerdict::PartlyUnreadable(names) => {
            let names = names.join(", ");
            let message = format!(
                "every source delivered data recently; many lines of these cannot be read: {names}"
            );
            update(Some(true), Reason::SourcesFresh, message)
        }
    }
}

const fn reason_of(why: UnusableReason) -> Reason {
    match why {
        UnusableReason::NotUnderstood => Reason::NotUnderstood,
        UnusableReason::ClockAhead => Reason::ClockAhead,
        UnusableReason::NothingUsable => Reason::NothingUsable,
        UnusableReason::NothingAttributed => Reason::NothingAttributed,
    }
}

/// The stored SignalsFresh, if it is True.
fn was_fresh(observed: &Observed) -> Option<ConditionUpdate> {
    let status = observed.run.status.as_ref()?;
    let stored = condition_of(&status.conditions, AgentRunCondition::SignalsFresh.name())?;
    let is_fresh = stored.status == "True" && stored.reason == Reason::SourcesFresh.name();
    is_fresh.then(|| update(Some(true), Reason::SourcesFresh, stored.message.clone()))
}

/// The stored SignalsFresh, if a log was unusable.
fn was_unusable(observed: &Observed) -> Option<ConditionUpdate> {
    let status = observed.run.status.as_ref()?;
    let stored = condition_of(&status.conditions, AgentRunCondition::SignalsFresh.name())?;
    let mut whys = UnusableReason::ALL.into_iter();
    let why = whys.find(|why| why.name() == stored.reason)?;
    Some(update(Some(false), reason_of(why), stored.message.clone()))
}

fn ready(
    observed: &Observed,
    applied: &Applied,
    prerequisites: &[(AgentRunCondition, &ConditionUpdate)],
    quarantined: &ConditionUpdate,
) -> ConditionUpdate {
    if quarantined.status == Some(true) {
        return update(
            Some(false),
            Reason::PodsQuarantined,
            quarantined.message.clone(),
        );
    }
    if let Some(message) = completion(observed) {
        return update(Some(true), Reason::Completed, message);
    }
    let missing = prerequisites
        .iter()
        .filter(|(_, value)| value.status != Some(true) && value.reason != Reason::NoQuotaRequested)
        // A known problem is more useful than an unknown state.
        .min_by_key(|(_, value)| value.status.is_none());
    if let Some((condition, value)) = missing {
        let message = format!(
            "{} is {}: {}",
            condition.name(),
            value.reason.name(),
            value.message
        );
        return update(value.status, Reason::GuardrailsIncomplete, message);
    }
    if let Some(why) = &applied.waits_for {
        return update(
            None,
            Reason::GuardrailsIncomplete,
            format!("the Job is suspended: {why}"),
        );
    }
    update(
        Some(true),
        Reason::GuardrailsInPlace,
        "the guardrails are in place and nothing is quarantined",
    )
}

/// How the run ended. `None` while it runs; a run of pods with another owner does not end by itself.
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

fn stalled(applied: &Applied) -> ConditionUpdate {
    for (name, state) in applied.states() {
        match state {
            ApplyState::Refused(error) => {
                let message = format!("the API server refuses the {name}: {error}");
                return update(Some(true), Reason::ApiRefused, message);
            }
            ApplyState::Conflict(holder) => {
                let message = format!("a {name} of our name belongs to {holder}");
                return update(Some(true), Reason::NameConflict, message);
            }
            ApplyState::UpToDate | ApplyState::Unconfirmed(_) | ApplyState::NotDesired => {}
        }
    }
    update(Some(false), Reason::UpToDate, "Yellowjack can act")
}

fn reconciling(
    applied: &Applied,
    prerequisites: &[(AgentRunCondition, &ConditionUpdate)],
    stalled: &ConditionUpdate,
) -> ConditionUpdate {
    let is_under_way = applied
        .states()
        .iter()
        .any(|(_, state)| matches!(state, ApplyState::Unconfirmed(_)))
        || applied.waits_for.is_some();
    let unknown = prerequisites
        .iter()
        .find(|(_, value)| value.status.is_none());
    match unknown {
        _ if stalled.status == Some(true) => {
            update(Some(false), Reason::UpToDate, "nothing can be done now")
        }
        Some((condition, value)) => {
            let message = format!("{}: {}", condition.name(), value.message);
            update(Some(true), Reason::InProgress, message)
        }
        None if is_under_way => update(
            Some(true),
            Reason::InProgress,
            "the guardrails are being created",
        ),
        None => update(Some(false), Reason::UpToDate, "nothing is left to do"),
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
