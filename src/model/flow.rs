//! Signals: the content of one line of a log about network activity.
//!
//! Decoders build them, borrowing from the line; the engine reads them. A signal contains only what is in the log: what a
//! format does not contain is `None` or [`Outcome::Unseen`], never a guess.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{ComputeSample, EventTime};

/// One decoded record.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal<'a> {
    /// A connection, or a packet of one.
    Flow(Flow<'a>),
    /// A name that was looked up, with the answer if the log contains it.
    Dns(DnsQuery<'a>),
    /// A server name that a client sent in a TLS handshake.
    Tls(TlsName<'a>),
    /// Utilization of a pod's processors.
    Sample(ComputeSample<'a>),
    /// A report of the producer of the log that it lost records.
    Lost(LostEvents<'a>),
}

impl Signal<'_> {
    /// The event time of the record.
    #[must_use]
    pub fn time(&self) -> EventTime {
        match self {
            Signal::Flow(flow) => flow.time,
            Signal::Dns(query) => query.time,
            Signal::Tls(name) => name.time,
            Signal::Sample(sample) => sample.time,
            Signal::Lost(lost) => lost.time,
        }
    }

    /// The address of the initiator. `None` for records about a node, and for samples, which contain the name of their
    /// pod.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        match self {
            Signal::Flow(flow) => Some(flow.source),
            Signal::Dns(query) => Some(query.source),
            Signal::Tls(name) => Some(name.source),
            Signal::Sample(_) | Signal::Lost(_) => None,
        }
    }

    /// The same signal with owned text, independent of its line.
    #[must_use]
    pub fn into_owned(self) -> Signal<'static> {
        match self {
            Signal::Flow(flow) => Signal::Flow(Flow {
                time: flow.time,
                source: flow.source,
                source_port: flow.source_port,
                destination: flow.destination,
                destination_port: flow.destination_port,
                transport: flow.transport,
                outcome: flow.outcome,
                is_inferred: flow.is_inferred,
                forwarded: flow.forwarded,
                volume: flow.volume,
                destination_name: flow.destination_name.map(owned),
                pod: flow.pod.map(|pod| PodHint {
                    namespace: owned(pod.namespace),
                    name: owned(pod.name),
                }),
                node: flow.node.map(owned),
            }),
            Signal::Dns(query) => Signal::Dns(DnsQuery {
                time: query.time,
                source: query.source,
                query: owned(query.query),
                answers: query.answers,
                nonexistent: query.nonexistent,
            }),
            Signal::Tls(name) => Signal::Tls(TlsName {
                time: name.time,
                source: name.source,
                source_port: name.source_port,
                destination: name.destination,
                destination_port: name.destination_port,
                server_name: owned(name.server_name),
            }),
            Signal::Sample(sample) => Signal::Sample(ComputeSample {
                time: sample.time,
                pod: owned(sample.pod),
                cpu: sample.cpu,
                gpu: sample.gpu,
            }),
            Signal::Lost(lost) => Signal::Lost(LostEvents {
                time: lost.time,
                count: lost.count,
                node: lost.node.map(owned),
            }),
        }
    }
}

fn owned(text: Cow<'_, str>) -> Cow<'static, str> {
    Cow::Owned(text.into_owned())
}

/// A connection, from the view of its initiator. The decoder swaps the sides of replies, so `source` is always the
/// initiator.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow<'a> {
    /// Time in the record: the start of the connection if the log contains it.
    pub time: EventTime,
    /// The initiator.
    pub source: IpAddr,
    /// Port of the initiator; 0 where the transport or the log has none.
    pub source_port: u16,
    /// The target.
    pub destination: IpAddr,
    /// Port of the target; 0 where the transport has none (ICMP).
    pub destination_port: u16,
    /// Transport protocol.
    pub transport: Transport,
    /// Outcome of the attempt, as far as this record shows it.
    pub outcome: Outcome,
    /// Whether the packet or connection was forwarded (`true`) or dropped.
    pub forwarded: bool,
    /// Packets, bytes and duration, if the log contains them.
    pub volume: Option<Volume>,
    /// A name of the destination in the log (Hubble `destination_names`).
    pub destination_name: Option<Cow<'a, str>>,
    /// The initiating pod according to the log. A hint that is checked against the address, and never proof (INV-10): in
    /// some logs the workload can influence it.
    pub pod: Option<PodHint<'a>>,
    /// Whether only the flags of a packet, which its sender chose, show that it is an answer. Such an answer counts only
    /// for an attempt in the same log.
    pub is_inferred: bool,
    /// The node in the record. Used only for a pod without a node in the API server.
    pub node: Option<Cow<'a, str>>,
}

/// Transport protocol of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Transport {
    /// TCP, IP protocol 6.
    Tcp,
    /// UDP, IP protocol 17.
    Udp,
    /// ICMP and `ICMPv6`, IP protocols 1 and 58.
    Icmp,
    /// SCTP, IP protocol 132.
    Sctp,
    /// Any other IP protocol, by number (0 if the log contains none).
    Other(u8),
}

