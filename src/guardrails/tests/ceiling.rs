//! Tests of the ceilings: a run may be stricter than its policy, never laxer.

use serde_json::{Value, json};

use super::super::ceiling;
use super::{evaluate, facts, policy, reasons, run};
use crate::api::{Mode, Profile, Reason, ResponseAction, ResponseScope};

#[test]
fn without_a_word_from_either_the_strict_defaults_are_in_force() {
    let evaluation = ceiling::evaluate(&run(json!({})), None, &facts());
    assert_eq!(evaluation.problems, []);
    let effective = evaluation.effective;
    assert_eq!(effective.network.egress, []);
    assert_eq!(effective.quota, None);
    assert_eq!(
        (effective.scan, effective.mining, effective.tunnel),
        (Mode::Enforce, Mode::Enforce, Mode::Enforce)
    );
    assert_eq!(effective.max_action, ResponseAction::Suspend);
    assert_eq!(effective.scope, ResponseScope::Pod);
}

#[test]
fn a_named_policy_that_does_not_exist_leaves_dns_alone() {
    let spec = run(json!({
        "policy": "strict",
        "network": { "egress": [{ "cidr": "198.51.100.0/24" }] },
        "detection": { "modes": { "scan": "Observe" } },
    }));
    let evaluation = ceiling::evaluate(&spec, None, &facts());
    assert_eq!(reasons(&evaluation), [Reason::PolicyNotFound]);
    assert!(evaluation.problems[0].message.contains("strict"));
    assert_eq!(evaluation.effective.network.egress, []);
    assert_eq!(evaluation.effective.scan, Mode::Enforce);
}

#[test]
fn a_run_takes_the_policys_modes_where_it_sets_none() {
    let evaluation = evaluate(
        json!({ "detection": { "modes": { "scan": "Observe" } } }),
        json!({ "detection": { "modes": { "scan": "Enforce", "mining": "Observe", "tunnel": "Observe" } } }),
    );
    assert_eq!(evaluation.problems, []);
    assert_eq!(evaluation.effective.scan, Mode::Observe);
    assert_eq!(evaluation.effective.mining, Mode::Observe);
    assert_eq!(evaluation.effective.tunnel, Mode::Observe);
}

#[test]
fn a_mode_below_the_minimum_is_refused_and_the_minimum_is_in_force() {
    let evaluation = evaluate(
        json!({ "detection": { "modes": { "mining": "Disabled" } } }),
        json!({}),
    );
    assert_eq!(reasons(&evaluation), [Reason::ExceedsPolicy]);
    let message = &evaluation.problems[0].message;
    assert!(
        message.contains("detection.modes.mining") && message.contains("Observe"),
        "{message}"
    );
    assert_eq!(evaluation.effective.mining, Mode::Observe);
}

#[test]
fn a_profile_that_the_policy_does_not_allow_is_refused_and_standard_is_in_force() {
    let crawler = json!({ "detection": { "profile": "Crawler" } });
    let allowing = |profiles: Value| json!({ "detection": { "allowedProfiles": profiles } });
    for (policy, is_refused) in [
        (json!({}), false),
        (allowing(json!(["Standard", "Crawler"])), false),
        (allowing(json!(["Standard"])), true),
        (allowing(json!([])), true),
    ] {
        let evaluation = evaluate(crawler.clone(), policy.clone());
        let expected = if is_refused {
            vec![Reason::ExceedsPolicy]
        } else {
            vec![]
        };
        assert_eq!(reasons(&evaluation), expected, "{policy}");
        let is_standard = evaluation.effective.profile == Profile::Standard;
        assert_eq!(is_standard, is_refused, "{policy}");
    }
    let standard = evaluate(json!({}), allowing(json!(["Crawler"])));
    assert_eq!(standard.problems, []);
}

#[test]
fn a_policy_does_not_undercut_its_own_minimum() {
    let evaluation = evaluate(
        json!({}),
        json!({ "detection": { "modes": { "scan": "Observe" }, "minimum": "Enforce" } }),
    );
    assert_eq!(evaluation.effective.scan, Mode::Enforce);
}

#[test]
fn an_action_outside_the_policys_span_is_refused_on_both_sides() {
    let span = json!({ "response": { "minAction": "Isolate", "maxAction": "Suspend" } });
    for (name, effective) in [
        ("Alert", ResponseAction::Isolate),
        ("Terminate", ResponseAction::Suspend),
    ] {
        let evaluation = evaluate(json!({ "response": { "maxAction": name } }), span.clone());
        assert_eq!(reasons(&evaluation), [Reason::ExceedsPolicy], "{name}");
        assert_eq!(evaluation.effective.max_action, effective, "{name}");
    }
    let inside = evaluate(json!({ "response": { "maxAction": "Isolate" } }), span);
    assert_eq!(inside.problems, []);
    assert_eq!(inside.effective.max_action, ResponseAction::Isolate);
}

#[test]
fn a_policy_with_its_least_action_above_its_most_does_not_crash() {
    let upside_down = json!({ "response": { "minAction": "Terminate", "maxAction": "Alert" } });
    let evaluation = evaluate(
        json!({ "response": { "maxAction": "Isolate" } }),
        upside_down,
    );
    assert_eq!(evaluation.effective.max_action, ResponseAction::Alert);
}

