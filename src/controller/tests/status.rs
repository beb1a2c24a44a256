//! Tests of the conditions: True only for what was seen, the reason names the cause.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::json;

use super::super::apply::{Applied, ApplyState};
use super::super::dereference::Observed;
use super::super::status::status;
use super::super::validate::validate;
use super::{
    by_job, by_label, by_template, check, foreign_policy, incident, job, observed, pod, run,
    status_of, up_to_date, with_conditions, with_pods,
};
use crate::api::{AgentRunCondition, AgentRunStatus, condition_of, labels};
use crate::guardrails::ClusterFacts;
use crate::limits;
use crate::signals::health::{Certainty, SignalsVerdict, UnusableReason};

fn agent_pod() -> crate::cluster::Pod {
    pod("p", json!({ "app": "agent" }))
}

fn quarantined_pod() -> crate::cluster::Pod {
    pod("p", json!({ "app": "agent", labels::QUARANTINE: "inc-1" }))
}

#[test]
fn a_run_with_all_guardrails_is_ready_and_all_its_conditions_have_a_reason() {
    let seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    let status = status_of(&seen, &up_to_date());
    check(&status, "Accepted", ("True", "Valid"), "built-in defaults");
    check(&status, "TargetResolved", ("True", "Resolved"), "1 pods");
    check(
        &status,
        "NetworkGuarded",
        ("True", "PoliciesApplied"),
        "not probed",
    );
    check(&status, "QuotaBound", ("False", "NoQuotaRequested"), "");
    check(&status, "SignalsFresh", ("True", "SourcesFresh"), "");
    check(&status, "Suspicious", ("False", "NoOpenIncidents"), "");
    check(&status, "Quarantined", ("False", "NotQuarantined"), "");
    check(&status, "Ready", ("True", "GuardrailsInPlace"), "");
    check(&status, "Reconciling", ("False", "UpToDate"), "");
    check(&status, "Stalled", ("False", "UpToDate"), "");
    assert_eq!(status.observed_generation, Some(3));
    assert_eq!(status.pods.unwrap().total, 1);
    let order: Vec<&str> = status.conditions.iter().map(|c| c.type_.as_str()).collect();
    let expected: Vec<&str> = AgentRunCondition::ALL.iter().map(|c| c.name()).collect();
    assert_eq!(order, expected);
}

#[test]
fn a_second_look_at_the_same_changes_no_byte() {
    let mut seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    let first = status_of(&seen, &up_to_date());
    let mut stored = (*seen.run).clone();
    stored.status = Some(first.clone());
    seen.run = Arc::new(stored);
    let later = Timestamp::from_second(9_000).unwrap();
    let second = status(&seen, &validate(&seen), &up_to_date(), later);
    assert_eq!(first, second);
}

#[test]
fn an_operator_that_just_started_keeps_signals_as_they_were_and_never_improves_them() {
    let mut seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    let fresh = status_of(&seen, &up_to_date());
    seen.signals = SignalsVerdict::Stale(vec!["log".into()]);
    seen.certainty = Certainty::NothingReceived;
    let status = status_of(&seen, &up_to_date());
    check(&status, "SignalsFresh", ("False", "FlowsStale"), "log");
    let mut stored = (*seen.run).clone();
    stored.status = Some(fresh.clone());
    seen.run = Arc::new(stored);
    assert_eq!(status_of(&seen, &up_to_date()), fresh);
    seen.certainty = Certainty::Known;
    let status = status_of(&seen, &up_to_date());
    check(&status, "SignalsFresh", ("False", "FlowsStale"), "log");
}

