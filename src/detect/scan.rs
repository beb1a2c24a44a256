//! Scans: walks per (scope, transport, port) for one port on many hosts, and per target host for
//! many ports on one host.
//!
//! Two walks per contact are what separates a scan from peer-to-peer traffic, whose ports and
//! hosts both spread, and from a dead dependency, which is one target however often it is tried.
//! Called by `engine` with contacts that `contacts` has judged.

use std::net::IpAddr;

use super::contacts::{Change, Judged, Target};
use super::engine::{EngineConfig, Workload};
use super::scope::Scope;
use super::spread::Spread;
use super::told::{Told, Word};
use super::walk::{Failures, Walk, Walks};
use crate::limits;
use crate::model::{BoundedText, Evidence, Example, Severity, Signature, Transport};

/// Half weight for a crawler's failures on the Internet: dead links are its daily bread, and 70
/// straight failures instead of 35 still find a scan.
const CRAWLER_SHARE: f64 = 0.5;

/// Ports that traceroute counts up, one per probe, without expecting an answer.
const TRACEROUTE_PORTS: std::ops::RangeInclusive<u16> = 33_434..=33_534;

/// A walk's judgement, before `engine` decides whether it is news.
#[derive(Clone, Debug)]
pub(super) struct Crossing {
    pub(super) signature: Signature,
    pub(super) severity: Severity,
    pub(super) evidence: Evidence,
}

/// The key of a horizontal walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Service {
    scope: Scope,
    transport: Transport,
    port: u16,
}

/// A pod's walks.
#[derive(Clone, Debug, Default)]
pub(super) struct Scan {
    horizontal: Walks<Service>,
    vertical: Walks<IpAddr>,
    spread: Spread,
}

/// What the walks need to know about the pod besides the contact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a EngineConfig,
    pub(super) workload: Workload,
    /// Whether this pod's DNS answers are in the log at all.
    pub(super) has_dns: bool,
    /// Whether the log of this pod's node lost records lately.
    pub(super) is_lossy: bool,
    /// What was already said: evidence is written down for news only.
    pub(super) told: &'a Told,
}

impl Scan {
    /// How near the pod's highest walk is to its line.
    pub(super) fn highest_nats(&self) -> f64 {
        self.horizontal
            .highest_nats()
            .max(self.vertical.highest_nats())
    }

    /// Takes in a judged contact; returns the walks that stand above a line because of it.
    pub(super) fn observe(&mut self, contact: &Judged, around: Surroundings<'_>) -> Vec<Crossing> {
        let Target {
            host,
            transport,
            port,
        } = contact.target;
        let scope = around.config.scopes.classify(host);
        if scope == Scope::Internet && contact.change != Change::Recovered {
            self.spread.observe(contact.target);
        }
        let service = Service {
            scope,
            transport,
            port,
        };
        let is_crawler = around.workload == Workload::Crawler && scope == Scope::Internet;
        let share = if is_crawler { CRAWLER_SHARE } else { 1.0 };
        let is_port = transport != Transport::Icmp
            && !(transport == Transport::Udp && TRACEROUTE_PORTS.contains(&port));
        match contact.change {
            Change::Answered => {
                self.horizontal.succeed(service);
                self.vertical.succeed(host);
                return Vec::new();
            }
            Change::Recovered => {
                self.horizontal.recover(service, share);
                self.vertical.recover(host, share);
                return Vec::new();
            }
            Change::Failed => {}
        }
        let spread = &self.spread;
        let walk = self.horizontal.fail(service, contact, share);
        let mut crossings: Vec<_> = judge_horizontal(service, walk, spread, around)
            .into_iter()
            .collect();
        if is_port {
            let walk = self.vertical.fail(host, contact, share);
            crossings.extend(judge_vertical(host, scope, walk, around));
        }
        crossings
    }
}

