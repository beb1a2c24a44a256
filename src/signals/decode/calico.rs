//! Calico flow logs as JSON: `flows.log` of Calico Enterprise and Cloud, and Goldmane flows of the
//! open-source Calico. Called by [`super::decode`].
//!
//! A record aggregates the connections of one window (300 s by default). It can be attributed to a pod and a
//! target only if it contains both addresses: denied flows do, allowed flows only if
//! aggregation is off. Goldmane flows have no addresses: their records name groups of pods, and a pod is not
//! responsible for its group, so all of them are skipped.
//!
//! Both ends report a flow. Only the record of the source counts; the target also reports traffic with a
//! forged source address.

use super::field::{FirstText, Scalar};
use super::{Malformed, NoSignal, SkipReason, attempts, parse};
use crate::model::{EventTime, Flow, Outcome, PodHint, Signal, Transport, Volume};

use serde::Deserialize;

/// The fields that are relevant for a contact. Counters are from the point of view of the reporter: for the
/// source, `out` is what it sent.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line<'a> {
    #[serde(borrow)]
    start_time: Scalar<'a>,
    #[serde(borrow)]
    end_time: Scalar<'a>,
    #[serde(borrow)]
    reporter: Scalar<'a>,
    #[serde(borrow)]
    action: Scalar<'a>,
    #[serde(borrow)]
    proto: Scalar<'a>,
    #[serde(borrow)]
    source_ip: Scalar<'a>,
    #[serde(borrow)]
    source_port: Scalar<'a>,
    #[serde(borrow)]
    source_type: Scalar<'a>,
    #[serde(borrow)]
    source_name: Scalar<'a>,
    #[serde(borrow)]
    source_namespace: Scalar<'a>,
    #[serde(borrow)]
    dest_ip: Scalar<'a>,
    #[serde(borrow)]
    dest_port: Scalar<'a>,
    #[serde(borrow)]
    dest_domains: FirstText<'a>,
    #[serde(borrow)]
    bytes_in: Scalar<'a>,
    #[serde(borrow)]
    bytes_out: Scalar<'a>,
    #[serde(borrow)]
    packets_in: Scalar<'a>,
    #[serde(borrow)]
    packets_out: Scalar<'a>,
    #[serde(borrow)]
    num_flows: Scalar<'a>,
    #[serde(borrow)]
    num_flows_started: Scalar<'a>,
    #[serde(borrow)]
    num_flows_completed: Scalar<'a>,
    // Goldmane, as its API writes a flow.
    #[serde(borrow, rename = "Key", alias = "key")]
    key: Scalar<'a>,
    #[serde(borrow)]
    flow: Scalar<'a>,
}

/// The number of connections in the window.
#[derive(Clone, Copy, Debug)]
struct Connections {
    all: u64,
    started: u64,
    completed: u64,
}

/// Decodes one record.
pub(super) fn decode(text: &str) -> Result<Signal<'_>, NoSignal> {
    let line: Line<'_> = parse(text)?;
    let is_record = line.reporter.is_present() && line.start_time.is_present();
    if is_record {
        return line.flow().map(Signal::Flow);
    }
    if line.key == Scalar::Other || line.flow == Scalar::Other {
        return Err(SkipReason::Aggregated.into());
    }
    Err(NoSignal::Unknown)
}

