//! Tests of the NetworkPolicies and of the standing denies.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};

use super::super::audit::selects;
use super::super::network::{
    run_network_policy, standing_deny_cluster_policy, standing_deny_network_policy,
};
use super::super::{ClusterFacts, ceiling};
use super::{facts, owner, run};
use crate::api::labels;

fn guard(fields: Value) -> NetworkPolicy {
    guard_in(fields, &facts())
}

fn guard_in(fields: Value, facts: &ClusterFacts) -> NetworkPolicy {
    let spec = run(fields);
    let evaluation = ceiling::evaluate(&spec, None, facts);
    run_network_policy(
        &owner(),
        &spec.target,
        &BTreeSet::new(),
        &evaluation.effective.network,
        facts,
    )
}

fn pod(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn a_run_that_lists_nothing_and_keeps_its_pods_apart_reaches_cluster_dns_and_nothing_else() {
    let apart = json!({ "network": { "allowWithinRun": false } });
    let policy = serde_json::to_value(guard(apart)).unwrap();
    let spec = &policy["spec"];
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(spec["ingress"], json!([]), "nothing is let in");
    assert_eq!(
        spec["egress"],
        json!([{
            "to": [
                {
                    "namespaceSelector": { "matchLabels": { "kubernetes.io/metadata.name": "kube-system" } },
                    "podSelector": { "matchLabels": { "k8s-app": "kube-dns" } },
                },
                { "ipBlock": { "cidr": "169.254.20.10/32" } },
            ],
            "ports": [
                { "port": 53, "protocol": "UDP" },
                { "port": 53, "protocol": "TCP" },
            ],
        }])
    );
}

#[test]
fn without_a_known_resolver_there_is_no_rule_rather_than_one_for_every_peer() {
    let apart = json!({ "network": { "allowWithinRun": false } });
    let policy = guard_in(apart, &ClusterFacts::default());
    assert_eq!(policy.spec.unwrap().egress.unwrap(), []);
}

#[test]
fn the_allow_list_follows_with_ports_and_exceptions() {
    let policy = serde_json::to_value(guard(json!({ "network": { "egress": [
        { "cidr": "10.0.0.0/8", "ports": [
            { "port": 443 },
            { "port": 8000, "endPort": 8010, "protocol": "UDP" },
            { "port": 22, "endPort": 22 },
        ] },
        { "podSelector": { "matchLabels": { "app": "tool" } } },
    ] } })))
    .unwrap();
    assert_eq!(
        policy["spec"]["egress"][1],
        json!({
            "to": [{ "ipBlock": { "cidr": "10.0.0.0/8", "except": ["10.96.0.0/12", "10.244.0.0/16"] } }],
            "ports": [
                { "port": 443, "protocol": "TCP" },
                { "port": 8000, "endPort": 8010, "protocol": "UDP" },
                { "port": 22, "protocol": "TCP" },
            ],
        })
    );
    assert_eq!(
        policy["spec"]["egress"][2],
        json!({ "to": [{ "podSelector": { "matchLabels": { "app": "tool" } } }] })
    );
}

#[test]
fn a_selector_target_keeps_its_selector_and_leaves_quarantined_pods_out() {
    let policy = guard(json!({}));
    assert!(selects(&policy, &pod(&[("app", "agent")])));
    assert!(!selects(&policy, &pod(&[("app", "other")])));
    assert!(!selects(
        &policy,
        &pod(&[("app", "agent"), (labels::QUARANTINE, "inc-1")])
    ));
}

#[test]
fn other_targets_are_found_by_the_run_label_and_leave_quarantined_pods_out() {
    for target in [
        json!({ "ref": { "apiVersion": "batch/v1", "kind": "Job", "name": "j" } }),
        json!({ "template": { "pod": { "spec": { "containers": [] } } } }),
    ] {
        let policy = guard(json!({ "target": target }));
        assert!(selects(&policy, &pod(&[(labels::RUN, "train")])));
        assert!(!selects(&policy, &pod(&[(labels::RUN, "other")])));
        assert!(!selects(
            &policy,
            &pod(&[(labels::RUN, "train"), (labels::QUARANTINE, "")])
        ));
    }
}

#[test]
fn the_guard_is_owned_by_its_run_and_names_it() {
    let policy = guard(json!({}));
    assert_eq!(
        policy.metadata.name.as_deref(),
        Some("yellowjack-run-train")
    );
    assert_eq!(policy.metadata.namespace.as_deref(), Some("team"));
    let reference = &policy.metadata.owner_references.unwrap()[0];
    assert_eq!(
        (reference.uid.as_str(), reference.controller),
        ("uid-1", Some(true))
    );
    let found = policy.metadata.labels.unwrap();
    assert_eq!(found[labels::RUN], "train");
    assert_eq!(found[labels::RUN_UID], "uid-1");
    assert_eq!(found[labels::MANAGED_BY], "yellowjack");
}

#[test]
fn the_standing_deny_selects_every_quarantined_pod_both_ways_and_outlives_the_run() {
    let policy = standing_deny_network_policy("team");
    assert!(selects(&policy, &pod(&[(labels::QUARANTINE, "inc-1")])));
    assert!(selects(&policy, &pod(&[(labels::QUARANTINE, "")])));
    assert!(!selects(&policy, &pod(&[("app", "agent")])));
    assert_eq!(policy.metadata.owner_references, None);
    let spec = serde_json::to_value(policy.spec.unwrap()).unwrap();
    assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(
        (&spec["ingress"], &spec["egress"]),
        (&json!([]), &json!([]))
    );
}

#[test]
fn the_cluster_deny_is_in_the_admin_tier_both_ways_and_for_both_families() {
    let policy = standing_deny_cluster_policy();
    assert_eq!(policy["metadata"]["name"], "yellowjack-quarantine");
    let spec = &policy["spec"];
    assert_eq!(
        (&spec["tier"], &spec["priority"]),
        (&json!("Admin"), &json!(0))
    );
    assert_eq!(spec["subject"]["pods"]["namespaceSelector"], json!({}));
    assert_eq!(
        spec["subject"]["pods"]["podSelector"]["matchExpressions"],
        json!([{ "key": labels::QUARANTINE, "operator": "Exists" }])
    );
    assert_eq!(spec["ingress"][0]["action"], "Deny");
    assert_eq!(spec["ingress"][0]["from"], json!([{ "namespaces": {} }]));
    assert_eq!(spec["egress"][0]["action"], "Deny");
    assert_eq!(
        spec["egress"][0]["to"],
        json!([{ "namespaces": {} }, { "networks": ["0.0.0.0/0", "::/0"] }])
    );
}

#[test]
fn pods_of_a_run_reach_each_other_and_no_quarantined_one_unless_the_run_forbids_it() {
    let policy = serde_json::to_value(guard(json!({}))).unwrap();
    let siblings = json!({ "podSelector": {
        "matchLabels": { "app": "agent" },
        "matchExpressions": [{ "key": labels::QUARANTINE, "operator": "DoesNotExist" }],
    } });
    assert_eq!(policy["spec"]["ingress"], json!([{ "from": [siblings] }]));
    assert_eq!(policy["spec"]["egress"][1], json!({ "to": [siblings] }));
    let isolated = guard(json!({ "network": { "allowWithinRun": false } }));
    let spec = serde_json::to_value(isolated.spec.unwrap()).unwrap();
    assert_eq!(spec["ingress"], json!([]));
    assert_eq!(spec["egress"].as_array().unwrap().len(), 1, "DNS alone");
}

#[test]
fn ingress_rules_follow_with_their_ports() {
    let policy = serde_json::to_value(guard(json!({ "network": { "ingress": [
        { "namespaceSelector": { "matchLabels": { "team": "monitoring" } }, "ports": [{ "port": 8080 }] },
        { "podSelector": { "matchLabels": { "app": "submitter" } } },
    ] } })))
    .unwrap();
    assert_eq!(
        policy["spec"]["ingress"].as_array().unwrap()[..2],
        [
            json!({
                "from": [{ "namespaceSelector": { "matchLabels": { "team": "monitoring" } } }],
                "ports": [{ "port": 8080, "protocol": "TCP" }],
            }),
            json!({ "from": [{ "podSelector": { "matchLabels": { "app": "submitter" } } }] }),
        ]
    );
}
