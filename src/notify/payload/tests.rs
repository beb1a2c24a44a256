//! The content of notifications about Incidents, including hostile ones.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::alert::alert;
use super::event::EventReason;
use super::*;
use crate::api::{AgentRun, Incident};
use crate::limits;

const UID: &str = "11111111-2222-3333-4444-555555555555";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, second: i64) -> Value {
    json!({
        "type": type_,
        "status": status,
        "reason": reason,
        "message": format!("{type_} is {status}"),
        "lastTransitionTime": at(second).to_string(),
    })
}

fn incident(conditions: &Value) -> Incident {
    serde_json::from_value(json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "Incident",
        "metadata": {
            "name": "rogue-1",
            "namespace": "agents",
            "uid": UID,
            "creationTimestamp": at(1_790_000_000).to_string(),
        },
        "spec": {
            "run": { "name": "run", "uid": "run-uid" },
            "subject": { "name": "rogue", "uid": "pod-uid", "node": "n1", "podIPs": ["10.244.1.66"] },
            "evidence": [{
                "observer": "n1",
                "signature": "HorizontalScan",
                "severity": "Quarantine",
                "score": 12.5,
                "threshold": 11.0,
                "firstSeen": at(1_789_999_000).to_string(),
                "lastSeen": at(1_789_999_900).to_string(),
                "contacts": 40,
                "summary": "Tried port 22 on 40 hosts.",
                "examples": [{
                    "time": at(1_789_999_000).to_string(),
                    "destination": "192.0.2.1",
                    "port": 22,
                    "protocol": "TCP",
                    "outcome": "Unanswered",
                    "name": "a.example.com",
                }],
            }, {
                "observer": "n1",
                "signature": "Mining",
                "severity": "Alert",
                "score": 3.0,
                "threshold": 11.0,
                "firstSeen": at(1_789_999_000).to_string(),
                "lastSeen": at(1_789_999_950).to_string(),
                "contacts": 1,
                "summary": "A session to a pool.",
            }],
            "trace": { "run": "r-7", "episode": "e-9" },
        },
        "status": { "conditions": conditions },
    }))
    .unwrap()
}

fn contained() -> Incident {
    incident(&json!([
        condition("Detected", "True", "FindingCrossed", 1_790_000_001),
        condition("Contained", "True", "Isolated", 1_790_000_002),
        condition("Verified", "Unknown", "AwaitingProof", 1_790_000_002),
        condition("Closed", "False", "AwaitingHuman", 1_790_000_001),
    ]))
}

fn closed() -> Incident {
    incident(&json!([
        condition("Detected", "True", "FindingCrossed", 1_790_000_001),
        condition("Contained", "True", "Isolated", 1_790_000_002),
        condition("Closed", "True", "Released", 1_790_000_900),
    ]))
}

fn transitions(incident: &Incident) -> Vec<Transition> {
    transitions_of(incident)
        .iter()
        .map(|p| p.transition)
        .collect()
}

#[test]
fn conditions_become_transitions_in_the_order_of_time() {
    use Transition::{Contained, Detected, Released};
    assert_eq!(transitions(&contained()), [Detected, Contained]);
    assert_eq!(transitions(&closed()), [Detected, Contained, Released]);
    for (type_, reason, expected) in [
        ("Contained", "BreakerOpen", Some(Transition::BreakerOpen)),
        (
            "Contained",
            "ActionFailed",
            Some(Transition::ContainmentFailed),
        ),
        (
            "Verified",
            "ConnectionsSurvive",
            Some(Transition::ConnectionsSurvive),
        ),
        ("Contained", "ObserveOnly", None),
        ("Closed", "AwaitingHuman", None),
    ] {
        let found = transitions(&incident(&json!([condition(type_, "False", reason, 1)])));
        assert_eq!(found, Vec::from_iter(expected), "{type_} {reason}");
    }
}

#[test]
fn an_id_does_not_depend_on_the_message_and_changes_with_each_occurrence() {
    let id = |second, message: &str| {
        let mut survive = condition("Verified", "False", "ConnectionsSurvive", second);
        survive["message"] = message.into();
        let incident = incident(&json!([survive]));
        transitions_of(&incident)[0].id(&incident)
    };
    assert_eq!(id(10, "one flow"), id(10, "two flows"));
    assert_ne!(id(10, "one flow"), id(20, "one flow"));
    assert_eq!(id(10, ""), format!("{UID}-connections-survive-10"));
}