fn judge_horizontal(
    service: Service,
    walk: &Walk,
    spread: &Spread,
    around: Surroundings<'_>,
) -> Option<Crossing> {
    let mut severity = news(Signature::HorizontalScan, walk, around)?;
    let Service {
        scope,
        transport,
        port,
    } = service;
    // Only on the Internet: peer-to-peer traffic inside a cluster is nobody's honest work.
    let peers = if scope == Scope::Internet {
        spread.peers_around(transport, port)
    } else {
        None
    };
    let mut against = common_against(walk, around);
    if let Some((lone_count, of)) = peers {
        severity = Severity::Alert;
        if !is_news(Signature::HorizontalScan, severity, walk, around.told) {
            return None;
        }
        let peers = format!(
            "{lone_count} of the last {of} contacts went to a host and port of their own, as those of peer-to-peer clients do"
        );
        against.insert(0, peers);
    }
    let what = match transport {
        Transport::Icmp => format!("{} hosts were pinged", scope.adjective()),
        _ => format!(
            "{} hosts were tried on {}/{port}",
            scope.adjective(),
            transport.name()
        ),
    };
    Some(crossing(
        Signature::HorizontalScan,
        severity,
        &what,
        walk,
        &against,
        around.config,
    ))
}

fn judge_vertical(
    host: IpAddr,
    scope: Scope,
    walk: &Walk,
    around: Surroundings<'_>,
) -> Option<Crossing> {
    let severity = news(Signature::VerticalScan, walk, around)?;
    let what = format!("ports of the {} host {host} were tried", scope.adjective());
    let against = common_against(walk, around);
    Some(crossing(
        Signature::VerticalScan,
        severity,
        &what,
        walk,
        &against,
        around.config,
    ))
}

/// How severe the walk's standing is, if that is news.
fn news(signature: Signature, walk: &Walk, around: Surroundings<'_>) -> Option<Severity> {
    let severity = if walk.score_nats >= around.config.threshold_nats {
        Severity::Quarantine
    } else if walk.score_nats >= around.config.alert_nats {
        Severity::Alert
    } else {
        return None;
    };
    is_news(signature, severity, walk, around.told).then_some(severity)
}

fn is_news(signature: Signature, severity: Severity, walk: &Walk, told: &Told) -> bool {
    let contact_count = u64::from(walk.failures.total());
    told.is_news(Word {
        signature,
        severity,
        contact_count,
        score: walk.score_nats,
    })
}

fn crossing(
    signature: Signature,
    severity: Severity,
    what: &str,
    walk: &Walk,
    against: &[String],
    config: &EngineConfig,
) -> Crossing {
    let Failures {
        unanswered,
        refused,
        denied,
    } = walk.failures;
    let failed = walk.failures.total();
    let summary = format!(
        "{} {what} within {}, none of them known from a DNS answer. {failed} failed: {unanswered} unanswered, {refused} refused, {denied} denied.",
        failed.saturating_add(walk.answered),
        span_us(walk.last.micros_since(walk.first)),
    );
    let threshold = match severity {
        Severity::Quarantine => config.threshold_nats,
        Severity::Alert => config.alert_nats,
    };
    let examples = walk.examples.iter().map(|seen| Example {
        time: seen.time,
        destination: seen.target.host,
        port: seen.target.port,
        transport: seen.target.transport,
        outcome: seen.outcome,
        name: None,
    });
    let evidence = Evidence {
        score: walk.score_nats,
        threshold,
        first: walk.first,
        last: walk.last,
        contact_count: u64::from(failed),
        summary: BoundedText::new(&summary),
        examples: examples.take(limits::EXAMPLES_MAX).collect(),
        against: against
            .iter()
            .take(limits::AGAINST_MAX)
            .map(|text| BoundedText::new(text))
            .collect(),
    };
    Crossing {
        signature,
        severity,
        evidence,
    }
}

fn common_against(walk: &Walk, around: Surroundings<'_>) -> Vec<String> {
    let mut against = Vec::new();
    if walk.answered > 0 {
        against.push(format!("{} of the targets answered", walk.answered));
    }
    if around.is_lossy && walk.failures.unanswered > 0 {
        against.push("the log lost records at the time, so some silence may be loss".to_owned());
    }
    if !around.has_dns {
        against.push(
            "no DNS answer of this pod is in the log, so names may stand behind these addresses"
                .to_owned(),
        );
    }
    against
}

/// A length of time for people.
pub(super) fn span_us(micros: i64) -> String {
    match micros / 1_000_000 {
        0 => "1 s".to_owned(),
        s if s < 120 => format!("{s} s"),
        s if s < 7_200 => format!("{} min", s / 60),
        s if s < 172_800 => format!("{} h", s / 3_600),
        s => format!("{} d", s / 86_400),
    }
}
