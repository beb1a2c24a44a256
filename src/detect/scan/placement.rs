//! Placement: the walks that a contact belongs to, and its weight in them.
//!
//! Used by the walks of pods and of runs. Holds no state.

use std::net::IpAddr;

use super::service::Service;
use super::walk::FailedContact;
use super::weight::Weight;
use crate::detect::attributed::Workload;
use crate::detect::config::EngineConfig;
use crate::detect::scan::contacts::ContactVerdict;
use crate::detect::scope::Scope;
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
            is_port: target.transport != Transport::Icmp
                && !is_traceroute
                && !contact.is_server_answer,
            is_neighbour: contact.neighbour != Neighbour::Stranger,
        }
    }

    /// Whether a failed contact belongs to the same service.
    pub(super) fn is_same_service(&self, failure: &FailedContact, config: &EngineConfig) -> bool {
        failure.target.port == self.service.port
            && failure.target.transport == self.service.transport
            && config.scopes.classify(failure.target.host) == self.service.scope
    }
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