#[test]
fn an_operator_that_just_started_keeps_the_condition_of_an_unusable_log() {
    let mut seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    seen.signals = SignalsVerdict::Unusable {
        why: UnusableReason::NothingUsable,
        details: vec!["a sentence".into()],
    };
    let unusable = status_of(&seen, &up_to_date());
    let mut stored = (*seen.run).clone();
    stored.status = Some(unusable.clone());
    seen.run = Arc::new(stored);
    // Lines come, and there was no time to judge them.
    seen.signals = SignalsVerdict::Fresh;
    for certainty in [Certainty::NothingReceived, Certainty::NothingUsed] {
        seen.certainty = certainty;
        assert_eq!(status_of(&seen, &up_to_date()), unusable);
    }
    seen.certainty = Certainty::Known;
    let status = status_of(&seen, &up_to_date());
    check(&status, "SignalsFresh", ("True", "SourcesFresh"), "");
}

#[test]
fn a_status_survives_the_way_through_the_api_server() {
    let seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    let status = status_of(&seen, &up_to_date());
    let stored: AgentRunStatus = super::of(serde_json::to_value(&status).unwrap());
    assert_eq!(status, stored);
}

#[test]
fn what_is_not_seen_to_be_stored_is_unknown_and_not_true() {
    let seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    let mut applied = up_to_date();
    applied.network = ApplyState::Unconfirmed("no answer".into());
    let status = status_of(&seen, &applied);
    check(
        &status,
        "NetworkGuarded",
        ("Unknown", "Unverified"),
        "no answer",
    );
    check(
        &status,
        "Ready",
        ("Unknown", "GuardrailsIncomplete"),
        "NetworkGuarded",
    );
    check(&status, "Reconciling", ("True", "InProgress"), "");
    check(&status, "Stalled", ("False", "UpToDate"), "");
}

#[test]
fn what_the_api_server_refuses_stalls() {
    let seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    let mut applied = up_to_date();
    applied.network = ApplyState::Refused("forbidden".into());
    let status = status_of(&seen, &applied);
    check(&status, "Stalled", ("True", "ApiRefused"), "forbidden");
    check(
        &status,
        "NetworkGuarded",
        ("Unknown", "Unverified"),
        "forbidden",
    );
    check(&status, "Reconciling", ("False", "UpToDate"), "");
}

#[test]
fn an_object_of_our_name_that_is_not_ours_is_named() {
    let seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    let mut applied = up_to_date();
    applied.network = ApplyState::Conflict("Deployment web".into());
    let status = status_of(&seen, &applied);
    check(
        &status,
        "NetworkGuarded",
        ("False", "NameConflict"),
        "Deployment web",
    );
    check(
        &status,
        "Stalled",
        ("True", "NameConflict"),
        "Deployment web",
    );
    check(
        &status,
        "Ready",
        ("False", "GuardrailsIncomplete"),
        "NameConflict",
    );
}

#[test]
fn a_policy_that_widens_is_named() {
    let mut seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    seen.network_policies.push(foreign_policy("allow-all"));
    let status = status_of(&seen, &up_to_date());
    check(
        &status,
        "NetworkGuarded",
        ("False", "UnionWidened"),
        "allow-all",
    );
    check(
        &status,
        "Ready",
        ("False", "GuardrailsIncomplete"),
        "allow-all",
    );
}

#[test]
fn a_pod_on_the_hosts_network_is_not_guarded() {
    let mut on_host = agent_pod();
    on_host.spec.as_mut().unwrap().host_network = Some(true);
    let seen = with_pods(observed(run("a", by_label())), [on_host]);
    check(
        &status_of(&seen, &up_to_date()),
        "NetworkGuarded",
        ("False", "HostNetwork"),
        "pod p",
    );
}

#[test]
fn a_pod_without_the_run_label_does_not_count_as_guarded() {
    let mut seen = observed(run("a", by_job("j")));
    seen.pods.push(super::ObservedPod {
        pod: Arc::new(pod("p", json!({}))),
        owners: vec![super::owned_by("Job", "batch/v1", "j", "uid-j")],
        holder: None,
    });
    check(
        &status_of(&seen, &up_to_date()),
        "NetworkGuarded",
        ("Unknown", "Unverified"),
        "pod p",
    );
}

