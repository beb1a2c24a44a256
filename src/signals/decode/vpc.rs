//! AWS VPC flow logs, versions 2 to 8, as text: one record per line, fields separated by spaces. Called
//! by [`super::Decoder`], which keeps the header, and by [`super::decode`].
//!
//! A log has its own selection and order of fields, which is given by its first line (files in S3) or is not
//! in the log at all (CloudWatch). Without a header only the default order of version 2 is read.
//!
//! A record counts one direction of a connection for one interface and window, so the answer is
//! another record. The side that started is determined from `tcp-flags`: a SYN alone is sent by it, a SYN-ACK
//! by the other side. Without flags it is determined from the ports: the side that sends from an ephemeral port to
//! a port below that range started. If neither is conclusive, the record is skipped: the replies of a server would look
//! like a scan of the ports of its clients.
//!
//! A record cannot exclude that another record contains an answer, so the record of an initiator is
//! [`Outcome::Unseen`]. It proves that there was no answer only if everything that the initiator sent are SYNs:
//! after an answer, there would be an ACK among them.

use std::net::IpAddr;

use super::field::parse_address;
use super::{Decoded, Malformed, NoSignal, SkipReason, attempts, time};
use crate::limits;
use crate::model::{EventTime, Flow, LostEvents, Outcome, Signal, Transport, Volume};

/// The fields that are relevant for a contact, by their name in the header.
const NAMES: [&str; FIELD_COUNT] = [
    "version",
    "srcaddr",
    "dstaddr",
    "srcport",
    "dstport",
    "protocol",
    "packets",
    "bytes",
    "start",
    "end",
    "action",
    "log-status",
    "tcp-flags",
    "pkt-srcaddr",
    "pkt-dstaddr",
    "flow-direction",
];

const FIELD_COUNT: usize = 16;

/// The default order, which logs of version 2 need not contain.
const DEFAULT_HEADER: [&str; 14] = [
    "version",
    "account-id",
    "interface-id",
    "srcaddr",
    "dstaddr",
    "srcport",
    "dstport",
    "protocol",
    "packets",
    "bytes",
    "start",
    "end",
    "action",
    "log-status",
];

/// Position of a field that a log does not have.
const ABSENT: u8 = u8::MAX;

/// The first port that Linux assigns to clients (`net.ipv4.ip_local_port_range`).
const EPHEMERAL_FROM: u16 = 32_768;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// The position in a line of each of [`NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Columns {
    places: [u8; FIELD_COUNT],
    count: u8,
    is_default: bool,
}

impl Default for Columns {
    fn default() -> Self {
        let mut columns = Self::of(DEFAULT_HEADER.into_iter());
        columns.is_default = true;
        columns
    }
}

impl Columns {
    /// The columns of a header; `None` for a line that is not a header.
    pub(super) fn from_header(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?.trim_ascii();
        if !is_header(text) {
            return None;
        }
        Some(Self::of(text.split_ascii_whitespace().map(bare)))
    }

    fn of<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut columns = Self {
            places: [ABSENT; FIELD_COUNT],
            count: 0,
            is_default: false,
        };
        for name in names.take(limits::VPC_FIELDS_MAX) {
            let known = NAMES.iter().position(|known| *known == name);
            if let Some(place) = known.and_then(|index| columns.places.get_mut(index)) {
                *place = columns.count;
            }
            columns.count += 1;
        }
        columns
    }
}

/// A name without the syntax of the AWS API (`${srcaddr}`).
fn bare(name: &str) -> &str {
    name.strip_prefix("${")
        .and_then(|name| name.strip_suffix('}'))
        .unwrap_or(name)
}

/// Whether a line is a header: it contains both addresses and only names.
fn is_header(text: &str) -> bool {
    let is_name = |name: &str| {
        name.bytes()
            .all(|b| b.is_ascii_lowercase() || b == b'-' || b.is_ascii_digit())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
    };
    if !text.contains("srcaddr") || !text.contains("dstaddr") {
        return false;
    }
    let mut count = 0;
    for name in text.split_ascii_whitespace() {
        count += 1;
        if !is_name(bare(name)) {
            return false;
        }
    }
    (2..=limits::VPC_FIELDS_MAX).contains(&count)
}

/// Whether a single line can be recognised as one of this format: a header, or the default order.
pub(super) fn is_recognised(text: &str) -> bool {
    if is_header(text) {
        return true;
    }
    matches!(
        decode(text.as_bytes(), &Columns::default()),
        Decoded::Signal(_) | Decoded::Skipped(_)
    ) && !text.is_empty()
}

/// Decodes one line of a log with these columns.
pub(super) fn decode<'a>(line: &'a [u8], columns: &Columns) -> Decoded<'a> {
    if line.len() > limits::LINE_BYTES_MAX {
        return Decoded::Malformed(Malformed::TooLong);
    }
    let Ok(text) = std::str::from_utf8(line) else {
        return Decoded::Malformed(Malformed::NotUtf8);
    };
    let text = text.trim_ascii();
    if text.is_empty() {
        return Decoded::Skipped(SkipReason::Blank);
    }
    if is_header(text) {
        return Decoded::Skipped(SkipReason::Header);
    }
    Decoded::from(Record::read(text, columns).and_then(Record::signal))
}