#[test]
fn a_recorded_transition_is_notified_and_a_later_occurrence_is_not() {
    let mut incident = contained();
    let first = transitions_of(&incident).remove(0);
    assert!(!first.is_notified(&incident));
    let status = incident.status.as_mut().unwrap();
    let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(first.since);
    status.notified.insert("Detected".to_owned(), time);
    assert!(first.is_notified(&incident));
    let later = OccurredTransition {
        since: at(1_790_000_999),
        ..first
    };
    assert!(!later.is_notified(&incident));
}

/// Compares with tests/snapshots, where a change of a payload is reviewed. `INSTA_UPDATE=always` rewrites the files.
fn check_snapshot(name: &str, payload: &Value) {
    // The version of the program is in the payload, and the snapshot is independent of it.
    let text = serde_json::to_string_pretty(payload).unwrap();
    let text = text.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    insta::with_settings!({
        snapshot_path => "../../../tests/snapshots",
        prepend_module_to_snapshot => false,
        omit_expression => true,
    }, { insta::assert_snapshot!(name, text) });
}

#[test]
fn a_cloud_event_has_the_attributes_that_the_specification_requires() {
    let incident = contained();
    let occurred = transitions_of(&incident).remove(0);
    let origin = Origin {
        cluster: Some("prod".to_owned()),
    };
    let event = cloud_event(&incident, &occurred, &origin, Format::Cloudevents);
    check_snapshot("cloud_event", &event);
}

/// The snapshot was validated against OCSF 1.8.0: it has the attributes that the schema requires of a Detection Finding and
/// of the objects in it.
#[test]
fn an_ocsf_finding_has_the_attributes_that_the_schema_requires() {
    let incident = contained();
    let all = transitions_of(&incident);
    let finding = |incident, occurred| {
        let event = cloud_event(incident, occurred, &Origin::default(), Format::Ocsf);
        event["data"].clone()
    };
    let first = finding(&incident, &all[0]);
    check_snapshot("ocsf_finding", &first);
    let activity_and_status =
        |data: &Value| (data["activity_id"].clone(), data["status_id"].clone());
    assert_eq!(activity_and_status(&first), (json!(1), json!(1)));
    let update = finding(&incident, &all[1]);
    assert_eq!(activity_and_status(&update), (json!(2), json!(2)));
    let end = closed();
    let last = finding(&end, &transitions_of(&end)[2]);
    assert_eq!(activity_and_status(&last), (json!(3), json!(4)));
    // For a validator of the whole schema, such as the Python package ocsf-json-schema.
    if let Some(file) = std::env::var_os("YELLOWJACK_OCSF_OUT") {
        std::fs::write(file, first.to_string()).unwrap();
    }
}

#[test]
fn an_alert_fires_while_the_incident_is_open_and_ends_when_it_is_closed() {
    let now = at(1_790_001_000);
    let open = alert(&contained(), &Origin::default(), now).unwrap();
    check_snapshot("alert", &serde_json::to_value(&open).unwrap());
    assert!(open.starts_at < now && open.ends_at > now);
    let ended = alert(&closed(), &Origin::default(), now).unwrap();
    assert_eq!(ended.labels, open.labels, "the same alert to Alertmanager");
    assert_eq!(ended.ends_at, at(1_790_000_900));
    assert_eq!(ended.annotations["state"], "Released");
    let later = at(1_790_000_900 + limits::ALERT_RESOLVED_S + 1);
    assert_eq!(alert(&closed(), &Origin::default(), later), None);
}

#[test]
fn text_that_an_agent_chose_is_bounded_and_contains_no_markup() {
    let hostile = format!(
        "<!channel>\u{202e}\n{{{{ x }}}} @here {}",
        "a".repeat(9_000)
    );
    let mut incident = contained();
    for entry in &mut incident.spec.evidence {
        entry.summary.clone_from(&hostile);
        entry.signature.clone_from(&hostile);
        for example in &mut entry.examples {
            example.name = Some(hostile.clone());
            example.destination.clone_from(&hostile);
        }
    }
    let entry = incident.spec.evidence[0].clone();
    incident.spec.evidence = vec![entry; 64];
    incident.spec.trace.as_mut().unwrap().run = Some(hostile.clone());
    for condition in &mut incident.status.as_mut().unwrap().conditions {
        condition.message.clone_from(&hostile);
    }
    let occurred = transitions_of(&incident).remove(0);
    let origin = Origin::default();
    let alert = alert(&incident, &origin, at(1_790_001_000)).unwrap();
    let events = incident_events(&incident, &occurred);
    assert!(
        events
            .iter()
            .all(|event| event.note.len() <= limits::EVENT_NOTE_BYTES_MAX)
    );
    let notes: Vec<String> = events.into_iter().map(|event| event.note).collect();
    for text in [
        cloud_event(&incident, &occurred, &origin, Format::Cloudevents).to_string(),
        cloud_event(&incident, &occurred, &origin, Format::Ocsf).to_string(),
        serde_json::to_string(&alert).unwrap(),
        notes.join(" "),
    ] {
        assert!(text.len() < 64 * 1024, "{} bytes", text.len());
        for bad in ["<!channel", "{{ x", "@here", "\u{202e}", "\\u202e", "\\n"] {
            assert!(
                !text.contains(bad),
                "{bad} in {}",
                crate::model::clip(&text, 400)
            );
        }
    }
}