#[test]
fn a_pod_that_was_taken_out_of_the_run_is_named_until_it_is_being_deleted() {
    let mut seen = with_pods(
        observed(run("a", by_label())),
        [pod("p", json!({ "app": "other" }))],
    );
    seen.pods[0].holder = Some("uid-a".to_owned());
    let expected = ("False", "PodLeft");
    check(
        &status_of(&seen, &up_to_date()),
        "NetworkGuarded",
        expected,
        "pod p",
    );
    Arc::make_mut(&mut seen.pods[0].pod)
        .metadata
        .deletion_timestamp = Some(super::of(json!("2026-01-01T00:00:00Z")));
    let status = status_of(&seen, &up_to_date());
    check(
        &status,
        "NetworkGuarded",
        ("Unknown", "Unverified"),
        "pod p",
    );
}

#[test]
fn the_most_severe_problem_comes_first_and_all_are_in_the_message() {
    let mut spec = run("a", by_label());
    spec.spec.network = super::of(json!({ "egress": [
        { "fqdn": "pypi.org" }, { "cidr": "169.254.169.254/32" }
    ] }));
    let status = status_of(&observed(spec), &up_to_date());
    check(&status, "Accepted", ("False", "ExceedsPolicy"), "pypi.org");
    check(
        &status,
        "Accepted",
        ("False", "ExceedsPolicy"),
        "169.254.169.254",
    );
}

#[test]
fn a_missing_target_makes_target_resolved_false() {
    let status = status_of(&observed(run("a", by_label())), &up_to_date());
    check(
        &status,
        "TargetResolved",
        ("False", "TargetNotFound"),
        "selector",
    );
    let mut seen = observed(run("a", by_job("j")));
    seen.owner_exists = false;
    check(
        &status_of(&seen, &up_to_date()),
        "TargetResolved",
        ("False", "TargetNotFound"),
        "Job j",
    );
    seen.owner_exists = true;
    check(
        &status_of(&seen, &up_to_date()),
        "TargetResolved",
        ("True", "Resolved"),
        "Job j",
    );
}

#[test]
fn two_runs_that_claim_a_pod_both_have_the_overlap_condition() {
    let mut seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    seen.runs.push(Arc::new(run("b", by_label())));
    check(
        &status_of(&seen, &up_to_date()),
        "TargetResolved",
        ("False", "Overlap"),
        "a and b",
    );
}

#[test]
fn silent_lossy_or_missing_sources_are_reported_and_a_run_stays_ready() {
    let mut seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    for (verdict, reason, word) in [
        (
            SignalsVerdict::Stale(vec!["egress.log".into()]),
            "FlowsStale",
            "egress.log",
        ),
        (
            SignalsVerdict::NodesUnseen {
                nodes: vec!["n1".into()],
                others: Box::new(SignalsVerdict::Fresh),
            },
            "NodesUnseen",
            "n1",
        ),
        (
            SignalsVerdict::MetricsStale(vec!["kubelet".into()]),
            "MetricsStale",
            "kubelet",
        ),
        (
            SignalsVerdict::Lossy(vec!["egress.log".into()]),
            "EventsLost",
            "egress.log",
        ),
        (SignalsVerdict::NoSource, "NoSource", "no source"),
        (
            SignalsVerdict::Unusable {
                why: UnusableReason::NotUnderstood,
                details: vec!["/x delivers lines, none of them readable as zeek".into()],
            },
            "NotUnderstood",
            "none of them readable as zeek",
        ),
    ] {
        seen.signals = verdict;
        let status = status_of(&seen, &up_to_date());
        check(&status, "SignalsFresh", ("False", reason), word);
        check(&status, "Ready", ("True", "GuardrailsInPlace"), "");
    }
}

#[test]
fn the_reasons_of_an_unusable_log_have_the_names_that_messages_and_leases_have() {
    let mut seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    for why in UnusableReason::ALL {
        let details = vec!["a sentence".into()];
        seen.signals = SignalsVerdict::Unusable { why, details };
        let status = status_of(&seen, &up_to_date());
        check(&status, "SignalsFresh", ("False", why.name()), "a sentence");
    }
    seen.signals = SignalsVerdict::PartlyUnreadable(vec!["/x".into()]);
    let status = status_of(&seen, &up_to_date());
    check(
        &status,
        "SignalsFresh",
        ("True", "SourcesFresh"),
        "cannot be read: /x",
    );
}

