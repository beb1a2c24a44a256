//! Decides the next step: by the disposition of a human, or by the escalation.

use super::snapshot::Snapshot;
use super::status::newest_evidence;
use super::step::{Plan, Step};
use super::{escalation, release};
use crate::api::{IncidentCondition, Reason, Verdict};

/// Plans the next step for an Incident.
#[must_use]
pub(crate) fn plan(snapshot: &Snapshot) -> Plan {
    if snapshot.incident.is_closed() {
        return expire(snapshot);
    }
    if let Some(plan) = close_alert(snapshot) {
        return plan;
    }
    match snapshot.incident.verdict() {
        Some(Verdict::Release) => release::release(snapshot),
        Some(Verdict::Terminate) => escalation::terminate_for_human(snapshot),
        Some(Verdict::Confirm) | None => escalation::respond(snapshot),
    }
}

/// Closes an alert about a pod that no longer exists, after a time in which a human could look at it. `None` if anything was
/// done about the Incident, or may still be.
fn close_alert(snapshot: &Snapshot) -> Option<Plan> {
    let incident = &snapshot.incident;
    let created = incident.metadata.creation_timestamp.as_ref()?.0;
    let subject = &incident.spec.subject.uid;
    let has_pod = snapshot.pods.iter().any(|pod| pod.uid == *subject);
    if has_pod
        || incident.is_actionable()
        || incident.verdict().is_some()
        || !snapshot.labelled.is_empty()
        || !incident.restore().is_empty()
        || !incident.actions().is_empty()
    {
        return None;
    }
    let newest = newest_evidence(incident).map_or(created, |time| time.max(created));
    let age = snapshot.now.duration_since(newest).unsigned_abs();
    if age < snapshot.alert_ttl {
        let left = snapshot.alert_ttl.saturating_sub(age);
        return Some(escalation::respond(snapshot).recheck_in(left));
    }
    let message = "nothing was done to the pod, and it no longer exists";
    let plan = Plan {
        close: true,
        ..Plan::default()
    };
    Some(plan.condition(
        IncidentCondition::Closed,
        Some(true),
        Reason::PodGone,
        message,
    ))
}

fn expire(snapshot: &Snapshot) -> Plan {
    let status = snapshot.incident.status.as_ref();
    let Some(closed_at) = status.and_then(|status| status.closed_at.as_ref()) else {
        return Plan {
            close: true,
            ..Plan::default()
        };
    };
    let age = snapshot.now.duration_since(closed_at.0).unsigned_abs();
    if age >= snapshot.ttl {
        return Plan::step(Step::Expire);
    }
    Plan::default().recheck_in(snapshot.ttl.saturating_sub(age))
}
