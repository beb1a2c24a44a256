//! What a run's Incidents say about it: `Suspicious` and `Quarantined`. Called by `status` only;
//! pure.

use std::sync::Arc;

use kube::ResourceExt;

use super::apply::{Applied, State};
use super::condition::{Said, say};
use super::validate::{Validated, is_quarantined};
use crate::api::{Incident, IncidentCondition, Reason};

/// Whether a finding is open.
pub(super) fn suspicious(open: &[&Arc<Incident>]) -> Said {
    let Some(first) = open.first() else {
        return say(Some(false), Reason::NoOpenIncidents, "no Incident is open");
    };
    let more = open.len() - 1;
    let message = if more == 0 {
        format!("Incident {} is open", first.name_any())
    } else {
        format!("Incident {} and {more} more are open", first.name_any())
    };
    say(Some(true), Reason::IncidentOpen, message)
}

/// The worst that open Incidents say about containment. The label alone is not enough: it stands
/// before the deny may stand.
pub(super) fn quarantined(
    validated: &Validated,
    applied: &Applied,
    open: &[&Arc<Incident>],
) -> Said {
    let contained: Vec<&&Arc<Incident>> = open.iter().filter(|i| i.is_contained()).collect();
    let named =
        |incident: &Incident, rest: &str| format!("Incident {}: {rest}", incident.name_any());
    if let Some(incident) = contained.iter().find(|incident| survives(incident)) {
        let message = named(incident, "traffic was seen after the deny stood");
        return say(Some(true), Reason::ConnectionsSurvive, message);
    }
    for reason in [Reason::Isolated, Reason::OwnerSuspended, Reason::PodGone] {
        let found = contained.iter().find(|incident| {
            incident
                .condition(IncidentCondition::Contained)
                .is_some_and(|said| said.reason == reason.name())
                && !incident.is(IncidentCondition::Verified)
        });
        if let Some(incident) = found {
            let message = match reason {
                Reason::Isolated => "a deny stands and selects the pod; not yet seen to hold",
                Reason::OwnerSuspended => "the owner is suspended",
                _ => "the pod is gone",
            };
            return say(Some(true), reason, named(incident, message));
        }
    }
    if let Some(incident) = contained.first() {
        let is_gone = incident
            .condition(IncidentCondition::Contained)
            .is_some_and(|said| said.reason == Reason::PodGone.name());
        return if is_gone {
            say(
                Some(true),
                Reason::PodGone,
                named(incident, "the pod is gone"),
            )
        } else {
            let message = named(incident, "the traffic was seen to stop");
            say(Some(true), Reason::Verified, message)
        };
    }
    let labelled = validated
        .members
        .iter()
        .find(|member| is_quarantined(&member.pod));
    match labelled {
        // Labelled by hand, or by an Incident that is gone.
        Some(member) if open.is_empty() && applied.standing_deny == State::Stands => {
            let message = format!(
                "pod {} carries the label, without an open Incident",
                member.pod.name_any()
            );
            say(Some(true), Reason::Isolated, message)
        }
        Some(member) => {
            let message = format!(
                "pod {} carries the quarantine label and is not contained yet",
                member.pod.name_any()
            );
            say(Some(false), Reason::NotQuarantined, message)
        }
        None => say(Some(false), Reason::NotQuarantined, "no pod is contained"),
    }
}

/// Whether traffic was seen after the deny stood.
pub(super) fn survives(incident: &Incident) -> bool {
    incident
        .condition(IncidentCondition::Verified)
        .is_some_and(|said| said.reason == Reason::ConnectionsSurvive.name())
}
