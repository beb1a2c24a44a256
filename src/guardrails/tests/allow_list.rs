//! Tests of the allow list: which rules are in force, which are refused, and what stays blocked inside.

use ipnet::IpNet;
use serde_json::{Value, json};

use super::super::ClusterFacts;
use super::super::allow_list::Peer;
use super::super::ceiling::{self, Evaluation};
use super::{evaluate, facts, policy, reasons, run};
use crate::api::Reason;
use crate::limits;

fn egress(rule: Value, policy_network: Value) -> Evaluation {
    evaluate(
        json!({ "network": { "egress": [rule] } }),
        json!({ "network": policy_network }),
    )
}

fn excepts(evaluation: &Evaluation) -> Vec<String> {
    assert_eq!(evaluation.problems, [], "the rule is in force");
    let Peer::Range { except, .. } = &evaluation.effective.network.egress[0].peer else {
        panic!("expected a range");
    };
    except.iter().map(ToString::to_string).collect()
}

fn refused(evaluation: &Evaluation, reason: Reason) -> String {
    assert_eq!(reasons(evaluation), [reason]);
    assert_eq!(
        evaluation.effective.network.egress,
        [],
        "a refused rule is not in force"
    );
    evaluation.problems[0].message.clone()
}

#[test]
fn the_internet_leaves_metadata_nodes_pods_and_services_blocked() {
    let found = excepts(&egress(json!({ "cidr": "0.0.0.0/0" }), json!({})));
    for blocked in [
        "169.254.0.0/16",
        "100.100.100.200/32",
        "168.63.129.16/32",
        "10.244.0.0/16",
        "10.96.0.0/12",
        "192.168.7.4/31",
    ] {
        assert!(
            found.contains(&blocked.to_owned()),
            "{blocked} in {found:?}"
        );
    }
    assert!(found.iter().all(|range| !range.contains(':')), "one family");
}

#[test]
fn the_internet_over_ipv6_leaves_them_blocked_too() {
    let found = excepts(&egress(json!({ "cidr": "::/0" }), json!({})));
    for blocked in [
        "fe80::/10",
        "fd00:ec2::254/128",
        "64:ff9b::a9fe:0/112",
        "fd00:10:244::/56",
        "fd00:10:96::/112",
    ] {
        assert!(
            found.contains(&blocked.to_owned()),
            "{blocked} in {found:?}"
        );
    }
    assert!(found.iter().all(|range| range.contains(':')), "one family");
}

#[test]
fn the_policys_blocked_ranges_stay_blocked_inside_and_cannot_be_listed() {
    let blocking = json!({ "blockedCidrs": ["203.0.113.0/24"], "allowInfrastructure": true });
    let found = excepts(&egress(json!({ "cidr": "203.0.0.0/16" }), blocking.clone()));
    assert_eq!(found, ["203.0.113.0/24"]);
    let message = refused(
        &egress(json!({ "cidr": "203.0.113.0/25" }), blocking),
        Reason::ExceedsPolicy,
    );
    assert!(message.contains("203.0.113.0/24"), "{message}");
}

#[test]
fn a_range_of_the_cluster_needs_a_policy_that_allows_infrastructure() {
    for cidr in [
        "169.254.169.254/32",
        "169.254.0.0/16",
        "10.244.3.0/24",
        "10.96.0.1/32",
        "192.168.7.4/32",
        "fd00:ec2::254/128",
    ] {
        let rule = json!({ "cidr": cidr });
        let message = refused(&egress(rule.clone(), json!({})), Reason::ExceedsPolicy);
        assert!(
            message.contains("network.egress[0]") && message.contains(cidr),
            "{message}"
        );
        let allowed = egress(rule, json!({ "allowInfrastructure": true }));
        assert_eq!(allowed.problems, [], "{cidr}");
    }
}

#[test]
fn listing_the_link_local_range_does_not_list_the_metadata_address() {
    let found = excepts(&egress(
        json!({ "cidr": "169.254.0.0/16" }),
        json!({ "allowInfrastructure": true }),
    ));
    assert_eq!(found, ["169.254.169.254/32"]);
}

