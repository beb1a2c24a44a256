//! Scans by one pod: walks per (scope, transport, port) for one port on many hosts, and per target
//! host for many ports on one host; tallies for what the walks cannot see.
//!
//! Two walks per contact are what separates a scan from peer-to-peer traffic, whose ports and
//! hosts both spread, and from a dead dependency, which is one target however often it is tried.
//! Called by `engine` with contacts that `contacts` has judged.

use std::collections::VecDeque;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::attributed::Workload;
use super::contacts::{Change, Judged};
use super::engine::EngineConfig;
use super::saved;
use super::scope::Scope;
use super::spread::Spread;
use super::tally::Tallies;
use super::told::Told;
use super::walk::{Bursts, Rules, Seen, Walk, Walks};
use super::weight::Weight;
use super::wording::{self, Account};
use crate::limits;
use crate::model::{Evidence, Neighbour, Outcome, Severity, Signature, Transport};

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct Service {
    pub(super) scope: Scope,
    pub(super) transport: Transport,
    pub(super) port: u16,
}

/// Into which walks a contact goes, and how much it weighs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed {
    pub(super) service: Service,
    pub(super) host: IpAddr,
    /// In the walk of its port over hosts.
    pub(super) weight: Weight,
    /// In the walk of its host over ports.
    pub(super) port_weight: Weight,
    /// Whether the port says anything about a scan of the host's ports.
    pub(super) is_port: bool,
    /// Whether the host is one that the pod has a reason to know: a sibling, or a pod that lately
    /// ended. Nobody sweeps a network that way; but all ports of such a host may be tried.
    pub(super) is_neighbour: bool,
}

impl Placed {
    /// Where a contact of such a pod belongs.
    pub(super) fn of(contact: &Judged, config: &EngineConfig, workload: Workload) -> Self {
        let scope = config.scopes.classify(contact.target.host);
        Self::within(scope, contact, workload)
    }

    /// The same where the scope of the target is known.
    pub(super) fn within(scope: Scope, contact: &Judged, workload: Workload) -> Self {
        let target = contact.target;
        let is_traceroute =
            target.transport == Transport::Udp && TRACEROUTE_PORTS.contains(&target.port);
        let weight = weigh(contact, scope, workload);
        Self {
            service: Service {
                scope,
                transport: target.transport,
                port: target.port,
            },
            host: target.host,
            weight,
            port_weight: if contact.is_ftp_data {
                Weight::WEAK
            } else {
                weight
            },
            is_port: target.transport != Transport::Icmp
                && !is_traceroute
                && !contact.is_server_answer,
            is_neighbour: contact.neighbour != Neighbour::Stranger,
        }
    }

    /// Whether an example belongs to the same service.
    pub(super) fn is_same_service(&self, seen: &Seen, config: &EngineConfig) -> bool {
        seen.target.port == self.service.port
            && seen.target.transport == self.service.transport
            && config.scopes.classify(seen.target.host) == self.service.scope
    }
}

/// How much a failure weighs. Honest web traffic goes by name; where the log shows no names, its
/// failures (QUIC or IPv6 that is dropped, a firewall, a dead link) look like a scan. What a policy
/// denied on the way to the Internet harmed nobody, and an agent that does not know its policy
/// tries on; inside, a denied scan is a scan.
fn weigh(contact: &Judged, scope: Scope, workload: Workload) -> Weight {
    if scope != Scope::Internet {
        return Weight::FULL;
    }
    let weight = if contact.target.is_web() && !contact.has_names && contact.is_v6_unproven {
        Weight::WEAK
    } else if contact.target.is_web() && !contact.has_names {
        Weight::WEAK_EXCEPT_FOR_ALERTS
    } else if workload == Workload::Crawler {
        Weight::of(CRAWLER_SHARE)
    } else {
        Weight::FULL
    };
    // A client that tries all IPv6 addresses of a name before the first other one, where IPv6 is
    // broken, fails eight times per success.
    let is_broken_v6 = weight.fades && contact.is_v6_unproven;
    let is_alert_only = is_broken_v6 || contact.outcome == Outcome::Denied;
    Weight {
        quarantine: if is_alert_only {
            0.0
        } else {
            weight.quarantine
        },
        ..weight
    }
}

/// A pod's walks.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Scan {
    horizontal: Walks<Service>,
    vertical: Walks<IpAddr>,
    spread: Spread,
    tallies: Tallies,
    /// The latest failures of all walks.
    #[serde(deserialize_with = "saved::queue::<_, _, { limits::LATEST_FAILURES_MAX }>")]
    failures: VecDeque<Seen>,
}

impl Default for Scan {
    fn default() -> Self {
        let rules = Rules {
            counted_max: limits::WALK_TARGETS_MAX,
            member_min: 1,
            bursts: Bursts::Never,
        };
        Self {
            horizontal: Walks::new(Rules {
                bursts: Bursts::InOutage,
                ..rules
            }),
            vertical: Walks::new(rules),
            spread: Spread::default(),
            tallies: Tallies::default(),
            failures: VecDeque::new(),
        }
    }
}

