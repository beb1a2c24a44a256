//! Scans by one pod: walks per (scope, transport, port) for one port on many hosts, walks per host for many ports on
//! one host, walks per registered domain for targets that names explain, and counters of distinct targets for what walks
//! cannot detect.
//!
//! Each contact with an address that no name explains belongs to two walks. This separates a scan from peer-to-peer traffic, which varies both ports and
//! hosts, and from an unavailable dependency, which is one target however often it is retried. Called by `pod` with the
//! verdicts of `contacts`.

use std::collections::VecDeque;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::distinct_targets::DistinctTargets;
use super::evidence::{self, TargetNames, WalkEvidence, keep_failure, threshold_crossed};
use super::name_inventory::NameInventory;
use super::peer_to_peer::PeerToPeerProfile;
use super::placement::Placement;
use super::service::{MANY_PORTS, Service};
use super::walk::{Bursts, FailedContact, Walk, WalkRules};
use super::walks::{Payer, Walks};
use super::weight::Weight;
use crate::detect::context::ScanContext;
use crate::detect::detection::Detection;
use crate::detect::mining::is_pool_port;
use crate::detect::scan::contacts::{ContactVerdict, VerdictChange};
use crate::detect::scope::Scope;
use crate::detect::state::bounded;
use crate::detect::state::generational_cache::DomainId;
use crate::limits;
use crate::model::{DnsQuery, Severity, Signature};

/// The scan state of one pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::detect) struct PodScan {
    horizontal: Walks<Service>,
    vertical: Walks<IpAddr>,
    named: Walks<DomainId>,
    peer_to_peer: PeerToPeerProfile,
    distinct_targets: DistinctTargets,
    name_inventory: NameInventory,
    /// The latest failures of all walks.
    #[serde(deserialize_with = "bounded::queue::<_, _, { limits::LATEST_FAILURES_MAX }>")]
    failures: VecDeque<FailedContact>,
}

impl Default for PodScan {
    fn default() -> Self {
        let rules = WalkRules {
            targets_max: limits::WALK_TARGETS_MAX,
            member_min: 1,
            bursts: Bursts::Never,
        };
        let in_outage = WalkRules {
            bursts: Bursts::InOutage,
            ..rules
        };
        Self {
            horizontal: Walks::new(in_outage),
            vertical: Walks::new(rules),
            named: Walks::new(in_outage),
            peer_to_peer: PeerToPeerProfile::default(),
            distinct_targets: DistinctTargets::default(),
            name_inventory: NameInventory::default(),
            failures: VecDeque::new(),
        }
    }
}

impl PodScan {
    /// The score of the highest walk, in nats.
    pub(in crate::detect) fn highest_nats(&self) -> f64 {
        self.horizontal
            .highest_nats()
            .max(self.vertical.highest_nats())
            .max(self.named.highest_nats())
    }

    /// If the pod's contacts with other services look like peer-to-peer traffic: the number of contacts with a port and
    /// host of their own, and the number of all contacts. Only on the Internet, because honest pods have no
    /// peer-to-peer traffic inside a cluster.
    pub(super) fn peer_to_peer_counts(&self, service: Service) -> Option<(usize, usize)> {
        let Service {
            scope,
            transport,
            port,
        } = service;
        if scope != Scope::Internet {
            return None;
        }
        self.peer_to_peer.peer_to_peer_counts(transport, port)
    }

    /// Processes a DNS query. Returns a detection that is to be reported.
    pub(in crate::detect) fn observe_dns(
        &mut self,
        query: &DnsQuery<'_>,
        context: ScanContext<'_>,
    ) -> Option<Detection> {
        self.name_inventory.observe(query, context)
    }

