//! Incidents as alerts of Alertmanager's API v2.
//!
//! Alertmanager identifies an alert by its labels, so the labels do not change during the life of an Incident. What
//! changes is in the annotations. An alert that is not sent again ends at `endsAt`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::text::plain;
use super::{Origin, Transition, transitions_of};
use crate::api::Incident;
use crate::limits;
use crate::model::{Severity, Signature};

/// One alert in the format of Alertmanager.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Alert {
    /// Labels, which identify the alert.
    pub labels: BTreeMap<&'static str, String>,
    /// Annotations, which people read.
    pub annotations: BTreeMap<&'static str, String>,
    /// When it started.
    pub starts_at: Timestamp,
    /// When it ends: in the future while it is firing, in the past once it is resolved.
    pub ends_at: Timestamp,
}

/// The alerts that are firing, and those that were resolved recently.
pub(crate) fn alerts<'i>(
    incidents: impl Iterator<Item = &'i Incident>,
    origin: &Origin,
    now: Timestamp,
) -> Vec<Alert> {
    let mut alerts: Vec<Alert> = incidents
        .filter_map(|incident| alert(incident, origin, now))
        .collect();
    // When there are too many, the oldest open alerts are kept: Alertmanager knows them already.
    alerts.sort_by_key(|alert| (alert.ends_at <= now, alert.starts_at));
    alerts.truncate(limits::ALERTS_MAX);
    alerts
}

/// An Incident as an alert. `None` before it is detected, and some time after it was closed.
#[must_use]
pub(super) fn alert(incident: &Incident, origin: &Origin, now: Timestamp) -> Option<Alert> {
    let all = transitions_of(incident);
    let detected = all
        .iter()
        .find(|occurred| occurred.transition == Transition::Detected)?;
    let ended = all.iter().find(|occurred| occurred.transition.is_end());
    let ends_at = match ended {
        Some(ended) if now.duration_since(ended.since) > RESOLVED_FOR => return None,
        Some(ended) => ended.since.min(now),
        None => now.checked_add(FIRING_FOR).unwrap_or(Timestamp::MAX),
    };
    let state = all
        .iter()
        .max_by_key(|occurred| {
            (
                occurred.transition.is_end(),
                occurred.since.as_second(),
                occurred.transition,
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

const FIRING_FOR: SignedDuration = SignedDuration::from_secs(limits::ALERT_HOLDS_S);
const RESOLVED_FOR: SignedDuration = SignedDuration::from_secs(limits::ALERT_RESOLVED_S);

fn labels(incident: &Incident, origin: &Origin) -> BTreeMap<&'static str, String> {
    let name = |text: &str| plain(text, limits::NOTIFIED_NAME_BYTES_MAX);
    let (meta, spec) = (&incident.metadata, &incident.spec);
    let severity = match incident.severity() {
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
    // Alertmanager treats a label without a value as absent.
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