/// What the walks need to know about the pod besides the contact.
#[derive(Clone, Copy, Debug)]
pub(super) struct Surroundings<'a> {
    pub(super) config: &'a EngineConfig,
    pub(super) workload: Workload,
    /// Whether this pod's DNS answers are in the log at all.
    pub(super) has_dns: bool,
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

    /// If the pod's contacts around a service look like peer-to-peer traffic: how many went to a
    /// port and host of their own, of how many. Only on the Internet: peer-to-peer traffic inside
    /// a cluster is nobody's honest work.
    pub(super) fn peers_around(&self, service: Service) -> Option<(usize, usize)> {
        let Service {
            scope,
            transport,
            port,
        } = service;
        if scope != Scope::Internet {
            return None;
        }
        self.spread.peers_around(transport, port)
    }

    /// Takes in a judged contact; returns the walks that stand above a line because of it.
    pub(super) fn observe(&mut self, contact: &Judged, around: Surroundings<'_>) -> Vec<Crossing> {
        let placed = Placed::of(contact, around.config, around.workload);
        if placed.service.scope == Scope::Internet && contact.change != Change::Recovered {
            let host = around.config.hash_key.host(placed.host);
            self.spread.observe(contact.target, host);
        }
        let mut crossings: Vec<_> = self
            .tallies
            .observe(contact, placed.service, around)
            .into_iter()
            .collect();
        if contact.change != Change::Failed {
            if contact.may_have_answered() {
                self.horizontal
                    .answer(placed.service, contact, placed.weight);
            }
            // Else datagrams that nobody answers would hide a scan of the same host over TCP.
            if contact.change != Change::Unshown {
                self.vertical
                    .answer(placed.host, contact, placed.port_weight);
            }
            return crossings;
        }
        remember(&mut self.failures, contact);
        if !placed.is_neighbour {
            crossings.extend(self.fail_horizontal(contact, placed, around));
        }
        if placed.is_port {
            crossings.extend(self.fail_vertical(contact, placed, around));
        }
        crossings
    }

    fn fail_horizontal(
        &mut self,
        contact: &Judged,
        placed: Placed,
        around: Surroundings<'_>,
    ) -> Option<Crossing> {
        let service = placed.service;
        let walk = self.horizontal.fail(service, contact, placed.weight, 0)?;
        let mut severity = standing(walk, around.config)?;
        let word = |severity| wording::word_of(Signature::HorizontalScan, severity, walk);
        if !around.told.is_news(word(severity)) {
            return None;
        }
        let peers = (service.scope == Scope::Internet)
            .then(|| self.spread.peers_around(service.transport, service.port))
            .flatten();
        if peers.is_some() {
            severity = Severity::Alert;
            if !around.told.is_news(word(severity)) {
                return None;
            }
        }
        let is_alike = |seen: &&Seen| placed.is_same_service(seen, around.config);
        let account = Account {
            signature: Signature::HorizontalScan,
            severity,
            walk,
            what: wording::hosts_tried(service, ""),
            against: wording::against(walk, peers, contact.is_lossy, around.has_dns),
            latest: self.failures.iter().filter(is_alike).copied().collect(),
        };
        Some(account.crossing(around.config))
    }

    fn fail_vertical(
        &mut self,
        contact: &Judged,
        placed: Placed,
        around: Surroundings<'_>,
    ) -> Option<Crossing> {
        let Placed { host, service, .. } = placed;
        let walk = self.vertical.fail(host, contact, placed.port_weight, 0)?;
        let severity = standing(walk, around.config)?;
        let word = wording::word_of(Signature::VerticalScan, severity, walk);
        if !around.told.is_news(word) {
            return None;
        }
        let is_alike = |seen: &&Seen| seen.target.host == host;
        let account = Account {
            signature: Signature::VerticalScan,
            severity,
            walk,
            what: wording::ports_tried(Some(host), service.scope, ""),
            against: wording::against(walk, None, contact.is_lossy, around.has_dns),
            latest: self.failures.iter().filter(is_alike).copied().collect(),
        };
        Some(account.crossing(around.config))
    }
}

/// Above which line a walk stands.
pub(super) fn standing(walk: &Walk, config: &EngineConfig) -> Option<Severity> {
    if walk.score_nats >= config.threshold_nats {
        Some(Severity::Quarantine)
    } else if walk.highest_alert_nats() >= config.alert_nats {
        Some(Severity::Alert)
    } else {
        None
    }
}

/// Keeps the latest failures as examples.
pub(super) fn remember(failures: &mut VecDeque<Seen>, contact: &Judged) {
    if failures.len() >= limits::LATEST_FAILURES_MAX {
        failures.pop_front();
    }
    if failures.len() == failures.capacity() {
        failures.reserve_exact(if failures.is_empty() { 1 } else { 5 });
    }
    failures.push_back(Seen::of(contact));
}
