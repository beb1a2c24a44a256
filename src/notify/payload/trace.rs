//! An Incident as spans of a trace: finding, incident, containment with its actions, verification, decision. As OTLP
//! in JSON, for `/v1/traces` of a collector.
//!
//! The trace id is the Incident's UID and span ids are digests of what a span is about, so that every process and every
//! restart computes the same ones. Spans are computed from the stored Incident and not opened while code runs, because
//! an Incident spans tasks, processes and days, and a span that is open when a process ends is lost. For the same
//! reason no tracing library is used.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::text::plain;
use super::{OccurredTransition, Origin, Transition, transitions_of};
use crate::api::{ActionResult, Incident, IncidentCondition};
use crate::limits;
use crate::model::{hex_digest, trace_id};

/// One span.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Span {
    /// Hexadecimal, 16 digits.
    pub id: String,
    /// When it ended.
    pub end: Timestamp,
    json: Value,
}

/// The spans of an Incident that have ended.
#[must_use]
pub(crate) fn spans(incident: &Incident) -> Vec<Span> {
    let all = transitions_of(incident);
    let is_detected = |occurred: &&OccurredTransition| occurred.transition == Transition::Detected;
    let Some(detected) = all.iter().find(is_detected) else {
        return Vec::new();
    };
    let builder = Builder::new(incident);
    let root = builder.id(&["incident"]);
    let evidence = incident.spec.evidence.iter();
    let first = evidence.map(|entry| entry.first_seen.0).min();
    let start = first.unwrap_or(detected.since).min(detected.since);
    let mut spans =
        vec![builder.span(&root, "", "incident", (start, detected.since), None, vec![])];
    spans.extend(builder.findings(&root));
    spans.extend(builder.actions(&root));
    for occurred in &all {
        spans.extend(builder.transition(&root, detected.since, occurred));
    }
    spans
}

/// Spans as a request to a collector.
#[must_use]
pub(crate) fn spans_request(spans: &[Span], origin: &Origin) -> Value {
    let mut resource = vec![
        attribute("service.name", "yellowjack"),
        attribute("service.version", env!("CARGO_PKG_VERSION")),
    ];
    if let Some(cluster) = &origin.cluster {
        resource.push(attribute("k8s.cluster.name", cluster));
    }
    let spans: Vec<&Value> = spans.iter().map(|span| &span.json).collect();
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{ "scope": { "name": "yellowjack.incident" }, "spans": spans }],
    }]})
}

struct Builder<'i> {
    incident: &'i Incident,
    uid: String,
    trace: String,
    common: Vec<Value>,
}

impl<'i> Builder<'i> {
    fn new(incident: &'i Incident) -> Self {
        let uid = incident.uid().unwrap_or_default();
        Self {
            trace: trace_id(&uid),
            common: common(incident),
            incident,
            uid,
        }
    }

    fn id(&self, about: &[&str]) -> String {
        hex_digest(&[&[self.uid.as_str()], about].concat(), 8)
    }

    fn span(
        &self,
        id: &str,
        parent: &str,
        name: &str,
        (start, end): (Timestamp, Timestamp),
        error: Option<&str>,
        more: Vec<Value>,
    ) -> Span {
        let nanos = |time: Timestamp| time.as_nanosecond().max(0).to_string();
        let status = error.map_or_else(
            || json!({}),
            |message| json!({ "code": 2, "message": text(message) }),
        );
        let attributes = [self.common.clone(), more].concat();
        let json = json!({
            "traceId": self.trace,
            "spanId": id,
            "parentSpanId": parent,
            "name": name,
            "kind": 1,
            "startTimeUnixNano": nanos(start.min(end)),
            "endTimeUnixNano": nanos(end),
            "attributes": attributes,
            "status": status,
        });
        Span {
            id: id.to_owned(),
            end,
            json,
        }
    }

