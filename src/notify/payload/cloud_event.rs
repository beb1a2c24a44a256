//! A transition as a CloudEvent 1.0 in structured JSON. The data is the Incident in Yellowjack's own format, or an
//! OCSF finding.

use serde_json::{Value, json};

use super::text::plain;
use super::{OccurredTransition, Origin, ocsf};
use crate::api::{ActionRecord, EvidenceEntry, ExampleFlow, Incident, Trace};
use crate::limits;

/// The format of the data of a CloudEvent.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// The Incident in Yellowjack's own format.
    #[default]
    Cloudevents,
    /// An OCSF Detection Finding (class 2004).
    Ocsf,
}

/// One transition of an Incident as a CloudEvent.
#[must_use]
pub(crate) fn cloud_event(
    incident: &Incident,
    occurred: &OccurredTransition,
    origin: &Origin,
    format: Format,
) -> Value {
    let meta = &incident.metadata;
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let name = meta.name.as_deref().unwrap_or_default();
    let source = match &origin.cluster {
        Some(cluster) => format!("https://yellowjack.dev/clusters/{cluster}"),
        None => "https://yellowjack.dev/operator".to_owned(),
    };
    let mut event = json!({
        "specversion": "1.0",
        "id": occurred.id(incident),
        "source": source,
        "type": format!("dev.yellowjack.incident.{}", occurred.transition.slug()),
        "subject": format!("namespaces/{namespace}/incidents/{name}"),
        "time": occurred.since.to_string(),
        "datacontenttype": "application/json",
    });
    let (data, schema) = match format {
        Format::Cloudevents => (data(incident, occurred, origin), None),
        Format::Ocsf => (
            ocsf::finding(incident, occurred, origin),
            Some(ocsf::SCHEMA_URL),
        ),
    };
    if let Some(fields) = event.as_object_mut() {
        fields.insert("data".to_owned(), data);
        if let Some(schema) = schema {
            fields.insert("dataschema".to_owned(), schema.into());
        }
    }
    event
}

fn data(incident: &Incident, occurred: &OccurredTransition, origin: &Origin) -> Value {
    let (meta, spec) = (&incident.metadata, &incident.spec);
    let status = incident.status.clone().unwrap_or_default();
    let evidence = spec.evidence.iter().take(limits::NOTIFIED_EVIDENCE_MAX);
    let actions = status.actions.iter().rev();
    json!({
        "transition": occurred.transition.name(),
        "reason": plain(&occurred.reason, limits::NOTIFIED_NAME_BYTES_MAX),
        "message": plain(&occurred.message, limits::NOTIFIED_TEXT_BYTES_MAX),
        "level": incident.severity().name(),
        "cluster": origin.cluster,
        "incident": {
            "namespace": meta.namespace,
            "name": meta.name,
            "uid": meta.uid,
        },
        "run": spec.run.as_ref().map(|run| json!({ "name": run.name, "uid": run.uid })),
        "pod": {
            "name": name(&spec.subject.name),
            "uid": name(&spec.subject.uid),
            "node": spec.subject.node.as_deref().map(name),
            "ips": spec.subject.pod_ips.iter().map(|ip| name(ip)).collect::<Vec<_>>(),
        },
        "evidence": evidence.map(evidence_entry).collect::<Vec<_>>(),
        "actions": actions.take(limits::NOTIFIED_ACTIONS_MAX).map(action).collect::<Vec<_>>(),
        "techniques": status.techniques,
        "trace": spec.trace.as_ref().map(trace),
    })
}

fn evidence_entry(entry: &EvidenceEntry) -> Value {
    let examples = entry.examples.iter().take(limits::NOTIFIED_EXAMPLES_MAX);
    json!({
        "node": plain(&entry.observer, limits::NOTIFIED_NAME_BYTES_MAX),
        "signature": plain(&entry.signature, limits::NOTIFIED_NAME_BYTES_MAX),
        "severity": entry.severity,
        "observeOnly": entry.observe_only,
        "score": entry.score,
        "threshold": entry.threshold,
        "firstSeen": entry.first_seen,
        "lastSeen": entry.last_seen,
        "contacts": entry.contacts,
        "summary": plain(&entry.summary, limits::NOTIFIED_TEXT_BYTES_MAX),
        "examples": examples.map(example).collect::<Vec<_>>(),
    })
}

fn name(text: &str) -> String {
    plain(text, limits::NOTIFIED_NAME_BYTES_MAX)
}

fn example(flow: &ExampleFlow) -> Value {
    json!({
        "time": flow.time,
        "destination": name(&flow.destination),
        "port": flow.port,
        "protocol": name(&flow.protocol),
        "outcome": name(&flow.outcome),
        "name": flow.name.as_deref().map(name),
    })
}

fn action(action: &ActionRecord) -> Value {
    json!({
        "type": action.kind,
        "target": format!("{}/{}", action.target.kind, action.target.name),
        "time": action.time,
        "result": action.result,
        "message": plain(&action.message, limits::NOTIFIED_TEXT_BYTES_MAX),
    })
}

/// The identifiers of the training job, cleaned.
pub(super) fn trace(trace: &Trace) -> Value {
    let text = |id: &Option<String>| {
        id.as_deref()
            .map(|id| plain(id, limits::NOTIFIED_NAME_BYTES_MAX))
    };
    json!({
        "run": text(&trace.run),
        "episode": text(&trace.episode),
        "experiment": text(&trace.experiment),
    })
}
