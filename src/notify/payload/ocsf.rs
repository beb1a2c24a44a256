//! A transition as an OCSF Detection Finding: class 2004 of schema 1.8.0.
//!
//! The first transition creates the finding, later ones update it, and the human's decision closes it;
//! `finding_info.uid` is the Incident's UID in all of them. The output was validated against the schema with
//! `ocsf-json-schema`; a test checks the attributes that the schema requires.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::cloud_event::trace;
use super::text::plain;
use super::{OccurredTransition, Origin, Transition};
use crate::api::{EvidenceEntry, ExampleFlow, Incident};
use crate::limits;
use crate::model::{Severity, Signature};

/// Version of the OCSF schema.
pub(super) const VERSION: &str = "1.8.0";

/// Address of the schema of the class.
pub(super) const SCHEMA_URL: &str = "https://schema.ocsf.io/1.8.0/classes/detection_finding";

const CLASS: i64 = 2004;

pub(super) fn finding(
    incident: &Incident,
    occurred: &OccurredTransition,
    origin: &Origin,
) -> Value {
    let (activity, activity_name) = activity(occurred.transition);
    let (severity, severity_name) = severity(incident, occurred.transition);
    let (status, status_name) = status(occurred.transition);
    let (confidence, confidence_name) = match incident.severity() {
        Severity::Quarantine => (3, "High"),
        Severity::Alert => (2, "Medium"),
    };
    let spec = &incident.spec;
    json!({
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": CLASS,
        "class_name": "Detection Finding",
        "type_uid": CLASS * 100 + activity,
        "type_name": format!("Detection Finding: {activity_name}"),
        "time": occurred.since.as_millisecond(),
        "severity_id": severity,
        "severity": severity_name,
        "status_id": status,
        "status": status_name,
        "status_detail": plain(&occurred.reason, limits::NOTIFIED_NAME_BYTES_MAX),
        "message": plain(&occurred.message, limits::NOTIFIED_TEXT_BYTES_MAX),
        "confidence_id": confidence,
        "confidence": confidence_name,
        "is_alert": !occurred.transition.is_end(),
        "metadata": metadata(incident, occurred, origin),
        "finding_info": finding_info(incident),
        "evidences": evidences(incident),
        "resources": resources(incident),
        "unmapped": {
            "transition": occurred.transition.name(),
            "trace": spec.trace.as_ref().map(trace),
        },
    })
}

const fn activity(transition: Transition) -> (i64, &'static str) {
    match transition {
        Transition::Detected => (1, "Create"),
        Transition::Released | Transition::Terminated => (3, "Close"),
        _ => (2, "Update"),
    }
}

fn severity(incident: &Incident, transition: Transition) -> (i64, &'static str) {
    match incident.severity() {
        Severity::Quarantine if transition.is_trouble() => (5, "Critical"),
        Severity::Quarantine => (4, "High"),
        Severity::Alert => (3, "Medium"),
    }
}

const fn status(transition: Transition) -> (i64, &'static str) {
    match transition {
        Transition::Detected => (1, "New"),
        Transition::Released | Transition::Terminated => (4, "Resolved"),
        _ => (2, "In Progress"),
    }
}

fn metadata(incident: &Incident, occurred: &OccurredTransition, origin: &Origin) -> Value {
    let mut metadata = json!({
        "version": VERSION,
        "uid": occurred.id(incident),
        "correlation_uid": incident.metadata.uid,
        "event_code": occurred.transition.name(),
        "product": {
            "name": "Yellowjack",
            "vendor_name": "Yellowjack",
            "version": env!("CARGO_PKG_VERSION"),
        },
    });
    if let (Some(cluster), Some(fields)) = (&origin.cluster, metadata.as_object_mut()) {
        fields.insert("tenant_uid".to_owned(), cluster.as_str().into());
    }
    metadata
}

fn finding_info(incident: &Incident) -> Value {
    let spec = &incident.spec;
    let times = |of: fn(&EvidenceEntry) -> i64| spec.evidence.iter().map(of);
    let first = times(|entry| entry.first_seen.0.as_millisecond()).min();
    let last = times(|entry| entry.last_seen.0.as_millisecond()).max();
    let created = incident.metadata.creation_timestamp.as_ref();
    let mut types: Vec<String> = spec.evidence.iter().map(signature).collect();
    types.sort();
    types.dedup();
    let summary = spec.evidence.first().map_or("", |entry| &entry.summary);
    let title = format!("{} by pod {}", types.join(", "), spec.subject.name);
    let mut info = json!({
        "uid": incident.metadata.uid,
        "title": plain(&title, limits::NOTIFIED_TEXT_BYTES_MAX),
        "desc": plain(summary, limits::NOTIFIED_TEXT_BYTES_MAX),
        "types": types,
        "attacks": attacks(incident),
        // Behavioral: based on what the pod did, not on its content.
        "analytic": { "name": types.first(), "uid": types.first(), "type_id": 2, "type": "Behavioral" },
    });
    let known = [
        ("first_seen_time", first),
        ("last_seen_time", last),
        ("created_time", created.map(|time| time.0.as_millisecond())),
    ];
    if let Some(fields) = info.as_object_mut() {
        for (key, time) in known {
            if let Some(time) = time {
                fields.insert(key.to_owned(), time.into());
            }
        }
    }
    info
}

