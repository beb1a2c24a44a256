//! Finds the policies that allow more than Yellowjack's own policies.
//!
//! NetworkPolicies are additive and none can deny, so Yellowjack's policy has no effect while another policy that selects
//! the same pod allows the traffic. The controller reports the names in `NetworkGuarded`, the responder in the Incident.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};

use crate::api::labels;
use crate::limits;

use super::{RunOwner, selector};

/// The policy that is supposed to restrict the pod.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protection<'a> {
    /// The NetworkPolicy of this run.
    Guarded(&'a RunOwner),
    /// The deny policies of the quarantine.
    Quarantined {
        /// Whether a ClusterNetworkPolicy denies in the Admin tier. It takes precedence over every NetworkPolicy, but
        /// cannot select sources outside the cluster.
        cluster_deny: bool,
    },
}

/// Names of the policies of the pod's namespace that allow more, sorted, at most
/// [`limits::WIDENING_NAMES_MAX`].
#[must_use]
pub(crate) fn widening<'p>(
    pod_labels: &BTreeMap<String, String>,
    policies: impl IntoIterator<Item = &'p NetworkPolicy>,
    protection: Protection<'_>,
) -> Vec<String> {
    let mut names = all_widening(pod_labels, policies, protection);
    names.truncate(limits::WIDENING_NAMES_MAX);
    names
}

/// The same without a bound, for a caller that filters them.
#[must_use]
pub(crate) fn all_widening<'p>(
    pod_labels: &BTreeMap<String, String>,
    policies: impl IntoIterator<Item = &'p NetworkPolicy>,
    protection: Protection<'_>,
) -> Vec<String> {
    let selecting: Vec<&NetworkPolicy> = policies
        .into_iter()
        .filter(|policy| selects(policy, pod_labels))
        .collect();
    let allowed = match protection {
        Protection::Guarded(owner) => GuardRules::of(&selecting, owner),
        Protection::Quarantined { .. } => GuardRules::default(),
    };
    let mut names: Vec<String> = selecting
        .into_iter()
        .filter(|policy| widens(policy, protection, &allowed))
        .filter_map(|policy| policy.metadata.name.clone())
        .collect();
    names.sort();
    names
}

/// Whether the policy selects a pod of its namespace with these labels.
#[must_use]
pub(crate) fn selects(policy: &NetworkPolicy, pod_labels: &BTreeMap<String, String>) -> bool {
    policy.spec.as_ref().is_some_and(|spec| {
        // An absent selector is an empty one, which selects every pod.
        spec.pod_selector
            .as_ref()
            .is_none_or(|chosen| selector::matches(chosen, pod_labels))
    })
}

fn widens(policy: &NetworkPolicy, protection: Protection<'_>, allowed: &GuardRules<'_>) -> bool {
    let Some(spec) = &policy.spec else {
        return false;
    };
    match protection {
        // Identified by name and owner. Whether its content is still the wanted one is checked by `drift`.
        Protection::Guarded(owner) => {
            !is_guard_of(policy, owner)
                && (lets_out_more(spec, &allowed.egress) || lets_in_more(spec, &allowed.ingress))
        }
        Protection::Quarantined {
            cluster_deny: false,
        } => lets_out(spec) || lets_in(spec),
        Protection::Quarantined { cluster_deny: true } => {
            applies(spec, "Ingress") && ingress(spec).any(lets_in_from_outside)
        }
    }
}

fn is_guard_of(policy: &NetworkPolicy, owner: &RunOwner) -> bool {
    policy.metadata.name.as_deref() == Some(owner.object_name().as_str())
        && policy
            .metadata
            .owner_references
            .iter()
            .flatten()
            .any(|reference| reference.uid == owner.uid)
}

/// The rules of the run's own policy. Another policy that allows no more (a namespace's usual policy for DNS, or one that
/// lets the pods of a Ray cluster reach each other) does not widen it.
#[derive(Default)]
struct GuardRules<'p> {
    egress: Vec<Rule<'p>>,
    ingress: Vec<Rule<'p>>,
}

