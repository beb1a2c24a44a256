//! Suricata EVE JSON, versions 4 to 8: `flow`, `dns`, `tls`, `quic` and the losses in `stats`.
//! Called by [`super::decode`].
//!
//! Suricata writes a flow when it removes it, so every outcome is final, and `src_ip` is the side
//! that sent the first packet. If the flags of that side lack a SYN, the start was not observed, and
//! the record does not show which side started. Byte counts include the link-layer header.
//!
//! Alerts, anomalies and other application logs are left out, because they repeat information of the
//! flow. `netflow` records count each direction separately, whereas `flow` contains both.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::field::{Addresses, Object, Scalar, duration_us, parse_address};
use super::{Malformed, NoSignal, SkipReason, attempts, icmp, parse, text_of};
use crate::limits;
use crate::model::{
    DnsQuery, EventTime, Flow, LostEvents, Outcome, Signal, TlsName, Transport, Volume,
};

/// Source port of DNS responses.
const DNS_PORT: u16 = 53;

const SYN: u64 = 0x02;
const RST: u64 = 0x04;
const PSH: u64 = 0x08;
const ACK: u64 = 0x10;

/// The fields of an event that are relevant for a contact.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line<'a> {
    #[serde(borrow)]
    timestamp: Scalar<'a>,
    #[serde(borrow)]
    event_type: Scalar<'a>,
    #[serde(borrow)]
    src_ip: Scalar<'a>,
    #[serde(borrow)]
    src_port: Scalar<'a>,
    #[serde(borrow)]
    dest_ip: Scalar<'a>,
    #[serde(borrow)]
    dest_port: Scalar<'a>,
    #[serde(borrow)]
    proto: Scalar<'a>,
    #[serde(borrow)]
    icmp_type: Scalar<'a>,
    #[serde(borrow)]
    flow: Object<Counters<'a>>,
    #[serde(borrow)]
    tcp: Object<Tcp<'a>>,
    #[serde(borrow)]
    dns: Object<Dns<'a>>,
    #[serde(borrow)]
    tls: Object<Handshake<'a>>,
    #[serde(borrow)]
    quic: Object<Handshake<'a>>,
    #[serde(borrow)]
    stats: Object<Stats<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Counters<'a> {
    #[serde(borrow)]
    pkts_toserver: Scalar<'a>,
    #[serde(borrow)]
    pkts_toclient: Scalar<'a>,
    #[serde(borrow)]
    bytes_toserver: Scalar<'a>,
    #[serde(borrow)]
    bytes_toclient: Scalar<'a>,
    #[serde(borrow)]
    start: Scalar<'a>,
    #[serde(borrow)]
    end: Scalar<'a>,
    #[serde(borrow)]
    age: Scalar<'a>,
    #[serde(borrow)]
    state: Scalar<'a>,
    #[serde(borrow)]
    reason: Scalar<'a>,
    #[serde(borrow)]
    action: Scalar<'a>,
}

/// Flags as hexadecimal digits, by the side that sent them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Tcp<'a> {
    #[serde(borrow)]
    tcp_flags_ts: Scalar<'a>,
    #[serde(borrow)]
    tcp_flags_tc: Scalar<'a>,
}

/// All forms of a DNS event: one record per name and answer (version 1), answers in a list (2),
/// questions in a list as well (3).
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Dns<'a> {
    #[serde(borrow, rename = "type")]
    kind: Scalar<'a>,
    #[serde(borrow)]
    rrname: Scalar<'a>,
    #[serde(borrow)]
    rcode: Scalar<'a>,
    #[serde(borrow)]
    rdata: Scalar<'a>,
    #[serde(borrow)]
    queries: Resources<'a>,
    #[serde(borrow)]
    answers: Resources<'a>,
    grouped: Object<Grouped>,
}