    /// Processes a verdict. Returns the detections of walks and counters that are above a threshold because of it.
    pub(in crate::detect) fn observe(
        &mut self,
        contact: &ContactVerdict,
        context: ScanContext<'_>,
    ) -> Vec<Detection> {
        let placement = Placement::of(contact, context.config, context.workload);
        if let Some(domain) = contact.domain {
            return self.observe_named(domain, contact, placement, context);
        }
        if placement.service.scope == Scope::Internet && contact.change != VerdictChange::Recovered
        {
            let host = context.config.hash_key.host(placement.host);
            self.peer_to_peer.observe(contact.target, host);
        }
        let mut detections: Vec<_> = self
            .distinct_targets
            .observe(contact, placement.service, context)
            .into_iter()
            .collect();
        if contact.change != VerdictChange::Failed {
            if contact.may_have_answered() {
                let weight = (placement.weight, placement.payer);
                self.horizontal.answer(placement.service, contact, weight);
                self.horizontal
                    .answer(many_ports(placement.service), contact, weight);
            }
            // Otherwise unanswered datagrams would hide a scan of the same host over TCP.
            if contact.change != VerdictChange::Unobserved {
                let weight = (placement.port_weight, Payer::Each);
                self.vertical.answer(placement.host, contact, weight);
            }
            return detections;
        }
        keep_failure(&mut self.failures, contact);
        if !placement.is_neighbour {
            detections.extend(self.fail_horizontal(contact, placement, context));
            detections.extend(self.fail_many_ports(contact, placement, context));
        }
        if placement.is_port {
            detections.extend(self.fail_vertical(contact, placement, context));
        }
        detections
    }

    /// Processes a verdict on a target that a name explains. In the walk of the domain each host counts once: a client of
    /// passive FTP fails on many ports of one.
    fn observe_named(
        &mut self,
        domain: DomainId,
        contact: &ContactVerdict,
        placement: Placement,
        context: ScanContext<'_>,
    ) -> Vec<Detection> {
        let weight = placement.named_weight(domain);
        let of_host = ContactVerdict {
            id: context.config.hash_key.host(placement.host),
            ..*contact
        };
        if contact.change != VerdictChange::Failed {
            if contact.may_have_answered() {
                self.named
                    .answer(domain, &of_host, (weight, placement.payer));
            }
            if contact.change != VerdictChange::Unobserved {
                let weight = (placement.port_weight, Payer::Each);
                self.vertical.answer(placement.host, contact, weight);
            }
            return Vec::new();
        }
        keep_failure(&mut self.failures, contact);
        let mut detections = Vec::new();
        if !placement.is_neighbour && !contact.is_ftp_data {
            if !domain.is_of_cluster() {
                detections.extend(self.distinct_targets.observe(
                    contact,
                    placement.service,
                    context,
                ));
            }
            detections.extend(self.fail_named(domain, &of_host, (placement, weight), context));
        }
        if placement.is_port {
            detections.extend(self.fail_vertical(contact, placement, context));
        }
        detections
    }

    fn fail_named(
        &mut self,
        domain: DomainId,
        contact: &ContactVerdict,
        (placement, weight): (Placement, Weight),
        context: ScanContext<'_>,
    ) -> Option<Detection> {
        let walk = self.named.fail(domain, contact, weight, 0)?;
        let crossed = CrossedWalk {
            signature: Signature::HorizontalScan,
            severity: threshold_crossed(walk, context.config)?,
            walk,
            peers: None,
        };
        let latest = self.failures.iter().copied();
        crossed.detection(
            (contact, context),
            || evidence::hosts_tried(placement.service, ""),
            latest.filter(|failure| placement.is_same_service(failure, context.config)),
        )
    }

