//! ulogd2 JSON: NFLOG packets and NFCT (conntrack) events. Called by [`super::decode`].
//!
//! NFLOG shows the first packet and never an answer. NFCT shows the answer in the packet counters,
//! which are only set when a connection ends. Therefore the begin of a connection is `Unseen`, not
//! `Pending`: a connection that lives for hours has no other line until its end, so the absence of a line proves
//! nothing. Dropped packets never become a connection; only NFLOG can show them: by its label, or
//! because NFCT logs no begin for the packet (see [`super::unconfirmed`]). An NFLOG rule with
//! the prefix [`ALIVE_PREFIX`] logs packets of established connections.

use super::field::{Scalar, Skipped};
use super::json::{read_line, record};
use super::{Malformed, NoSignal, SkipReason, Tracking, attempts, icmp, time};
use crate::model::{EventTime, Flow, Outcome, Signal, Transport, Volume};

record! {
    /// The fields of both stacks that are relevant for a contact. Fields that only one stack
    /// writes are placed where the other one has none.
    struct Line {
        timestamp: Scalar<'a> = "timestamp",
        // The same with `eventv1=1`.
        at_timestamp: Scalar<'a> = "@timestamp",
        device: Skipped = "dvc",
        // NFLOG
        packet_bytes: Scalar<'a> = "raw.pktlen",
        packet_count: Skipped = "raw.pktcount",
        prefix: Scalar<'a> = "oob.prefix",
        oob_seconds: Scalar<'a> = "oob.time.sec",
        oob_micros: Scalar<'a> = "oob.time.usec",
        oob_mark: Skipped = "oob.mark",
        in_index: Skipped = "oob.ifindex_in",
        out_index: Skipped = "oob.ifindex_out",
        hook: Scalar<'a> = "oob.hook",
        mac_length: Skipped = "raw.mac_len",
        // NFCT
        orig_protocol: Scalar<'a> = "orig.ip.protocol",
        orig_source_port: Scalar<'a> = "orig.l4.sport",
        orig_destination_port: Scalar<'a> = "orig.l4.dport",
        orig_bytes: Scalar<'a> = "orig.raw.pktlen",
        orig_packets: Scalar<'a> = "orig.raw.pktcount",
        reply_protocol: Skipped = "reply.ip.protocol",
        reply_source_port: Scalar<'a> = "reply.l4.sport",
        reply_destination_port: Skipped = "reply.l4.dport",
        reply_bytes: Scalar<'a> = "reply.raw.pktlen",
        reply_packets: Scalar<'a> = "reply.raw.pktcount",
        mark: Skipped = "ct.mark",
        id: Skipped = "ct.id",
        event: Scalar<'a> = "ct.event",
        start_seconds: Scalar<'a> = "flow.start.sec",
        start_micros: Scalar<'a> = "flow.start.usec",
        end_seconds: Scalar<'a> = "flow.end.sec",
        end_micros: Scalar<'a> = "flow.end.usec",
        // both
        family: Skipped = "oob.family",
        link_protocol: Skipped = "oob.protocol",
        // NFLOG
        label: Skipped = "raw.label",
        link_type: Skipped = "raw.type",
        mac_address_length: Skipped = "raw.mac.addrlen",
        ip_protocol: Scalar<'a> = "ip.protocol",
        tos: Skipped = "ip.tos",
        ttl: Skipped = "ip.ttl",
        total_length: Skipped = "ip.totlen",
        header_length: Skipped = "ip.ihl",
        ip_checksum: Skipped = "ip.csum",
        ip_id: Skipped = "ip.id",
        fragment: Skipped = "ip.fragoff",
        ip6_protocol: Scalar<'a> = "ip6.nexthdr",
        icmp_type: Scalar<'a> = "icmp.type",
        icmpv6_type: Scalar<'a> = "icmpv6.type",
        src_port: Scalar<'a> = "src_port",
        dest_port: Scalar<'a> = "dest_port",
        sequence: Skipped = "tcp.seq",
        ack_sequence: Skipped = "tcp.ackseq",
        window: Skipped = "tcp.window",
        offset: Skipped = "tcp.offset",
        reserved: Skipped = "tcp.reserved",
        urg: Skipped = "tcp.urg",
        ack: Scalar<'a> = "tcp.ack",
        psh: Skipped = "tcp.psh",
        rst: Scalar<'a> = "tcp.rst",
        syn: Skipped = "tcp.syn",
        fin: Skipped = "tcp.fin",
        res1: Skipped = "tcp.res1",
        res2: Skipped = "tcp.res2",
        tcp_checksum: Skipped = "tcp.csum",
        interface_in: Skipped = "oob.in",
        interface_out: Skipped = "oob.out",
        // both
        src_ip: Scalar<'a> = "src_ip",
        dest_ip: Scalar<'a> = "dest_ip",
        reply_source: Scalar<'a> = "reply.ip.saddr.str",
        reply_destination: Skipped = "reply.ip.daddr.str",
        action: Scalar<'a> = "action",
    }
}

