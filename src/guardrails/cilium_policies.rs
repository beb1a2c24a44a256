//! Which of Cilium's own policies let a pod of a run do more than its guard. They add up with NetworkPolicies, and the guard
//! has no deny rules: what one of them allows is allowed.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde_json::Value;

use super::selector;

/// A CiliumNetworkPolicy or CiliumClusterwideNetworkPolicy, reduced to the pods that it selects and what it allows.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct CiliumPolicy {
    /// Kind and name, as they are reported: `CiliumNetworkPolicy/web`.
    pub name: String,
    /// The namespace of the pods that it selects; `None` for those of all namespaces.
    pub namespace: Option<String>,
    /// The selectors of its rules that allow something.
    allowing: Vec<LabelSelector>,
}

/// The fields of a rule that name its peers.
const EGRESS_PEERS: [&str; 7] = [
    "toEndpoints",
    "toEntities",
    "toCIDR",
    "toCIDRSet",
    "toServices",
    "toFQDNs",
    "toGroups",
];
const INGRESS_PEERS: [&str; 5] = [
    "fromEndpoints",
    "fromEntities",
    "fromCIDR",
    "fromCIDRSet",
    "fromGroups",
];

impl CiliumPolicy {
    /// The policy of an object of this kind. `None` if it allows nothing that a guard does not.
    #[must_use]
    pub(crate) fn of(kind: &str, object: &Value) -> Option<Self> {
        let text = |pointer| object.pointer(pointer).and_then(Value::as_str);
        let rules = object.get("spec").into_iter();
        let rules = rules.chain(
            object
                .get("specs")
                .and_then(Value::as_array)
                .into_iter()
                .flatten(),
        );
        let allowing: Vec<LabelSelector> = rules
            .filter(|rule| allows(rule))
            .filter_map(|rule| rule.get("endpointSelector"))
            .map(label_selector)
            .collect();
        (!allowing.is_empty()).then(|| Self {
            name: format!("{kind}/{}", text("/metadata/name").unwrap_or_default()),
            namespace: text("/metadata/namespace").map(ToOwned::to_owned),
            allowing,
        })
    }

    /// Whether it selects a pod of this namespace with these labels.
    fn selects(&self, namespace: &str, labels: &BTreeMap<String, String>) -> bool {
        if self
            .namespace
            .as_deref()
            .is_some_and(|own| own != namespace)
        {
            return false;
        }
        let mut labels = labels.clone();
        labels.insert(NAMESPACE_KEY.to_owned(), namespace.to_owned());
        self.allowing
            .iter()
            .any(|chosen| selector::matches(chosen, &labels))
    }
}

/// The key under which Cilium's selectors find the namespace of a pod.
const NAMESPACE_KEY: &str = "io.kubernetes.pod.namespace";

/// The names of the policies that let such a pod do more than its guard, sorted.
#[must_use]
pub(crate) fn widening(
    namespace: &str,
    labels: &BTreeMap<String, String>,
    policies: &[CiliumPolicy],
) -> Vec<String> {
    let mut names: Vec<String> = policies
        .iter()
        .filter(|policy| policy.selects(namespace, labels))
        .map(|policy| policy.name.clone())
        .collect();
    names.sort();
    names.dedup();
    names
}

fn allows(rule: &Value) -> bool {
    let entries = |field: &str| {
        let list = rule.get(field).and_then(Value::as_array);
        list.into_iter().flatten()
    };
    entries("egress").any(|entry| has_peers(entry, &EGRESS_PEERS) && !is_dns(entry))
        || entries("ingress").any(|entry| has_peers(entry, &INGRESS_PEERS) && !is_own_node(entry))
}

/// Whether a rule names a peer, or has ports and so allows every peer. A rule with none of them allows nothing.
fn has_peers(entry: &Value, fields: &[&str]) -> bool {
    let is_set = |field: &&str| {
        let list = entry.get(*field).and_then(Value::as_array);
        list.is_some_and(|list| !list.is_empty())
    };
    fields.iter().any(is_set) || is_set(&"toPorts") || is_set(&"icmps")
}

/// Whether a rule allows DNS at the cluster's resolvers alone, which every guard allows. Such rules have Cilium log the names.
fn is_dns(entry: &Value) -> bool {
    const PORT: &str = "53";
    let list = |field: &str| entry.get(field).and_then(Value::as_array);
    let is_resolver = |peer: &Value| {
        let label = ["k8s:k8s-app", "any:k8s-app", "k8s-app"]
            .iter()
            .find_map(|key| peer.get("matchLabels")?.get(*key)?.as_str());
        matches!(label, Some("kube-dns" | "coredns" | "node-local-dns"))
    };
    let is_port = |port: &Value| port.get("port").and_then(Value::as_str) == Some(PORT);
    let has_dns_ports = |ports: &Value| {
        let ports = ports.get("ports").and_then(Value::as_array);
        ports.is_some_and(|ports| !ports.is_empty() && ports.iter().all(is_port))
    };
    let others = EGRESS_PEERS.iter().filter(|field| **field != "toEndpoints");
    list("toEndpoints").is_some_and(|peers| !peers.is_empty() && peers.iter().all(is_resolver))
        && list("toPorts").is_some_and(|ports| !ports.is_empty() && ports.iter().all(has_dns_ports))
        && others.filter_map(|field| list(field)).all(Vec::is_empty)
}

