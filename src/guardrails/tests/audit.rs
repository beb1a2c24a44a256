//! Tests of the union audit: every policy that lets more through is named, and no other.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::super::allow_list::NetworkRules;
use super::super::audit::{Protection, widening};
use super::super::network::{run_network_policy, standing_deny_network_policy};
use super::{facts, owner, run};
use crate::api::labels;
use crate::limits;

fn foreign(name: &str, spec: Value) -> NetworkPolicy {
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec })).unwrap()
}

fn guard() -> NetworkPolicy {
    run_network_policy(
        &owner(),
        &run(json!({})).target,
        &BTreeSet::new(),
        &NetworkRules::default(),
        &facts(),
    )
}

fn agent() -> BTreeMap<String, String> {
    [("app".to_owned(), "agent".to_owned())].into()
}

fn quarantined() -> BTreeMap<String, String> {
    let mut found = agent();
    found.insert(labels::QUARANTINE.to_owned(), "inc-1".to_owned());
    found
}

fn check_guarded(policies: &[NetworkPolicy]) -> Vec<String> {
    widening(&agent(), policies, Protection::Guarded(&owner()))
}

fn check_quarantined(policies: &[NetworkPolicy], cluster_deny: bool) -> Vec<String> {
    widening(
        &quarantined(),
        policies,
        Protection::Quarantined { cluster_deny },
    )
}

#[test]
fn our_own_guard_and_the_standing_deny_widen_nothing() {
    let ours = [guard(), standing_deny_network_policy("team")];
    assert!(check_guarded(&ours).is_empty());
    assert!(check_quarantined(&ours, false).is_empty());
}

#[test]
fn a_foreign_policy_that_allows_is_named_in_either_direction() {
    let policies = [
        foreign(
            "out",
            json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] }),
        ),
        foreign(
            "in",
            json!({ "podSelector": {}, "policyTypes": ["Ingress"], "ingress": [{}] }),
        ),
        foreign(
            "elsewhere",
            json!({ "podSelector": { "matchLabels": { "app": "web" } }, "egress": [{}] }),
        ),
        foreign(
            "deny",
            json!({ "podSelector": {}, "policyTypes": ["Ingress", "Egress"] }),
        ),
    ];
    assert_eq!(check_guarded(&policies), ["in", "out"]);
    assert_eq!(check_quarantined(&policies, false), ["in", "out"]);
}

#[test]
fn rules_of_a_direction_that_the_policy_does_not_name_have_no_effect() {
    let policies = [
        foreign(
            "idle-egress",
            json!({ "podSelector": {}, "policyTypes": ["Ingress"], "egress": [{}] }),
        ),
        foreign(
            "idle-ingress",
            json!({ "podSelector": {}, "policyTypes": ["Egress"], "ingress": [{}] }),
        ),
        foreign("untyped", json!({ "podSelector": {}, "egress": [{}] })),
    ];
    assert_eq!(check_guarded(&policies), ["untyped"]);
}

#[test]
fn a_guard_of_another_run_or_of_an_older_run_of_the_name_is_foreign() {
    let mut older = super::owner();
    older.uid = "uid-0".into();
    let policy = run_network_policy(
        &older,
        &run(json!({})).target,
        &BTreeSet::new(),
        &NetworkRules::default(),
        &facts(),
    );
    assert_eq!(check_guarded(&[policy]), ["yellowjack-run-train"]);
}

#[test]
fn a_policy_that_only_borrows_our_labels_is_foreign() {
    let mut policy = foreign("sly", json!({ "podSelector": {}, "egress": [{}] }));
    policy.metadata.labels = Some(owner().labels());
    assert_eq!(check_guarded(&[policy]), ["sly"]);
}

#[test]
fn our_own_guard_is_named_where_it_would_still_select_a_quarantined_pod() {
    let mut policy = guard();
    let spec = policy.spec.as_mut().unwrap();
    spec.pod_selector.as_mut().unwrap().match_expressions = None;
    assert_eq!(
        check_quarantined(&[policy], false),
        ["yellowjack-run-train"]
    );
}

#[test]
fn with_a_cluster_deny_only_sources_outside_the_cluster_are_left_to_name() {
    let policies = [
        foreign(
            "out",
            json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] }),
        ),
        foreign(
            "from-pods",
            json!({ "podSelector": {}, "ingress": [{ "from": [{ "podSelector": {} }] }] }),
        ),
        foreign(
            "from-range",
            json!({ "podSelector": {}, "ingress": [
            { "from": [{ "ipBlock": { "cidr": "198.51.100.0/24" } }] }
        ] }),
        ),
        foreign(
            "from-anywhere",
            json!({ "podSelector": {}, "ingress": [{}] }),
        ),
    ];
    assert_eq!(
        check_quarantined(&policies, true),
        ["from-anywhere", "from-range"]
    );
}

#[test]
fn a_thousand_widening_policies_are_cut_to_a_bound() {
    let policies: Vec<_> = (0..1000)
        .map(|n| {
            foreign(
                &format!("p{n:04}"),
                json!({ "podSelector": {}, "egress": [{}] }),
            )
        })
        .collect();
    assert_eq!(check_guarded(&policies).len(), limits::WIDENING_NAMES_MAX);
}

#[test]
fn a_policy_that_allows_no_more_than_the_guard_does_not_widen_it() {
    let dns = |ports: Value| {
        json!({ "podSelector": {}, "policyTypes": ["Egress"], "egress": [{
            "to": [{
                "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } },
                "podSelector": { "matchLabels": { "k8s-app": "kube-dns" } },
            }],
            "ports": ports,
        }] })
    };
    let usual = foreign("allow-dns", dns(json!([{ "port": 53, "protocol": "UDP" }])));
    assert!(check_guarded(&[guard(), usual.clone()]).is_empty());
    assert_eq!(
        check_guarded(std::slice::from_ref(&usual)),
        ["allow-dns"],
        "without the guard it is all there is"
    );
    assert_eq!(check_quarantined(&[guard(), usual], false), ["allow-dns"]);
    let all_ports = foreign("all-ports", dns(json!([])));
    let more_ports = foreign(
        "more-ports",
        dns(json!([{ "port": 443, "protocol": "TCP" }])),
    );
    assert_eq!(
        check_guarded(&[guard(), all_ports, more_ports]),
        ["all-ports", "more-ports"]
    );
}

#[test]
fn a_policy_that_lets_the_pods_of_a_run_reach_each_other_widens_nothing() {
    let rules = NetworkRules {
        within_run: true,
        ..NetworkRules::default()
    };
    let guard = run_network_policy(
        &owner(),
        &run(json!({})).target,
        &BTreeSet::new(),
        &rules,
        &facts(),
    );
    let within = |labels: Value, ports: Value| {
        foreign(
            "ray-internal",
            json!({
                "podSelector": { "matchLabels": { "app": "agent" } },
                "policyTypes": ["Ingress"],
                "ingress": [{ "from": [{ "podSelector": { "matchLabels": labels } }], "ports": ports }],
            }),
        )
    };
    let same = within(json!({ "app": "agent" }), json!([{ "port": 6379 }]));
    assert!(check_guarded(&[guard.clone(), same.clone()]).is_empty());
    let other = within(json!({ "app": "web" }), json!([]));
    assert_eq!(check_guarded(&[guard, other]), ["ray-internal"]);
    // Without the run's own rule it is a hole, and in a quarantine it always is.
    assert_eq!(
        check_guarded(&[self::guard(), same.clone()]),
        ["ray-internal"]
    );
    assert_eq!(check_quarantined(&[same], false), ["ray-internal"]);
}