/// The prefix (`--nflog-prefix`) of the rule that logs packets of established connections after they
/// were accepted. Without the prefix they look like attempts (UDP), or like the bare ACKs of a scan
/// that a policy drops: a pod must not be able to cause such a line.
const ALIVE_PREFIX: &str = "alive";

/// The kinds of conntrack events; their number in `ct.event`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    New,
    Update,
    Destroy,
}

/// Decodes one object of either stack.
pub(super) fn decode(text: &str) -> Result<Signal<'_>, NoSignal> {
    decode_with_conntrack(text).map(|(signal, _)| signal)
}

/// Like [`decode`], with the state of the connection in connection tracking.
pub(super) fn decode_with_conntrack(
    text: &str,
) -> Result<(Signal<'_>, Option<Tracking>), NoSignal> {
    let mut line = Line::default();
    read_line(text, &mut line)?;
    let (flow, tracking) = if line.event.is_present() {
        let flow = line.connection()?;
        let tracking = line.confirmed(&flow);
        (flow, Some(tracking))
    } else if [&line.hook, &line.prefix, &line.packet_bytes]
        .into_iter()
        .any(Scalar::is_present)
    {
        let flow = line.packet()?;
        // A rule with a label comes after the policies and itself logs whether the packet was dropped.
        let is_open = flow.outcome == Outcome::Unseen && !line.action.is_present();
        (flow, is_open.then_some(Tracking::Opened))
    } else {
        return Err(NoSignal::Unknown);
    };
    Ok((Signal::Flow(flow), tracking))
}

impl<'a> Line<'a> {
    /// An NFLOG line: one packet.
    fn packet(&self) -> Result<Flow<'a>, NoSignal> {
        let protocol = if self.ip_protocol.is_present() {
            &self.ip_protocol
        } else {
            &self.ip6_protocol
        };
        let mut flow = self.flow(protocol, &self.src_port, &self.dest_port)?;
        flow.time = self.logged_at()?.ok_or(Malformed::MissingField)?;
        // Written only if the logging rule has a numeric label. Otherwise the verdict is known
        // only to the author of the rule, and the packet counts as passed.
        flow.forwarded = self.action.text() != Some("blocked");
        flow.outcome = if self.prefix.text() == Some(ALIVE_PREFIX) && flow.forwarded {
            Outcome::Established
        } else if !self.opens(flow.transport) {
            // It is unknown to which connection the packet belongs, and whether it passed.
            return Err(SkipReason::UnknownDirection.into());
        } else if flow.forwarded {
            Outcome::Unseen
        } else {
            Outcome::Denied
        };
        Ok(flow)
    }

    /// Whether this packet can be the first of a connection. Packets with ACK or RST belong to an
    /// existing connection or answer another packet; all others are treated as attempts, so that scans with unusual
    /// flags count too.
    fn opens(&self, transport: Transport) -> bool {
        let is_set = |flag: &Scalar<'_>| flag.flag() == Some(true);
        transport != Transport::Tcp || !(is_set(&self.ack) || is_set(&self.rst))
    }

    /// An NFCT line: begin, update or end of a connection.
    fn connection(&self) -> Result<Flow<'a>, NoSignal> {
        let event = match self.event.unsigned()? {
            Some(1) => Event::New,
            Some(2) => Event::Update,
            Some(4) => Event::Destroy,
            _ => return Err(NoSignal::Unknown),
        };
        let mut flow = self.flow(
            &self.orig_protocol,
            &self.orig_source_port,
            &self.orig_destination_port,
        )?;
        let start = instant(&self.start_seconds, &self.start_micros)?;
        let end = instant(&self.end_seconds, &self.end_micros)?;
        flow.time = match (start, end) {
            (Some(time), _) | (None, Some(time)) => time,
            (None, None) => self.logged_at()?.ok_or(Malformed::MissingField)?,
        };
        flow.volume = self.volume(event).map(|volume| Volume {
            duration_us: match (start, end) {
                (Some(start), Some(end)) => u64::try_from(end.micros_since(start)).unwrap_or(0),
                _ => 0,
            },
            ..volume
        });
        flow.outcome = flow
            .volume
            .map_or(Outcome::Unseen, |volume| outcome(event, &flow, &volume));
        Ok(flow)
    }

    /// The conntrack state in an NFCT line. NFLOG in FORWARD sees the translated target, which is the source of the
    /// reply.
    fn confirmed(&self, flow: &Flow<'_>) -> Tracking {
        let port = self.reply_source_port.port().ok().flatten();
        let port = port.unwrap_or(flow.destination_port);
        let is_same =
            port == flow.destination_port && self.reply_source.text() == self.dest_ip.text();
        let host = if is_same {
            None
        } else {
            self.reply_source.address().ok().flatten()
        };
        Tracking::Confirmed {
            translated_to: host.map(|host| (host, port)),
            is_begin: matches!(self.event.unsigned(), Ok(Some(1))),
        }
    }

    /// The counters, if the kernel keeps them. Without accounting they are absent or 0; a
    /// connection that existed had at least one packet.
    fn volume(&self, event: Event) -> Option<Volume> {
        let packets_out = self.orig_packets.count().filter(|count| *count > 0)?;
        Some(Volume {
            bytes_out: self.orig_bytes.count().unwrap_or(0),
            bytes_in: self.reply_bytes.count().unwrap_or(0),
            packets_out,
            packets_in: self.reply_packets.count()?,
            duration_us: 0,
            is_final: event == Event::Destroy,
        })
    }

    /// The two ends of the flow; the caller sets time and outcome.
    fn flow(
        &self,
        protocol: &Scalar<'_>,
        source_port: &Scalar<'_>,
        destination_port: &Scalar<'_>,
    ) -> Result<Flow<'a>, NoSignal> {
        let (Some(source), Some(destination)) = (self.src_ip.address()?, self.dest_ip.address()?)
        else {
            return Err(SkipReason::FieldsMissing.into());
        };
        let protocol = protocol.unsigned()?.ok_or(SkipReason::FieldsMissing)?;
        let protocol = u8::try_from(protocol).map_err(|_| Malformed::BadNumber)?;
        let transport = Transport::from_ip_protocol(protocol);
        let (source_port, destination_port) = match transport {
            Transport::Tcp | Transport::Udp | Transport::Sctp => (
                source_port.port()?.unwrap_or(0),
                // Absent in all fragments except the first.
                destination_port.port()?.ok_or(SkipReason::FieldsMissing)?,
            ),
            Transport::Icmp => {
                self.check_icmp()?;
                (0, 0)
            }
            Transport::Other(_) => (0, 0),
        };
        Ok(Flow {
            time: EventTime::MIN,
            source,
            source_port,
            destination,
            destination_port,
            transport,
            outcome: Outcome::Unseen,
            forwarded: true,
            volume: None,
            destination_name: None,
            pod: None,
            is_inferred: false,
            node: None,
        })
    }

    /// ICMP counts only as a request; the type is absent if the log does not contain it.
    fn check_icmp(&self) -> Result<(), NoSignal> {
        let kind_of = |field: &Scalar<'_>, kind: fn(u8) -> icmp::Kind| {
            field
                .count()
                .map(|number| u8::try_from(number).map_or(icmp::Kind::Neither, kind))
        };
        let kind = kind_of(&self.icmp_type, icmp::kind_v4)
            .or_else(|| kind_of(&self.icmpv6_type, icmp::kind_v6));
        match kind {
            None | Some(icmp::Kind::Request) => Ok(()),
            Some(_) => Err(SkipReason::IcmpHousekeeping.into()),
        }
    }

    /// When the line was logged: the kernel's time of the packet, otherwise the time of ulogd.
    fn logged_at(&self) -> Result<Option<EventTime>, Malformed> {
        match instant(&self.oob_seconds, &self.oob_micros)? {
            Some(time) => Ok(Some(time)),
            None if self.at_timestamp.is_present() => self.at_timestamp.time(),
            None => self.timestamp.time(),
        }
    }
}