/// The signature's name. A name that this version does not know is cleaned.
fn signature(entry: &EvidenceEntry) -> String {
    Signature::from_name(&entry.signature).map_or_else(
        || plain(&entry.signature, limits::NOTIFIED_NAME_BYTES_MAX),
        |known| known.name().to_owned(),
    )
}

/// Techniques of ATT&CK and ATLAS with names and tactics.
fn attacks(incident: &Incident) -> Vec<Value> {
    let known = incident
        .spec
        .evidence
        .iter()
        .filter_map(|entry| Signature::from_name(&entry.signature));
    let mut ids: Vec<&str> = known.flat_map(Signature::techniques).copied().collect();
    ids.sort_unstable();
    ids.dedup();
    ids.into_iter().map(attack).collect()
}

fn attack(id: &str) -> Value {
    let (name, tactic) = match id {
        "T1046" => ("Network Service Discovery", Some(("TA0007", "Discovery"))),
        "T1496.001" => ("Compute Hijacking", Some(("TA0040", "Impact"))),
        "T1572" => ("Protocol Tunneling", COMMAND_AND_CONTROL),
        "T1071.004" => ("DNS", COMMAND_AND_CONTROL),
        "T1090.002" => ("External Proxy", COMMAND_AND_CONTROL),
        "AML.T0034.002" => ("Agentic Resource Consumption", None),
        _ => ("", None),
    };
    let mut attack = Map::new();
    let named = |uid: &str| json!({ "uid": uid, "name": name });
    // `T1496.001` is sub-technique 001 of T1496. ATLAS ids have the same form after their prefix.
    match id.rsplit_once('.') {
        Some((parent, _)) if id.starts_with('T') || parent.contains('.') => {
            attack.insert("technique".to_owned(), json!({ "uid": parent }));
            attack.insert("sub_technique".to_owned(), named(id));
        }
        _ => drop(attack.insert("technique".to_owned(), named(id))),
    }
    if let Some((uid, name)) = tactic {
        attack.insert("tactic".to_owned(), json!({ "uid": uid, "name": name }));
    }
    Value::Object(attack)
}

const COMMAND_AND_CONTROL: Option<(&str, &str)> = Some(("TA0011", "Command and Control"));

fn evidences(incident: &Incident) -> Vec<Value> {
    let entries = incident.spec.evidence.iter();
    let mut evidences = Vec::new();
    for entry in entries.take(limits::NOTIFIED_EVIDENCE_MAX) {
        let source = source(incident);
        evidences.push(json!({
            "name": signature(entry),
            "src_endpoint": source,
            "data": {
                "node": plain(&entry.observer, limits::NOTIFIED_NAME_BYTES_MAX),
                "summary": plain(&entry.summary, limits::NOTIFIED_TEXT_BYTES_MAX),
                "severity": entry.severity,
                "score": entry.score,
                "threshold": entry.threshold,
                "contacts": entry.contacts,
            },
        }));
        let examples = entry.examples.iter().take(limits::NOTIFIED_EXAMPLES_MAX);
        evidences.extend(examples.map(|flow| example(&source, flow)));
    }
    evidences
}

fn source(incident: &Incident) -> Value {
    let subject = &incident.spec.subject;
    let mut endpoint = json!({ "name": subject.name, "uid": subject.uid });
    let ip = subject.pod_ips.iter().find(|ip| is_address(ip));
    if let (Some(ip), Some(fields)) = (ip, endpoint.as_object_mut()) {
        fields.insert("ip".to_owned(), ip.as_str().into());
    }
    endpoint
}

fn example(source: &Value, flow: &ExampleFlow) -> Value {
    let mut target = Map::new();
    if is_address(&flow.destination) {
        target.insert("ip".to_owned(), flow.destination.as_str().into());
    }
    if (1..=65_535).contains(&flow.port) {
        target.insert("port".to_owned(), flow.port.into());
    }
    if let Some(name) = &flow.name {
        // `hostname` is a type with a pattern, which a name that an agent looked up may not match.
        let key = if is_host_name(name) {
            "hostname"
        } else {
            "name"
        };
        let name = plain(name, limits::NOTIFIED_NAME_BYTES_MAX);
        target.insert(key.to_owned(), name.into());
    }
    if target.is_empty() {
        target.insert("name".to_owned(), "unknown".into());
    }
    json!({
        "src_endpoint": source,
        "dst_endpoint": target,
        "connection_info": {
            "direction_id": 2,
            "direction": "Outbound",
            "protocol_name": plain(&flow.protocol, limits::NOTIFIED_NAME_BYTES_MAX).to_lowercase(),
        },
        "data": {
            "time": flow.time,
            "outcome": plain(&flow.outcome, limits::NOTIFIED_NAME_BYTES_MAX),
        },
    })
}

fn is_address(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    text.len() <= 253 && text.contains('.') && text.split('.').all(is_label)
}

fn resources(incident: &Incident) -> Vec<Value> {
    let spec = &incident.spec;
    let namespace = incident.metadata.namespace.as_deref().unwrap_or_default();
    let mut resources = vec![json!({
        "name": spec.subject.name,
        "uid": spec.subject.uid,
        "type": "Pod",
        "namespace": namespace,
        "role_id": 2,
        "role": "Actor",
    })];
    if let Some(run) = &spec.run {
        resources.push(json!({
            "name": run.name,
            "uid": run.uid,
            "type": "AgentRun",
            "namespace": namespace,
            "role_id": 4,
            "role": "Related",
        }));
    }
    resources
}