#[test]
fn a_range_outside_the_policys_ranges_is_refused_by_name() {
    let network = json!({ "allowedCidrs": ["198.51.100.0/24"] });
    assert_eq!(
        egress(json!({ "cidr": "198.51.100.128/25" }), network.clone()).problems,
        []
    );
    let message = refused(
        &egress(json!({ "cidr": "198.51.0.0/16" }), network),
        Reason::ExceedsPolicy,
    );
    assert!(
        message.contains("allowedCidrs of GuardrailPolicy default"),
        "{message}"
    );
    refused(
        &egress(
            json!({ "cidr": "198.51.100.0/24" }),
            json!({ "allowedCidrs": [] }),
        ),
        Reason::ExceedsPolicy,
    );
}

#[test]
fn a_name_is_refused_with_what_to_do_and_is_never_ignored() {
    let message = refused(
        &egress(json!({ "fqdn": "pypi.org" }), json!({})),
        Reason::FqdnNotEnforceable,
    );
    assert!(
        message.contains("pypi.org") && message.contains("cidr"),
        "{message}"
    );
    let allowing = json!({ "allowedFqdns": ["*.example.com"] });
    refused(
        &egress(json!({ "fqdn": "a.example.com" }), allowing.clone()),
        Reason::FqdnNotEnforceable,
    );
    refused(
        &egress(json!({ "fqdn": "example.com" }), allowing.clone()),
        Reason::ExceedsPolicy,
    );
    refused(
        &egress(json!({ "fqdn": "badexample.com" }), allowing),
        Reason::ExceedsPolicy,
    );
}

#[test]
fn a_refused_rule_leaves_the_others_in_force() {
    let evaluation = evaluate(
        json!({ "network": { "egress": [
            { "fqdn": "pypi.org" },
            { "cidr": "198.51.100.7/32", "ports": [{ "port": 443 }] },
        ] } }),
        json!({}),
    );
    assert_eq!(reasons(&evaluation), [Reason::FqdnNotEnforceable]);
    assert_eq!(evaluation.effective.network.egress.len(), 1);
    assert_eq!(evaluation.effective.network.egress[0].ports[0].port, 443);
}

#[test]
fn host_bits_are_cut_off_and_mapped_addresses_refused() {
    let evaluation = egress(json!({ "cidr": "198.51.100.9/24" }), json!({}));
    let Peer::Range { cidr, .. } = &evaluation.effective.network.egress[0].peer else {
        panic!("expected a range");
    };
    assert_eq!(cidr.to_string(), "198.51.100.0/24");
    refused(
        &egress(json!({ "cidr": "::ffff:169.254.169.254/128" }), json!({})),
        Reason::Invalid,
    );
    refused(
        &egress(json!({ "cidr": "not-a-range" }), json!({})),
        Reason::Invalid,
    );
    refused(&egress(json!({}), json!({})), Reason::Invalid);
}

#[test]
fn a_selector_of_the_whole_cluster_counts_as_listing_it() {
    for rule in [
        json!({ "namespaceSelector": {} }),
        json!({ "namespaceSelector": {}, "podSelector": {} }),
        json!({ "namespaceSelector": { "matchExpressions": [
            { "key": "team", "operator": "NotIn", "values": ["x"] }
        ] } }),
    ] {
        refused(&egress(rule.clone(), json!({})), Reason::ExceedsPolicy);
        let allowed = egress(rule, json!({ "allowInfrastructure": true }));
        assert_eq!(allowed.problems, []);
    }
    for rule in [
        json!({ "podSelector": {} }),
        json!({ "namespaceSelector": {}, "podSelector": { "matchLabels": { "app": "tool" } } }),
        json!({ "namespaceSelector": { "matchLabels": { "team": "x" } } }),
    ] {
        assert_eq!(egress(rule, json!({})).problems, []);
    }
}

#[test]
fn a_selector_that_the_api_server_would_refuse_is_named() {
    let rule =
        json!({ "podSelector": { "matchExpressions": [{ "key": "app", "operator": "Like" }] } });
    let message = refused(&egress(rule, json!({})), Reason::Invalid);
    assert!(message.contains("Like"), "{message}");
}