/// A time in two fields; `None` if there is none, which ulogd2 also writes as 0.
fn instant(seconds: &Scalar<'_>, micros: &Scalar<'_>) -> Result<Option<EventTime>, Malformed> {
    let seconds = match seconds.unsigned() {
        Ok(None | Some(0)) => return Ok(None),
        Ok(Some(seconds)) => i64::try_from(seconds).map_err(|_| Malformed::BadTime)?,
        Err(_) => return Err(Malformed::BadTime),
    };
    let micros = micros.count().unwrap_or(0);
    let micros = i64::try_from(micros)
        .ok()
        .filter(|micros| *micros < 1_000_000);
    let time = EventTime::from_seconds(seconds, micros.ok_or(Malformed::BadTime)?);
    time::plausible(time).map(Some).ok_or(Malformed::BadTime)
}

/// The outcome according to the counters at this event.
fn outcome(event: Event, flow: &Flow<'_>, volume: &Volume) -> Outcome {
    // A reset without options: 20 bytes of TCP after 20 of IPv4 or 40 of IPv6. A SYN-ACK is at
    // least 4 bytes longer, because every common stack announces its segment size in it.
    let header = attempts::header_bytes(flow.destination.is_ipv4());
    let is_tcp = flow.transport == Transport::Tcp;
    let is_one_reset = is_tcp && volume.packets_in == 1 && volume.bytes_in == header;
    // Asymmetric routing hides the answers from the conntrack of this node.
    let is_one_sided = is_tcp && volume.packets_in == 0 && !attempts::are_all(volume, header, 1);
    match event {
        Event::New => Outcome::Unseen,
        Event::Update if volume.packets_in == 0 || is_one_reset => Outcome::Unseen,
        Event::Destroy if is_one_sided => Outcome::Unseen,
        Event::Destroy if volume.packets_in == 0 => Outcome::Unanswered,
        Event::Destroy if is_one_reset => Outcome::Refused,
        Event::Update | Event::Destroy => Outcome::Answered,
    }
}

/// See [`json::both_readings`](super::json::both_readings).
#[cfg(test)]
pub(super) fn both_readings(text: &str) -> [Result<String, Malformed>; 2] {
    super::json::both_readings::<Line<'_>>(text)
}

#[cfg(test)]
mod tests;