#[test]
fn events_are_about_the_incident_its_pod_and_its_run() {
    let incident = contained();
    let events = incident_events(&incident, &transitions_of(&incident)[1]);
    let kinds: Vec<_> = events
        .iter()
        .map(|e| e.regarding.kind.as_deref().unwrap())
        .collect();
    assert_eq!(kinds, ["Incident", "Pod", "AgentRun"]);
    assert!(
        events
            .iter()
            .all(|event| event.reason == EventReason::PodContained)
    );
    assert!(
        events
            .iter()
            .all(|e| e.regarding.namespace.as_deref() == Some("agents"))
    );
    assert_eq!(
        events[2].note,
        "Incident rogue-1: pod rogue: Contained is True"
    );
}

#[test]
fn a_run_that_is_not_observed_or_not_guarded_causes_an_event() {
    let run = |conditions: Value| -> AgentRun {
        serde_json::from_value(json!({
            "apiVersion": "yellowjack.dev/v1alpha1",
            "kind": "AgentRun",
            "metadata": { "name": "run", "namespace": "agents", "uid": "u" },
            "spec": { "target": { "selector": {} } },
            "status": { "conditions": conditions },
        }))
        .unwrap()
    };
    let reasons = |conditions| -> Vec<_> {
        run_events(&run(conditions))
            .into_iter()
            .map(|event| event.reason)
            .collect()
    };
    let stale = condition("SignalsFresh", "False", "FlowsStale", 1);
    let wide = condition("NetworkGuarded", "False", "UnionWidened", 1);
    let expected = [EventReason::SignalsStale, EventReason::GuardrailWidened];
    assert_eq!(reasons(json!([stale, wide])), expected);
    let fine = condition("SignalsFresh", "True", "SourcesFresh", 1);
    let none = condition("NetworkGuarded", "Unknown", "Unverified", 1);
    assert_eq!(reasons(json!([fine, none])), []);
}

#[test]
fn an_incident_is_one_trace_with_stable_ids() {
    let mut incident = contained();
    incident.status.as_mut().unwrap().actions = serde_json::from_value(json!([{
        "type": "Isolate",
        "target": { "apiVersion": "v1", "kind": "Pod", "name": "rogue", "uid": "pod-uid" },
        "time": at(1_790_000_002).to_string(),
        "result": "Succeeded",
    }]))
    .unwrap();
    let request = |incident: &Incident| -> Vec<Value> {
        let request = spans_request(&spans(incident), &Origin::default());
        let spans = request["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array();
        spans.unwrap().clone()
    };
    let first = request(&incident);
    let names: Vec<&Value> = first.iter().map(|span| &span["name"]).collect();
    assert_eq!(
        names,
        [
            "incident",
            "finding",
            "finding",
            "action Isolate",
            "contain"
        ]
    );
    let root = &first[0]["spanId"];
    assert_eq!(root.as_str().unwrap().len(), 16);
    assert_eq!(first[0]["parentSpanId"], "");
    for span in &first {
        assert_eq!(span["traceId"], UID.replace('-', ""));
        assert!(span == &first[0] || span["parentSpanId"] == *root, "{span}");
        let start: i128 = span["startTimeUnixNano"].as_str().unwrap().parse().unwrap();
        let end: i128 = span["endTimeUnixNano"].as_str().unwrap().parse().unwrap();
        assert!(0 < start && start <= end, "{span}");
        let episode =
            json!({ "key": "yellowjack.trace.episode", "value": { "stringValue": "e-9" } });
        assert!(span["attributes"].as_array().unwrap().contains(&episode));
    }
    let verified = condition("Verified", "True", "Verified", 1_790_000_030);
    let conditions = &mut incident.status.as_mut().unwrap().conditions;
    conditions[2] = serde_json::from_value(verified).unwrap();
    let later = request(&incident);
    assert_eq!(later[..5], first[..]);
    assert_eq!(later[5]["name"], "verify");
    if let Some(file) = std::env::var_os("YELLOWJACK_OTLP_OUT") {
        let request = spans_request(&spans(&incident), &Origin::default());
        std::fs::write(file, request.to_string()).unwrap();
    }
}
