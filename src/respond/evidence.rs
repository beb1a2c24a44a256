//! From a finding to the evidence entry of an Incident, and the names that Incidents get.
//!
//! Called by `record`. Makes no decision and no I/O.

use std::fmt::Write as _;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use sha2::{Digest, Sha256};

use crate::api::{EvidenceEntry, ExampleFlow};
use crate::limits;
use crate::model::{EventTime, Example, Finding, Outcome, clip};

/// Longest readable part of an Incident's name, in bytes. With the hash it stays inside a label
/// value's 63, since it is the value of the quarantine label.
const NAME_STEM_BYTES_MAX: usize = 48;

/// The name of a pod's Incident: readable, and the same after a crash. `nth` counts the Incidents
/// of this pod that were closed before.
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

/// The entry that says what `observer` saw.
#[must_use]
pub fn evidence_entry(observer: &str, finding: &Finding, observe_only: bool) -> EvidenceEntry {
    let evidence = &finding.evidence;
    let against = evidence.against.iter().take(limits::AGAINST_MAX);
    EvidenceEntry {
        node: observer.to_owned(),
        signature: finding.signature.name().to_owned(),
        severity: finding.severity.name().to_owned(),
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
        against: against
            .map(|sentence| sentence.as_str().to_owned())
            .collect(),
    }
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
    }
}

/// A log's time as the API writes it; a time beyond the calendar becomes the nearest end of it.
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

    #[test]
    fn a_name_is_stable_differs_per_occasion_and_fits_a_label() {
        let long = "a-very-long-name-of-a-pod-that-goes-on-and-on-and-on-for-ever-and-a-day-x7k2p";
        let name = incident_name(long, "uid", 0);
        assert_eq!(name, incident_name(long, "uid", 0));
        assert_ne!(name, incident_name(long, "uid", 1));
        assert_ne!(name, incident_name(long, "other", 0));
        assert!(name.len() <= 63, "{name}");
        assert!(!incident_name("pod-", "uid", 0).contains("--"));
    }

    #[test]
    fn an_absurd_time_is_still_a_time_of_the_api() {
        assert_eq!(time(EventTime::MIN), Time(Timestamp::MIN));
        let text = serde_json::to_string(&time(EventTime::from_micros(i64::MAX))).unwrap();
        assert!(text.starts_with('"'), "{text}");
    }
}