#[test]
fn rules_of_the_policy_come_first_and_may_list_infrastructure() {
    let evaluation = evaluate(
        json!({ "network": { "egress": [{ "cidr": "198.51.100.7/32" }] } }),
        json!({ "network": {
            "allowedCidrs": ["198.51.100.0/24"],
            "defaultEgress": [{ "cidr": "10.96.0.1/32", "ports": [{ "port": 443 }] }],
        } }),
    );
    assert_eq!(evaluation.problems, []);
    let cidrs = evaluation
        .effective
        .network
        .egress
        .iter()
        .map(|allow| match &allow.peer {
            Peer::Range { cidr, .. } => cidr.to_string(),
            Peer::Pods { .. } => "pods".to_owned(),
        });
    let cidrs: Vec<_> = cidrs.collect();
    assert_eq!(cidrs, ["10.96.0.1/32", "198.51.100.7/32"]);
}

#[test]
fn a_range_that_is_blocked_piece_by_piece_is_refused_and_not_left_open() {
    let halves = json!({ "blockedCidrs": ["198.51.100.0/25", "198.51.100.128/25"] });
    refused(
        &egress(json!({ "cidr": "198.51.100.0/24" }), halves),
        Reason::ExceedsPolicy,
    );
}

#[test]
fn thousands_of_nodes_fit_into_bounded_exceptions_that_still_cover_each() {
    let nodes: Vec<IpNet> = (0..5000u32)
        .map(|n| {
            let address = std::net::Ipv4Addr::from(0x0b00_0000 + n * 977);
            IpNet::new(address.into(), 32).unwrap()
        })
        .collect();
    let facts = ClusterFacts {
        node_cidrs: nodes.clone(),
        ..facts()
    };
    let spec = run(json!({ "network": { "egress": [{ "cidr": "0.0.0.0/0" }] } }));
    let evaluation = ceiling::evaluate(&spec, Some(&policy(json!({}))), &facts);
    let Peer::Range { cidr, except } = &evaluation.effective.network.egress[0].peer else {
        panic!("expected a range");
    };
    assert!(except.len() <= limits::EXCEPT_MAX, "{}", except.len());
    for node in &nodes {
        assert!(except.iter().any(|range| range.contains(node)), "{node}");
    }
    assert!(
        except
            .iter()
            .all(|range| range != cidr && cidr.contains(range))
    );
}

#[test]
fn a_policy_keeps_the_pods_of_every_run_apart_and_names_a_run_that_requests_more() {
    let of_policy = json!({ "network": { "allowWithinRun": false } });
    let silent = evaluate(json!({}), of_policy.clone());
    assert_eq!(silent.problems, []);
    assert!(!silent.effective.network.within_run);
    let wider = evaluate(json!({ "network": { "allowWithinRun": true } }), of_policy);
    assert_eq!(reasons(&wider), [Reason::ExceedsPolicy]);
    assert!(!wider.effective.network.within_run);
    assert!(evaluate(json!({}), json!({})).effective.network.within_run);
}

#[test]
fn a_range_may_be_let_in_only_where_the_policy_lists_it() {
    let ingress = |cidr: &str, of_policy: Value| {
        evaluate(
            json!({ "network": { "ingress": [{ "cidr": cidr }] } }),
            json!({ "network": of_policy }),
        )
    };
    let refused = ingress("198.51.100.0/24", json!({}));
    assert_eq!(reasons(&refused), [Reason::ExceedsPolicy]);
    assert_eq!(refused.effective.network.ingress, []);
    let message = &refused.problems[0].message;
    assert!(message.contains("network.ingress[0]") && message.contains("allowedIngressCidrs"));
    let allowed = json!({ "allowedIngressCidrs": ["198.51.100.0/22"] });
    let accepted = ingress("198.51.100.0/24", allowed.clone());
    assert_eq!(accepted.problems, []);
    assert_eq!(accepted.effective.network.ingress.len(), 1);
    assert_eq!(
        reasons(&ingress("203.0.113.0/24", allowed)),
        [Reason::ExceedsPolicy]
    );
}

#[test]
fn the_whole_cluster_may_not_be_let_in_and_the_rules_of_the_policy_stand_first() {
    let everybody = json!({ "network": { "ingress": [
        { "namespaceSelector": { "matchExpressions": [
            { "key": "kubernetes.io/metadata.name", "operator": "Exists" },
        ] } },
    ] } });
    let scraper = json!({ "podSelector": { "matchLabels": { "app": "prometheus" } } });
    let evaluation = evaluate(
        everybody,
        json!({ "network": { "defaultIngress": [scraper] } }),
    );
    assert_eq!(reasons(&evaluation), [Reason::ExceedsPolicy]);
    assert_eq!(evaluation.effective.network.ingress.len(), 1);
}