    fn findings(&self, root: &str) -> Vec<Span> {
        let entries = self.incident.spec.evidence.iter();
        let entries = entries.take(limits::NOTIFIED_EVIDENCE_MAX);
        let span = |entry: &crate::api::EvidenceEntry| {
            let id = self.id(&["finding", &entry.observer, &entry.signature]);
            let more = vec![
                attribute("yellowjack.signature", &text(&entry.signature)),
                attribute("yellowjack.severity", entry.severity.name()),
                attribute("yellowjack.observer", &text(&entry.observer)),
                attribute("yellowjack.summary", &text(&entry.summary)),
            ];
            let times = (entry.first_seen.0, entry.last_seen.0);
            self.span(&id, root, "finding", times, None, more)
        };
        entries.map(span).collect()
    }

    fn actions(&self, root: &str) -> Vec<Span> {
        let status = self.incident.status.as_ref();
        let actions = status.map_or(&[][..], |status| &status.actions);
        let span = |action: &crate::api::ActionRecord| {
            let (kind, result) = (format!("{:?}", action.kind), format!("{:?}", action.result));
            let time = action.time.0;
            let id = self.id(&[
                "action",
                &kind,
                &result,
                &action.target.uid,
                &time.to_string(),
            ]);
            let target = format!("{}/{}", action.target.kind, action.target.name);
            let error = (action.result == ActionResult::Failed).then_some(action.message.as_str());
            let more = vec![
                attribute("yellowjack.target", &text(&target)),
                attribute("yellowjack.result", &result),
            ];
            let name = format!("action {kind}");
            self.span(&id, root, &name, (time, time), error, more)
        };
        actions.iter().map(span).collect()
    }

    fn transition(
        &self,
        root: &str,
        detected: Timestamp,
        occurred: &OccurredTransition,
    ) -> Option<Span> {
        let (name, start) = match occurred.transition {
            Transition::Detected => return None,
            Transition::Contained | Transition::ContainmentFailed | Transition::BreakerOpen => {
                ("contain", detected)
            }
            Transition::Verified | Transition::ConnectionsSurvive => {
                ("verify", self.contained().unwrap_or(detected))
            }
            Transition::Released | Transition::Terminated => ("decide", detected),
        };
        let second = occurred.since.as_second().to_string();
        let id = self.id(&[name, occurred.transition.name(), &second]);
        let error = occurred
            .transition
            .is_trouble()
            .then_some(occurred.message.as_str());
        let more = vec![
            attribute("yellowjack.transition", occurred.transition.name()),
            attribute("yellowjack.reason", &text(&occurred.reason)),
        ];
        Some(self.span(&id, root, name, (start, occurred.since), error, more))
    }

    fn contained(&self) -> Option<Timestamp> {
        let contained = self.incident.condition(IncidentCondition::Contained);
        contained
            .filter(|condition| condition.status == "True")
            .map(|condition| condition.last_transition_time.0)
    }
}

/// The attributes of every span: the pod and its run under OpenTelemetry's names for Kubernetes, and the identifiers
/// of the training job.
fn common(incident: &Incident) -> Vec<Value> {
    let spec = &incident.spec;
    let trace = spec.trace.clone().unwrap_or_default();
    let known = [
        ("k8s.namespace.name", incident.namespace()),
        ("k8s.pod.name", Some(spec.subject.name.clone())),
        ("k8s.pod.uid", Some(spec.subject.uid.clone())),
        ("k8s.node.name", spec.subject.node.clone()),
        ("yellowjack.incident", Some(incident.name_any())),
        (
            "yellowjack.agentrun",
            spec.run.as_ref().map(|run| run.name.clone()),
        ),
        ("yellowjack.trace.run", trace.run),
        ("yellowjack.trace.episode", trace.episode),
        ("yellowjack.trace.experiment", trace.experiment),
    ];
    known
        .into_iter()
        .filter_map(|(key, value)| Some(attribute(key, &text(&value?))))
        .collect()
}

fn attribute(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

fn text(text: &str) -> String {
    plain(text, limits::NOTIFIED_NAME_BYTES_MAX)
}