/// One line, split into the relevant fields. An absent field, or `-`, is empty.
struct Record<'a> {
    values: [&'a str; FIELD_COUNT],
}

/// The side of a connection that is the source of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Initiator,
    Responder,
}

impl<'a> Record<'a> {
    fn read(text: &'a str, columns: &Columns) -> Result<Self, NoSignal> {
        let text = without_time(text);
        let mut values = [""; FIELD_COUNT];
        let mut count: u8 = 0;
        for value in text.split_ascii_whitespace() {
            if count == columns.count {
                return Err(NoSignal::Unknown); // more fields than in the header
            }
            if value != "-" {
                let place = columns.places.iter().position(|place| *place == count);
                if let Some(slot) = place.and_then(|index| values.get_mut(index)) {
                    *slot = value;
                }
            }
            count += 1;
        }
        let record = Self { values };
        if columns.is_default && record.value("version") != "2" {
            return Err(NoSignal::Unknown);
        }
        if count < columns.count {
            return Err(Malformed::Truncated.into());
        }
        Ok(record)
    }

    fn value(&self, name: &str) -> &'a str {
        let index = NAMES.iter().position(|known| *known == name);
        index
            .and_then(|index| self.values.get(index))
            .copied()
            .unwrap_or_default()
    }

    fn number(&self, name: &str) -> Result<Option<u64>, Malformed> {
        match self.value(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| Malformed::BadNumber),
        }
    }

    fn port(&self, name: &str) -> Result<Option<u16>, Malformed> {
        match self.value(name) {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(|_| Malformed::BadPort),
        }
    }

    fn time(&self, name: &str) -> Result<Option<EventTime>, Malformed> {
        match self.value(name) {
            "" => Ok(None),
            text => text
                .parse()
                .ok()
                .and_then(|seconds| time::plausible(EventTime::from_seconds(seconds, 0)))
                .map(Some)
                .ok_or(Malformed::BadTime),
        }
    }

    /// The address of the packet if the log contains it: that of the interface belongs to the node, not the pod.
    fn address(&self, of_packet: &str, of_interface: &str) -> Result<Option<IpAddr>, Malformed> {
        let text = match self.value(of_packet) {
            "" => self.value(of_interface),
            text => text,
        };
        if text.is_empty() {
            return Ok(None);
        }
        parse_address(text).map(Some).ok_or(Malformed::BadAddress)
    }

    fn signal(self) -> Result<Signal<'a>, NoSignal> {
        let (start, end) = (self.time("start")?, self.time("end")?);
        let time = start.or(end).ok_or(Malformed::MissingField)?;
        match self.value("log-status") {
            "NODATA" => return Err(SkipReason::NotTraffic.into()),
            // The number of missing records is unknown; at least one.
            "SKIPDATA" => {
                let time = end.unwrap_or(time);
                return Ok(Signal::Lost(LostEvents {
                    time,
                    count: 1,
                    node: None,
                }));
            }
            "OK" | "" => {}
            _ => return Err(NoSignal::Unknown),
        }
        let source = self.address("pkt-srcaddr", "srcaddr")?;
        let destination = self.address("pkt-dstaddr", "dstaddr")?;
        let (Some(source), Some(destination)) = (source, destination) else {
            return Err(SkipReason::FieldsMissing.into());
        };
        let protocol = self.number("protocol")?.ok_or(SkipReason::FieldsMissing)?;
        let protocol = u8::try_from(protocol).map_err(|_| Malformed::BadNumber)?;
        let packet = Packets {
            transport: Transport::from_ip_protocol(protocol),
            source_port: self.port("srcport")?,
            destination_port: self.port("dstport")?,
            flags: self.flags()?,
            count: self.number("packets")?,
            bytes: self.number("bytes")?,
            has_v4: destination.is_ipv4(),
        };
        let side = packet.side().ok_or(SkipReason::UnknownDirection)?;
        self.check_view(side)?;
        let is_accepted = match self.value("action") {
            "ACCEPT" => true,
            "REJECT" => false,
            _ => return Err(SkipReason::NoVerdict.into()),
        };
        let span_us = start.zip(end).map(|(start, end)| end.micros_since(start));
        let span_us = span_us.and_then(|span| u64::try_from(span).ok());
        Ok(Signal::Flow(packet.flow(
            time,
            side,
            [source, destination],
            is_accepted,
            span_us,
        )))
    }

    fn flags(&self) -> Result<Option<u8>, Malformed> {
        let number = self.number("tcp-flags")?;
        number
            .map(|flags| u8::try_from(flags).map_err(|_| Malformed::BadNumber))
            .transpose()
    }

    /// Between two interfaces of one VPC each direction is recorded at both. The records at the initiator's own
    /// interface count: the packets that leave it, and the answers that reach it.
    fn check_view(&self, side: Side) -> Result<(), SkipReason> {
        match (self.value("flow-direction"), side) {
            ("ingress", Side::Initiator) | ("egress", Side::Responder) => {
                Err(SkipReason::IngressView)
            }
            _ => Ok(()),
        }
    }
}

