//! Tests of drift: what the API server rewrites is none, what others change in what we own is.

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::super::ceiling::{self, Quota};
use super::super::drift::{
    Ownership, cluster_policy_matches, is_ours_to_delete, limit_range_matches,
    network_policy_matches, ownership, resource_quota_matches,
};
use super::super::network::{run_network_policy, standing_deny_cluster_policy};
use super::super::quota::{limit_range, resource_quota};
use super::{facts, owner, run};
use crate::api::ResourceDefaults;

fn guard() -> NetworkPolicy {
    let spec = run(
        json!({ "network": { "allowWithinRun": false, "egress": [{ "cidr": "198.51.100.0/24", "ports": [{ "port": 443 }] }] } }),
    );
    let evaluation = ceiling::evaluate(&spec, None, &facts());
    run_network_policy(
        &owner(),
        &spec.target,
        &std::collections::BTreeSet::new(),
        &evaluation.effective.network,
        &facts(),
    )
}

/// The object as an API server gives it back, with one more change.
fn observed<T: serde::Serialize + serde::de::DeserializeOwned>(
    wanted: &T,
    change: impl FnOnce(&mut Value),
) -> T {
    let mut json = serde_json::to_value(wanted).unwrap();
    json["metadata"]["resourceVersion"] = json!("7");
    json["metadata"]["uid"] = json!("object");
    change(&mut json);
    serde_json::from_value(json).unwrap()
}

type Change = fn(&mut Value);

#[test]
fn a_policy_that_comes_back_without_empty_lists_and_with_others_labels_matches() {
    let wanted = guard();
    let have = observed(&wanted, |json| {
        json["spec"].as_object_mut().unwrap().remove("ingress");
        json["metadata"]["labels"]["team"] = json!("blue");
        json["metadata"]["annotations"] = json!({ "note": "theirs" });
    });
    assert!(network_policy_matches(&wanted, &have));
}

#[test]
fn every_change_of_what_we_own_in_a_policy_is_drift() {
    let changes: [(&str, Change); 8] = [
        ("let in", |j| j["spec"]["ingress"] = json!([{}])),
        ("let out", |j| {
            j["spec"]["egress"].as_array_mut().unwrap().push(json!({}));
        }),
        ("no exception", |j| {
            j["spec"]["egress"][1]["to"][0]["ipBlock"]["cidr"] = json!("0.0.0.0/0");
        }),
        ("all ports", |j| {
            j["spec"]["egress"][1]
                .as_object_mut()
                .unwrap()
                .remove("ports");
        }),
        ("one direction", |j| {
            j["spec"]["policyTypes"] = json!(["Ingress"]);
        }),
        ("other pods", |j| {
            j["spec"]["podSelector"]["matchLabels"]["app"] = json!("other");
        }),
        ("our label", |j| {
            j["metadata"]["labels"]["yellowjack.dev/run"] = json!("other");
        }),
        ("our owner", |j| {
            j["metadata"]["ownerReferences"] = json!([]);
        }),
    ];
    let wanted = guard();
    for (name, change) in changes {
        assert!(
            !network_policy_matches(&wanted, &observed(&wanted, change)),
            "{name}"
        );
    }
}

#[test]
fn an_empty_namespace_selector_is_not_the_same_as_none() {
    let selecting = |peer: Value| -> NetworkPolicy {
        serde_json::from_value(json!({
            "metadata": {},
            "spec": { "podSelector": {}, "egress": [{ "to": [peer] }] },
        }))
        .unwrap()
    };
    let own_namespace = selecting(json!({ "podSelector": {} }));
    let every_namespace = selecting(json!({ "podSelector": {}, "namespaceSelector": {} }));
    assert!(!network_policy_matches(&own_namespace, &every_namespace));
}

#[test]
fn a_quota_matches_in_any_spelling_and_beside_keys_of_others() {
    let quota = Quota {
        hard: [("requests.cpu".to_owned(), "4000m".to_owned())].into(),
        priority_class: None,
    };
    let wanted = resource_quota(&owner(), &quota);
    let have: ResourceQuota = observed(&wanted, |json| {
        json["spec"]["hard"] = json!({ "requests.cpu": "4", "pods": "10" });
        json["spec"]
            .as_object_mut()
            .unwrap()
            .remove("scopeSelector");
        json["status"] = json!({ "used": { "requests.cpu": "3" } });
    });
    assert!(resource_quota_matches(&wanted, &have));
}

