//! Cilium Hubble JSON: exporter files, `hubble observe -o json` (with and without envelope) and
//! Relay responses. Called by [`super::decode`].
//!
//! A record describes one packet, observed at one point. Three rules ensure that a contact does not count twice
//! or for the wrong side:
//!
//! - Only the view of the sending node counts. The view of the receiving node is skipped, including drops: packets with
//!   a forged source address arrive there too, and the owner of that address would be blamed.
//! - The side that started the connection is determined by `is_reply`. The field is absent on drops and is never
//!   guessed, except where the packet itself is unambiguous: a SYN opens, and a SYN-ACK answers. Retina has no
//!   connection tracking by default and sets `is_reply: false` on every packet; it observes a SYN-ACK
//!   on arrival at the pod. Therefore a SYN-ACK counts in either view, and is marked as inferred:
//!   the flags are chosen by its sender alone.
//! - A denied attempt produces a drop record and a policy-verdict record. Both are signals, because
//!   the filter of an exporter may pass only one of them; the engine counts each target once.
//!
//! A reply packet is reversed. Packets in the middle of a connection are `NotAnAttempt`: they
//! prove that a connection is alive (which verification needs) but not that the target
//! answered, since the pod alone decides to send them.

use std::borrow::Cow;
use std::net::IpAddr;

use super::field::Scalar;
use super::icmp::Kind;
use super::json::read_line;
use super::{Malformed, NoSignal, SkipReason, icmp};
use crate::model::{DnsQuery, EventTime, Flow, LostEvents, Outcome, PodHint, Signal, Transport};

pub(super) mod drop_reason;
mod record;

use drop_reason::Fate;
use record::{Endpoint, Flags, Icmp, Layer4, Line, Record};

/// Drop notifications, in `event_type.type`.
const EVENT_DROP: u64 = 1;

/// Policy-verdict notifications, in `event_type.type`: about the first packet of a connection.
const EVENT_POLICY_VERDICT: u64 = 5;

/// Decodes one object, with or without the envelope.
pub(super) fn decode(text: &str) -> Result<Signal<'_>, NoSignal> {
    let mut line = Line::default();
    read_line(text, &mut line)?;
    if let Some(record) = &mut line.flow.0 {
        return record.signal(&line.time, line.node_name);
    }
    if let Some(lost) = line.lost_events.0 {
        return Ok(Signal::Lost(LostEvents {
            time: line.time.time()?.ok_or(Malformed::MissingField)?,
            count: lost.num_events_lost.unsigned()?.unwrap_or(0),
            node: line.node_name.into_text().map(node_of),
        }));
    }
    let others = [&line.node_status, &line.agent_event, &line.debug_event];
    if others.into_iter().any(Scalar::is_present) {
        return Err(SkipReason::NotTraffic.into());
    }
    if line.ip.is_present() && (line.verdict.is_present() || line.l4.is_present()) {
        // Read again, this time as a record. Only old producers write records without an envelope.
        let mut record = Record::default();
        read_line(text, &mut record)?;
        return record.signal(&Scalar::Absent, Scalar::Absent);
    }
    Err(NoSignal::Unknown)
}

/// The role of a packet in its connection, determined from this packet alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Opens a connection, or tries to.
    Opens,
    /// Belongs to a connection that its sender opened, or is an answer that was not requested.
    Continues,
    /// Comes back from the target; the value is the outcome for the side that opened.
    Answers(Outcome),
}

/// The transport part of a record.
struct Packet {
    transport: Transport,
    source_port: Option<u16>,
    destination_port: Option<u16>,
    role: Role,
    /// Whether only the flags show that it answers.
    is_inferred: bool,
}

/// One end of a packet.
struct Side<'a> {
    address: IpAddr,
    port: Option<u16>,
    endpoint: Option<Endpoint<'a>>,
    name: Option<Cow<'a, str>>,
}

