//! Decides the next step: by the disposition of a human, or by the escalation.

use super::snapshot::Snapshot;
use super::step::{Plan, Step};
use super::{escalation, release};
use crate::api::Verdict;

/// Plans the next step for an Incident.
#[must_use]
pub(crate) fn plan(snapshot: &Snapshot) -> Plan {
    if snapshot.incident.is_closed() {
        return expire(snapshot);
    }
    match snapshot.incident.verdict() {
        Some(Verdict::Release) => release::release(snapshot),
        Some(Verdict::Terminate) => escalation::terminate_for_human(snapshot),
        Some(Verdict::Confirm) | None => escalation::respond(snapshot),
    }
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
