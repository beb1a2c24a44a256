//! The verdict on a contact: its target, its outcome, and further facts about both.
//!
//! Created by `contacts`, read by the walks. Holds no state.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::detect::origin::{OriginId, ReadProgress};
use crate::detect::scope::plain;
use crate::detect::state::HashKey;
use crate::detect::state::generational_cache::DomainId;
use crate::model::{EventTime, Flow, Neighbour, Outcome, Transport};

/// Ports of web servers over TCP, and their port over QUIC.
pub(super) const WEB_PORTS: [u16; 2] = [443, 80];
pub(super) const QUIC_PORT: u16 = 443;

/// The port of FTP's control connection, and the lowest port on which a server opens passive data connections.
pub(super) const FTP_PORT: u16 = 21;
pub(super) const FTP_DATA_PORT_MIN: u16 = 1_024;

/// First port that Linux assigns to clients (`net.ipv4.ip_local_port_range`).
const CLIENT_PORT_MIN: u16 = 32_768;

pub(super) fn is_quic(target: Target) -> bool {
    target.transport == Transport::Udp && target.port == QUIC_PORT
}

/// A target: host, transport and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::detect) struct Target {
    pub(in crate::detect) host: IpAddr,
    pub(in crate::detect) transport: Transport,
    pub(in crate::detect) port: u16,
}

impl Target {
    /// The target of a flow. ICMP has no ports; some logs contain type and code in their place.
    pub(in crate::detect) fn of(flow: &Flow<'_>) -> Self {
        let port = if flow.transport == Transport::Icmp {
            0
        } else {
            flow.destination_port
        };
        Self {
            host: plain(flow.destination),
            transport: flow.transport,
            port,
        }
    }

    /// Whether it is a web server, over TCP or QUIC.
    pub(in crate::detect) fn is_web(self) -> bool {
        let is_tcp = self.transport == Transport::Tcp && WEB_PORTS.contains(&self.port);
        is_tcp || is_quic(self)
    }

    /// Its keyed hash, which represents it in caches.
    pub(super) fn id(self, key: HashKey) -> u64 {
        key.target(self.host, self.service_word())
    }

    /// Transport and port in one word.
    pub(in crate::detect) fn service_word(self) -> u64 {
        let transport = match self.transport {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Icmp => 1,
            Transport::Sctp => 132,
            Transport::Other(number) => 256 + u64::from(number),
        };
        (transport << 16) | u64::from(self.port)
    }
}

/// Whether a flow without an outcome is the start of a connection that a later record of the log will complete. A
/// connection that has ended, or one in a log without answers, has no later record.
pub(super) fn is_inconclusive(flow: &Flow<'_>, origin: OriginId, read: &ReadProgress<'_>) -> bool {
    flow.outcome == Outcome::Unseen
        && (!flow.forwarded
            || (!is_ended(flow) && read.shows_answers(origin, flow.transport, flow.time)))
}

/// Whether it is the record of a whole connection.
fn is_ended(flow: &Flow<'_>) -> bool {
    flow.volume.is_some_and(|volume| volume.is_final)
}

/// Whether a record without the other side proves that it answered: a TCP client that acknowledges or sends data has had
/// an answer. In a log without answers this alone distinguishes a target that served from one that did not, and its later
/// silence from that of a new target.
pub(super) fn proves_an_answer(flow: &Flow<'_>) -> bool {
    flow.outcome == Outcome::Unseen && flow.transport == Transport::Tcp && is_ended(flow)
}

/// Whether a missing answer in this record is a failure only if its log shows answers. Over TCP a record of a whole
/// connection proves it: an answered client sends acknowledgements, which decoders report as `Unseen`. And what the
/// node could not send is a failure in any case.
pub(super) fn needs_proof(flow: &Flow<'_>) -> bool {
    flow.outcome == Outcome::Unanswered && flow.forwarded && flow.transport != Transport::Tcp
}

/// The verdict on a contact, created once per change.
#[allow(clippy::struct_excessive_bools)] // independent facts about one contact
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detect) struct ContactVerdict {
    pub(in crate::detect) target: Target,
    /// The target's keyed hash.
    pub(in crate::detect) id: u64,
    pub(in crate::detect) time: EventTime,
    /// The log that contains it.
    pub(in crate::detect) origin: OriginId,
    pub(in crate::detect) outcome: Outcome,
    pub(in crate::detect) change: VerdictChange,
    /// Whether the engine of another node observed it. Its host is then unknown here, and `target.host` is unspecified.
    pub(in crate::detect) is_remote: bool,
    /// Whether that log lost records at the time.
    pub(in crate::detect) is_lossy: bool,
    /// Relation of the target to the pod, if the contact failed.
    pub(in crate::detect) neighbour: Neighbour,
    /// The registered domain of the name that explains the target.
    pub(in crate::detect) domain: Option<DomainId>,
    /// Whether the log contains names of this pod's targets.
    pub(in crate::detect) has_names: bool,
    /// Whether it failed over IPv6, over which no target ever answered this pod.
    pub(in crate::detect) is_v6_unproven: bool,
    /// Whether targets that had answered before failed at the same time.
    pub(in crate::detect) is_in_outage: bool,
    /// Whether it failed at a web server, in a log without names, and all of its network fails that had answered before.
    pub(in crate::detect) is_network_out: bool,
    /// Whether it failed on a high port of a host that had answered as an FTP server.
    pub(in crate::detect) is_ftp_data: bool,
    /// Since when the log has shown allowed flows, and for [`VerdictChange::Unobserved`] answers. `None` if it has not
    /// recently: then successes may be missing beside this failure.
    pub(in crate::detect) shown_since: Option<EventTime>,
    /// Whether it looks like a server's answer to a request that the log does not contain.
    pub(in crate::detect) is_server_answer: bool,
}

impl ContactVerdict {
    /// Whether it was answered, or may have been: in a log that shows no answers, an allowed contact counts as a
    /// success beside denials. Where answers are shown, a record of only one direction does not.
    pub(in crate::detect) fn may_have_answered(&self) -> bool {
        match self.change {
            VerdictChange::Answered | VerdictChange::Recovered => true,
            VerdictChange::Unobserved => self.shown_since.is_none(),
            VerdictChange::Failed => false,
        }
    }
}

/// The change of the verdict on a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detect) enum VerdictChange {
    /// The first known outcome is a success.
    Answered,
    /// The first known outcome is a failure.
    Failed,
    /// It had counted as a failure and was answered afterwards.
    Recovered,
    /// The log does not show the outcome, so it may have been answered.
    Unobserved,
}

/// Whether a datagram may come from a server: from a service port to a client port. One-way datagrams like this are
/// answers to requests that the log does not contain, and their ports are those of the clients. A scan from port 53 or
/// 161 to service ports is not included.
pub(super) fn is_server_answer(flow: &Flow<'_>) -> bool {
    let is_client_port = |port: u16| port >= CLIENT_PORT_MIN;
    flow.transport == Transport::Udp
        && flow.source_port > 0
        && !is_client_port(flow.source_port)
        && is_client_port(flow.destination_port)
}