/// The name of the node. Cilium prefixes it with the name of the cluster (`cluster/node`).
fn node_of(name: Cow<'_, str>) -> Cow<'_, str> {
    let Some((_, node)) = name.rsplit_once('/') else {
        return name;
    };
    let start = name.len() - node.len();
    match name {
        Cow::Borrowed(name) => Cow::Borrowed(name.get(start..).unwrap_or(name)),
        Cow::Owned(name) => Cow::Owned(name.get(start..).unwrap_or_default().to_owned()),
    }
}

impl<'a> Record<'a> {
    /// The signal of the record. Takes the texts out of `self`, because the record is too large to move.
    fn signal(
        &mut self,
        line_time: &Scalar<'_>,
        line_node: Scalar<'a>,
    ) -> Result<Signal<'a>, NoSignal> {
        let time = match self.time.time()? {
            Some(time) => time,
            None => line_time.time()?.ok_or(Malformed::MissingField)?,
        };
        if self.traffic_direction.text() == Some("INGRESS") && !self.is_bare_answer() {
            return Err(SkipReason::IngressView.into());
        }
        let ip = self.ip.0.as_ref().ok_or(SkipReason::FieldsMissing)?;
        let source = ip.source.address()?.ok_or(SkipReason::FieldsMissing)?;
        let destination = ip.destination.address()?.ok_or(SkipReason::FieldsMissing)?;
        if self.l7.0.is_some() {
            return self.dns(time, source, destination);
        }
        let fate = self.fate()?;
        let packet = self.packet(fate)?;
        let node = std::mem::take(&mut self.node_name).into_text();
        let flow = self.flow(time, fate, &packet, source, destination)?;
        Ok(Signal::Flow(Flow {
            node: node.or_else(|| line_node.into_text()).map(node_of),
            ..flow
        }))
    }

    fn flow(
        &mut self,
        time: EventTime,
        fate: Fate,
        packet: &Packet,
        from: IpAddr,
        to: IpAddr,
    ) -> Result<Flow<'a>, NoSignal> {
        let (outcome, is_turned) = match packet.role {
            Role::Opens => (fate.outcome(), false),
            Role::Continues => (Outcome::NotAnAttempt, false),
            Role::Answers(outcome) => (outcome, true),
        };
        let sender = Side {
            address: from,
            port: packet.source_port,
            endpoint: self.source.0.take(),
            name: self.source_names.0.take(),
        };
        let receiver = Side {
            address: to,
            port: packet.destination_port,
            endpoint: self.destination.0.take(),
            name: self.destination_names.0.take(),
        };
        let (initiator, target) = if is_turned {
            (receiver, sender)
        } else {
            (sender, receiver)
        };
        let has_ports = !matches!(packet.transport, Transport::Icmp | Transport::Other(_));
        if has_ports && target.port.is_none() {
            return Err(SkipReason::FieldsMissing.into());
        }
        Ok(Flow {
            time,
            source: initiator.address,
            source_port: initiator.port.unwrap_or(0),
            destination: target.address,
            destination_port: target.port.unwrap_or(0),
            transport: packet.transport,
            outcome,
            forwarded: fate == Fate::Forwarded,
            volume: None,
            destination_name: target.name.and_then(super::without_trailing_dot),
            pod: initiator.endpoint.and_then(Endpoint::pod_hint),
            is_inferred: packet.is_inferred,
            node: None,
        })
    }

    /// Whether the record is a SYN-ACK that was forwarded and that the datapath does not mark as a reply. A
    /// policy verdict is about the first packet of a connection, so a SYN-ACK in one is not an answer.
    fn is_bare_answer(&self) -> bool {
        let tcp = self.l4.0.as_ref().and_then(|l4| l4.tcp.0.as_ref());
        let Some(flags) = tcp.and_then(|ports| ports.flags.0.as_ref()) else {
            return false;
        };
        flags.is_syn_ack()
            && self.is_reply() != Some(true)
            && self.verdict.text() == Some("FORWARDED")
            && !self.is_policy_verdict()
    }

    /// What the datapath did with the packet.
    fn fate(&self) -> Result<Fate, NoSignal> {
        let point = self.trace_observation_point.text().unwrap_or_default();
        match self.verdict.text() {
            // Observation points named FROM_ precede the policy: the packet may still be dropped.
            Some("FORWARDED" | "REDIRECTED") if point.starts_with("FROM_") => {
                Err(SkipReason::DuplicateObservation.into())
            }
            // AUDIT: the packet would have been denied, but is forwarded.
            Some("FORWARDED" | "REDIRECTED" | "AUDIT") => Ok(Fate::Forwarded),
            Some("DROPPED") => self.dropped(),
            Some("TRACED" | "TRANSLATED") => Err(SkipReason::DuplicateObservation.into()),
            None if self.drop_reason_desc.is_present() => self.dropped(),
            _ => Err(SkipReason::NoVerdict.into()),
        }
    }

    fn dropped(&self) -> Result<Fate, NoSignal> {
        let fate = match self.drop_reason_desc.text() {
            Some(name) => drop_reason::by_name(name),
            None => match self.drop_reason.count().or_else(|| self.drop_sub_type()) {
                Some(number) => drop_reason::by_number(number),
                None => Fate::Discarded,
            },
        };
        match fate {
            Fate::Forged => Err(SkipReason::ForgedSource.into()),
            fate => Ok(fate),
        }
    }

    /// The reason of a drop notification, which is also its sub-type.
    fn drop_sub_type(&self) -> Option<u64> {
        let event = self.event_type.0.as_ref()?;
        (event.kind.count() == Some(EVENT_DROP)).then(|| event.sub_type.count())?
    }

    /// Whether the packet came back from the target; `None` if the record does not contain this.
    /// `reply` is the older field: it is omitted when false, so only `true` is conclusive.
    fn is_reply(&self) -> Option<bool> {
        self.is_reply
            .flag()
            .or_else(|| self.reply.flag().filter(|reply| *reply))
    }

    /// Whether records of this kind are written for first packets only, even without
    /// `is_reply`: denied and allowed policy verdicts, and drops, for which Cilium itself
    /// determines the direction on the assumption that they are not replies.
    fn is_about_first_packets(&self, fate: Fate) -> bool {
        fate != Fate::Forwarded || self.is_policy_verdict()
    }

    fn is_policy_verdict(&self) -> bool {
        let event = self
            .event_type
            .0
            .as_ref()
            .and_then(|event| event.kind.count());
        event == Some(EVENT_POLICY_VERDICT) || self.verdict.text() == Some("AUDIT")
    }

    fn packet(&self, fate: Fate) -> Result<Packet, NoSignal> {
        let Some(l4) = &self.l4.0 else {
            return Ok(Packet {
                transport: Transport::Other(0),
                source_port: None,
                destination_port: None,
                role: self.datagram_role(fate)?,
                is_inferred: false,
            });
        };
        let (transport, ports) = match (&l4.tcp.0, &l4.udp.0, &l4.sctp.0) {
            (Some(tcp), _, _) => (Transport::Tcp, tcp),
            (_, Some(udp), _) => (Transport::Udp, udp),
            (_, _, Some(sctp)) => (Transport::Sctp, sctp),
            (None, None, None) => return self.portless_packet(l4, fate),
        };
        let is_inferred = transport == Transport::Tcp && self.is_bare_answer();
        let role = match (transport, &ports.flags.0) {
            _ if is_inferred => Role::Answers(Outcome::Answered),
            (Transport::Tcp, Some(flags)) => self.tcp_role(flags, fate)?,
            // Flags masked out, or a packet without any (which a scan may send). The state in the
            // datapath still distinguishes a later packet from a first one.
            (Transport::Tcp, None) => match self.datagram_role(fate)? {
                Role::Opens if self.trace_reason.text() == Some("ESTABLISHED") => Role::Continues,
                role => role,
            },
            _ => self.datagram_role(fate)?,
        };
        Ok(Packet {
            transport,
            source_port: ports.source_port.port()?,
            destination_port: ports.destination_port.port()?,
            role,
            is_inferred,
        })
    }

    fn portless_packet(&self, l4: &Layer4<'_>, fate: Fate) -> Result<Packet, NoSignal> {
        let kind_of = |icmp: &Icmp<'_>, kind: fn(u8) -> Kind| {
            // Type 0 (echo reply) is omitted, like every zero.
            let number = icmp.icmp_type.unsigned()?.unwrap_or(0);
            Ok::<_, Malformed>(u8::try_from(number).map_or(Kind::Neither, kind))
        };
        let (transport, role) = match (&l4.icmp_v4.0, &l4.icmp_v6.0) {
            (Some(icmp), _) => (
                Transport::Icmp,
                self.icmp_role(kind_of(icmp, icmp::kind_v4)?, fate)?,
            ),
            (_, Some(icmp)) => (
                Transport::Icmp,
                self.icmp_role(kind_of(icmp, icmp::kind_v6)?, fate)?,
            ),
            (None, None) => {
                let number = match (l4.igmp.is_present(), l4.vrrp.is_present()) {
                    (true, _) => 2,
                    (_, true) => 112,
                    _ => 0,
                };
                (Transport::Other(number), self.datagram_role(fate)?)
            }
        };
        Ok(Packet {
            transport,
            source_port: None,
            destination_port: None,
            role,
            is_inferred: false,
        })
    }

    fn tcp_role(&self, flags: &Flags<'_>, fate: Fate) -> Result<Role, NoSignal> {
        let [syn, ack, rst, fin, psh] =
            [&flags.syn, &flags.ack, &flags.rst, &flags.fin, &flags.psh]
                .map(|flag| flag.flag() == Some(true));
        if self.is_reply() == Some(true) {
            return Ok(match (syn, ack, rst) {
                // A reset that refuses a connection has no other flags. A reset that ends a connection can look
                // the same; the answer before it was logged too, and the first outcome of a
                // target is kept.
                (false, _, true) if !fin && !psh => Role::Answers(Outcome::Refused),
                // Simultaneous open.
                (true, false, _) => Role::Answers(Outcome::NotAnAttempt),
                _ => Role::Answers(Outcome::Answered),
            });
        }
        if syn && !ack && !rst {
            return Ok(Role::Opens);
        }
        let is_first = self.is_about_first_packets(fate);
        if self.is_reply().is_none() && (!is_first || ack || rst) {
            // Also a drop: a SYN-ACK, an ACK or a reset that belongs to no connection may
            // come from either side.
            return Err(SkipReason::UnknownDirection.into());
        }
        // A packet without SYN that the datapath treats as new is a probe with other flags (ACK, FIN, none).
        let is_new = self.is_policy_verdict() || self.trace_reason.text() == Some("NEW") || !ack;
        Ok(if is_new && !syn && !rst {
            Role::Opens
        } else {
            Role::Continues
        })
    }

    /// The role of a packet without flags.
    fn datagram_role(&self, fate: Fate) -> Result<Role, NoSignal> {
        match self.is_reply() {
            Some(true) => Ok(Role::Answers(Outcome::Answered)),
            Some(false) => Ok(Role::Opens),
            None if self.is_about_first_packets(fate) => Ok(Role::Opens),
            None => Err(SkipReason::UnknownDirection.into()),
        }
    }

    fn icmp_role(&self, kind: Kind, fate: Fate) -> Result<Role, NoSignal> {
        match (kind, self.is_reply()) {
            (Kind::Request, None | Some(false)) => self.datagram_role(fate),
            (Kind::Reply, Some(true)) => Ok(Role::Answers(Outcome::Answered)),
            _ => Err(SkipReason::IcmpHousekeeping.into()),
        }
    }

    /// An application record; only DNS is relevant for contacts. Requests count as well as
    /// responses: a denied or unanswered request has no response, and a name that occurs twice counts once.
    fn dns(&mut self, time: EventTime, from: IpAddr, to: IpAddr) -> Result<Signal<'a>, NoSignal> {
        let layer = self.l7.0.take().ok_or(SkipReason::OtherL7)?;
        let is_response = layer.kind.text() == Some("RESPONSE");
        let dns = layer.dns.0.ok_or(SkipReason::OtherL7)?;
        let query: Option<Cow<'a, str>> = dns.query.into_text();
        Ok(Signal::Dns(DnsQuery {
            time,
            source: if is_response { to } else { from },
            query: query
                .and_then(super::without_trailing_dot)
                .ok_or(SkipReason::NoName)?,
            answers: dns.ips.0,
            // Code 3; 0 (no error) is omitted, like every zero.
            nonexistent: is_response.then(|| dns.rcode.count() == Some(3)),
        }))
    }
}

impl Flags<'_> {
    fn is_syn_ack(&self) -> bool {
        let is_set = |flag: &Scalar<'_>| flag.flag() == Some(true);
        is_set(&self.syn) && is_set(&self.ack) && !is_set(&self.rst)
    }
}

impl<'a> Endpoint<'a> {
    fn pod_hint(self) -> Option<PodHint<'a>> {
        Some(PodHint {
            namespace: self.namespace.into_text()?,
            name: self.pod_name.into_text()?,
        })
    }
}

/// See [`json::both_readings`](super::json::both_readings).
#[cfg(test)]
pub(super) fn both_readings(text: &str) -> [Result<String, Malformed>; 2] {
    super::json::both_readings::<Line<'_>>(text)
}

#[cfg(test)]
mod tests;
