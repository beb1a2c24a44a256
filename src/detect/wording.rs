//! Wording: what a walk saw, as evidence for people.
//!
//! Called by `scan` and `run` for what is news, so its cost does not matter. It decides nothing.

use std::net::IpAddr;

use super::engine::EngineConfig;
use super::scan::{Crossing, Service};
use super::scope::Scope;
use super::told::Word;
use super::walk::{Failures, Seen, Walk};
use crate::limits;
use crate::model::{BoundedText, Evidence, Example, Severity, Signature, Transport, duration};

/// All that evidence of a walk is made of.
pub(super) struct Account<'a> {
    pub(super) signature: Signature,
    pub(super) severity: Severity,
    pub(super) walk: &'a Walk,
    /// What was tried, and by whom.
    pub(super) what: String,
    pub(super) against: Vec<String>,
    /// Late failures of the same walk, among them perhaps some of its first.
    pub(super) latest: Vec<Seen>,
}

impl Account<'_> {
    /// The finished judgement.
    pub(super) fn crossing(&self, config: &EngineConfig) -> Crossing {
        let walk = self.walk;
        let Failures {
            unanswered,
            refused,
            denied,
        } = walk.failures;
        let failed = walk.failures.total();
        let summary = format!(
            "{} {} within {}, none of them known from a DNS answer. {failed} failed: {unanswered} unanswered, {refused} refused, {denied} denied.",
            failed.saturating_add(walk.answered),
            self.what,
            duration::rounded(walk.last.micros_since(walk.first)),
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
            against: bounded(&self.against),
        };
        Crossing {
            signature: self.signature,
            severity: self.severity,
            evidence,
        }
    }

    /// How it began, and what came last.
    fn examples(&self) -> Vec<Example> {
        let mut examples: Vec<Seen> = self.walk.begin.into_iter().collect();
        let room = limits::EXAMPLES_MAX.saturating_sub(examples.len());
        let is_new = |seen: &&Seen| !examples.contains(seen);
        let later: Vec<Seen> = self.latest.iter().filter(is_new).copied().collect();
        examples.extend(later.iter().skip(later.len().saturating_sub(room)));
        examples.into_iter().map(example).collect()
    }
}

/// Sentences, as many as evidence holds.
pub(super) fn bounded(sentences: &[String]) -> Vec<BoundedText> {
    let kept = sentences.iter().take(limits::AGAINST_MAX);
    kept.map(|text| BoundedText::new(text)).collect()
}

fn example(seen: Seen) -> Example {
    Example {
        time: seen.time,
        destination: seen.target.host,
        port: seen.target.port,
        transport: seen.target.transport,
        outcome: seen.outcome,
        name: None,
    }
}

/// The size of a walk's judgement.
pub(super) fn word_of(signature: Signature, severity: Severity, walk: &Walk) -> Word {
    Word {
        signature,
        severity,
        contact_count: u64::from(walk.failures.total()),
        score: walk.score_nats,
    }
}

/// "... hosts were tried on this service".
pub(super) fn hosts_tried(service: Service, by: &str) -> String {
    let Service {
        scope,
        transport,
        port,
    } = service;
    let scope = scope.adjective();
    match transport {
        Transport::Icmp => format!("{scope} hosts were pinged{by}"),
        _ => format!(
            "{scope} hosts were tried on {}/{port}{by}",
            transport.name()
        ),
    }
}

/// "... ports of this host were tried", of one host whose address is not known where `None`.
pub(super) fn ports_tried(host: Option<IpAddr>, scope: Scope, by: &str) -> String {
    let scope = scope.adjective();
    match host {
        Some(host) => format!("ports of the {scope} host {host} were tried{by}"),
        None => format!("ports of one {scope} host were tried{by}"),
    }
}

/// What speaks against a walk's judgement.
pub(super) fn against(
    walk: &Walk,
    peers: Option<(usize, usize)>,
    is_lossy: bool,
    has_dns: bool,
) -> Vec<String> {
    let mut against = Vec::new();
    if let Some((lone_count, of)) = peers {
        against.push(format!(
            "{lone_count} of the last {of} contacts went to a host and port of their own, as those of peer-to-peer clients do"
        ));
    }
    if walk.answered > 0 {
        against.push(format!("{} of the targets answered", walk.answered));
    }
    if is_lossy && walk.failures.unanswered > 0 {
        against.push("the log lost records at the time, so some silence may be loss".to_owned());
    }
    if walk.is_held() {
        against.push(
            "the log has shown no flows that passed lately, so successes may be missing: this is an alert at most"
                .to_owned(),
        );
    }
    if !has_dns {
        against.push(
            "no DNS answer of this pod is in the log, so names may stand behind these addresses"
                .to_owned(),
        );
    }
    against
}