/// What was sent in one direction of a connection in one window.
struct Packets {
    transport: Transport,
    source_port: Option<u16>,
    destination_port: Option<u16>,
    /// All flags of the window combined. AWS writes ACK only together with SYN.
    flags: Option<u8>,
    count: Option<u64>,
    bytes: Option<u64>,
    has_v4: bool,
}

impl Packets {
    fn has(&self, flag: u8) -> bool {
        self.flags.is_some_and(|flags| flags & flag != 0)
    }

    fn side(&self) -> Option<Side> {
        if self.transport == Transport::Tcp && self.has(SYN) {
            return Some(if self.has(ACK) {
                Side::Responder
            } else {
                Side::Initiator
            });
        }
        // ICMP has no ports, and the log contains no type: a request and its answer look the same.
        if matches!(self.transport, Transport::Icmp | Transport::Other(_)) {
            return None;
        }
        let is_ephemeral = |port: u16| port >= EPHEMERAL_FROM;
        match (
            is_ephemeral(self.source_port?),
            is_ephemeral(self.destination_port?),
        ) {
            (true, false) => Some(Side::Initiator),
            (false, true) => Some(Side::Responder),
            _ => None,
        }
    }

    fn flow<'a>(
        &self,
        time: EventTime,
        side: Side,
        [source, destination]: [IpAddr; 2],
        is_accepted: bool,
        span_us: Option<u64>,
    ) -> Flow<'a> {
        let (source_port, destination_port) = (
            self.source_port.unwrap_or(0),
            self.destination_port.unwrap_or(0),
        );
        let is_turned = side == Side::Responder;
        let (outcome, ends) = if is_turned {
            let ends = (destination, destination_port, source, source_port);
            (self.outcome_for_other(is_accepted), ends)
        } else {
            let ends = (source, source_port, destination, destination_port);
            (self.outcome(is_accepted), ends)
        };
        let (source, source_port, destination, destination_port) = ends;
        Flow {
            time,
            source,
            source_port,
            destination,
            destination_port,
            transport: self.transport,
            outcome,
            forwarded: is_accepted,
            volume: self.volume(is_turned, span_us),
            destination_name: None,
            pod: None,
            is_inferred: false,
            node: None,
        }
    }

    /// The outcome that the initiator's own packets prove.
    fn outcome(&self, is_accepted: bool) -> Outcome {
        if !is_accepted {
            return Outcome::Denied;
        }
        if self.transport != Transport::Tcp || self.flags.is_none() {
            return Outcome::Unseen;
        }
        if !self.has(SYN) {
            return Outcome::NotAnAttempt; // a later window of a connection
        }
        if !self.has(FIN | RST) && self.are_syns_alone() {
            return Outcome::Unanswered;
        }
        Outcome::Unseen
    }

    /// The outcome that the packets of the other side prove.
    fn outcome_for_other(&self, is_accepted: bool) -> Outcome {
        if !is_accepted {
            return Outcome::NotAnAttempt; // answers that were rejected
        }
        if self.transport != Transport::Tcp {
            return Outcome::Answered;
        }
        match self.flags {
            Some(_) if self.has(SYN) => Outcome::Answered,
            Some(_) if self.has(RST) && self.is_one_reset() => Outcome::Refused,
            Some(_) => Outcome::NotAnAttempt, // a later window of a connection
            None if self.is_one_reset() => Outcome::Refused,
            None => Outcome::Answered,
        }
    }

    /// A SYN-ACK announces a segment size, which takes 4 more bytes.
    fn is_one_reset(&self) -> bool {
        self.count == Some(1) && self.bytes == Some(attempts::header_bytes(self.has_v4))
    }

    /// Whether the initiator sent only SYNs.
    fn are_syns_alone(&self) -> bool {
        let (Some(count), Some(bytes)) = (self.count, self.bytes) else {
            return false;
        };
        attempts::are_syns(count, bytes, attempts::header_bytes(self.has_v4))
    }

    /// The volume of this direction; the other direction is in another record.
    fn volume(&self, is_turned: bool, span_us: Option<u64>) -> Option<Volume> {
        let (packets, bytes) = (self.count?, self.bytes?);
        let mut volume = Volume {
            duration_us: span_us.unwrap_or(0),
            is_final: self.has(FIN | RST),
            ..Volume::default()
        };
        if is_turned {
            (volume.packets_in, volume.bytes_in) = (packets, bytes);
        } else {
            (volume.packets_out, volume.bytes_out) = (packets, bytes);
        }
        Some(volume)
    }
}

/// A CloudWatch export puts the time of the event before each record.
fn without_time(text: &str) -> &str {
    match text.split_once(' ') {
        Some((first, rest)) if first.len() >= 20 && time::parse(first).is_some() => {
            rest.trim_ascii_start()
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests;
