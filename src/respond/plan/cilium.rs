//! Isolation on Cilium: a policy of the Incident denies the identity that a pod has, before the pod gets the quarantine label
//! and until its identity has it. See `guardrails::cilium` for the reason.

use std::collections::BTreeSet;
use std::time::Duration;

use super::snapshot::{Identities, PodIdentity, Snapshot};
use super::status::isolated_at;
use super::step::{Plan, RECHECK, Step};
use crate::api::{CiliumEnforcement, IncidentCondition, Reason};
use crate::guardrails::cilium::IdentityLabels;
use crate::limits;
use crate::model::EventTime;
use crate::respond::verify::proof::TrafficObservation;

/// How long Cilium has to apply the policy of the Incident before the label is set. Measured with Cilium 1.20: 0.03 to 0.8 s on
/// a node with time to spare, and more than a second on one without.
const APPLIED_AFTER: Duration = Duration::from_secs(5);

/// How long the policy of the Incident is kept after the identity of the pod has changed: the node loads the programs for it
/// after that. Measured with Cilium 1.20: 1.6 s.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

/// What has to be done before pods get the quarantine label. `None` if nothing, or if nothing can be.
///
/// The policy comes first: while Cilium waits to give a relabelled pod its new identity, it applies no new policy to the pod.
pub(super) fn before_label(snapshot: &Snapshot) -> Option<Plan> {
    let identities = match &snapshot.identities {
        Identities::NotUsed => return None,
        Identities::Unread => {
            return Some(Plan::step(Step::ReadIdentities(snapshot.pods.clone())));
        }
        Identities::Known(identities) => identities,
    };
    if let Some(step) = deny(snapshot, identities) {
        return Some(Plan::step(step));
    }
    let known = enforcement(snapshot);
    let age = snapshot
        .now
        .duration_since(known.denied_since.as_ref()?.0)
        .unsigned_abs();
    if known.interim_identities.is_empty() || age >= APPLIED_AFTER {
        return None;
    }
    let message = "a CiliumNetworkPolicy of the Incident denies the pod; it gets the quarantine label when Cilium has had the \
                   time to apply that policy";
    let plan = Plan::default()
        .condition(
            IncidentCondition::Contained,
            Some(true),
            Reason::Isolated,
            message,
        )
        .condition(
            IncidentCondition::Verified,
            None,
            Reason::AwaitingProof,
            "the quarantine label is not set yet",
        );
    Some(plan.recheck_in(APPLIED_AFTER.saturating_sub(age)))
}

/// Whether traffic that passed at this time proves nothing about the deny: Cilium applies no policy to a pod that waits for its
/// new identity, so that a deny that was late on a busy node holds when the identity has the quarantine label.
pub(super) fn is_too_early(snapshot: &Snapshot, passed: EventTime) -> bool {
    let known = enforcement(snapshot);
    if known.denied_since.is_none() {
        return false;
    }
    if let Some(since) = known.label_in_force_since {
        let settled = i64::try_from(SETTLED_AFTER.as_micros()).unwrap_or(i64::MAX);
        return passed <= EventTime::from(since.0).plus_micros(settled);
    }
    let waited = isolated_at(&snapshot.incident)
        .map(|isolated| snapshot.now.duration_since(isolated).unsigned_abs());
    waited.is_some_and(|waited| waited < limits::IDENTITY_CHANGE_MAX)
}

/// The next step towards a deny that is in force for every pod of the Incident, all of which have the quarantine label. `None`
/// when there is one, or when no more can be done about it: the response continues.
pub(super) fn enforce(snapshot: &Snapshot) -> Option<Plan> {
    let known = enforcement(snapshot);
    let identities = match &snapshot.identities {
        Identities::NotUsed => return None,
        _ if is_settled(&known) => return None,
        Identities::Unread => {
            return Some(Plan::step(Step::ReadIdentities(snapshot.pods.clone())));
        }
        Identities::Known(identities) => identities,
    };
    let waiting: Vec<&PodIdentity> = identities
        .iter()
        .filter(|pod| !pod.labels.has_quarantine())
        .collect();
    if waiting.is_empty() {
        return (!identities.is_empty())
            .then(|| label_in_force(snapshot, known))
            .flatten();
    }
    if let Some(step) = deny(snapshot, identities) {
        return Some(Plan::step(step));
    }
    let is_denied = |pod: &&&PodIdentity| known.interim_identities.contains(&text(&pod.labels));
    let open = waiting.iter().find(|pod| !is_denied(pod))?;
    let isolated = isolated_at(&snapshot.incident)?;
    let age = snapshot.now.duration_since(isolated).unsigned_abs();
    (age < limits::IDENTITY_CHANGE_MAX).then(|| pending(snapshot, open))
}