/// The grouped form of answers.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Grouped {
    #[serde(rename = "A")]
    v4: Addresses,
    #[serde(rename = "AAAA")]
    v6: Addresses,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Handshake<'a> {
    #[serde(borrow)]
    sni: Scalar<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Stats<'a> {
    #[serde(borrow)]
    capture: Object<Capture<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Capture<'a> {
    #[serde(borrow)]
    kernel_drops: Scalar<'a>,
    #[serde(borrow)]
    kernel_drops_delta: Scalar<'a>,
}

/// Number of packets lost since Suricata started, if known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Drops(Option<u64>);

impl Drops {
    /// The number of losses in `later` that are new. None if the first count is unknown: those packets may have been
    /// lost long before the log begins. After a restart the count starts at zero.
    pub(super) fn until(self, later: Self) -> u64 {
        match (self.0, later.0) {
            (Some(before), Some(now)) => now.checked_sub(before).unwrap_or(now),
            _ => 0,
        }
    }
}

/// The number of lost packets in a `stats` event, and its time.
pub(super) fn count_drops(line: &[u8]) -> Option<(EventTime, Drops)> {
    memchr::memmem::find(line, b"kernel_drops")?;
    let line: Line<'_> = parse(text_of(line).ok()?).ok()?;
    let time = line.timestamp.time().ok()??;
    let count = line.stats.0?.capture.0?.kernel_drops.count()?;
    Some((time, Drops(Some(count))))
}

/// Decodes one event.
pub(super) fn decode(text: &str) -> Result<Signal<'_>, NoSignal> {
    let line: Line<'_> = parse(text)?;
    match line.event_type.text() {
        Some("flow") => line.flow().map(Signal::Flow),
        Some("dns") => line.dns(),
        Some("tls" | "quic") => line.handshake(),
        Some("stats") => line.stats(),
        Some(_) => Err(SkipReason::OtherLog.into()),
        None => Err(NoSignal::Unknown),
    }
}

impl<'a> Line<'a> {
    fn time(&self) -> Result<EventTime, Malformed> {
        self.timestamp.time()?.ok_or(Malformed::MissingField)
    }

    fn ends(&self) -> Result<(IpAddr, IpAddr), Malformed> {
        Ok((
            self.src_ip.address()?.ok_or(Malformed::MissingField)?,
            self.dest_ip.address()?.ok_or(Malformed::MissingField)?,
        ))
    }

