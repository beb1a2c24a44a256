//! Between ContactReports and what the engine contributes and takes in. Pure.
//!
//! What comes in was written by other nodes, of which one may lie: it counts only for pods that the
//! controller has found on that node, and within the bounds that an honest observer keeps.

use std::collections::HashSet;
use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use sha2::{Digest, Sha256};

use crate::api::{
    ContactAttribute, ContactHash, ContactOutcome, ContactReport, ContactScope, ContactingPod,
    FirstContact,
};
use crate::detect::{Contribution, Scope, SharedContact};
use crate::limits;
use crate::model::{EventTime, Outcome, PodKey, Transport, clip};
use crate::signals::attribute::Index;

/// Longest beginning of a run's name in the name of a report, which with the hash stays below 63.
const NAME_STEM_BYTES_MAX: usize = 48;

/// Bytes of the hash in a name, of which each takes two digits.
const NAME_HASH_BYTES: usize = 5;

/// What a report says, as the API holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) pods: Vec<ContactingPod>,
    pub(super) answered: Vec<FirstContact>,
}

impl Outgoing {
    /// Whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.answered.is_empty()
    }

    /// Whether this report says the same.
    pub(super) fn is_said_by(&self, report: &ContactReport) -> bool {
        report.spec.pods == self.pods && report.spec.answered == self.answered
    }
}

/// What the engine may take from a report.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) contribution: Contribution,
    pub(super) refused_count: usize,
}

/// The name of the report of one observer about one run.
pub(super) fn report_name(run_name: &str, run_uid: &str, observer: &str) -> String {
    let digest = Sha256::digest(format!("{run_uid}/{observer}"));
    let mut hash = String::new();
    for byte in digest.iter().take(NAME_HASH_BYTES) {
        // Writing to a String cannot fail.
        let _ = write!(hash, "{byte:02x}");
    }
    let stem = clip(run_name, NAME_STEM_BYTES_MAX).trim_end_matches(['-', '.']);
    format!("{stem}-{hash}")
}

/// What a report is to say of a contribution. The index knows the pods' names; one that it has
/// forgotten was there when the controller looked at the report.
pub(super) fn outgoing(contribution: &Contribution, index: &Index) -> Outgoing {
    let mut pods: Vec<ContactingPod> = Vec::new();
    for (key, contact) in &contribution.failed {
        let Some(contact) = written(contact) else {
            continue;
        };
        if let Some(last) = pods.last_mut().filter(|last| last.uid == key.as_str()) {
            last.failed.push(contact);
            continue;
        }
        let facts = index.pod(key);
        pods.push(ContactingPod {
            name: facts.map_or(key.as_str(), |facts| &facts.name).to_owned(),
            uid: key.as_str().to_owned(),
            failed: vec![contact],
        });
    }
    pods.truncate(limits::CONTACT_REPORT_PODS_MAX);
    let answered = contribution.answered.iter().filter_map(written).collect();
    Outgoing { pods, answered }
}

/// What the engine may take from a report. A report of its own from before a restart is believed.
pub(super) fn taken(report: &ContactReport, is_own: bool, now: EventTime) -> Taken {
    let status = report.status.clone().unwrap_or_default();
    let verified: HashSet<&str> = status.verified_pods.iter().map(String::as_str).collect();
    let latest = now.plus_micros(limits::LOG_AHEAD_MAX_MICROS);
    let mut taken = Taken::default();
    let spec = &report.spec;
    for pod in &spec.pods {
        let is_there = is_own || verified.contains(pod.uid.as_str());
        let key = PodKey::from(pod.uid.as_str());
        for contact in &pod.failed {
            let read = read(contact).filter(|contact| !is_answer(contact));
            let failed = &mut taken.contribution.failed;
            match read.filter(|contact| is_there && contact.time <= latest) {
                Some(contact) if failed.len() < limits::CONTRIBUTION_FAILED_MAX => {
                    failed.push((key.clone(), contact));
                }
                _ => taken.refused_count += 1,
            }
        }
    }
    for contact in &spec.answered {
        let read = read(contact).filter(is_answer);
        let answered = &mut taken.contribution.answered;
        let counts = is_own || status.has_pods;
        match read.filter(|contact| counts && contact.time <= latest) {
            Some(contact) if answered.len() < limits::CONTRIBUTION_ANSWERED_MAX => {
                answered.push(contact);
            }
            _ => taken.refused_count += 1,
        }
    }
    taken
}

