//! Builds the evidence entry of an Incident from a finding, and the names of Incidents. No I/O.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use sha2::{Digest, Sha256};

use crate::api::{EvidenceEntry, ExampleFlow, HistoryPoint};
use crate::limits;
use crate::model::{EventTime, Example, Finding, Outcome, clip};

/// Maximum length of the pod's name in the name of an Incident, in bytes. The name with its hash is the
/// value of the quarantine label, which has at most 63 bytes.
const NAME_STEM_BYTES_MAX: usize = 48;

/// The name of a pod's Incident: readable, and the same after a crash. `nth` is the number of earlier
/// Incidents of this pod.
#[must_use]
pub fn incident_name(pod_name: &str, pod_uid: &str, nth: usize) -> String {
    let digest = Sha256::digest(format!("{pod_uid}/{nth}"));
    let mut hash = String::new();
    for byte in digest.iter().take(5) {
        // Writing to a String cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    let stem = clip(pod_name, NAME_STEM_BYTES_MAX).trim_end_matches(['-', '.']);
    format!("{stem}-{hash}")
}

/// The evidence entry of a finding by `observer`.
#[must_use]
pub(super) fn evidence_entry(
    observer: &str,
    finding: &Finding,
    observe_only: bool,
) -> EvidenceEntry {
    let evidence = &finding.evidence;
    let against = evidence.against.iter().take(limits::AGAINST_MAX);
    EvidenceEntry {
        observer: observer.to_owned(),
        signature: finding.signature.name().to_owned(),
        severity: finding.severity,
        observe_only,
        score: evidence.score,
        threshold: evidence.threshold,
        first_seen: time(evidence.first),
        last_seen: time(evidence.last),
        contacts: i64::try_from(evidence.contact_count).unwrap_or(i64::MAX),
        summary: evidence.summary.as_str().to_owned(),
        examples: evidence
            .examples
            .iter()
            .take(limits::EXAMPLES_MAX)
            .map(example)
            .collect(),
        counter_evidence: against
            .map(|sentence| sentence.as_str().to_owned())
            .collect(),
        history: vec![HistoryPoint {
            time: MicroTime(time(evidence.last).0),
            contacts: i64::try_from(evidence.contact_count).unwrap_or(i64::MAX),
            score: evidence.score,
            threshold: evidence.threshold,
        }],
    }
}

/// Prepends the course of the earlier entry of the same signature. If it becomes too long, the second
/// oldest points are removed: the first one, how it began, is worth more.
pub(super) fn prepend_course(entry: &mut EvidenceEntry, before: &EvidenceEntry) {
    let Some(newest) = entry.history.first().cloned() else {
        return;
    };
    let earlier = before
        .history
        .iter()
        .filter(|point| point.time < newest.time);
    let mut course: Vec<HistoryPoint> = earlier.cloned().collect();
    course.push(newest);
    while course.len() > limits::COURSE_MAX {
        course.remove(1);
    }
    entry.history = course;
}

fn example(example: &Example) -> ExampleFlow {
    ExampleFlow {
        time: time(example.time),
        destination: example.destination.to_string(),
        port: i32::from(example.port),
        protocol: example.transport.name().to_owned(),
        outcome: outcome_name(example.outcome).to_owned(),
        name: example.name.as_ref().map(|name| name.as_str().to_owned()),
    }
}

const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Unseen => "Unseen",
        Outcome::Pending => "Pending",
        Outcome::Answered => "Answered",
        Outcome::Refused => "Refused",
        Outcome::Unanswered => "Unanswered",
        Outcome::Denied => "Denied",
        Outcome::NotAnAttempt => "NotAnAttempt",
        Outcome::Established => "Established",
    }
}

/// Event time as a time of the API; a time outside the calendar becomes the nearest valid one.
fn time(time: EventTime) -> Time {
    let end = if time.as_micros() < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    Time(time.to_timestamp().unwrap_or(end))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{BoundedText, Evidence, PodKey, Severity, Signature, Subject};

    #[test]
    fn a_name_is_stable_differs_per_incident_and_is_a_valid_label_value() {
        let long =
            "a-very-long-name-of-a-pod-that-is-much-longer-than-a-label-may-be-in-kubernetes-x7k2p";
        let name = incident_name(long, "uid", 0);
        assert_eq!(name, incident_name(long, "uid", 0));
        assert_ne!(name, incident_name(long, "uid", 1));
        assert_ne!(name, incident_name(long, "other", 0));
        assert!(name.len() <= 63, "{name}");
        assert!(!incident_name("pod-", "uid", 0).contains("--"));
    }

    fn entry(second: u32, contacts: u64) -> EvidenceEntry {
        let evidence = Evidence {
            score: f64::from(second),
            threshold: 1.0,
            first: EventTime::from_seconds(1, 0),
            last: EventTime::from_seconds(i64::from(second), 0),
            contact_count: contacts,
            summary: BoundedText::new("s"),
            examples: Vec::new(),
            against: Vec::new(),
        };
        let finding = Finding {
            subject: Subject {
                pod: PodKey::from("uid"),
                run: None,
            },
            signature: Signature::Mining,
            severity: Severity::Alert,
            evidence,
        };
        evidence_entry("node", &finding, false)
    }

    fn after(before: &EvidenceEntry, second: u32, contacts: u64) -> EvidenceEntry {
        let mut entry = entry(second, contacts);
        prepend_course(&mut entry, before);
        entry
    }

    #[test]
    fn a_course_is_continued_in_order_and_keeps_its_first_point() {
        let last = (2..200).fold(entry(1, 1), |before, n| after(&before, n, u64::from(n)));
        let counts: Vec<_> = last.history.iter().map(|point| point.contacts).collect();
        assert_eq!(counts.len(), limits::COURSE_MAX);
        assert_eq!((counts.first(), counts.last()), (Some(&1), Some(&199)));
        assert!(counts.is_sorted(), "{counts:?}");
    }

    #[test]
    fn a_point_that_is_written_again_after_a_restart_replaces_the_earlier_one() {
        let before = after(&after(&entry(1, 10), 2, 20), 3, 40);
        let counts: Vec<_> = after(&before, 2, 20)
            .history
            .iter()
            .map(|point| point.contacts)
            .collect();
        assert_eq!(counts, [10, 20]);
    }

    #[test]
    fn a_time_outside_the_calendar_becomes_a_valid_time_of_the_api() {
        assert_eq!(time(EventTime::MIN), Time(Timestamp::MIN));
        let text = serde_json::to_string(&time(EventTime::from_micros(i64::MAX))).unwrap();
        assert!(text.starts_with('"'), "{text}");
    }
}
