//! Cilium's policies for the quarantine, its endpoints, and the cells of a run.
//!
//! Cilium judges a pod by its security identity, which it derives from the pod's labels. A pod with changed labels keeps its
//! identity for a random time of up to `identity-max-jitter` (30 s by default) and then `identity-change-grace-period` (5 s),
//! so a deny that selects the quarantine label takes effect up to 36 s after the label was set. A new policy that selects
//! labels of the identity that is in force takes effect in less than a second, but not while the pod waits for its new identity.
//! Hence an Incident gets a policy of its own before its pod gets the quarantine label, until the identity has that label.
//!
//! Pods with the same labels share an identity, so such a policy denies the pod's siblings too. A cell is a label with one of
//! few values that the controller gives to the pods of a run, so that few or none share an identity.
//!
//! Source of the waits: Cilium 1.20, `pkg/defaults/defaults.go` and `pkg/endpoint/endpoint.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::api::{Incident, labels};
use crate::limits;

use super::ClusterFacts;
use super::allow_list::{AllowRule, NetworkRules, Peer};

/// Prefix of the labels in an identity that come from Kubernetes.
const KUBERNETES_SOURCE: &str = "k8s:";

/// The key of an identity with the pod's namespace. Cilium adds it: it is no label of the pod.
const NAMESPACE_KEY: &str = "io.kubernetes.pod.namespace";

/// Keys of an identity that Cilium adds.
const ADDED_BY_CILIUM: [&str; 2] = ["io.cilium.", NAMESPACE_KEY];

/// A kind of Cilium's API, `cilium.io/v2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CiliumKind {
    /// The state of a pod's network, written by Cilium's agent on the node of the pod.
    Endpoint,
    /// A policy for the pods of one namespace.
    NetworkPolicy,
    /// A policy for the pods of all namespaces.
    ClusterwideNetworkPolicy,
}

impl CiliumKind {
    /// The resource of this kind, as its definition in Cilium names it.
    #[must_use]
    pub(crate) fn resource(self) -> ApiResource {
        let (kind, plural) = match self {
            Self::Endpoint => ("CiliumEndpoint", "ciliumendpoints"),
            Self::NetworkPolicy => ("CiliumNetworkPolicy", "ciliumnetworkpolicies"),
            Self::ClusterwideNetworkPolicy => (
                "CiliumClusterwideNetworkPolicy",
                "ciliumclusterwidenetworkpolicies",
            ),
        };
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("cilium.io", "v2", kind), plural)
    }
}

/// The labels of a pod that its security identity is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct IdentityLabels(BTreeMap<String, String>);

impl IdentityLabels {
    /// The labels in force of a CiliumEndpoint. `None` if it has no identity yet.
    #[must_use]
    pub(crate) fn of_endpoint(endpoint: &Value) -> Option<Self> {
        let found = endpoint.pointer("/status/identity/labels")?.as_array()?;
        let own = found.iter().filter_map(Value::as_str).filter_map(|label| {
            let (key, value) = label.strip_prefix(KUBERNETES_SOURCE)?.split_once('=')?;
            let is_added = ADDED_BY_CILIUM.iter().any(|prefix| key.starts_with(prefix));
            (!is_added).then(|| (key.to_owned(), value.to_owned()))
        });
        Some(Self(own.take(limits::IDENTITY_LABELS_MAX).collect()))
    }

    /// Whether the standing deny selects this identity.
    #[must_use]
    pub(crate) fn has_quarantine(&self) -> bool {
        self.0.contains_key(labels::QUARANTINE)
    }

    /// Whether the identity has the cell of a run.
    #[must_use]
    pub(crate) fn has_cell(&self) -> bool {
        self.0.contains_key(labels::CELL)
    }

    /// Whether the identity has this run.
    #[must_use]
    pub(crate) fn has_run(&self, run: &str) -> bool {
        self.0.get(labels::RUN).map(String::as_str) == Some(run)
    }

    /// Whether a policy for this identity selects a pod with these labels.
    #[must_use]
    pub(crate) fn selects(&self, pod: &BTreeMap<String, String>) -> bool {
        self.0
            .iter()
            .all(|(key, value)| pod.get(key) == Some(value))
    }
}