    fn flow(&self) -> Result<Flow<'a>, NoSignal> {
        let counters = self.flow.0.as_ref().ok_or(Malformed::MissingField)?;
        let (source, destination) = self.ends()?;
        let transport = transport(self.proto.text().unwrap_or_default());
        let has_ports = matches!(transport, Transport::Tcp | Transport::Udp | Transport::Sctp);
        let (source_port, destination_port) = if has_ports {
            (
                self.src_port.port()?.unwrap_or(0),
                // Absent in all fragments except the first.
                self.dest_port.port()?.ok_or(SkipReason::FieldsMissing)?,
            )
        } else {
            (0, 0)
        };
        if transport == Transport::Icmp {
            self.check_icmp(destination)?;
        }
        let start = counters.start.time()?;
        let forwarded = counters.action.text() != Some("drop");
        Ok(Flow {
            time: match start {
                Some(start) => start,
                None => self.time()?,
            },
            source,
            source_port,
            destination,
            destination_port,
            transport,
            outcome: self.outcome(counters, transport, forwarded),
            forwarded,
            volume: counters.volume(start)?,
            destination_name: None,
            pod: None,
            is_inferred: false,
            node: None,
        })
    }

    /// ICMP errors and replies are reactions to a packet of another host.
    fn check_icmp(&self, destination: IpAddr) -> Result<(), NoSignal> {
        let kind = match self.icmp_type.count() {
            Some(number) => u8::try_from(number).map_or(icmp::Kind::Neither, |number| {
                icmp::kind(destination, number)
            }),
            None => icmp::Kind::Request,
        };
        if kind == icmp::Kind::Request {
            Ok(())
        } else {
            Err(SkipReason::IcmpHousekeeping.into())
        }
    }

    fn outcome(&self, counters: &Counters<'_>, transport: Transport, forwarded: bool) -> Outcome {
        let flags = (transport == Transport::Tcp)
            .then(|| self.tcp.0.as_ref()?.flags())
            .flatten();
        if flags.is_some_and(|(initiator, _)| initiator & SYN == 0) {
            return Outcome::NotAnAttempt;
        }
        if !forwarded {
            return Outcome::Denied;
        }
        let Some(answers) = counters.pkts_toclient.count() else {
            return Outcome::Unseen;
        };
        if answers == 0 {
            // When it is short of memory or shuts down, Suricata writes flows that may still be answered.
            let is_cut = matches!(counters.reason.text(), Some("forced" | "shutdown"));
            return if is_cut || counters.is_one_sided(transport, flags) {
                Outcome::Unseen
            } else {
                Outcome::Unanswered
            };
        }
        if transport != Transport::Tcp {
            return Outcome::Answered;
        }
        match flags {
            Some((_, responder)) if responder & (SYN | RST) == RST => Outcome::Refused,
            // Reset before either side pushed data: no service was provided. A SYN
            // or connect scan of an open port looks the same.
            Some((initiator, responder))
                if (initiator | responder) & RST != 0 && (initiator | responder) & PSH == 0 =>
            {
                Outcome::Refused
            }
            // A side that accepts a connection sends at least two packets until it is closed.
            None if answers == 1 && counters.state.text() == Some("closed") => Outcome::Refused,
            _ => Outcome::Answered,
        }
    }

    fn dns(self) -> Result<Signal<'a>, NoSignal> {
        let time = self.time()?;
        let (source, destination) = self.ends()?;
        let dns = self.dns.0.ok_or(Malformed::MissingField)?;
        let is_response = match dns.kind.text() {
            Some("query" | "request") => false,
            Some("answer" | "response") => true,
            _ => return Err(SkipReason::NoName.into()),
        };
        // Some versions use the direction of the packet for a response, others that of the flow.
        let is_turned = is_response
            && self.src_port.port()? == Some(DNS_PORT)
            && self.dest_port.port()? != Some(DNS_PORT);
        let query = dns.rrname.into_text().or(dns.queries.first_name);
        let mut answers = dns.answers.addresses;
        let grouped = dns.grouped.0.unwrap_or_default();
        let single = dns.rdata.text().and_then(parse_address);
        let others = grouped.v4.0.into_iter().chain(grouped.v6.0).chain(single);
        for address in others {
            if answers.len() < limits::DNS_ANSWERS_MAX && !answers.contains(&address) {
                answers.push(address);
            }
        }
        Ok(Signal::Dns(DnsQuery {
            time,
            source: if is_turned { destination } else { source },
            query: query
                .and_then(super::without_trailing_dot)
                .ok_or(SkipReason::NoName)?,
            answers: if is_response { answers } else { Vec::new() },
            nonexistent: dns
                .rcode
                .text()
                .filter(|_| is_response)
                .map(|name| name == "NXDOMAIN"),
        }))
    }

    fn handshake(self) -> Result<Signal<'a>, NoSignal> {
        let time = self.time()?;
        let (source, destination) = self.ends()?;
        let source_port = self.src_port.port()?.ok_or(Malformed::MissingField)?;
        let destination_port = self.dest_port.port()?.ok_or(Malformed::MissingField)?;
        let name = self.tls.0.or(self.quic.0).unwrap_or_default().sni;
        Ok(Signal::Tls(TlsName {
            time,
            source,
            source_port,
            destination,
            destination_port,
            server_name: name.into_text().ok_or(SkipReason::NoName)?,
        }))
    }

    /// Only with the option `deltas` does a single record show how many losses are new.
    fn stats(&self) -> Result<Signal<'a>, NoSignal> {
        let capture = self
            .stats
            .0
            .as_ref()
            .and_then(|stats| stats.capture.0.as_ref());
        let count = capture.and_then(|capture| capture.kernel_drops_delta.count());
        match count {
            Some(count) if count > 0 => Ok(Signal::Lost(LostEvents {
                time: self.time()?,
                count,
                node: None,
            })),
            _ => Err(SkipReason::NotTraffic.into()),
        }
    }
}