#[test]
fn a_quota_key_that_we_applied_and_no_longer_want_is_drift() {
    let quota = Quota {
        hard: [("pods".to_owned(), "4".to_owned())].into(),
        priority_class: None,
    };
    let wanted = resource_quota(&owner(), &quota);
    let applied_by = |manager: &str| {
        observed(&wanted, |json| {
            json["spec"]["hard"]["requests.cpu"] = json!("1");
            json["metadata"]["managedFields"] = json!([{
                "manager": manager, "operation": "Apply", "fieldsType": "FieldsV1",
                "fieldsV1": { "f:spec": { "f:hard": { "f:pods": {}, "f:requests.cpu": {} } } },
            }]);
        })
    };
    assert!(!resource_quota_matches(
        &wanted,
        &applied_by("yellowjack/controller")
    ));
    assert!(resource_quota_matches(&wanted, &applied_by("kubectl")));
}

#[test]
fn a_quota_that_was_raised_emptied_or_scoped_has_drifted() {
    let quota = Quota {
        hard: [("pods".to_owned(), "4".to_owned())].into(),
        priority_class: None,
    };
    let wanted = resource_quota(&owner(), &quota);
    let changes: [Change; 4] = [
        |j| j["spec"]["hard"]["pods"] = json!("5"),
        |j| j["spec"]["hard"] = json!({}),
        |j| j["spec"]["scopes"] = json!(["BestEffort"]),
        |j| {
            j["spec"]["scopeSelector"]["matchExpressions"] =
                json!([{ "scopeName": "PriorityClass", "operator": "Exists" }]);
        },
    ];
    for change in changes {
        assert!(!resource_quota_matches(&wanted, &observed(&wanted, change)));
    }
}

#[test]
fn a_limit_range_matches_in_any_spelling_and_drifts_with_its_amounts() {
    let defaults = ResourceDefaults {
        requests: [("cpu".to_owned(), "500m".to_owned())].into(),
        limits: [("cpu".to_owned(), "1".to_owned())].into(),
    };
    let wanted = limit_range(&owner(), &defaults);
    let same: LimitRange = observed(&wanted, |j| {
        j["spec"]["limits"][0]["defaultRequest"]["cpu"] = json!("0.5");
    });
    assert!(limit_range_matches(&wanted, &same));
    let changes: [Change; 3] = [
        |j| j["spec"]["limits"][0]["default"]["cpu"] = json!("2"),
        |j| j["spec"]["limits"][0]["max"] = json!({ "cpu": "1" }),
        |j| j["spec"]["limits"] = json!([]),
    ];
    for change in changes {
        assert!(!limit_range_matches(&wanted, &observed(&wanted, change)));
    }
}

#[test]
fn the_cluster_deny_matches_beside_a_status_and_drifts_with_its_rules() {
    let wanted = standing_deny_cluster_policy();
    let mut have = wanted.clone();
    have["metadata"]["resourceVersion"] = json!("3");
    have["status"] = json!({ "conditions": [] });
    assert!(cluster_policy_matches(&wanted, &have));
    have["spec"]["priority"] = json!(1000);
    assert!(!cluster_policy_matches(&wanted, &have));
}

#[test]
fn an_object_is_ours_by_the_controlling_run_and_not_by_its_labels() {
    let ours = guard().metadata;
    assert_eq!(ownership(&owner(), &ours), Ownership::Ours);
    assert!(is_ours_to_delete(&owner(), &ours));

    let labelled = ObjectMeta {
        labels: Some(owner().labels()),
        ..ObjectMeta::default()
    };
    assert!(matches!(
        ownership(&owner(), &labelled),
        Ownership::Other(_)
    ));
    assert!(!is_ours_to_delete(&owner(), &labelled));

    let mut older = guard().metadata;
    older.owner_references.as_mut().unwrap()[0].uid = "uid-0".into();
    assert_eq!(
        ownership(&owner(), &older),
        Ownership::Other("AgentRun train".into())
    );

    let mut adopted = guard().metadata;
    adopted.labels = None;
    assert!(!is_ours_to_delete(&owner(), &adopted));
}
