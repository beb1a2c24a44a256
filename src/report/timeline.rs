//! The timeline, oldest first: evidence, observations, actions, conditions, the human's decision.

use super::clean;
use super::state::conditions;
use super::story::{Event, EventKind, Moment, counted};
use crate::api::{ActionKind, ActionRecord, ActionResult, EvidenceEntry, Incident, Observation};
use crate::limits;

pub(super) fn timeline(incident: &Incident) -> Vec<Event> {
    let spec = &incident.spec;
    let mut events: Vec<Event> = Vec::new();
    for entry in spec.evidence.iter().take(limits::REPORT_EVIDENCE_MAX) {
        events.extend(of_evidence(entry));
    }
    for observation in spec.observations.iter().take(limits::REPORT_EVIDENCE_MAX) {
        events.extend(of_observation(observation));
    }
    if let Some(made) = &incident.metadata.creation_timestamp {
        let text = "The evidence was stored before any action.";
        events.push(event(
            made.0,
            EventKind::Condition,
            "Incident created",
            text,
        ));
    }
    let actions = incident.status.iter().flat_map(|status| &status.actions);
    events.extend(actions.take(limits::ACTIONS_MAX).map(of_action));
    for condition in conditions(incident)
        .iter()
        .take(limits::REPORT_CONDITIONS_MAX)
    {
        let title = format!(
            "{} is {}",
            clean(&condition.type_),
            clean(&condition.status)
        );
        let detail = format!(
            "{}: {}",
            clean(&condition.reason),
            clean(&condition.message)
        );
        events.push(event(
            condition.last_transition_time.0,
            EventKind::Condition,
            &title,
            &detail,
        ));
    }
    if let Some(closed) = incident
        .status
        .as_ref()
        .and_then(|status| status.closed_at.as_ref())
    {
        events.push(event(
            closed.0,
            EventKind::Human,
            "Closed",
            &disposition_text(incident),
        ));
    } else if incident.spec.disposition.is_some()
        && let Some(newest) = events.iter().map(|event| event.time).max()
    {
        // The API stores no time for the human's decision. It is placed after the newest known event.
        events.push(Event {
            time: newest,
            kind: EventKind::Human,
            title: "A human decided (the time is not recorded)".to_owned(),
            detail: disposition_text(incident),
        });
    }
    // Stable: in the same second the log comes before the action, and the action before the condition.
    events.sort_by_key(|event| event.time);
    events
}

fn event(time: jiff::Timestamp, kind: EventKind, title: &str, detail: &str) -> Event {
    Event {
        time: Moment::new(time),
        kind,
        title: title.to_owned(),
        detail: detail.to_owned(),
    }
}

fn of_evidence(entry: &EvidenceEntry) -> Vec<Event> {
    let node = format!("seen by {}", clean(&entry.observer));
    let of = format!("({})", clean(&entry.signature));
    let seen = |time: jiff::Timestamp, what: &str, detail: &str| {
        event(time, EventKind::Seen, &format!("{what} {of}"), detail)
    };
    let many = |count: i64| counted(count, "contact counts", "contacts count");
    let mut events = vec![seen(entry.first_seen.0, "First contact that counts", &node)];
    if entry.history.is_empty() {
        let last = format!(
            "{}, {:.1} nats against {:.1}, {node}",
            many(entry.contacts),
            entry.score,
            entry.threshold
        );
        events.push(seen(entry.last_seen.0, "Last contact that counts", &last));
    }
    let mut line = 0.0;
    for point in entry.history.iter().take(limits::COURSE_MAX) {
        // One event when a threshold is crossed, and one for each later point.
        let title = if point.threshold > line {
            format!("Score crossed the threshold of {:.1} nats", point.threshold)
        } else {
            "Score rose".to_owned()
        };
        line = line.max(point.threshold);
        let detail = format!("{}, {:.1} nats, {node}", many(point.contacts), point.score);
        events.push(seen(point.time.0, &title, &detail));
    }
    events
}

fn of_observation(observation: &Observation) -> Vec<Event> {
    let node = clean(&observation.node);
    let mut events = Vec::new();
    if let Some(passed) = &observation.last_passed {
        let detail =
            format!("The log of {node} shows traffic of the pod that passed after the isolation.");
        events.push(event(
            passed.0,
            EventKind::Failed,
            "Traffic passed",
            &detail,
        ));
    }
    let detail =
        format!("The log of {node} extends to this time and is monitored for traffic of the pod.");
    events.push(event(
        observation.log_time.0,
        EventKind::Seen,
        "Newest line of the log",
        &detail,
    ));
    events
}

fn of_action(action: &ActionRecord) -> Event {
    let target = clean(&format!("{} {}", action.target.kind, action.target.name));
    let (kind, result) = match action.result {
        ActionResult::Succeeded => (EventKind::Done, ""),
        ActionResult::Failed => (EventKind::Failed, " failed"),
        ActionResult::Skipped => (EventKind::Condition, " was skipped"),
    };
    event(
        action.time.0,
        kind,
        &format!("{}{result}: {target}", action_word(action.kind)),
        &clean(&action.message),
    )
}

const fn action_word(kind: ActionKind) -> &'static str {
    match kind {
        ActionKind::Alert => "Alert",
        ActionKind::Throttle => "Throttle",
        ActionKind::Capture => "Capture",
        ActionKind::Isolate => "Isolate",
        ActionKind::Suspend => "Suspend",
        ActionKind::Terminate => "Terminate",
        ActionKind::Restore => "Restore",
    }
}

fn disposition_text(incident: &Incident) -> String {
    incident.spec.disposition.as_ref().map_or_else(
        || "The record contains no decision.".to_owned(),
        |disposition| {
            format!(
                "{:?} by {}: {}",
                disposition.verdict,
                clean(&disposition.decided_by),
                clean(&disposition.justification)
            )
        },
    )
}