/// Has the policy of the Incident deny the identities without the quarantine label that no pods outside of the Incident have:
/// all of them, because the policy is replaced. `None` if it does already.
fn deny(snapshot: &Snapshot, identities: &[PodIdentity]) -> Option<Step> {
    let wanted: BTreeSet<IdentityLabels> = identities
        .iter()
        .filter(|pod| !pod.labels.has_quarantine() && pod.others <= pod.others_max)
        .map(|pod| pod.labels.clone())
        .take(limits::INTERIM_IDENTITIES_MAX)
        .collect();
    let known = enforcement(snapshot).interim_identities;
    let is_denied = texts(&wanted).iter().all(|text| known.contains(text));
    (!is_denied && !snapshot.interim_deny_failed).then_some(Step::DenyIdentities(wanted))
}

/// The policy of the Incident, if it has one, is no longer needed: its pods are gone or released.
pub(super) fn lift(snapshot: &Snapshot) -> Option<Step> {
    let interim = &enforcement(snapshot).interim_identities;
    (!interim.is_empty()).then_some(Step::LiftInterimDeny)
}

/// Whether something is left to do after the response has gone on.
pub(super) fn is_pending(snapshot: &Snapshot) -> bool {
    snapshot.identities != Identities::NotUsed && !is_settled(&enforcement(snapshot))
}

/// Whether Cilium denies the pods. Its denies take precedence over every policy that allows.
pub(crate) fn is_denied(snapshot: &Snapshot) -> bool {
    let is_known = |identities: &Vec<PodIdentity>| !identities.is_empty();
    enforcement(snapshot).denied_since.is_some()
        || matches!(&snapshot.identities, Identities::Known(identities) if is_known(identities))
}

/// What the log shows since the deny is in force: what passed before it proves nothing about it.
pub(super) fn since_in_force(
    snapshot: &Snapshot,
    observed: TrafficObservation,
) -> TrafficObservation {
    let (Some(denied), Some(isolated)) = (
        enforcement(snapshot).denied_since,
        isolated_at(&snapshot.incident),
    ) else {
        return observed;
    };
    // A log with a clock that is ahead has a later `since`, by as much.
    let waited = EventTime::from(denied.0).micros_since(isolated.into());
    TrafficObservation {
        since: observed.since.plus_micros(waited.max(0)),
        ..observed
    }
}

/// The text of each identity, as the status has them.
pub(crate) fn texts(identities: &BTreeSet<IdentityLabels>) -> Vec<String> {
    identities.iter().map(text).collect()
}

fn text(identity: &IdentityLabels) -> String {
    let text = identity.to_string();
    crate::model::clip(&text, limits::INTERIM_IDENTITY_BYTES_MAX).to_owned()
}

fn enforcement(snapshot: &Snapshot) -> CiliumEnforcement {
    snapshot.incident.cilium().cloned().unwrap_or_default()
}

fn is_settled(known: &CiliumEnforcement) -> bool {
    known.label_in_force_since.is_some() && known.interim_identities.is_empty()
}

/// The identity of every pod has the quarantine label: record it, and delete the policy of the Incident a little later.
fn label_in_force(snapshot: &Snapshot, known: CiliumEnforcement) -> Option<Plan> {
    let Some(since) = known.label_in_force_since else {
        return Some(Plan::step(Step::RecordLabelInForce));
    };
    let age = snapshot.now.duration_since(since.0).unsigned_abs();
    (age >= SETTLED_AFTER)
        .then(|| lift(snapshot).map(Plan::step))
        .flatten()
}

/// The wait for a new identity, where no policy can deny the pod before.
fn pending(snapshot: &Snapshot, pod: &PodIdentity) -> Plan {
    let contained = IncidentCondition::Contained;
    let message = if snapshot.interim_deny_failed {
        "the pod carries the quarantine label, Cilium does not select it by that label yet, which takes up to 36 s with its \
         default settings, and the CiliumNetworkPolicy that would deny it before could not be stored: see the actions"
            .to_owned()
    } else {
        format!(
            "the pod carries the quarantine label; Cilium does not select it by that label yet, which takes up to 36 s with its \
             default settings, and no policy denies it before, because {} other pods have its other labels ({})",
            pod.others, pod.labels
        )
    };
    let verified = "the quarantine label is not in force yet";
    Plan::default()
        .condition(contained, Some(false), Reason::EnforcementPending, message)
        .condition(
            IncidentCondition::Verified,
            None,
            Reason::AwaitingProof,
            verified,
        )
        .recheck_in(RECHECK)
}