/// Whether a rule allows what comes from the pod's own node alone, which no policy keeps out: the kubelet's probes.
fn is_own_node(entry: &Value) -> bool {
    let list = |field: &str| entry.get(field).and_then(Value::as_array);
    let is_node = |entity: &Value| matches!(entity.as_str(), Some("host" | "health"));
    let others = INGRESS_PEERS
        .iter()
        .filter(|field| **field != "fromEntities");
    list("fromEntities")
        .is_some_and(|entities| !entities.is_empty() && entities.iter().all(is_node))
        && others.filter_map(|field| list(field)).all(Vec::is_empty)
}

/// A selector of Cilium as one of Kubernetes: keys without the source of the label. What cannot be read or is not known here
/// excludes no pod: a policy that is named too often is better than one that is not named.
fn label_selector(chosen: &Value) -> LabelSelector {
    let mut chosen: LabelSelector = serde_json::from_value(chosen.clone()).unwrap_or_default();
    let bare = |key: &str| {
        let without = key
            .strip_prefix("k8s:")
            .or_else(|| key.strip_prefix("any:"));
        without.unwrap_or(key).to_owned()
    };
    // What Cilium adds to an identity (labels of the namespace, service account, cluster) is not known here.
    let is_known = |key: &str| !key.starts_with("io.cilium.");
    if let Some(labels) = chosen.match_labels.take() {
        let labels = labels.into_iter().map(|(key, value)| (bare(&key), value));
        let known = labels.filter(|(key, _)| is_known(key));
        chosen.match_labels = Some(known.collect());
    }
    if let Some(requirements) = &mut chosen.match_expressions {
        for requirement in requirements.iter_mut() {
            requirement.key = bare(&requirement.key);
        }
        requirements.retain(|requirement| is_known(&requirement.key));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn policy(namespace: Option<&str>, spec: &Value) -> Option<CiliumPolicy> {
        let object = json!({ "metadata": { "name": "p", "namespace": namespace }, "spec": spec });
        CiliumPolicy::of("CiliumNetworkPolicy", &object)
    }

    fn names(policy: Option<CiliumPolicy>, namespace: &str, label: &str) -> Vec<String> {
        let labels = [("app".to_owned(), label.to_owned())].into();
        let policies: Vec<CiliumPolicy> = policy.into_iter().collect();
        widening(namespace, &labels, &policies)
    }

    fn everything(selector: &Value) -> Value {
        json!({ "endpointSelector": selector, "egress": [{ "toEntities": ["all"] }] })
    }

    #[test]
    fn a_policy_that_allows_and_selects_the_pod_is_named() {
        let all = everything(&json!({}));
        let expected = ["CiliumNetworkPolicy/p"];
        assert_eq!(names(policy(Some("ml"), &all), "ml", "train"), expected);
        assert!(names(policy(Some("other"), &all), "ml", "train").is_empty());
        assert_eq!(names(policy(None, &all), "ml", "train"), expected);
        for key in ["app", "k8s:app", "any:app"] {
            let one = everything(&json!({ "matchLabels": { key: "train" } }));
            assert_eq!(names(policy(None, &one), "ml", "train"), expected, "{key}");
            assert!(names(policy(None, &one), "ml", "web").is_empty());
        }
        let of_namespace =
            everything(&json!({ "matchLabels": { "k8s:io.kubernetes.pod.namespace": "ml" } }));
        assert_eq!(names(policy(None, &of_namespace), "ml", "train"), expected);
        assert!(names(policy(None, &of_namespace), "web", "train").is_empty());
    }

    #[test]
    fn what_allows_nothing_more_than_a_guard_is_not_named() {
        let dns = json!({
            "toEndpoints": [{ "matchLabels": {
                "k8s:io.kubernetes.pod.namespace": "kube-system", "k8s:k8s-app": "kube-dns",
            } }],
            "toPorts": [{ "ports": [{ "port": "53", "protocol": "ANY" }],
                "rules": { "dns": [{ "matchPattern": "*" }] } }],
        });
        for spec in [
            json!({ "endpointSelector": {}, "egressDeny": [{ "toEntities": ["all"] }] }),
            json!({ "endpointSelector": {}, "egress": [{}], "ingress": [] }),
            json!({ "endpointSelector": {}, "egress": [dns] }),
            json!({ "endpointSelector": {}, "ingress": [{ "fromEntities": ["host", "health"] }] }),
            json!({ "nodeSelector": {}, "egress": [{ "toEntities": ["all"] }] }),
        ] {
            assert_eq!(policy(Some("ml"), &spec), None, "{spec}");
        }
    }

    #[test]
    fn a_dns_rule_with_more_in_it_and_ports_without_peers_are_named() {
        for entry in [
            json!({ "toPorts": [{ "ports": [{ "port": "443" }] }] }),
            json!({ "toFQDNs": [{ "matchName": "example.com" }] }),
            json!({
                "toEndpoints": [{ "matchLabels": { "k8s:k8s-app": "kube-dns" } }],
                "toPorts": [{ "ports": [{ "port": "53" }, { "port": "443" }] }],
            }),
            json!({
                "toEndpoints": [{ "matchLabels": { "k8s:k8s-app": "kube-dns" } }, {}],
                "toPorts": [{ "ports": [{ "port": "53" }] }],
            }),
        ] {
            let spec = json!({ "endpointSelector": {}, "egress": [entry] });
            assert!(policy(Some("ml"), &spec).is_some(), "{spec}");
        }
        let spec =
            json!({ "endpointSelector": {}, "ingress": [{ "fromEntities": ["host", "world"] }] });
        assert!(policy(Some("ml"), &spec).is_some());
    }
}