#[test]
fn an_open_incident_makes_a_run_suspicious_and_not_yet_quarantined() {
    let mut seen = with_pods(observed(run("a", by_label())), [quarantined_pod()]);
    seen.incidents = vec![incident(
        "inc-1",
        with_conditions(&[("Detected", "True", "FindingCrossed")]),
    )];
    let status = status_of(&seen, &up_to_date());
    check(&status, "Suspicious", ("True", "IncidentOpen"), "inc-1");
    check(
        &status,
        "Quarantined",
        ("False", "NotQuarantined"),
        "not contained yet",
    );
    assert_eq!(status.open_incidents, ["inc-1"]);
    assert_eq!(status.pods.unwrap().quarantined, 1);
}

#[test]
fn quarantined_has_the_most_severe_state_of_the_incidents() {
    let isolated = ("Contained", "True", "Isolated");
    for (conditions, reason) in [
        (vec![isolated], "Isolated"),
        (
            vec![isolated, ("Verified", "Unknown", "AwaitingProof")],
            "Isolated",
        ),
        (vec![isolated, ("Verified", "True", "Verified")], "Verified"),
        (
            vec![isolated, ("Verified", "False", "ConnectionsSurvive")],
            "ConnectionsSurvive",
        ),
        (
            vec![("Contained", "True", "OwnerSuspended")],
            "OwnerSuspended",
        ),
        (
            vec![
                ("Contained", "True", "PodGone"),
                ("Verified", "True", "PodGone"),
            ],
            "PodGone",
        ),
    ] {
        let mut seen = with_pods(observed(run("a", by_label())), [quarantined_pod()]);
        seen.incidents = vec![incident("inc-1", with_conditions(&conditions))];
        let status = status_of(&seen, &up_to_date());
        check(&status, "Quarantined", ("True", reason), "inc-1");
        check(&status, "Ready", ("False", "PodsQuarantined"), "inc-1");
        check(&status, "Stalled", ("False", "UpToDate"), "");
    }
}

#[test]
fn traffic_after_a_deny_means_that_the_backend_does_not_enforce() {
    let mut seen = with_pods(observed(run("a", by_label())), [quarantined_pod()]);
    seen.incidents = vec![incident(
        "inc-1",
        with_conditions(&[
            ("Contained", "True", "Isolated"),
            ("Verified", "False", "ConnectionsSurvive"),
        ]),
    )];
    check(
        &status_of(&seen, &up_to_date()),
        "NetworkGuarded",
        ("False", "NoEnforcement"),
        "inc-1",
    );
}

#[test]
fn a_closed_incident_is_history() {
    let mut seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    seen.incidents = vec![incident(
        "inc-1",
        with_conditions(&[
            ("Contained", "True", "Isolated"),
            ("Closed", "True", "Released"),
        ]),
    )];
    let status = status_of(&seen, &up_to_date());
    check(&status, "Suspicious", ("False", "NoOpenIncidents"), "");
    check(&status, "Quarantined", ("False", "NotQuarantined"), "");
    check(&status, "Ready", ("True", "GuardrailsInPlace"), "");
    assert!(status.open_incidents.is_empty());
}

#[test]
fn a_label_set_by_hand_counts_once_the_deny_is_in_place() {
    let seen = with_pods(observed(run("a", by_label())), [quarantined_pod()]);
    check(
        &status_of(&seen, &up_to_date()),
        "Quarantined",
        ("True", "Isolated"),
        "without an open Incident",
    );
    let mut applied = up_to_date();
    applied.standing_deny = ApplyState::Unconfirmed("no answer".into());
    check(
        &status_of(&seen, &applied),
        "Quarantined",
        ("False", "NotQuarantined"),
        "pod p",
    );
}

