//! Evidence of a walk: whether it is above a threshold, and the text for people.
//!
//! Called by `pod` and `run`. Text is written only for findings that are reported, so its cost does not matter.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::service::{MANY_PORTS, Service};
use super::walk::{FailedContact, Failures, Walk};
use crate::detect::config::EngineConfig;
use crate::detect::detection::Detection;
use crate::detect::reported::ReportLevel;
use crate::detect::scan::contacts::ContactVerdict;
use crate::detect::scope::Scope;
use crate::limits;
use crate::model::{BoundedText, Evidence, Example, Severity, Signature, Transport, duration};

/// What the log shows about the names of a walk's targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TargetNames {
    /// No DNS answer explains them.
    Unknown,
    /// DNS answers for names below one registered domain.
    OfOneDomain,
}

impl TargetNames {
    /// What is known of the name of this contact's target.
    pub(super) const fn of(contact: &ContactVerdict) -> Self {
        match contact.domain {
            Some(_) => Self::OfOneDomain,
            None => Self::Unknown,
        }
    }

    const fn sentence_part(self) -> &'static str {
        match self {
            Self::Unknown => "none of them known from a DNS answer",
            Self::OfOneDomain => "all of them named by DNS below one registered domain",
        }
    }
}

/// The parts of a walk's evidence.
pub(super) struct WalkEvidence<'a> {
    pub(super) signature: Signature,
    pub(super) severity: Severity,
    pub(super) walk: &'a Walk,
    /// The targets and the pods, as a part of the summary.
    pub(super) description: String,
    pub(super) names: TargetNames,
    pub(super) counter_evidence: Vec<String>,
    /// The latest failures of the same walk; the first ones may be among them.
    pub(super) latest: Vec<FailedContact>,
}

impl WalkEvidence<'_> {
    /// The detection with its complete evidence.
    pub(super) fn detection(&self, config: &EngineConfig) -> Detection {
        let walk = self.walk;
        let Failures {
            unanswered,
            refused,
            denied,
        } = walk.failures;
        let failed = walk.failures.total();
        let summary = format!(
            "{} {} within {}, {}. {failed} failed: {unanswered} unanswered, {refused} refused, {denied} denied.",
            failed.saturating_add(walk.answered),
            self.description,
            duration::rounded(walk.last.micros_since(walk.first)),
            self.names.sentence_part(),
        );
        let (score, threshold) = match self.severity {
            Severity::Quarantine => (walk.score_nats, config.threshold_nats),
            Severity::Alert => (walk.highest_alert_nats(), config.alert_nats),
        };
        let evidence = Evidence {
            score,
            threshold,
            first: walk.first,
            last: walk.last,
            contact_count: u64::from(failed),
            summary: BoundedText::new(&summary),
            examples: self.examples(),
            against: bounded_sentences(&self.counter_evidence),
        };
        Detection {
            signature: self.signature,
            severity: self.severity,
            evidence,
        }
    }

    /// The first failure of the walk and the latest ones.
    fn examples(&self) -> Vec<Example> {
        let mut examples: Vec<FailedContact> = self.walk.first_failed.into_iter().collect();
        let room = limits::EXAMPLES_MAX.saturating_sub(examples.len());
        let is_new = |failure: &&FailedContact| !examples.contains(failure);
        let later: Vec<FailedContact> = self.latest.iter().filter(is_new).copied().collect();
        examples.extend(later.iter().skip(later.len().saturating_sub(room)));
        examples.into_iter().map(example).collect()
    }
}

/// The sentences as bounded texts, at most [`limits::AGAINST_MAX`].
pub(super) fn bounded_sentences(sentences: &[String]) -> Vec<BoundedText> {
    let kept = sentences.iter().take(limits::AGAINST_MAX);
    kept.map(|text| BoundedText::new(text)).collect()
}

fn example(failure: FailedContact) -> Example {
    Example {
        time: failure.time,
        destination: failure.target.host,
        port: failure.target.port,
        transport: failure.target.transport,
        outcome: failure.outcome,
        name: None,
    }
}

/// What decides whether a detection of this walk is reported.
pub(super) fn report_level(signature: Signature, severity: Severity, walk: &Walk) -> ReportLevel {
    ReportLevel {
        signature,
        severity,
        contact_count: u64::from(walk.failures.total()),
        score: walk.score_nats,
    }
}

/// The text "... hosts were tried on this service".
pub(super) fn hosts_tried(service: Service, by: &str) -> String {
    let Service {
        scope,
        transport,
        port,
    } = service;
    let scope = scope.adjective();
    match transport {
        Transport::Icmp => format!("{scope} hosts were pinged{by}"),
        Transport::Tcp | Transport::Udp if port == MANY_PORTS => format!(
            "{scope} hosts were tried on several ports over {}{by}",
            transport.name()
        ),
        _ => format!(
            "{scope} hosts were tried on {}/{port}{by}",
            transport.name()
        ),
    }
}

/// The text "... ports of this host were tried"; `None` if the address of the host is unknown here.
pub(super) fn ports_tried(host: Option<IpAddr>, scope: Scope, by: &str) -> String {
    let scope = scope.adjective();
    match host {
        Some(host) => format!("ports of the {scope} host {host} were tried{by}"),
        None => format!("ports of one {scope} host were tried{by}"),
    }
}

/// Evidence against a detection of this walk, one sentence each.
pub(super) fn counter_evidence(
    walk: &Walk,
    peers: Option<(usize, usize)>,
    is_lossy: bool,
    has_dns: bool,
) -> Vec<String> {
    let mut counter_evidence = Vec::new();
    if let Some((alone_count, of)) = peers {
        counter_evidence.push(format!(
            "{alone_count} of the last {of} contacts went to a host and port of their own, as those of peer-to-peer clients do"
        ));
    }
    if walk.answered > 0 {
        counter_evidence.push(format!("{} of the targets answered", walk.answered));
    }
    if is_lossy && walk.failures.unanswered > 0 {
        counter_evidence
            .push("the log lost records at the time, so some silence may be loss".to_owned());
    }
    if walk.has_deferred() {
        counter_evidence.push(
            "the log has shown no flows that passed recently, so successes may be missing: this is an alert at most"
                .to_owned(),
        );
    }
    if !has_dns {
        counter_evidence.push(
            "no DNS answer of this pod is in the log, so names may stand behind these addresses"
                .to_owned(),
        );
    }
    counter_evidence
}

/// The severity of the highest threshold that a walk has crossed.
pub(super) fn threshold_crossed(walk: &Walk, config: &EngineConfig) -> Option<Severity> {
    if walk.score_nats >= config.threshold_nats {
        Some(Severity::Quarantine)
    } else if walk.highest_alert_nats() >= config.alert_nats {
        Some(Severity::Alert)
    } else {
        None
    }
}

/// Stores a failure as an example, in place of the oldest one.
pub(super) fn keep_failure(failures: &mut VecDeque<FailedContact>, contact: &ContactVerdict) {
    if failures.len() >= limits::LATEST_FAILURES_MAX {
        failures.pop_front();
    }
    if failures.len() == failures.capacity() {
        failures.reserve_exact(if failures.is_empty() { 1 } else { 5 });
    }
    failures.push_back(FailedContact::of(contact));
}