/// Peers and ports of a rule. Without peers it allows every peer, without ports every port.
#[derive(Clone, Copy)]
struct Rule<'p> {
    peers: &'p [NetworkPolicyPeer],
    ports: &'p [NetworkPolicyPort],
}

impl<'p> GuardRules<'p> {
    fn of(selecting: &[&'p NetworkPolicy], owner: &RunOwner) -> Self {
        let specs = selecting
            .iter()
            .filter(|policy| is_guard_of(policy, owner))
            .filter_map(|policy| policy.spec.as_ref());
        Self {
            egress: specs.clone().flat_map(egress).collect(),
            ingress: specs.flat_map(ingress).collect(),
        }
    }
}

fn egress(spec: &NetworkPolicySpec) -> impl Iterator<Item = Rule<'_>> {
    spec.egress.iter().flatten().map(|rule| Rule {
        peers: rule.to.as_deref().unwrap_or_default(),
        ports: rule.ports.as_deref().unwrap_or_default(),
    })
}

fn ingress(spec: &NetworkPolicySpec) -> impl Iterator<Item = Rule<'_>> {
    spec.ingress.iter().flatten().map(|rule| Rule {
        peers: rule.from.as_deref().unwrap_or_default(),
        ports: rule.ports.as_deref().unwrap_or_default(),
    })
}

fn lets_out_more(spec: &NetworkPolicySpec, allowed: &[Rule<'_>]) -> bool {
    lets_out(spec) && egress(spec).any(|rule| !is_allowed(rule, allowed))
}

fn lets_in_more(spec: &NetworkPolicySpec, allowed: &[Rule<'_>]) -> bool {
    lets_in(spec) && ingress(spec).any(|rule| !is_allowed(rule, allowed))
}

/// Whether every peer of the rule is equal to a peer of one of these rules, with no more ports. Ranges are not compared by
/// the addresses that they contain: reporting a policy too often is better than not reporting it.
fn is_allowed(rule: Rule<'_>, allowed: &[Rule<'_>]) -> bool {
    !rule.peers.is_empty()
        && rule.peers.iter().all(|peer| {
            allowed.iter().any(|ours| {
                ours.peers.iter().any(|known| is_covered(peer, known))
                    && has_no_more_ports(rule.ports, ours.ports)
            })
        })
}

/// Whether a peer equals one of the run's own policy. That policy excludes quarantined pods from its peers and another
/// policy need not: what reaches a quarantined pod is checked at that pod.
fn is_covered(peer: &NetworkPolicyPeer, known: &NetworkPolicyPeer) -> bool {
    if peer == known {
        return true;
    }
    let mut known = known.clone();
    let selector = known.pod_selector.as_mut();
    let Some(requirements) = selector.and_then(|chosen| chosen.match_expressions.as_mut()) else {
        return false;
    };
    requirements.retain(|requirement| requirement.key != labels::QUARANTINE);
    if requirements.is_empty()
        && let Some(chosen) = known.pod_selector.as_mut()
    {
        chosen.match_expressions = None;
    }
    *peer == known
}

fn has_no_more_ports(ports: &[NetworkPolicyPort], known: &[NetworkPolicyPort]) -> bool {
    known.is_empty() || (!ports.is_empty() && ports.iter().all(|port| known.contains(port)))
}

fn lets_out(spec: &NetworkPolicySpec) -> bool {
    applies(spec, "Egress") && spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
}

fn lets_in(spec: &NetworkPolicySpec) -> bool {
    applies(spec, "Ingress") && ingress(spec).next().is_some()
}

/// Rules of a direction that is not in the policy types have no effect. The default of the types is Ingress, and Egress if
/// there are egress rules.
fn applies(spec: &NetworkPolicySpec, direction: &str) -> bool {
    match spec.policy_types.as_deref() {
        None | Some([]) => direction == "Ingress" || spec.egress.is_some(),
        Some(types) => types.iter().any(|named| named == direction),
    }
}

/// Whether the rule allows any source, or a range of addresses.
fn lets_in_from_outside(rule: Rule<'_>) -> bool {
    rule.peers.is_empty() || rule.peers.iter().any(|peer| peer.ip_block.is_some())
}
