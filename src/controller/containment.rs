//! The conditions of a run that its Incidents determine: `Suspicious` and `Quarantined`. Called by `status` only. Pure.

use std::sync::Arc;

use kube::ResourceExt;

use super::apply::{Applied, ApplyState};
use super::condition::{ConditionUpdate, update};
use super::validate::{Validated, is_quarantined};
use crate::api::{Incident, IncidentCondition, Reason};

/// `Suspicious`: whether an Incident is open.
pub(super) fn suspicious(open: &[&Arc<Incident>]) -> ConditionUpdate {
    let Some(first) = open.first() else {
        return update(Some(false), Reason::NoOpenIncidents, "no Incident is open");
    };
    let more = open.len() - 1;
    let message = if more == 0 {
        format!("Incident {} is open", first.name_any())
    } else {
        format!("Incident {} and {more} more are open", first.name_any())
    };
    update(Some(true), Reason::IncidentOpen, message)
}

/// `Quarantined`: the most severe state among the open Incidents. The pod's label alone is not sufficient, because it
/// may be set before the deny policy is in place.
pub(super) fn quarantined(
    validated: &Validated,
    applied: &Applied,
    open: &[&Arc<Incident>],
) -> ConditionUpdate {
    let contained: Vec<&&Arc<Incident>> = open.iter().filter(|i| i.is_contained()).collect();
    let named =
        |incident: &Incident, rest: &str| format!("Incident {}: {rest}", incident.name_any());
    if let Some(incident) = contained
        .iter()
        .find(|incident| has_surviving_traffic(incident))
    {
        let message = named(incident, "traffic was seen after the deny was in place");
        return update(Some(true), Reason::ConnectionsSurvive, message);
    }
    for reason in [Reason::Isolated, Reason::OwnerSuspended, Reason::PodGone] {
        let found = contained.iter().find(|incident| {
            incident
                .condition(IncidentCondition::Contained)
                .is_some_and(|condition| condition.reason == reason.name())
                && !incident.is(IncidentCondition::Verified)
        });
        if let Some(incident) = found {
            let message = match reason {
                Reason::Isolated => "a deny is in place and selects the pod; not yet seen to hold",
                Reason::OwnerSuspended => "the owner is suspended",
                _ => "the pod is gone",
            };
            return update(Some(true), reason, named(incident, message));
        }
    }
    if let Some(incident) = contained.first() {
        let is_gone = incident
            .condition(IncidentCondition::Contained)
            .is_some_and(|condition| condition.reason == Reason::PodGone.name());
        return if is_gone {
            update(
                Some(true),
                Reason::PodGone,
                named(incident, "the pod is gone"),
            )
        } else {
            let message = named(incident, "the traffic was seen to stop");
            update(Some(true), Reason::Verified, message)
        };
    }
    let labelled = validated
        .members
        .iter()
        .find(|member| is_quarantined(&member.pod));
    match labelled {
        // Labelled by hand, or by a deleted Incident.
        Some(member) if open.is_empty() && applied.standing_deny == ApplyState::UpToDate => {
            let message = format!(
                "pod {} carries the label, without an open Incident",
                member.pod.name_any()
            );
            update(Some(true), Reason::Isolated, message)
        }
        Some(member) => {
            let message = format!(
                "pod {} carries the quarantine label and is not contained yet",
                member.pod.name_any()
            );
            update(Some(false), Reason::NotQuarantined, message)
        }
        None => update(Some(false), Reason::NotQuarantined, "no pod is contained"),
    }
}

/// Whether traffic was seen after the deny policy was in place.
pub(super) fn has_surviving_traffic(incident: &Incident) -> bool {
    incident
        .condition(IncidentCondition::Verified)
        .is_some_and(|condition| condition.reason == Reason::ConnectionsSurvive.name())
}
