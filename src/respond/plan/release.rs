//! Release: a human's word, and nothing else, undoes what was done, exactly.
//!
//! No limit is asked here: neither the circuit breaker nor the cap ever blocks a release.

use super::{OtherIncident, Plan, Situation, Step};
use crate::api::{IncidentCondition, Reason, RestoreEntry};

/// The next thing to undo; closes the Incident when nothing is left.
pub fn release(situation: &Situation<'_>) -> Plan {
    if let Some(pod) = situation.labelled.first() {
        let keeps = |other: &&OtherIncident| other.pod_uids.contains(&pod.uid);
        let pass_to = situation
            .others
            .iter()
            .find(keeps)
            .map(|other| other.name.clone());
        return Plan::step(Step::Unlabel {
            pod: pod.clone(),
            pass_to,
        });
    }
    let saved = situation
        .incident
        .status
        .as_ref()
        .map_or(&[][..], |status| &status.restore);
    if let Some(entry) = saved.first() {
        let same = |held: &RestoreEntry| held.target == entry.target && held.field == entry.field;
        let holds = |other: &&OtherIncident| other.restore.iter().any(same);
        let held_by = situation
            .others
            .iter()
            .find(holds)
            .map(|other| other.name.clone());
        return Plan::step(Step::Restore {
            entry: entry.clone(),
            held_by,
        });
    }
    let disposition = situation.incident.spec.disposition.as_ref();
    let by = disposition.map_or("a human", |disposition| disposition.by.as_str());
    let released = format!("released by {by}");
    Plan {
        close: true,
        ..Plan::default()
    }
    .say(
        IncidentCondition::Contained,
        Some(false),
        Reason::Released,
        released.clone(),
    )
    .say(
        IncidentCondition::Verified,
        None,
        Reason::Released,
        "no longer contained",
    )
    .say(
        IncidentCondition::Closed,
        Some(true),
        Reason::Released,
        released,
    )
}