/// The newest contact in a report; `None` without any.
pub(super) fn newest(report: &ContactReport) -> Option<Timestamp> {
    let failed = report.spec.pods.iter().flat_map(|pod| &pod.failed);
    let contacts = failed.chain(&report.spec.answered);
    contacts.map(|contact| contact.time.0).max()
}

/// Whether a contact was answered, or may have been.
fn is_answer(contact: &SharedContact) -> bool {
    matches!(contact.outcome, Outcome::Answered | Outcome::Unseen)
}

fn written(contact: &SharedContact) -> Option<FirstContact> {
    let attributes = [
        (contact.is_neighbour, ContactAttribute::Neighbour),
        (contact.has_names, ContactAttribute::NamesLogged),
        (contact.is_v6_unproven, ContactAttribute::Ipv6Unproven),
        (contact.is_in_outage, ContactAttribute::InOutage),
        (contact.is_ftp_data, ContactAttribute::FtpData),
        (contact.is_lossy, ContactAttribute::RecordsLost),
        (!contact.is_shown, ContactAttribute::SuccessesNotShown),
        (contact.is_server_answer, ContactAttribute::ServerAnswer),
    ];
    let attributes = attributes.into_iter().filter(|(holds, _)| *holds);
    Some(FirstContact {
        time: MicroTime(contact.time.to_timestamp()?),
        target: ContactHash(contact.target),
        host: ContactHash(contact.host),
        scope: match contact.scope {
            Scope::Cluster => ContactScope::Cluster,
            Scope::Infrastructure => ContactScope::Infrastructure,
            Scope::Private => ContactScope::Private,
            Scope::Internet => ContactScope::Internet,
            // No contact with anybody in particular.
            Scope::Nobody => return None,
        },
        protocol_number: i32::from(contact.transport.ip_protocol()),
        port: i32::from(contact.port),
        outcome: match contact.outcome {
            Outcome::Answered => ContactOutcome::Answered,
            Outcome::Refused => ContactOutcome::Refused,
            Outcome::Unanswered => ContactOutcome::Unanswered,
            Outcome::Denied => ContactOutcome::Denied,
            Outcome::Unseen => ContactOutcome::NotShown,
            Outcome::Pending | Outcome::NotAnAttempt | Outcome::Established => return None,
        },
        attributes: attributes.map(|(_, attribute)| attribute).collect(),
    })
}

fn read(contact: &FirstContact) -> Option<SharedContact> {
    let has = |attribute| contact.attributes.contains(&attribute);
    Some(SharedContact {
        time: EventTime::from(contact.time.0),
        target: contact.target.0,
        host: contact.host.0,
        scope: match contact.scope {
            ContactScope::Cluster => Scope::Cluster,
            ContactScope::Infrastructure => Scope::Infrastructure,
            ContactScope::Private => Scope::Private,
            ContactScope::Internet => Scope::Internet,
        },
        transport: Transport::from_ip_protocol(u8::try_from(contact.protocol_number).ok()?),
        port: u16::try_from(contact.port).ok()?,
        outcome: match contact.outcome {
            ContactOutcome::Answered => Outcome::Answered,
            ContactOutcome::Refused => Outcome::Refused,
            ContactOutcome::Unanswered => Outcome::Unanswered,
            ContactOutcome::Denied => Outcome::Denied,
            ContactOutcome::NotShown => Outcome::Unseen,
        },
        is_neighbour: has(ContactAttribute::Neighbour),
        has_names: has(ContactAttribute::NamesLogged),
        is_v6_unproven: has(ContactAttribute::Ipv6Unproven),
        is_in_outage: has(ContactAttribute::InOutage),
        is_ftp_data: has(ContactAttribute::FtpData),
        is_lossy: has(ContactAttribute::RecordsLost),
        is_shown: !has(ContactAttribute::SuccessesNotShown),
        is_server_answer: has(ContactAttribute::ServerAnswer),
    })
}