impl<'a> Line<'a> {
    fn flow(self) -> Result<Flow<'a>, NoSignal> {
        let is = |field: &Scalar<'_>, word: &str| {
            field
                .text()
                .is_some_and(|text| text.eq_ignore_ascii_case(word))
        };
        if is(&self.reporter, "dst") {
            return Err(SkipReason::IngressView.into());
        }
        let time = self.start_time.time()?.ok_or(Malformed::MissingField)?;
        let end = self.end_time.time()?;
        let source = self.source_ip.address()?.ok_or(SkipReason::Aggregated)?;
        let destination = self.dest_ip.address()?.ok_or(SkipReason::Aggregated)?;
        let transport = transport(&self.proto);
        let has_ports = matches!(transport, Transport::Tcp | Transport::Udp | Transport::Sctp);
        let destination_port = match self.dest_port.port()? {
            _ if !has_ports => 0,
            Some(port) => port,
            None => return Err(SkipReason::Aggregated.into()),
        };
        let forwarded = if is(&self.action, "allow") {
            true
        } else if is(&self.action, "deny") {
            false
        } else {
            return Err(SkipReason::NoVerdict.into());
        };
        let connections = self.connections();
        let volume = self.volume(time, end, connections);
        let outcome = if forwarded {
            outcome(
                transport,
                destination.is_ipv4(),
                volume.as_ref(),
                connections,
            )
        } else {
            Outcome::Denied
        };
        Ok(Flow {
            time,
            source,
            // Null if connections of several ports are aggregated.
            source_port: self.source_port.port()?.filter(|_| has_ports).unwrap_or(0),
            destination,
            destination_port,
            transport,
            outcome,
            forwarded,
            volume,
            pod: self.pod(),
            is_inferred: false,
            node: None,
            destination_name: self.dest_domains.0.and_then(super::without_trailing_dot),
        })
    }

    fn connections(&self) -> Option<Connections> {
        Some(Connections {
            all: self.num_flows.count()?,
            started: self.num_flows_started.count()?,
            completed: self.num_flows_completed.count()?,
        })
    }

    fn volume(
        &self,
        start: EventTime,
        end: Option<EventTime>,
        connections: Option<Connections>,
    ) -> Option<Volume> {
        // The window is a lower bound of the duration only if the connection existed before and after it.
        let spans_window =
            connections.is_some_and(|c| c.all == 1 && c.started == 0 && c.completed == 0);
        let window_us = end.and_then(|end| u64::try_from(end.micros_since(start)).ok());
        Some(Volume {
            bytes_out: self.bytes_out.count()?,
            bytes_in: self.bytes_in.count()?,
            packets_out: self.packets_out.count()?,
            packets_in: self.packets_in.count()?,
            duration_us: window_us.filter(|_| spans_window).unwrap_or(0),
            is_final: connections.is_some_and(|c| c.completed >= c.all),
        })
    }

    /// The source pod. `-` replaces a name that was aggregated.
    fn pod(&self) -> Option<PodHint<'a>> {
        if self.source_type.text() != Some("wep") {
            return None;
        }
        let named = |field: &Scalar<'a>| field.clone().into_text().filter(|text| text != "-");
        Some(PodHint {
            namespace: named(&self.source_namespace)?,
            name: named(&self.source_name)?,
        })
    }
}

/// The outcome of an allowed flow according to its counters.
fn outcome(
    transport: Transport,
    is_v4: bool,
    volume: Option<&Volume>,
    connections: Option<Connections>,
) -> Outcome {
    let Some(volume) = volume else {
        return Outcome::Unseen;
    };
    let has_started = connections.is_none_or(|c| c.started > 0);
    // Resets without options: 20 bytes of TCP after 20 of IPv4 or 40 of IPv6. A SYN-ACK has at
    // least 4 bytes more, so if one is among the packets, their sum is higher.
    let count = connections.map_or(1, |connections| connections.all);
    let header = attempts::header_bytes(is_v4);
    let are_resets =
        transport == Transport::Tcp && volume.bytes_in == volume.packets_in.saturating_mul(header);
    match volume.packets_in {
        // An older connection that is idle for a window has not failed.
        0 if !has_started || volume.packets_out == 0 => Outcome::NotAnAttempt,
        // An initiator that sends packets other than SYNs was answered, by packets that are not in this log.
        0 if transport == Transport::Tcp && !attempts::are_all(volume, header, count) => {
            Outcome::Unseen
        }
        0 => Outcome::Unanswered,
        _ if are_resets && has_started => Outcome::Refused,
        _ => Outcome::Answered,
    }
}

fn transport(proto: &Scalar<'_>) -> Transport {
    match proto.text() {
        Some("tcp") => Transport::Tcp,
        Some("udp") => Transport::Udp,
        Some("icmp" | "icmp6" | "icmpv6") => Transport::Icmp,
        Some("sctp") => Transport::Sctp,
        _ => proto
            .count()
            .and_then(|number| u8::try_from(number).ok())
            .map_or(Transport::Other(0), Transport::from_ip_protocol),
    }
}

#[cfg(test)]
mod tests;
