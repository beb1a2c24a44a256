//! Which policies let more through than ours: the union audit.
//!
//! NetworkPolicies add up and none can deny, so a guard or a deny of ours means nothing while
//! another policy selects the same pod and allows. The controller puts the names that come out of
//! here into `NetworkGuarded`, the responder into the Incident.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicySpec,
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
    let mut names: Vec<String> = policies
        .into_iter()
        .filter(|policy| selects(policy, pod_labels) && widens(policy, stance))
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

fn widens(policy: &NetworkPolicy, stance: Stance<'_>) -> bool {
    let Some(spec) = &policy.spec else {
        return false;
    };
    match stance {
        // Ours by name and owner; that it still says what we wrote is for `drift` to see.
        Stance::Guarded(owner) => !is_guard_of(policy, owner) && (lets_out(spec) || lets_in(spec)),
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