impl Counters<'_> {
    /// Whether the initiator acknowledged or sent data without any packet from the other side. That is impossible
    /// without an answer, so Suricata observes one direction only. Without a session, the
    /// state of the flow is used, and whether there are more packets than SYN retransmissions.
    fn is_one_sided(&self, transport: Transport, flags: Option<(u64, u64)>) -> bool {
        match flags {
            _ if transport != Transport::Tcp => false,
            Some((initiator, _)) => initiator & (ACK | PSH) != 0,
            None => {
                self.state.text() == Some("established")
                    || self.pkts_toserver.count().unwrap_or(0) > attempts::SYN_COUNT_MAX
            }
        }
    }

    fn volume(&self, start: Option<EventTime>) -> Result<Option<Volume>, Malformed> {
        let counts = [
            &self.bytes_toserver,
            &self.bytes_toclient,
            &self.pkts_toserver,
            &self.pkts_toclient,
        ]
        .map(Scalar::count);
        if counts.iter().all(Option::is_none) {
            return Ok(None);
        }
        let [bytes_out, bytes_in, packets_out, packets_in] = counts.map(Option::unwrap_or_default);
        let span_us = start
            .zip(self.end.time()?)
            .and_then(|(start, end)| u64::try_from(end.micros_since(start)).ok());
        Ok(Some(Volume {
            bytes_out,
            bytes_in,
            packets_out,
            packets_in,
            duration_us: span_us.or_else(|| duration_us(&self.age)).unwrap_or(0),
            is_final: true,
        }))
    }
}

impl Tcp<'_> {
    /// The flags of initiator and responder; `None` if Suricata kept no session.
    fn flags(&self) -> Option<(u64, u64)> {
        let read = |flags: &Scalar<'_>| u64::from_str_radix(flags.text()?, 16).ok();
        Some((read(&self.tcp_flags_ts)?, read(&self.tcp_flags_tc)?))
    }
}

fn transport(name: &str) -> Transport {
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    if is("tcp") {
        Transport::Tcp
    } else if is("udp") {
        Transport::Udp
    } else if is("icmp") || is("ipv6-icmp") || is("icmpv6") {
        Transport::Icmp
    } else if is("sctp") {
        Transport::Sctp
    } else {
        name.parse()
            .map_or(Transport::Other(0), Transport::from_ip_protocol)
    }
}

/// A list of questions or answers: its first name, and the addresses in its data, at most
/// [`limits::DNS_ANSWERS_MAX`].
#[derive(Debug, Default)]
struct Resources<'a> {
    first_name: Option<Cow<'a, str>>,
    addresses: Vec<IpAddr>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Resource<'a> {
    #[serde(borrow)]
    rrname: Scalar<'a>,
    #[serde(borrow)]
    rdata: Scalar<'a>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Resources<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ResourcesVisitor)
    }
}

struct ResourcesVisitor;

impl<'de> Visitor<'de> for ResourcesVisitor {
    type Value = Resources<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of resource records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut resources = Resources::default();
        while let Some(element) = seq.next_element::<Object<Resource<'de>>>()? {
            let Some(resource) = element.0 else { continue };
            if resources.first_name.is_none() {
                resources.first_name = resource.rrname.into_text();
            }
            let address = resource.rdata.text().and_then(parse_address);
            if let (Some(address), true) =
                (address, resources.addresses.len() < limits::DNS_ANSWERS_MAX)
            {
                resources.addresses.push(address);
            }
        }
        Ok(resources)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Resources::default())
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Resources::default())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Resources::default())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Self::Value, E> {
        Ok(Resources::default())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Self::Value, E> {
        Ok(Resources::default())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Resources::default())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Resources::default())
    }
}

#[cfg(test)]
mod tests;
