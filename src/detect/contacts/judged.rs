//! What a contact is: its target, what became of it, and what else is known of both.
//!
//! Made by `contacts`, read by the walks. Holds no state.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::detect::origin::OriginId;
use crate::detect::scope::plain;
use crate::detect::sketch::HashKey;
use crate::model::{EventTime, Flow, Neighbour, Outcome, Transport};

/// Ports of web servers over TCP, and that of the same over QUIC.
pub(super) const WEB_PORTS: [u16; 2] = [443, 80];
pub(super) const QUIC_PORT: u16 = 443;

/// First port that Linux gives to clients (`net.ipv4.ip_local_port_range`).
const CLIENT_PORT_MIN: u16 = 32_768;

pub(super) fn is_quic(target: Target) -> bool {
    target.transport == Transport::Udp && target.port == QUIC_PORT
}

/// One target of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::detect) struct Target {
    pub(in crate::detect) host: IpAddr,
    pub(in crate::detect) transport: Transport,
    pub(in crate::detect) port: u16,
}

impl Target {
    /// The target of a flow. ICMP has no ports; some logs put type and code there.
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

    /// Its keyed hash, which stands for it where many are remembered.
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

/// Whether the silence in a flow is one only if its log shows answers. Over TCP a record of a whole
/// connection proves it by itself: who is answered acknowledges, and decoders say `Unseen` of that. And
/// what the node could not send is a fact.
pub(super) fn needs_proof(flow: &Flow<'_>) -> bool {
    flow.outcome == Outcome::Unanswered && flow.forwarded && flow.transport != Transport::Tcp
}

/// What a contact turned out to be, said once per change.
#[allow(clippy::struct_excessive_bools)] // independent facts about one contact
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detect) struct Judged {
    pub(in crate::detect) target: Target,
    /// The target's keyed hash.
    pub(in crate::detect) id: u64,
    pub(in crate::detect) time: EventTime,
    /// The log that has it.
    pub(in crate::detect) origin: OriginId,
    pub(in crate::detect) outcome: Outcome,
    pub(in crate::detect) change: Change,
    /// Whether the engine of another node saw it. Its host is not known here then, and
    /// `target.host` is unspecified.
    pub(in crate::detect) is_elsewhere: bool,
    /// Whether that log lost records at the time.
    pub(in crate::detect) is_lossy: bool,
    /// Who the target is, if it failed.
    pub(in crate::detect) neighbour: Neighbour,
    /// Whether names of this pod's targets are in the log at all.
    pub(in crate::detect) has_names: bool,
    /// Whether it failed over IPv6, over which nobody ever answered this pod.
    pub(in crate::detect) is_v6_unproven: bool,
    /// Whether targets that had answered before fail at the same time.
    pub(in crate::detect) is_in_outage: bool,
    /// Whether it failed on a high port of a host that had answered as an FTP server.
    pub(in crate::detect) is_ftp_data: bool,
    /// From when on the log has shown flows that passed, and for [`Change::Unshown`] answers; `None`: not
    /// lately. Then successes may be missing beside this failure.
    pub(in crate::detect) shown_since: Option<EventTime>,
    /// Whether it looks like a server's answer whose request is not in the log.
    pub(in crate::detect) is_server_answer: bool,
}

impl Judged {
    /// Whether it answered, or may have: in a log that shows no answers a contact that passed is taken
    /// for a success beside denials. Where answers are shown, one record without its other side is not.
    pub(in crate::detect) fn may_have_answered(&self) -> bool {
        match self.change {
            Change::Answered | Change::Recovered => true,
            Change::Unshown => self.shown_since.is_none(),
            Change::Failed => false,
        }
    }
}

/// How a contact's verdict changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detect) enum Change {
    /// The first word about it is a success.
    Answered,
    /// The first word about it is a failure.
    Failed,
    /// It had counted as a failure, and then it answered after all.
    Recovered,
    /// The log cannot show what became of it, so it may have answered.
    Unshown,
}

/// Whether a datagram may be a server's: from a service's port to one that clients get. One-way
/// datagrams like this are answers to requests that the log does not have, and their ports are those
/// of the clients. A scan from port 53 or 161 to ports of services is none.
pub(super) fn is_server_answer(flow: &Flow<'_>) -> bool {
    let is_client_port = |port: u16| port >= CLIENT_PORT_MIN;
    flow.transport == Transport::Udp
        && flow.source_port > 0
        && !is_client_port(flow.source_port)
        && is_client_port(flow.destination_port)
}
