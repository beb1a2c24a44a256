//! Placement: the walks that a contact belongs to, and its weight in them.
//!
//! Used by the walks of pods and of runs. Holds no state.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::service::Service;
use super::walk::FailedContact;
use super::walks::Payer;
use super::weight::Weight;
use crate::detect::attributed::Workload;
use crate::detect::config::EngineConfig;
use crate::detect::scan::contacts::ContactVerdict;
use crate::detect::scope::Scope;
use crate::detect::state::generational_cache::DomainId;
use crate::model::{Neighbour, Outcome, Transport};

/// A crawler's failures on the Internet have half the weight: dead links are normal for it, and 70 failures in a row
/// instead of 35 still detect a scan.
const CRAWLER_SHARE: f64 = 0.5;

/// Ports that traceroute uses in sequence, one per probe, without expecting an answer.
const TRACEROUTE_PORTS: std::ops::RangeInclusive<u16> = 33_434..=33_534;

/// The walks that a contact belongs to, and its weight in each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placement {
    pub(super) service: Service,
    pub(super) host: IpAddr,
    /// Weight in the horizontal walk, over the hosts of its service.
    pub(super) weight: Weight,
    /// Weight in the vertical walk, over the ports of its host.
    pub(super) port_weight: Weight,
    /// Who pays with an answer of this target for failures in the horizontal walk.
    pub(super) payer: Payer,
    /// Whether the port is evidence for a scan of the host's ports.
    pub(super) is_port: bool,
    /// Whether the pod has a reason to know the host: a sibling, or a pod that ended recently. Such a contact is not
    /// part of a sweep over hosts, but a scan of all ports of such a host is still one.
    pub(super) is_neighbour: bool,
}

impl Placement {
    /// The placement of a contact of a pod with this workload.
    pub(super) fn of(contact: &ContactVerdict, config: &EngineConfig, workload: Workload) -> Self {
        let scope = config.scopes.classify(contact.target.host);
        Self::within(scope, contact, workload)
    }

    /// The placement if the scope of the target is already known.
    pub(super) fn within(scope: Scope, contact: &ContactVerdict, workload: Workload) -> Self {
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
            payer: payer(scope, target.host),
            is_port: target.transport != Transport::Icmp
                && !is_traceroute
                && !contact.is_server_answer,
            is_neighbour: contact.neighbour != Neighbour::Stranger,
        }
    }

    /// The weight in the walk of the domain that explains the target. A name on the Internet can have hundreds of
    /// addresses, of which a client gets others each time, and a firewall that drops the name drops all of them; one site
    /// can have many dead hosts. A headless Service names pods before they listen.
    pub(super) fn named_weight(&self, domain: DomainId) -> Weight {
        if self.service.scope == Scope::Internet || domain.is_of_cluster() {
            Weight::WEAK_FOR_ALERTS_ONLY
        } else {
            self.weight
        }
    }

    /// Whether a failed contact belongs to the same service.
    pub(super) fn is_same_service(&self, failure: &FailedContact, config: &EngineConfig) -> bool {
        failure.target.port == self.service.port
            && failure.target.transport == self.service.transport
            && config.scopes.classify(failure.target.host) == self.service.scope
    }
}

/// Who pays for failures with an answer of this host. Inside it is each host, once. On the Internet it is each /24 or
/// /48, the smallest networks that are assigned to a customer: whoever has one could answer from all of its addresses.
fn payer(scope: Scope, host: IpAddr) -> Payer {
    let network = match host {
        _ if scope != Scope::Internet => host,
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !0xff).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !(u128::MAX >> 48)).into(),
    };
    Payer::Once(network)
}

/// The weight of a contact. Honest web traffic uses names; if the log shows no names, its failures (dropped QUIC or
/// IPv6, a firewall, a dead link) look like a scan. A contact with the Internet that a policy denied harmed no one, and
/// an agent that does not know its policy tries again; inside the cluster, a denied scan is a scan.
fn weigh(contact: &ContactVerdict, scope: Scope, workload: Workload) -> Weight {
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
    // A client that tries all IPv6 addresses of a name before the first IPv4 address fails eight times per success
    // where IPv6 does not work.
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