impl fmt::Display for IdentityLabels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (key, value)) in self.0.iter().enumerate() {
            let comma = if at == 0 { "" } else { "," };
            write!(f, "{comma}{key}={value}")?;
        }
        Ok(())
    }
}

/// The deny for quarantined pods of the whole cluster. On Cilium a deny takes precedence over every policy that allows,
/// whatever its kind, and `all` includes nodes, the API server and other clusters, which no range of addresses does.
#[must_use]
pub(crate) fn standing_deny_cilium_policy() -> Value {
    let key = format!("{KUBERNETES_SOURCE}{}", labels::QUARANTINE);
    let rule = deny_both_directions(&json!({
        "matchExpressions": [{ "key": key, "operator": "Exists" }],
    }));
    json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumClusterwideNetworkPolicy",
        "metadata": {
            "name": labels::STANDING_DENY,
            "labels": { labels::MANAGED_BY: labels::MANAGED_BY_VALUE },
        },
        "spec": rule,
    })
}

/// Name of the policy that denies the pods of an Incident until their identities have the quarantine label.
#[must_use]
pub(crate) fn interim_deny_name(incident_uid: &str) -> String {
    format!("{}-{incident_uid}", labels::STANDING_DENY)
}

/// That policy. It is deleted with its Incident at the latest.
#[must_use]
pub(crate) fn interim_deny(
    (incident, incident_uid): (&str, &str),
    namespace: &str,
    identities: &BTreeSet<IdentityLabels>,
) -> Value {
    let rules = identities.iter().map(|identity| {
        let selected: BTreeMap<String, &String> = identity
            .0
            .iter()
            .map(|(key, value)| (format!("{KUBERNETES_SOURCE}{key}"), value))
            .collect();
        deny_both_directions(&json!({ "matchLabels": selected }))
    });
    json!({
        "apiVersion": "cilium.io/v2",
        "kind": "CiliumNetworkPolicy",
        "metadata": {
            "name": interim_deny_name(incident_uid),
            "namespace": namespace,
            "labels": { labels::MANAGED_BY: labels::MANAGED_BY_VALUE },
            "ownerReferences": [{
                "apiVersion": "yellowjack.dev/v1alpha1",
                "kind": "Incident",
                "name": incident,
                "uid": incident_uid,
            }],
        },
        "specs": rules.collect::<Vec<Value>>(),
    })
}

/// Whether a policy was made for an Incident that has no record of it: the process ended between the two writes, and the
/// response then took another course. `incident` is the owner of the policy; without one the policy is deleted by the garbage
/// collector. A policy of the last minute may not be recorded yet.
#[must_use]
pub(crate) fn is_left_over(
    policy: &ObjectMeta,
    incident: Option<&Incident>,
    now: Timestamp,
) -> bool {
    let manager = policy
        .labels
        .as_ref()
        .and_then(|own| own.get(labels::MANAGED_BY));
    let owner = policy.owner_references.iter().flatten().next();
    let is_interim_deny = manager.map(String::as_str) == Some(labels::MANAGED_BY_VALUE)
        && owner.is_some_and(|owner| {
            policy.name.as_deref() == Some(interim_deny_name(&owner.uid).as_str())
        });
    let age = policy
        .creation_timestamp
        .as_ref()
        .map(|created| now.duration_since(created.0).unsigned_abs());
    let has_record = |incident: &Incident| {
        let known = incident.cilium();
        known.is_some_and(|known| !known.interim_identities.is_empty())
    };
    is_interim_deny
        && age.is_some_and(|age| age >= limits::IDENTITY_CHANGE_MAX)
        && incident.is_some_and(|incident| !has_record(incident))
}

/// Denies everything but what the pod's own node opens to it: the kubelet's probes come from there, and a pod that fails its
/// liveness probe is restarted, which destroys what it ran. Other network policies cannot deny that traffic either.
fn deny_both_directions(selector: &Value) -> Value {
    let namespace = format!("{KUBERNETES_SOURCE}{NAMESPACE_KEY}");
    json!({
        "endpointSelector": selector,
        "ingressDeny": [
            { "fromEntities": ["world", "remote-node", "unmanaged", "init", "health", "ingress"] },
            { "fromEndpoints": [{
                "matchExpressions": [{ "key": namespace, "operator": "Exists" }],
            }] },
        ],
        "egressDeny": [{ "toEntities": ["all"] }],
    })
}

