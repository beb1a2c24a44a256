//! Incidents as alerts of Alertmanager's API v2.
//!
//! Alertmanager knows an alert by its labels, so these are few, fixed, and the same for the life of
//! an Incident. What changes stands in the annotations. An alert that is not sent again ends by
//! itself at `endsAt`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::text::plain;
use super::{Origin, Transition, level_of, passed};
use crate::api::Incident;
use crate::limits;
use crate::model::{Severity, Signature};

/// One alert, as Alertmanager takes it.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// What it is known by.
    pub labels: BTreeMap<&'static str, String>,
    /// What people read.
    pub annotations: BTreeMap<&'static str, String>,
    /// Since when.
    pub starts_at: Timestamp,
    /// Until when: in the future while it holds, in the past once it is over.
    pub ends_at: Timestamp,
}

/// The alerts that hold now, and those that ended lately.
pub fn alerts<'i>(
    incidents: impl Iterator<Item = &'i Incident>,
    origin: &Origin,
    level_min: Severity,
    now: Timestamp,
) -> Vec<Alert> {
    let mut alerts: Vec<Alert> = incidents
        .filter(|incident| level_of(incident) >= level_min)
        .filter_map(|incident| alert(incident, origin, now))
        .collect();
    // The oldest open ones must not fall out when there are too many: they are the ones known.
    alerts.sort_by_key(|alert| (alert.ends_at <= now, alert.starts_at));
    alerts.truncate(limits::ALERTS_MAX);
    alerts
}

/// An Incident as an alert; `None` before it is detected, and some time after it was closed.
#[must_use]
pub fn alert(incident: &Incident, origin: &Origin, now: Timestamp) -> Option<Alert> {
    let passed = passed(incident);
    let detected = passed
        .iter()
        .find(|passed| passed.transition == Transition::Detected)?;
    let ended = passed.iter().find(|passed| passed.transition.is_end());
    let ends_at = match ended {
        Some(ended) if now.duration_since(ended.since) > RESOLVED_FOR => return None,
        Some(ended) => ended.since.min(now),
        None => now.checked_add(HOLDS_FOR).unwrap_or(Timestamp::MAX),
    };
    let state = passed
        .iter()
        .max_by_key(|passed| {
            (
                passed.transition.is_end(),
                passed.since.as_second(),
                passed.transition,
            )
        })
        .unwrap_or(detected);
    Some(Alert {
        labels: labels(incident, origin),
        annotations: annotations(incident, state.transition, &state.message),
        starts_at: detected.since.min(ends_at),
        ends_at,
    })
}

const HOLDS_FOR: SignedDuration = SignedDuration::from_secs(limits::ALERT_HOLDS_S);
const RESOLVED_FOR: SignedDuration = SignedDuration::from_secs(limits::ALERT_RESOLVED_S);

fn labels(incident: &Incident, origin: &Origin) -> BTreeMap<&'static str, String> {
    let name = |text: &str| plain(text, limits::NOTIFIED_NAME_BYTES_MAX);
    let (meta, spec) = (&incident.metadata, &incident.spec);
    let severity = match level_of(incident) {
        Severity::Quarantine => "critical",
        Severity::Alert => "warning",
    };
    let run = spec.run.as_ref().map_or("", |run| &run.name);
    let labels = [
        ("alertname", "YellowjackIncident".to_owned()),
        ("severity", severity.to_owned()),
        (
            "namespace",
            name(meta.namespace.as_deref().unwrap_or_default()),
        ),
        ("incident", name(meta.name.as_deref().unwrap_or_default())),
        ("agentrun", name(run)),
        ("pod", name(&spec.subject.name)),
        (
            "cluster",
            name(origin.cluster.as_deref().unwrap_or_default()),
        ),
    ];
    // A label without a value is no label there.
    labels
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect()
}

fn annotations(
    incident: &Incident,
    state: Transition,
    message: &str,
) -> BTreeMap<&'static str, String> {
    let spec = &incident.spec;
    let text = |text: &str| plain(text, limits::NOTIFIED_TEXT_BYTES_MAX);
    let known = spec
        .evidence
        .iter()
        .filter_map(|entry| Signature::from_name(&entry.signature).map(Signature::name));
    let mut signatures: Vec<&str> = known.collect();
    signatures.sort_unstable();
    signatures.dedup();
    let signatures = signatures.join(", ");
    let summary = format!(
        "{signatures} by pod {}: {}",
        spec.subject.name,
        state.name()
    );
    let evidence = spec.evidence.first().map_or("", |entry| &entry.summary);
    let mut annotations = BTreeMap::from([
        ("summary", text(&summary)),
        ("description", text(evidence)),
        ("state", state.name().to_owned()),
        ("message", text(message)),
        ("signatures", signatures),
    ]);
    let trace = spec.trace.clone().unwrap_or_default();
    let ids = [
        ("trace_run", trace.run),
        ("trace_episode", trace.episode),
        ("trace_experiment", trace.experiment),
    ];
    for (key, id) in ids {
        if let Some(id) = id {
            annotations.insert(key, plain(&id, limits::NOTIFIED_NAME_BYTES_MAX));
        }
    }
    annotations
}
