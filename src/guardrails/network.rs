//! NetworkPolicies: the policy of a run, and the deny policies of the quarantine.
//!
//! The controller applies them. NetworkPolicy has only allow rules. A deny that takes precedence is the ClusterNetworkPolicy,
//! if the cluster serves that API. The policy of a run excludes quarantined pods, so that none of Yellowjack's policies
//! allows their traffic.

use std::collections::BTreeSet;

use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
    NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector, LabelSelectorRequirement, ObjectMeta,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use crate::api::{EgressPort, Protocol, Target, labels};

use super::allow_list::{AllowRule, NetworkRules, Peer};
use super::selector::NAMESPACE_NAME;
use super::{ClusterFacts, DnsTarget, RunOwner};

const DNS_PORT: i32 = 53;

/// API version of the ClusterNetworkPolicy.
const CLUSTER_POLICY_API_VERSION: &str = "policy.networking.k8s.io/v1alpha2";
/// Kind of the ClusterNetworkPolicy.
const CLUSTER_POLICY_KIND: &str = "ClusterNetworkPolicy";

/// The NetworkPolicy of a run: denies both directions except DNS, the run's own pods and the allow lists.
///
/// A connection that is opened to a pod can carry data out past every egress rule, so ingress is allowed only from the
/// run's own pods and the allow list. Pods that the target covers and that belong to other runs, the `holders`, are left to
/// their policies: two of them on one pod would allow what either of them does.
#[must_use]
pub(crate) fn run_network_policy(
    owner: &RunOwner,
    target: &Target,
    holders: &BTreeSet<String>,
    rules: &NetworkRules,
    facts: &ClusterFacts,
) -> NetworkPolicy {
    let siblings = rules.within_run.then(|| NetworkPolicyPeer {
        pod_selector: Some(guarded_pods(owner, target, holders)),
        ..NetworkPolicyPeer::default()
    });
    let to_siblings = siblings.clone().map(|peer| NetworkPolicyEgressRule {
        to: Some(vec![peer]),
        ports: None,
    });
    let from_siblings = siblings.map(|peer| NetworkPolicyIngressRule {
        from: Some(vec![peer]),
        ports: None,
    });
    let egress = dns_rule(&facts.dns)
        .into_iter()
        .chain(rules.egress.iter().map(egress_rule))
        .chain(to_siblings);
    let ingress = rules.ingress.iter().map(ingress_rule).chain(from_siblings);
    NetworkPolicy {
        metadata: owner.metadata(),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(guarded_pods(owner, target, holders)),
            policy_types: Some(both_directions()),
            // Written even if empty: server-side apply only reverts fields that are applied.
            ingress: Some(ingress.collect()),
            egress: Some(egress.collect()),
        }),
    }
}

/// The deny policy of one namespace. It is independent of the runs: deleting an AgentRun lifts no quarantine.
#[must_use]
pub(crate) fn standing_deny_network_policy(namespace: &str) -> NetworkPolicy {
    NetworkPolicy {
        metadata: ObjectMeta {
            name: Some(labels::STANDING_DENY.to_owned()),
            namespace: Some(namespace.to_owned()),
            labels: Some([managed_by()].into()),
            ..ObjectMeta::default()
        },
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector {
                match_expressions: Some(vec![quarantine("Exists")]),
                match_labels: None,
            }),
            policy_types: Some(both_directions()),
            ingress: Some(Vec::new()),
            egress: Some(Vec::new()),
        }),
    }
}

/// The deny policy of the whole cluster, as JSON because its API is not part of Kubernetes.
///
/// Its ingress rules cannot select networks outside the cluster, so the NetworkPolicy above is used in addition.
#[must_use]
pub(crate) fn standing_deny_cluster_policy() -> Value {
    let (managed_key, managed_value) = managed_by();
    json!({
        "apiVersion": CLUSTER_POLICY_API_VERSION,
        "kind": CLUSTER_POLICY_KIND,
        "metadata": {
            "name": labels::STANDING_DENY,
            "labels": { managed_key: managed_value },
        },
        "spec": {
            "tier": "Admin",
            "priority": 0,
            "subject": {
                "pods": {
                    "namespaceSelector": {},
                    "podSelector": {
                        "matchExpressions": [{ "key": labels::QUARANTINE, "operator": "Exists" }],
                    },
                },
            },
            "ingress": [{
                "name": "quarantine-in",
                "action": "Deny",
                "from": [{ "namespaces": {} }],
            }],
            "egress": [{
                "name": "quarantine-out",
                "action": "Deny",
                "to": [
                    { "namespaces": {} },
                    { "networks": ["0.0.0.0/0", "::/0"] },
                ],
            }],
        },
    })
}