impl Transport {
    /// From the IP protocol number (IANA "Assigned Internet Protocol Numbers").
    #[must_use]
    pub const fn from_ip_protocol(number: u8) -> Self {
        match number {
            6 => Self::Tcp,
            17 => Self::Udp,
            1 | 58 => Self::Icmp,
            132 => Self::Sctp,
            other => Self::Other(other),
        }
    }

    /// The IP protocol number; that of ICMP for both versions.
    #[must_use]
    pub const fn ip_protocol(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Icmp => 1,
            Self::Sctp => 132,
            Self::Other(number) => number,
        }
    }

    /// Lower-case name, as logs and `/etc/protocols` write it; `ip` for the unnamed ones.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Sctp => "sctp",
            Self::Other(_) => "ip",
        }
    }
}

/// Outcome of a connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Only the first packet was logged and this source never shows answers (NFLOG): shows an attempt, and nothing about
    /// its success.
    Unseen,
    /// The first packet was logged, and this source shows answers, so that a missing answer is a failure.
    Pending,
    /// The target answered and a connection was established (or a UDP/ICMP answer was received).
    Answered,
    /// The target refused: RST to a SYN, or an ICMP unreachable.
    Refused,
    /// No answer, and the record is final (Zeek S0, conntrack destroyed unreplied).
    Unanswered,
    /// Dropped by a policy.
    Denied,
    /// Not a contact: traffic that this side did not initiate (backscatter, a half-open view), or, in a log of packets, a
    /// later packet of a connection that was counted before.
    NotAnAttempt,
    /// No contact either: a later packet of a connection on which the kernel has seen packets in both
    /// directions (NFLOG of established connections).
    Established,
}

impl Outcome {
    /// Whether it is about a contact that this side began.
    #[must_use]
    pub const fn is_attempt(self) -> bool {
        !matches!(self, Self::NotAnAttempt | Self::Established)
    }

    /// Whether it is, or can still become, a failure.
    #[must_use]
    pub const fn may_fail(self) -> bool {
        matches!(
            self,
            Self::Pending | Self::Refused | Self::Unanswered | Self::Denied
        )
    }

    /// `Some(true)` for a success, `Some(false)` for a failure, `None` while unknown.
    #[must_use]
    pub const fn success(self) -> Option<bool> {
        match self {
            Self::Answered => Some(true),
            Self::Refused | Self::Unanswered | Self::Denied => Some(false),
            Self::Unseen | Self::Pending | Self::NotAnAttempt | Self::Established => None,
        }
    }
}

/// Amount of data of a connection in both directions, and its duration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Volume {
    /// Bytes from the initiator (payload for Zeek `orig_bytes`, IP bytes for conntrack).
    pub bytes_out: u64,
    /// Bytes to the initiator.
    pub bytes_in: u64,
    /// Packets from the initiator.
    pub packets_out: u64,
    /// Packets to the initiator.
    pub packets_in: u64,
    /// Duration in microseconds; 0 if unknown.
    pub duration_us: u64,
    /// Whether the connection has ended. Otherwise a later record of it may follow.
    pub is_final: bool,
}

/// Relation of the target of a flow to the pod that tried it, as far as the cluster shows it. Not part of a log: set by
/// attribution, for contacts that failed or wait for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Neighbour {
    /// No relation. Includes live pods of other runs.
    #[default]
    Stranger,
    /// A pod of the same run.
    Sibling,
    /// The address belonged to a pod that ended recently, and to no pod since.
    Departed,
}

/// A pod in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodHint<'a> {
    /// Namespace.
    pub namespace: Cow<'a, str>,
    /// Pod name.
    pub name: Cow<'a, str>,
}

/// A DNS query and, if the log contains it, its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQuery<'a> {
    /// Time of the query.
    pub time: EventTime,
    /// The client.
    pub source: IpAddr,
    /// The name in the query, without the trailing dot.
    pub query: Cow<'a, str>,
    /// Addresses in the answer, at most [`crate::limits::DNS_ANSWERS_MAX`].
    pub answers: Vec<IpAddr>,
    /// `Some(true)` if the name does not exist (`NXDOMAIN`), `None` if the log does not contain it.
    pub nonexistent: Option<bool>,
}

/// The server name of one TLS handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsName<'a> {
    /// When.
    pub time: EventTime,
    /// The client.
    pub source: IpAddr,
    /// Port of the client.
    pub source_port: u16,
    /// The server.
    pub destination: IpAddr,
    /// Port of the server.
    pub destination_port: u16,
    /// The name in the handshake.
    pub server_name: Cow<'a, str>,
}

/// Records that the producer lost, so that missing lines are not interpreted as missing traffic (INV-8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostEvents<'a> {
    /// Time of the report.
    pub time: EventTime,
    /// Number of lost records.
    pub count: u64,
    /// The node with missing records, if the report contains it.
    pub node: Option<Cow<'a, str>>,
}