/// Ranges of allow rules that match nothing on Cilium: with its default `policy-cidr-match-mode` a range of addresses
/// matches no node, pod or Service.
#[must_use]
pub(crate) fn ranges_without_effect(rules: &NetworkRules, facts: &ClusterFacts) -> Vec<String> {
    let of_cluster = || {
        let pods = facts.pod_cidrs.iter().chain(&facts.service_cidrs);
        pods.chain(&facts.node_cidrs)
    };
    let range = |rule: &AllowRule| match &rule.peer {
        Peer::Range { cidr, .. } => of_cluster()
            .any(|own| own.contains(cidr))
            .then(|| cidr.to_string()),
        Peer::Pods { .. } => None,
    };
    let mut found: Vec<String> = rules.egress.iter().filter_map(range).collect();
    found.sort();
    found.dedup();
    found
}

/// How many cells each run has, in a cluster with this many runs. Each cell of a run is an identity, and a cluster has
/// 65,535 of them: a quarter is for cells.
#[must_use]
pub(crate) fn cells_per_run(runs: usize) -> usize {
    (limits::CELLS_IN_CLUSTER_MAX / runs.max(1)).clamp(1, limits::CELLS_PER_RUN_MAX)
}

/// The cells of pods that have none, in order: each time one of those with the fewest pods. `known` are the labels of the
/// run's other pods.
pub(crate) fn assign_cells<'a>(
    known: impl Iterator<Item = &'a str>,
    cells: usize,
) -> impl Iterator<Item = String> {
    let mut pods = vec![0_usize; cells];
    for cell in known.filter_map(|label| label.parse::<usize>().ok()) {
        if let Some(count) = pods.get_mut(cell) {
            *count += 1;
        }
    }
    std::iter::from_fn(move || {
        let (cell, count) = pods
            .iter_mut()
            .enumerate()
            .min_by_key(|(_, count)| **count)?;
        *count += 1;
        Some(cell.to_string())
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;

    fn endpoint(identity: &[&str]) -> Value {
        json!({ "status": { "identity": { "id": 4711, "labels": identity } } })
    }

    fn pod(own: &[(&str, &str)]) -> BTreeMap<String, String> {
        own.iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn an_identity_is_made_of_the_labels_of_the_pod_alone() {
        let found = IdentityLabels::of_endpoint(&endpoint(&[
            "k8s:app=fleet",
            "k8s:io.cilium.k8s.namespace.labels.kubernetes.io/metadata.name=ml",
            "k8s:io.cilium.k8s.policy.cluster=default",
            "k8s:io.cilium.k8s.policy.serviceaccount=default",
            "k8s:io.kubernetes.pod.namespace=ml",
            "k8s:yellowjack.dev/run=fleet",
            "reserved:init",
        ]));
        let found = found.unwrap();
        assert_eq!(found.to_string(), "app=fleet,yellowjack.dev/run=fleet");
        assert!(!found.has_quarantine() && !found.has_cell());
        assert!(found.selects(&pod(&[
            ("app", "fleet"),
            ("yellowjack.dev/run", "fleet"),
            ("pod-template-hash", "1"),
        ])));
        assert!(!found.selects(&pod(&[("app", "fleet")])));
        assert_eq!(IdentityLabels::of_endpoint(&json!({ "status": {} })), None);
    }

    #[test]
    fn the_standing_deny_selects_an_identity_with_the_quarantine_label() {
        let identity = ["k8s:yellowjack.dev/quarantine=i1"];
        let found = IdentityLabels::of_endpoint(&endpoint(&identity)).unwrap();
        assert!(found.has_quarantine());
        let policy = standing_deny_cilium_policy();
        let key = policy.pointer("/spec/endpointSelector/matchExpressions/0/key");
        assert_eq!(key, Some(&json!("k8s:yellowjack.dev/quarantine")));
    }

    #[test]
    fn a_policy_of_an_incident_has_a_rule_for_each_identity_and_denies_both_directions() {
        let identities = ["k8s:app=a", "k8s:app=b"];
        let identities = identities
            .iter()
            .filter_map(|label| IdentityLabels::of_endpoint(&endpoint(&[label])))
            .collect();
        let policy = interim_deny(("scan-1", "uid-1"), "ml", &identities);
        let rules = policy["specs"].as_array().unwrap();
        assert_eq!(rules.len(), 2);
        for (rule, app) in rules.iter().zip(["a", "b"]) {
            assert_eq!(rule["endpointSelector"]["matchLabels"]["k8s:app"], app);
            assert_eq!(rule["egressDeny"][0]["toEntities"][0], "all");
            let denied = rule["ingressDeny"].to_string();
            assert!(denied.contains("world") && denied.contains("remote-node"));
            // The kubelet's probes come from the node of the pod.
            assert!(!denied.contains(r#""host""#) && !denied.contains(r#""all""#));
        }
        assert_eq!(policy["metadata"]["ownerReferences"][0]["uid"], "uid-1");
    }

    #[test]
    fn a_policy_without_a_record_in_its_incident_is_left_over_after_a_minute() {
        let made = interim_deny(("scan-1", "uid-1"), "ml", &BTreeSet::new());
        let mut meta: ObjectMeta = serde_json::from_value(made["metadata"].clone()).unwrap();
        let at = |second| Timestamp::from_second(second).unwrap();
        meta.creation_timestamp = Some(Time(at(100)));
        let spec = json!({ "subject": { "name": "p", "uid": "u" }, "evidence": [] });
        let mut incident = Incident::new("scan-1", serde_json::from_value(spec).unwrap());
        assert!(!is_left_over(&meta, Some(&incident), at(159)));
        assert!(is_left_over(&meta, Some(&incident), at(160)));
        assert!(!is_left_over(&meta, None, at(160)));
        let status = incident.status.get_or_insert_default();
        let known = status.cilium.get_or_insert_default();
        known.interim_identities = vec!["app=train".to_owned()];
        assert!(!is_left_over(&meta, Some(&incident), at(160)));
        // Of another owner: not of this kind.
        incident.status = None;
        meta.labels = None;
        assert!(!is_left_over(&meta, Some(&incident), at(160)));
    }

    #[test]
    fn the_pods_of_a_small_run_have_a_cell_each_and_those_of_a_large_one_share_evenly() {
        let cells: Vec<String> = assign_cells(["0", "1"].into_iter(), 16).take(14).collect();
        assert_eq!(cells.iter().collect::<BTreeSet<_>>().len(), 14);
        assert!(!cells.contains(&"0".to_owned()) && !cells.contains(&"1".to_owned()));
        let mut pods = [0; 16];
        for cell in assign_cells(std::iter::empty(), 16).take(64) {
            pods[cell.parse::<usize>().unwrap()] += 1;
        }
        assert_eq!(pods, [4; 16]);
    }

    #[test]
    fn a_cell_that_a_template_chose_does_not_disturb_the_others() {
        let chosen = ["7", "7", "7", "4096", "-1", "x"];
        let cells: BTreeSet<String> = assign_cells(chosen.into_iter(), 16).take(15).collect();
        assert!(cells.len() == 15 && !cells.contains("7"));
    }

    #[test]
    fn ranges_of_the_cluster_are_without_effect_and_those_outside_are_not() {
        let facts = ClusterFacts {
            pod_cidrs: vec!["10.244.0.0/16".parse().unwrap()],
            node_cidrs: vec!["192.0.2.1/32".parse().unwrap()],
            ..ClusterFacts::default()
        };
        let rule = |cidr: &str| AllowRule {
            peer: Peer::Range {
                cidr: cidr.parse().unwrap(),
                except: Vec::new(),
            },
            ports: Vec::new(),
        };
        let ranges = [
            "192.0.2.1/32",
            "10.244.3.0/24",
            "203.0.113.0/24",
            "0.0.0.0/0",
        ];
        let rules = NetworkRules {
            egress: ranges.map(rule).into(),
            ingress: Vec::new(),
            within_run: true,
        };
        let found = ranges_without_effect(&rules, &facts);
        assert_eq!(found, ["10.244.3.0/24", "192.0.2.1/32"]);
    }

    #[test]
    fn many_runs_have_fewer_cells_each() {
        assert_eq!(cells_per_run(0), limits::CELLS_PER_RUN_MAX);
        assert_eq!(cells_per_run(1_000), 16);
        assert_eq!(cells_per_run(4_096), 4);
        assert_eq!(cells_per_run(1_000_000), 1);
    }
}
