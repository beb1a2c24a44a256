//! The network policies that select the pod, and what they allow, in words.
//!
//! Only NetworkPolicies. Policies of other kinds (those of a network plug-in) are not read, and the caveats mention that.

use std::collections::BTreeMap;

use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::state::pod_metadata;
use super::story::{Policies, PolicyPart};
use super::{Lookup, ReportInput, clean};
use crate::api::{AgentRun, labels};
use crate::guardrails::RunOwner;
use crate::guardrails::audit::{Protection, selects, widening};
use crate::limits;

pub(super) fn policies(input: &ReportInput) -> Policies {
    let Some(metadata) = pod_metadata(input) else {
        return captured(input);
    };
    let stored = match &input.policies {
        Lookup::Found(stored) => stored,
        Lookup::Unread(why) => {
            return only_a_note(format!("They could not be read: {}.", clean(why)));
        }
        Lookup::Gone => return only_a_note("There is none in the namespace.".to_owned()),
    };
    let labels = metadata.labels.unwrap_or_default();
    let owner = input.run.found().and_then(RunOwner::of);
    let widens = widening_names(input, &labels, stored, owner.as_ref());
    let selecting: Vec<_> = stored
        .iter()
        .filter(|policy| selects(policy, &labels))
        .collect();
    let left_out = selecting.len().saturating_sub(limits::REPORT_POLICIES_MAX);
    let mut parts: Vec<_> = selecting
        .into_iter()
        .take(limits::REPORT_POLICIES_MAX)
        .map(|policy| part(policy, owner.as_ref(), &widens))
        .collect();
    parts.sort_by(|a, b| b.widens.cmp(&a.widens).then_with(|| a.name.cmp(&b.name)));
    let note = match (parts.is_empty(), left_out) {
        (true, _) => {
            Some("No NetworkPolicy selects the pod: all its connections are allowed.".to_owned())
        }
        (false, 0) => {
            Some("Network policies are additive: what one of them allows is allowed.".to_owned())
        }
        (false, more) => Some(format!("{more} more select the pod and are not shown.")),
    };
    Policies {
        selecting: parts,
        note,
    }
}

fn only_a_note(note: String) -> Policies {
    Policies {
        selecting: Vec::new(),
        note: Some(note),
    }
}

/// For a pod that is gone: the names of the policies that selected it when it was captured.
fn captured(input: &ReportInput) -> Policies {
    let capture = input
        .incident
        .status
        .as_ref()
        .and_then(|status| status.capture.as_ref());
    let names: Vec<_> = capture
        .iter()
        .flat_map(|capture| &capture.selected_by)
        .take(limits::CAPTURED_POLICIES_MAX)
        .map(|name| clean(name))
        .collect();
    let note = if names.is_empty() {
        "The pod does not exist, so it is unknown which policies selected it.".to_owned()
    } else {
        format!(
            "The pod does not exist. When it was captured, these policies selected it: {}.",
            names.join(", ")
        )
    };
    only_a_note(note)
}

fn widening_names(
    input: &ReportInput,
    pod_labels: &BTreeMap<String, String>,
    stored: &[NetworkPolicy],
    owner: Option<&RunOwner>,
) -> Vec<String> {
    if pod_labels.contains_key(labels::QUARANTINE) {
        // The responder knows whether the cluster-wide deny is in place, and records the policies that widen it.
        let noted = input
            .incident
            .status
            .iter()
            .flat_map(|status| &status.widened_by);
        return noted.take(limits::WIDENED_BY_MAX).cloned().collect();
    }
    owner.map_or_else(Vec::new, |owner| {
        widening(pod_labels, stored, Protection::Guarded(owner))
    })
}

fn part(policy: &NetworkPolicy, owner: Option<&RunOwner>, widens: &[String]) -> PolicyPart {
    let name = policy.metadata.name.clone().unwrap_or_default();
    let role = if name == labels::STANDING_DENY {
        "deny policy of the quarantine"
    } else if owner.is_some_and(|owner| owner.object_name() == name) {
        "guardrail of the run"
    } else {
        "other"
    };
    PolicyPart {
        role: role.to_owned(),
        allows: policy.spec.as_ref().map(allows).unwrap_or_default(),
        widens: widens.contains(&name),
        name: clean(&name),
    }
}

