//! Signals: what one line of a log says that somebody did on the network.
//!
//! Decoders build these, borrowing from the line; the engine reads them. A signal says only what
//! the log said: what a format cannot know is `None` or [`Outcome::Unseen`], never a guess.

use std::borrow::Cow;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{ComputeSample, EventTime};

/// One decoded record.
#[derive(Clone, Debug, PartialEq)]
pub enum Signal<'a> {
    /// A connection, or a packet that tells something about one.
    Flow(Flow<'a>),
    /// A name that was asked for, with the answer where the log has it.
    Dns(DnsQuery<'a>),
    /// A server name that a client sent in a TLS handshake.
    Tls(TlsName<'a>),
    /// How busy a pod's processors were.
    Sample(ComputeSample<'a>),
    /// The producer of the log says that it lost records.
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

    /// The address that the record is about: the initiator. `None` for records about a node, and
    /// for samples, which name their pod.
    #[must_use]
    pub fn source(&self) -> Option<IpAddr> {
        match self {
            Signal::Flow(flow) => Some(flow.source),
            Signal::Dns(query) => Some(query.source),
            Signal::Tls(name) => Some(name.source),
            Signal::Sample(_) | Signal::Lost(_) => None,
        }
    }

    /// The same with text of its own, so that it outlives its line.
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

/// A connection as its initiator opened it. Replies are already turned round by the decoder, so
/// `source` always is the side that started.
#[derive(Clone, Debug, PartialEq)]
pub struct Flow<'a> {
    /// When the record says it happened: the start of the connection where the log has it.
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
    /// What became of the attempt, as far as this record knows.
    pub outcome: Outcome,
    /// Whether the packet or connection passed on (`true`) or was dropped before it left.
    pub forwarded: bool,
    /// Packets, bytes and duration, where the log counts them.
    pub volume: Option<Volume>,
    /// A name of the destination that the log itself gives (Hubble `destination_names`).
    pub destination_name: Option<Cow<'a, str>>,
    /// The pod that the log itself names as the initiator. A hint to check against the address,
    /// never proof (INV-10): some logs let the workload influence it.
    pub pod: Option<PodHint<'a>>,
    /// Whether only the flags of a packet, which its sender chose, say that it is an answer. Such an
    /// answer counts only for an attempt that the same log showed.
    pub is_inferred: bool,
    /// The node that the record names as the one that it was made on. Used only for a pod whose
    /// node the API server does not name.
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
    /// Any other IP protocol, by number (0 where the log names none).
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

/// What became of a connection attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Outcome {
    /// Only the first packet was logged and this source never shows answers (NFLOG): says that a
    /// contact was tried, says nothing about success.
    Unseen,
    /// The first packet was logged; this source shows answers, so silence will mean something.
    Pending,
    /// The target answered and a connection stood (or a UDP/ICMP answer came back).
    Answered,
    /// The target refused: RST to a SYN, or an ICMP unreachable.
    Refused,
    /// No answer, and the record is final (Zeek S0, conntrack destroyed unreplied).
    Unanswered,
    /// A policy dropped it.
    Denied,
    /// No contact: traffic that this side did not start (backscatter, a half-open view), or, in a
    /// log of packets, a later packet of a connection that was counted before.
    NotAnAttempt,
}

impl Outcome {
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
            Self::Unseen | Self::Pending | Self::NotAnAttempt => None,
        }
    }
}

/// How much a connection carried, both ways, over how long.
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
    /// How long it lasted, in microseconds; 0 where unknown.
    pub duration_us: u64,
    /// Whether the connection has ended; a later record of the same one may follow otherwise.
    pub is_final: bool,
}

/// Who the target of a flow is to the pod that tried it, as far as the cluster knows. No log says
/// this: who attributes a flow does, for contacts that failed or wait for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Neighbour {
    /// Nobody in particular; a living pod of somebody else too.
    #[default]
    Stranger,
    /// A pod of the same run.
    Sibling,
    /// The address belonged to a pod that ended a short time ago, and to none since.
    Departed,
}

/// A pod as a log names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodHint<'a> {
    /// Namespace.
    pub namespace: Cow<'a, str>,
    /// Pod name.
    pub name: Cow<'a, str>,
}

/// A DNS query and, where the log has it, its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsQuery<'a> {
    /// When it was asked.
    pub time: EventTime,
    /// Who asked.
    pub source: IpAddr,
    /// The name, as asked, without the trailing dot.
    pub query: Cow<'a, str>,
    /// Addresses in the answer, at most [`crate::limits::DNS_ANSWERS_MAX`].
    pub answers: Vec<IpAddr>,
    /// `Some(true)` when the name does not exist (`NXDOMAIN`), `None` where the log does not say.
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
    /// The name that the client sent.
    pub server_name: Cow<'a, str>,
}

/// Records that the producer itself lost, so that silence is not taken for calm (INV-8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostEvents<'a> {
    /// When it said so.
    pub time: EventTime,
    /// How many.
    pub count: u64,
    /// The node whose records are missing, where the record names it.
    pub node: Option<Cow<'a, str>>,
}