    fn fail_horizontal(
        &mut self,
        contact: &ContactVerdict,
        placement: Placement,
        context: ScanContext<'_>,
    ) -> Option<Detection> {
        let service = placement.service;
        let walk = self
            .horizontal
            .fail(service, contact, placement.weight, 0)?;
        let mut severity = threshold_crossed(walk, context.config)?;
        let level = evidence::report_level(Signature::HorizontalScan, severity, walk);
        // Before the costly look at other contacts.
        if !context.reported.should_report(level) {
            return None;
        }
        let peers = (service.scope == Scope::Internet)
            .then(|| {
                self.peer_to_peer
                    .peer_to_peer_counts(service.transport, service.port)
            })
            .flatten();
        if peers.is_some() {
            severity = Severity::Alert;
        }
        let crossed = CrossedWalk {
            signature: Signature::HorizontalScan,
            severity,
            walk,
            peers,
        };
        let latest = self.failures.iter().copied();
        crossed.detection(
            (contact, context),
            || evidence::hosts_tried(service, ""),
            latest.filter(|failure| placement.is_same_service(failure, context.config)),
        )
    }

    /// Counts a failure on one of several ports that come back on the Internet, for an alert at most: peer-to-peer traffic
    /// looks similar. Inside, failed targets are counted whatever their ports are.
    fn fail_many_ports(
        &mut self,
        contact: &ContactVerdict,
        placement: Placement,
        context: ScanContext<'_>,
    ) -> Option<Detection> {
        let Service {
            scope,
            transport,
            port,
        } = placement.service;
        // Contacts with the ports of pools are the catalogue's, which needs fewer of them and also those that answer.
        if scope != Scope::Internet
            || is_pool_port(port)
            || !self.peer_to_peer.is_one_of_many_ports(transport, port)
        {
            return None;
        }
        let weight = Weight {
            quarantine: 0.0,
            ..placement.weight
        };
        let service = many_ports(placement.service);
        let walk = self.horizontal.fail(service, contact, weight, 0)?;
        let crossed = CrossedWalk {
            signature: Signature::HorizontalScan,
            severity: threshold_crossed(walk, context.config)?,
            walk,
            peers: None,
        };
        crossed.detection(
            (contact, context),
            || evidence::hosts_tried(service, ""),
            self.failures.iter().copied(),
        )
    }

    fn fail_vertical(
        &mut self,
        contact: &ContactVerdict,
        placement: Placement,
        context: ScanContext<'_>,
    ) -> Option<Detection> {
        let Placement { host, service, .. } = placement;
        let walk = self
            .vertical
            .fail(host, contact, placement.port_weight, 0)?;
        let crossed = CrossedWalk {
            signature: Signature::VerticalScan,
            severity: threshold_crossed(walk, context.config)?,
            walk,
            peers: None,
        };
        let latest = self.failures.iter().copied();
        crossed.detection(
            (contact, context),
            || evidence::ports_tried(Some(host), service.scope, ""),
            latest.filter(|failure| failure.target.host == host),
        )
    }
}

/// A walk of the pod that is above a threshold.
struct CrossedWalk<'a> {
    signature: Signature,
    severity: Severity,
    walk: &'a Walk,
    /// The counts of contacts that look like peer-to-peer traffic.
    peers: Option<(usize, usize)>,
}

impl CrossedWalk<'_> {
    /// The detection, if it is to be reported. The texts are written only then.
    fn detection(
        self,
        (contact, context): (&ContactVerdict, ScanContext<'_>),
        describe: impl FnOnce() -> String,
        latest: impl Iterator<Item = FailedContact>,
    ) -> Option<Detection> {
        let Self {
            signature,
            severity,
            walk,
            peers,
        } = self;
        let level = evidence::report_level(signature, severity, walk);
        if !context.reported.should_report(level) {
            return None;
        }
        let names = TargetNames::of(contact);
        let has_names = context.has_dns || names == TargetNames::OfOneDomain;
        let evidence = WalkEvidence {
            signature,
            severity,
            walk,
            description: describe(),
            names,
            counter_evidence: evidence::counter_evidence(walk, peers, contact.is_lossy, has_names),
            latest: latest.collect(),
        };
        Some(evidence.detection(context.config))
    }
}

/// The key of the walk over many ports at once, beside the walk of a service.
const fn many_ports(service: Service) -> Service {
    Service {
        port: MANY_PORTS,
        ..service
    }
}