#[test]
fn the_list_of_open_incidents_is_bounded() {
    let mut seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    seen.incidents = (0..100)
        .map(|n| incident(&format!("inc-{n:03}"), json!({})))
        .collect();
    let status = status_of(&seen, &up_to_date());
    assert_eq!(status.open_incidents.len(), limits::OPEN_INCIDENTS_MAX);
    check(&status, "Suspicious", ("True", "IncidentOpen"), "99 more");
}

#[test]
fn a_suspended_job_is_work_under_way_and_an_ended_one_is_complete() {
    let mut seen = observed(run("a", by_template()));
    seen.job = Some(Arc::new(job(json!({}), true, json!({}))));
    let mut applied = up_to_date();
    applied.job = ApplyState::UpToDate;
    applied.waits_for = Some("the ResourceQuota is not in place".into());
    let status = status_of(&seen, &applied);
    check(
        &status,
        "TargetResolved",
        ("True", "Resolved"),
        "kept suspended",
    );
    check(
        &status,
        "Ready",
        ("Unknown", "GuardrailsIncomplete"),
        "ResourceQuota",
    );
    check(&status, "Reconciling", ("True", "InProgress"), "");

    for (kind, word) in [("Complete", "completed"), ("Failed", "failed")] {
        let ended = json!({ "conditions": [{ "type": kind, "status": "True" }] });
        seen.job = Some(Arc::new(job(json!({}), false, ended)));
        applied.waits_for = None;
        check(
            &status_of(&seen, &applied),
            "Ready",
            ("True", "Completed"),
            word,
        );
    }
}

#[test]
fn a_quota_that_counts_no_pod_of_the_run_is_not_bound() {
    let mut spec = run("a", by_label());
    spec.spec.resources = super::of(json!({ "quota": {
        "hard": { "pods": "4" }, "priorityClassName": "batch",
    } }));
    let seen = with_pods(observed(spec), [agent_pod()]);
    let mut applied = up_to_date();
    applied.quota = ApplyState::UpToDate;
    let status = status_of(&seen, &applied);
    check(
        &status,
        "QuotaBound",
        ("False", "ScopeMatchesNoPods"),
        "batch",
    );
    check(
        &status,
        "Ready",
        ("False", "GuardrailsIncomplete"),
        "QuotaBound",
    );
}

#[test]
fn ranges_that_match_nothing_on_cilium_are_named_there_and_nowhere_else() {
    let mut reaching = run("a", by_label());
    reaching.spec.network.egress =
        serde_json::from_value(json!([{ "cidr": "192.0.2.1/32" }])).unwrap();
    let mut seen = with_pods(observed(reaching), [agent_pod()]);
    let policy = json!({ "network": { "allowInfrastructure": true } });
    let policy = json!({ "metadata": { "name": "default" }, "spec": policy });
    seen.policy = Some(Arc::new(serde_json::from_value(policy).unwrap()));
    seen.facts = Arc::new(ClusterFacts {
        node_cidrs: vec!["192.0.2.1/32".parse().unwrap()],
        ..ClusterFacts::default()
    });
    let message = |seen: &Observed| {
        let status = status_of(seen, &up_to_date());
        let found = condition_of(&status.conditions, "NetworkGuarded").cloned();
        found.unwrap().message
    };
    assert!(!message(&seen).contains("192.0.2.1/32"));
    seen.on_cilium = true;
    assert!(message(&seen).contains("no effect: 192.0.2.1/32"));
}

#[test]
fn a_guard_is_unknown_while_cilium_does_not_select_a_pod_by_the_label_of_the_run() {
    let seen = with_pods(observed(run("a", by_label())), [agent_pod()]);
    let applied = Applied {
        awaiting_identity: Some("p".to_owned()),
        ..up_to_date()
    };
    let status = status_of(&seen, &applied);
    let expected = ("Unknown", "EnforcementPending");
    check(&status, "NetworkGuarded", expected, "pod p");
    check(&status, "Ready", ("Unknown", "GuardrailsIncomplete"), "");
}