/// What is allowed in each direction.
fn allows(spec: &NetworkPolicySpec) -> Vec<String> {
    let types = spec.policy_types.as_deref().unwrap_or_default();
    let names = |direction: &str| types.iter().any(|named| named == direction);
    // The default of the types is Ingress, and Egress if there are egress rules.
    let has_egress = names("Egress") || (types.is_empty() && spec.egress.is_some());
    let has_ingress = names("Ingress") || types.is_empty();
    let mut sentences = Vec::new();
    if has_egress {
        let rules = spec
            .egress
            .iter()
            .flatten()
            .map(|rule| (rule.to.as_deref(), rule.ports.as_deref()));
        sentences.extend(direction("out", &rules.collect::<Vec<_>>()));
    }
    if has_ingress {
        let rules = spec
            .ingress
            .iter()
            .flatten()
            .map(|rule| (rule.from.as_deref(), rule.ports.as_deref()));
        sentences.extend(direction("in", &rules.collect::<Vec<_>>()));
    }
    sentences
}

type Rule<'a> = (
    Option<&'a [NetworkPolicyPeer]>,
    Option<&'a [NetworkPolicyPort]>,
);

fn direction(way: &str, rules: &[Rule<'_>]) -> Vec<String> {
    if rules.is_empty() {
        return vec![format!("allows nothing {way}")];
    }
    let shown = rules.iter().take(limits::REPORT_RULES_MAX);
    let mut sentences: Vec<_> = shown
        .map(|(peers, ports)| {
            format!(
                "allows {way}: {}, {}",
                peers_in_words(*peers),
                ports_in_words(*ports)
            )
        })
        .collect();
    let left_out = rules.len().saturating_sub(limits::REPORT_RULES_MAX);
    if left_out > 0 {
        sentences.push(format!("and {left_out} more rules"));
    }
    sentences
}

fn peers_in_words(peers: Option<&[NetworkPolicyPeer]>) -> String {
    match peers {
        None | Some([]) => "any address".to_owned(),
        Some(peers) => listed(peers, peer_in_words),
    }
}

fn peer_in_words(peer: &NetworkPolicyPeer) -> String {
    if let Some(range) = &peer.ip_block {
        let except = range.except.as_deref().unwrap_or_default();
        let but = if except.is_empty() {
            String::new()
        } else {
            format!(" except {}", listed(except, |text| clean(text)))
        };
        return format!("{}{but}", clean(&range.cidr));
    }
    let pods = peer.pod_selector.as_ref().map_or_else(
        || "all pods".to_owned(),
        |chosen| chosen_in_words("pods", chosen),
    );
    match &peer.namespace_selector {
        Some(chosen) => format!("{pods} of {}", chosen_in_words("namespaces", chosen)),
        None => pods,
    }
}

fn chosen_in_words(what: &str, selector: &LabelSelector) -> String {
    let labels: Vec<_> = selector.match_labels.iter().flatten().collect();
    let by_label = listed(&labels, |(key, value)| clean(&format!("{key}={value}")));
    let expression_count = selector.match_expressions.as_ref().map_or(0, Vec::len);
    match (labels.is_empty(), expression_count) {
        (true, 0) => format!("all {what}"),
        (false, 0) => format!("{what} with {by_label}"),
        (true, count) => format!("{what} by {count} expressions"),
        (false, count) => format!("{what} with {by_label} and by {count} expressions"),
    }
}

fn ports_in_words(ports: Option<&[NetworkPolicyPort]>) -> String {
    match ports {
        None | Some([]) => "any port".to_owned(),
        Some(ports) => listed(ports, |port| {
            let protocol = clean(port.protocol.as_deref().unwrap_or("TCP")).to_lowercase();
            let number = match &port.port {
                None => "any".to_owned(),
                Some(IntOrString::Int(number)) => number.to_string(),
                Some(IntOrString::String(name)) => clean(name),
            };
            let end = port
                .end_port
                .map(|end| format!("-{end}"))
                .unwrap_or_default();
            format!("{protocol}/{number}{end}")
        }),
    }
}

/// The first ones, and the number of the others.
fn listed<T>(items: &[T], words: impl Fn(&T) -> String) -> String {
    let mut shown: Vec<_> = items
        .iter()
        .take(limits::REPORT_PEERS_MAX)
        .map(words)
        .collect();
    let left_out = items.len().saturating_sub(limits::REPORT_PEERS_MAX);
    if left_out > 0 {
        shown.push(format!("{left_out} more"));
    }
    shown.join(", ")
}

/// The name of the run's GuardrailPolicy.
pub(super) fn ceiling_of(run: &AgentRun) -> String {
    clean(&run.spec.policy)
}
