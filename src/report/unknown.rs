//! What cannot be known: said as plainly as what is known (INV-2, INV-8).

use super::state::{said, stance};
use super::story::Stance;
use super::{Looked, Material};
use crate::api::{IncidentCondition, Reason};

pub(super) fn sentences(material: &Material) -> Vec<String> {
    let incident = &material.incident;
    let mut sentences = vec![
        "A log of connections says who was contacted and what became of it, not what was said or why.".to_owned(),
        "The scores say how much more likely one explanation is than the other. They do not say who gave the order: the agent, its prompt, a package or a person.".to_owned(),
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
            "Of {contacts} contacts that count the Incident keeps {example_count} as examples: the first and the latest. The log has the others."
        ));
    }
    let (verified, reason) = said(incident, IncidentCondition::Verified);
    let why = match (stance(incident), verified) {
        (Stance::Closed | Stance::Ending, _) => None,
        (Stance::Watched | Stance::Uncontained, _) => Some(
            "Nothing was stopped, so there is nothing to verify: assume that the traffic goes on.",
        ),
        (_, "True") if reason == Reason::PodGone.name() => Some(
            "Verified means here that the pod is gone. What it did before stands in the evidence only as far as it was logged.",
        ),
        (_, "True") => Some(
            "Verified means that the same log went on without this pod. Traffic that the log cannot show, such as that of the host's network, is not covered.",
        ),
        (_, "False") => None,
        _ if reason == Reason::SourceSilent.name() => Some(
            "No source speaks. Whether the traffic stopped is unknown, and silence is no answer.",
        ),
        _ => Some(
            "The log has not spoken for long enough since the isolation. Whether the traffic stopped is not known yet.",
        ),
    };
    sentences.extend(why.map(str::to_owned));
    let looked = [
        ("AgentRun", unread(&material.run)),
        ("pod", unread(&material.pod)),
        ("network policies", unread(&material.policies)),
    ];
    for (what, _) in looked.iter().filter(|(_, is_unread)| *is_unread) {
        sentences.push(format!("The {what} could not be read, so what this report says about it comes from the Incident alone."));
    }
    if material.policies.found().is_some() {
        sentences.push("Only NetworkPolicies are read here. A ClusterNetworkPolicy may deny more and a network plug-in's own policies allow more; the log shows what passed.".to_owned());
    }
    if incident.spec.trace.is_none() {
        sentences.push("The run names no experiment or episode, so this cannot be matched with training traces.".to_owned());
    }
    sentences
}

const fn unread<T>(looked: &Looked<T>) -> bool {
    matches!(looked, Looked::Unread(_))
}