#[test]
fn the_scope_may_be_widened_and_not_narrowed() {
    let narrowed = evaluate(
        json!({ "response": { "scope": "Pod" } }),
        json!({ "response": { "scope": "Run" } }),
    );
    assert_eq!(reasons(&narrowed), [Reason::ExceedsPolicy]);
    assert_eq!(narrowed.effective.scope, ResponseScope::Run);
    let widened = evaluate(json!({ "response": { "scope": "Run" } }), json!({}));
    assert_eq!(widened.problems, []);
    assert_eq!(widened.effective.scope, ResponseScope::Run);
}

#[test]
fn a_quota_above_the_ceiling_is_refused_and_the_ceiling_is_in_force() {
    let evaluation = evaluate(
        json!({ "resources": { "quota": {
            "hard": { "requests.cpu": "9000m", "pods": "4" },
            "priorityClassName": "batch",
        } } }),
        json!({ "resources": { "maxQuota": { "requests.cpu": "8", "requests.memory": "1Gi", "pods": "4" } } }),
    );
    assert_eq!(
        reasons(&evaluation),
        [Reason::ExceedsPolicy, Reason::ExceedsPolicy]
    );
    assert!(evaluation.problems[0].message.contains("requests.cpu"));
    assert!(evaluation.problems[1].message.contains("requests.memory"));
    let quota = evaluation.effective.quota.unwrap();
    assert_eq!(quota.hard["requests.cpu"], "8");
    assert_eq!(quota.hard["requests.memory"], "1Gi");
    assert_eq!(quota.hard["pods"], "4");
    assert_eq!(quota.priority_class.as_deref(), Some("batch"));
}

#[test]
fn a_run_without_a_quota_gets_the_policys_and_no_reproach() {
    let evaluation = evaluate(
        json!({}),
        json!({ "resources": {
            "defaultQuota": { "pods": "10" },
            "maxQuota": { "requests.cpu": "8" },
        } }),
    );
    assert_eq!(evaluation.problems, []);
    let quota = evaluation.effective.quota.unwrap();
    assert_eq!(quota.hard["pods"], "10");
    assert_eq!(quota.hard["requests.cpu"], "8");
}

#[test]
fn defaults_that_the_api_server_would_refuse_are_named() {
    let evaluation = evaluate(
        json!({ "resources": { "defaults": {
            "requests": { "cpu": "2" }, "limits": { "cpu": "1500m" },
        } } }),
        json!({}),
    );
    assert_eq!(reasons(&evaluation), [Reason::Invalid]);
    let defaults = evaluation.effective.defaults.unwrap();
    assert!(defaults.requests.is_empty());
}

#[test]
fn the_runs_defaults_win_over_the_policys() {
    let of_policy =
        json!({ "resources": { "defaults": { "requests": { "cpu": "1" }, "limits": {} } } });
    let evaluation = evaluate(
        json!({ "resources": { "defaults": { "requests": { "cpu": "2" }, "limits": {} } } }),
        of_policy.clone(),
    );
    assert_eq!(evaluation.effective.defaults.unwrap().requests["cpu"], "2");
    let evaluation = evaluate(json!({}), of_policy);
    assert_eq!(evaluation.effective.defaults.unwrap().requests["cpu"], "1");
}

#[test]
fn a_template_on_the_hosts_network_and_a_broken_selector_are_invalid() {
    let on_host = json!({ "target": { "template": { "pod": { "spec": {
        "containers": [], "hostNetwork": true,
    } } } } });
    let broken = json!({ "target": { "selector": { "matchExpressions": [
        { "key": "app", "operator": "In" }
    ] } } });
    for fields in [on_host, broken] {
        let evaluation = ceiling::evaluate(&run(fields), Some(&policy(json!({}))), &facts());
        assert_eq!(reasons(&evaluation), [Reason::Invalid]);
    }
}

#[test]
fn a_privileged_field_of_a_template_needs_its_name_in_the_policy() {
    let spec = json!({ "target": { "template": { "pod": { "spec": {
        "hostPID": true,
        "containers": [{ "name": "a", "image": "i", "securityContext": { "capabilities": { "add": ["NET_RAW"] } } }],
    } } } } });
    let refused = evaluate(spec.clone(), json!({}));
    assert_eq!(
        reasons(&refused),
        [Reason::ExceedsPolicy, Reason::ExceedsPolicy]
    );
    let message = &refused.problems[0].message;
    assert!(
        message.contains("spec.hostPID") && message.contains("list HostPID"),
        "{message}"
    );
    let one = json!({ "template": { "allowedPrivileges": ["HostPID"] } });
    assert_eq!(
        reasons(&evaluate(spec.clone(), one)),
        [Reason::ExceedsPolicy]
    );
    let both = json!({ "template": { "allowedPrivileges": ["HostPID", "Capabilities"] } });
    assert_eq!(evaluate(spec.clone(), both).problems, []);
    // The built-in policy allows none.
    let built_in = ceiling::evaluate(&run(spec), None, &facts());
    assert_eq!(
        reasons(&built_in),
        [Reason::ExceedsPolicy, Reason::ExceedsPolicy]
    );
}
