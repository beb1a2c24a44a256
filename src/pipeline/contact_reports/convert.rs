//! Conversion between ContactReports and the engine's contributions. Pure.
//!
//! Incoming reports were written by other nodes, one of which may be compromised. Contacts count only for pods that the
//! controller has verified on that node, and within the bounds that a correct observer keeps.

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

/// Maximum length of the run's name in the name of a report. With the hash, the name stays below 63 bytes.
const NAME_STEM_BYTES_MAX: usize = 48;

/// Bytes of the hash in a name; each takes two hexadecimal digits.
const NAME_HASH_BYTES: usize = 5;

/// Content of a report, in types of the API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Outgoing {
    pub(super) pods: Vec<ContactingPod>,
    pub(super) answered: Vec<FirstContact>,
}

impl Outgoing {
    /// Whether it has no contacts.
    pub(super) fn is_empty(&self) -> bool {
        self.pods.is_empty() && self.answered.is_empty()
    }

    /// Whether a stored report has the same content.
    pub(super) fn matches(&self, report: &ContactReport) -> bool {
        report.spec.pods == self.pods && report.spec.answered == self.answered
    }
}

/// Accepted contacts of a report, and the number of rejected ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Incoming {
    pub(super) contribution: Contribution,
    pub(super) refused_count: usize,
}

/// Name of the report of one observer about one run.
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

/// Content of the report for a contribution. Names of pods come from the index; a pod that is no longer in the index
/// was verified by the controller while it existed.
pub(super) fn outgoing(contribution: &Contribution, index: &Index) -> Outgoing {
    let mut pods: Vec<ContactingPod> = Vec::new();
    for (key, contact) in &contribution.failed {
        let Some(contact) = to_api(contact) else {
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
    let answered = contribution.answered.iter().filter_map(to_api).collect();
    Outgoing { pods, answered }
}

/// Accepted contacts of a report. An own report from before a restart is trusted.
pub(super) fn incoming(report: &ContactReport, is_own: bool, now: EventTime) -> Incoming {
    let status = report.status.clone().unwrap_or_default();
    let verified: HashSet<&str> = status.verified_pods.iter().map(String::as_str).collect();
    let latest = now.plus_micros(limits::LOG_AHEAD_MAX_MICROS);
    let mut incoming = Incoming::default();
    let spec = &report.spec;
    for pod in &spec.pods {
        let is_verified = is_own || verified.contains(pod.uid.as_str());
        let key = PodKey::from(pod.uid.as_str());
        for contact in &pod.failed {
            let parsed = from_api(contact).filter(|contact| !is_answer(contact));
            let failed = &mut incoming.contribution.failed;
            match parsed.filter(|contact| is_verified && contact.time <= latest) {
                Some(contact) if failed.len() < limits::CONTRIBUTION_FAILED_MAX => {
                    failed.push((key.clone(), contact));
                }
                _ => incoming.refused_count += 1,
            }
        }
    }
    for contact in &spec.answered {
        let parsed = from_api(contact).filter(is_answer);
        let answered = &mut incoming.contribution.answered;
        let counts = is_own || status.has_pods;
        match parsed.filter(|contact| counts && contact.time <= latest) {
            Some(contact) if answered.len() < limits::CONTRIBUTION_ANSWERED_MAX => {
                answered.push(contact);
            }
            _ => incoming.refused_count += 1,
        }
    }
    incoming
}

/// Time of the newest contact in a report. `None` for an empty one.
pub(super) fn newest(report: &ContactReport) -> Option<Timestamp> {
    let failed = report.spec.pods.iter().flat_map(|pod| &pod.failed);
    let contacts = failed.chain(&report.spec.answered);
    contacts.map(|contact| contact.time.0).max()
}

/// Whether a contact was answered, or may have been.
fn is_answer(contact: &SharedContact) -> bool {
    matches!(contact.outcome, Outcome::Answered | Outcome::Unseen)
}

fn to_api(contact: &SharedContact) -> Option<FirstContact> {
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
            // Not a contact with a host.
            Scope::Excluded => return None,
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

fn from_api(contact: &FirstContact) -> Option<SharedContact> {
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
