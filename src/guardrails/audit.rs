//! Which policies let more through than ours: the union audit.
//!
//! NetworkPolicies add up and none can deny, so a guard or a deny of ours means nothing while
//! another policy selects the same pod and allows. The controller puts the names that come out of
//! here into `NetworkGuarded`, the responder into the Incident.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicySpec,
};

use crate::limits;

use super::{RunOwner, selector};

/// What the pod is meant to be held by.
#[derive(Clone, Copy, Debug)]
pub enum Stance<'a> {
    /// By the guard of this run.
    Guarded(&'a RunOwner),
    /// By the standing deny of the quarantine.
    Quarantined {
        /// Whether a ClusterNetworkPolicy denies in the Admin tier. It beats every NetworkPolicy,
        /// but cannot name sources outside the cluster.
        cluster_deny: bool,
    },
}

/// Names of the policies of the pod's namespace that widen it, sorted, at most
/// [`limits::WIDENING_NAMES_MAX`].
#[must_use]
pub fn widening<'p>(
    pod_labels: &BTreeMap<String, String>,
    policies: impl IntoIterator<Item = &'p NetworkPolicy>,
    stance: Stance<'_>,
) -> Vec<String> {
    let selecting: Vec<&NetworkPolicy> = policies
        .into_iter()
        .filter(|policy| selects(policy, pod_labels))
        .collect();
    let allowed = match stance {
        Stance::Guarded(owner) => guard_rules(&selecting, owner),
        Stance::Quarantined { .. } => Vec::new(),
    };
    let mut names: Vec<String> = selecting
        .into_iter()
        .filter(|policy| widens(policy, stance, &allowed))
        .filter_map(|policy| policy.metadata.name.clone())
        .collect();
    names.sort();
    names.truncate(limits::WIDENING_NAMES_MAX);
    names
}

/// Whether the policy selects a pod of its namespace with these labels.
#[must_use]
pub fn selects(policy: &NetworkPolicy, pod_labels: &BTreeMap<String, String>) -> bool {
    policy.spec.as_ref().is_some_and(|spec| {
        // A selector that is left out is an empty one, and that selects every pod.
        spec.pod_selector
            .as_ref()
            .is_none_or(|chosen| selector::matches(chosen, pod_labels))
    })
}

fn widens(
    policy: &NetworkPolicy,
    stance: Stance<'_>,
    allowed: &[&NetworkPolicyEgressRule],
) -> bool {
    let Some(spec) = &policy.spec else {
        return false;
    };
    match stance {
        // Ours by name and owner; that it still says what we wrote is for `drift` to see.
        Stance::Guarded(owner) => {
            !is_guard_of(policy, owner) && (lets_out_more(spec, allowed) || lets_in(spec))
        }
        Stance::Quarantined {
            cluster_deny: false,
        } => lets_out(spec) || lets_in(spec),
        Stance::Quarantined { cluster_deny: true } => {
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

/// What the guard itself lets out. A policy that allows no more (a namespace's usual policy for
/// DNS) adds nothing to the union.
fn guard_rules<'p>(
    selecting: &[&'p NetworkPolicy],
    owner: &RunOwner,
) -> Vec<&'p NetworkPolicyEgressRule> {
    selecting
        .iter()
        .filter(|policy| is_guard_of(policy, owner))
        .filter_map(|policy| policy.spec.as_ref()?.egress.as_ref())
        .flatten()
        .collect()
}

fn lets_out_more(spec: &NetworkPolicySpec, allowed: &[&NetworkPolicyEgressRule]) -> bool {
    lets_out(spec)
        && spec
            .egress
            .iter()
            .flatten()
            .any(|rule| !is_allowed(rule, allowed))
}

/// Whether every peer of the rule is a peer of one of these rules, word for word, with no more
/// ports. Ranges are not compared by what they hold: said too often is better than not said.
fn is_allowed(rule: &NetworkPolicyEgressRule, allowed: &[&NetworkPolicyEgressRule]) -> bool {
    let peers = rule.to.as_deref().unwrap_or_default();
    // Without peers the rule allows every peer.
    !peers.is_empty()
        && peers.iter().all(|peer| {
            allowed.iter().any(|ours| {
                ours.to.iter().flatten().any(|known| known == peer) && has_no_more_ports(rule, ours)
            })
        })
}

fn has_no_more_ports(rule: &NetworkPolicyEgressRule, ours: &NetworkPolicyEgressRule) -> bool {
    let known = ours.ports.as_deref().unwrap_or_default();
    let asked = rule.ports.as_deref().unwrap_or_default();
    // Without ports a rule allows every port.
    known.is_empty() || (!asked.is_empty() && asked.iter().all(|port| known.contains(port)))
}

fn lets_out(spec: &NetworkPolicySpec) -> bool {
    applies(spec, "Egress") && spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
}

fn lets_in(spec: &NetworkPolicySpec) -> bool {
    applies(spec, "Ingress") && ingress(spec).next().is_some()
}

fn ingress(spec: &NetworkPolicySpec) -> impl Iterator<Item = &NetworkPolicyIngressRule> {
    spec.ingress.iter().flatten()
}

/// Rules of a direction that the policy does not name have no effect. Left out, the types are
/// Ingress always, and Egress where there are egress rules.
fn applies(spec: &NetworkPolicySpec, direction: &str) -> bool {
    match spec.policy_types.as_deref() {
        None | Some([]) => direction == "Ingress" || spec.egress.is_some(),
        Some(types) => types.iter().any(|named| named == direction),
    }
}

/// From anywhere, or from a range of addresses.
fn lets_in_from_outside(rule: &NetworkPolicyIngressRule) -> bool {
    match rule.from.as_deref() {
        None | Some([]) => true,
        Some(peers) => peers.iter().any(|peer| peer.ip_block.is_some()),
    }
}
