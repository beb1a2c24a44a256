//! What the report cannot show, stated explicitly (INV-2, INV-8).

use super::state::{phase, status_and_reason};
use super::story::Phase;
use super::{Lookup, ReportInput};
use crate::api::{IncidentCondition, Reason};

pub(super) fn sentences(input: &ReportInput) -> Vec<String> {
    let incident = &input.incident;
    let mut sentences = vec![
        "A log of connections shows which hosts were contacted and with which outcome, not the content of the connections or the intention.".to_owned(),
        "The scores show how much more likely one explanation is than the other. They do not show the cause: the agent, its prompt, a package or a person.".to_owned(),
    ];
    let contacts: i64 = incident
        .spec
        .evidence
        .iter()
        .map(|entry| entry.contacts)
        .fold(0, i64::saturating_add);
    let example_count = incident
        .spec
        .evidence
        .iter()
        .map(|entry| entry.examples.len())
        .fold(0, usize::saturating_add);
    if contacts > i64::try_from(example_count).unwrap_or(i64::MAX) {
        sentences.push(format!(
            "Of {contacts} contacts that count, the Incident keeps {example_count} as examples: the first and the latest. The log contains the others."
        ));
    }
    let (verified, reason) = status_and_reason(incident, IncidentCondition::Verified);
    let why = match (phase(incident), verified) {
        (Phase::Closed | Phase::Ending, _) => None,
        (Phase::Watched | Phase::Uncontained, _) => Some(
            "Nothing was stopped, so there is nothing to verify: assume that the traffic continues.",
        ),
        (_, "True") if reason == Reason::PodGone.name() => Some(
            "Verified means here that the pod is gone. The evidence shows only what was logged before.",
        ),
        (_, "True") => Some(
            "Verified means that the same log continued without this pod. Traffic that the log cannot show, such as that of the host network, is not covered.",
        ),
        (_, "False") => None,
        _ if reason == Reason::SourceSilent.name() => Some(
            "No source delivers lines. It is unknown whether the traffic stopped: silence is not evidence.",
        ),
        _ => Some(
            "The log since the isolation is too short. It is not known yet whether the traffic stopped.",
        ),
    };
    sentences.extend(why.map(str::to_owned));
    let objects = [
        ("AgentRun", unread(&input.run)),
        ("pod", unread(&input.pod)),
        ("network policies", unread(&input.policies)),
    ];
    for (what, _) in objects.iter().filter(|(_, is_unread)| *is_unread) {
        sentences.push(format!(
            "The {what} could not be read, so the report on it is based only on the Incident."
        ));
    }
    if input.policies.found().is_some() {
        sentences.push("Only NetworkPolicies are read here. A ClusterNetworkPolicy may deny more and the network plug-in's own policies may allow more; the log shows what passed.".to_owned());
    }
    if incident.spec.trace.is_none() {
        sentences.push("The run has no experiment or episode, so this report cannot be matched with training traces.".to_owned());
    }
    sentences
}

const fn unread<T>(lookup: &Lookup<T>) -> bool {
    matches!(lookup, Lookup::Unread(_))
}