/// The pods that the policy of a run selects. A selector target keeps the user's selector, because those pods have no run
/// label before they start. The others are selected by the run label.
fn guarded_pods(owner: &RunOwner, target: &Target, holders: &BTreeSet<String>) -> LabelSelector {
    let mut chosen = target.selector.clone().unwrap_or_else(|| LabelSelector {
        match_labels: Some([(labels::RUN.to_owned(), owner.name.clone())].into()),
        match_expressions: None,
    });
    chosen
        .match_expressions
        .get_or_insert_default()
        .push(quarantine("DoesNotExist"));
    if target.selector.is_some() && !holders.is_empty() {
        let of_others = LabelSelectorRequirement {
            key: labels::RUN.to_owned(),
            operator: "NotIn".to_owned(),
            values: Some(holders.iter().cloned().collect()),
        };
        chosen
            .match_expressions
            .get_or_insert_default()
            .push(of_others);
    }
    chosen
}

fn quarantine(operator: &str) -> LabelSelectorRequirement {
    LabelSelectorRequirement {
        key: labels::QUARANTINE.to_owned(),
        operator: operator.to_owned(),
        values: None,
    }
}

fn managed_by() -> (String, String) {
    (
        labels::MANAGED_BY.to_owned(),
        labels::MANAGED_BY_VALUE.to_owned(),
    )
}

fn both_directions() -> Vec<String> {
    vec!["Ingress".to_owned(), "Egress".to_owned()]
}

/// DNS to the cluster's resolvers only: a run that may query any server has a tunnel. Without a known resolver there is no
/// rule, because a rule without peers allows every peer.
fn dns_rule(targets: &[DnsTarget]) -> Option<NetworkPolicyEgressRule> {
    if targets.is_empty() {
        return None;
    }
    let peers = targets.iter().map(|target| match target {
        DnsTarget::Pods { namespace, labels } => NetworkPolicyPeer {
            namespace_selector: Some(LabelSelector {
                match_labels: Some([(NAMESPACE_NAME.to_owned(), namespace.clone())].into()),
                match_expressions: None,
            }),
            pod_selector: Some(LabelSelector {
                match_labels: Some(labels.clone()),
                match_expressions: None,
            }),
            ip_block: None,
        },
        DnsTarget::Address(range) => NetworkPolicyPeer {
            ip_block: Some(IPBlock {
                cidr: range.trunc().to_string(),
                except: None,
            }),
            ..NetworkPolicyPeer::default()
        },
    });
    let ports = [Protocol::Udp, Protocol::Tcp].map(|protocol| {
        port(&EgressPort {
            protocol,
            port: DNS_PORT,
            end_port: None,
        })
    });
    Some(NetworkPolicyEgressRule {
        to: Some(peers.collect()),
        ports: Some(ports.to_vec()),
    })
}

fn egress_rule(rule: &AllowRule) -> NetworkPolicyEgressRule {
    NetworkPolicyEgressRule {
        to: Some(vec![peer(&rule.peer)]),
        ports: ports(&rule.ports),
    }
}

fn ingress_rule(rule: &AllowRule) -> NetworkPolicyIngressRule {
    NetworkPolicyIngressRule {
        from: Some(vec![peer(&rule.peer)]),
        ports: ports(&rule.ports),
    }
}

fn peer(peer: &Peer) -> NetworkPolicyPeer {
    match peer {
        Peer::Range { cidr, except } => NetworkPolicyPeer {
            ip_block: Some(IPBlock {
                cidr: cidr.to_string(),
                except: (!except.is_empty())
                    .then(|| except.iter().map(ToString::to_string).collect()),
            }),
            ..NetworkPolicyPeer::default()
        },
        Peer::Pods { pods, namespaces } => NetworkPolicyPeer {
            pod_selector: pods.clone(),
            namespace_selector: namespaces.clone(),
            ip_block: None,
        },
    }
}

/// A rule without ports allows every port.
fn ports(ports: &[EgressPort]) -> Option<Vec<NetworkPolicyPort>> {
    (!ports.is_empty()).then(|| ports.iter().map(port).collect())
}

fn port(port: &EgressPort) -> NetworkPolicyPort {
    NetworkPolicyPort {
        // An endPort that equals its port is redundant.
        end_port: port.end_port.filter(|end| *end != port.port),
        port: Some(IntOrString::Int(port.port)),
        protocol: Some(port.protocol.name().to_owned()),
    }
}
