//! Zeek logs `conn`, `dns` and `ssl`: JSON here, columns of text in [`tsv`]. Called by [`super::decode`]
//! and [`super::Decoder`].
//!
//! Only when Zeek streams JSON does `_path` name the log; otherwise the three are distinguished by the fields
//! that only one of them has. Zeek writes a connection at its end: every outcome is final.
//!
//! `Log::default_scope_sep` determines the separator between `id` and `orig_h`. With the default, a dot,
//! the addresses are read together with the other fields; with another one they are read in a second pass.

mod scoped;
pub(super) mod tsv;

use std::net::IpAddr;

use super::field::{Addresses, Scalar, Skipped, duration_us};
use super::json::{read_line, record};
use super::{Malformed, NoSignal, SkipReason, attempts, icmp};
use crate::model::{DnsQuery, EventTime, Flow, Outcome, Signal, TlsName, Transport, Volume};

record! {
    /// The fields of the three logs that are relevant for a contact.
    struct Line {
        path: Scalar<'a> = "_path",
        system_name: Skipped = "_system_name",
        write_time: Skipped = "_write_ts",
        ts: Scalar<'a> = "ts",
        uid: Skipped = "uid",
        orig_host: Scalar<'a> = "id.orig_h",
        orig_port: Scalar<'a> = "id.orig_p",
        resp_host: Scalar<'a> = "id.resp_h",
        resp_port: Scalar<'a> = "id.resp_p",
        proto: Scalar<'a> = "proto",
        // conn
        service: Skipped = "service",
        duration: Scalar<'a> = "duration",
        orig_bytes: Scalar<'a> = "orig_bytes",
        resp_bytes: Scalar<'a> = "resp_bytes",
        conn_state: Scalar<'a> = "conn_state",
        local_orig: Skipped = "local_orig",
        local_resp: Skipped = "local_resp",
        missed_bytes: Scalar<'a> = "missed_bytes",
        history: Scalar<'a> = "history",
        orig_pkts: Scalar<'a> = "orig_pkts",
        orig_ip_bytes: Skipped = "orig_ip_bytes",
        resp_pkts: Scalar<'a> = "resp_pkts",
        resp_ip_bytes: Skipped = "resp_ip_bytes",
        ip_proto: Skipped = "ip_proto",
        // dns
        query: Scalar<'a> = "query",
        qtype: Scalar<'a> = "qtype",
        rcode: Scalar<'a> = "rcode",
        rcode_name: Scalar<'a> = "rcode_name",
        answers: Addresses = "answers",
        // ssl
        cipher: Scalar<'a> = "cipher",
        server_name: Scalar<'a> = "server_name",
        established: Scalar<'a> = "established",
        // stats, capture_loss, weird, reporter
        peer: Scalar<'a> = "peer",
    }
}

/// The log that a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    Conn,
    Dns,
    Ssl,
}

impl Log {
    /// The log with this name in Zeek; `None` for logs without contacts.
    fn from_path(path: &str) -> Option<Self> {
        match path {
            "conn" => Some(Self::Conn),
            "dns" => Some(Self::Dns),
            "ssl" => Some(Self::Ssl),
            _ => None,
        }
    }
}

/// Whether a key is the originator's address, with any scope separator.
pub(super) fn is_originator(key: &str) -> bool {
    key == "id.orig_h" || scoped::part_of(key) == Some(scoped::Part::OrigHost)
}

/// Decodes one object of a Zeek log.
pub(super) fn decode(text: &str) -> Result<Signal<'_>, NoSignal> {
    let mut line = Line::default();
    read_line(text, &mut line)?;
    if !line.orig_host.is_present() {
        scoped::read(text, &mut line)?;
    }
    let log = match line.path.text() {
        Some(path) => Log::from_path(path).ok_or(SkipReason::OtherLog)?,
        None => line.log_by_fields().ok_or_else(|| line.of_another_log())?,
    };
    line.signal(log)
}

/// The fields of every log: the time and the two ends.
struct Ends {
    time: EventTime,
    source: IpAddr,
    source_port: u16,
    destination: IpAddr,
    destination_port: u16,
}

impl<'a> Line<'a> {
    fn signal(mut self, log: Log) -> Result<Signal<'a>, NoSignal> {
        let ends = self.ends()?;
        match log {
            Log::Conn => Ok(self.conn(&ends)),
            Log::Dns => self.dns(&ends),
            Log::Ssl => self.ssl(&ends),
        }
    }

    /// The result for a line without the name of its log and without the fields of the three logs. A log that
    /// Zeek writes about itself does not count as that of another program; on a quiet network there are no others.
    fn of_another_log(&self) -> NoSignal {
        if !self.ts.is_present() {
            NoSignal::Unknown
        } else if self.orig_host.is_present() {
            SkipReason::OtherLog.into()
        } else if self.peer.is_present() {
            SkipReason::NotTraffic.into()
        } else {
            NoSignal::Unknown
        }
    }

    fn log_by_fields(&self) -> Option<Log> {
        if self.conn_state.is_present() || self.missed_bytes.is_present() {
            return Some(Log::Conn);
        }
        if !self.orig_host.is_present() {
            return None;
        }
        if self.query.is_present() || self.qtype.is_present() || self.rcode.is_present() {
            return Some(Log::Dns);
        }
        let is_ssl = self.server_name.is_present()
            || self.cipher.is_present()
            || self.established.is_present();
        is_ssl.then_some(Log::Ssl)
    }

    fn ends(&self) -> Result<Ends, Malformed> {
        Ok(Ends {
            time: self.ts.time()?.ok_or(Malformed::MissingField)?,
            source: self.orig_host.address()?.ok_or(Malformed::MissingField)?,
            source_port: self.orig_port.port()?.ok_or(Malformed::MissingField)?,
            destination: self.resp_host.address()?.ok_or(Malformed::MissingField)?,
            destination_port: self.resp_port.port()?.ok_or(Malformed::MissingField)?,
        })
    }

    fn conn(&self, ends: &Ends) -> Signal<'a> {
        let transport = match self.proto.text() {
            Some("tcp") => Transport::Tcp,
            Some("udp") => Transport::Udp,
            Some("icmp") => Transport::Icmp,
            Some("sctp") => Transport::Sctp,
            _ => Transport::Other(0),
        };
        let has_ports = matches!(transport, Transport::Tcp | Transport::Udp | Transport::Sctp);
        Signal::Flow(Flow {
            time: ends.time,
            source: ends.source,
            // For ICMP these fields contain type and code.
            source_port: if has_ports { ends.source_port } else { 0 },
            destination: ends.destination,
            destination_port: if has_ports { ends.destination_port } else { 0 },
            transport,
            outcome: self.outcome(transport, ends),
            forwarded: true,
            volume: self.volume(),
            destination_name: None,
            pod: None,
            is_inferred: false,
            node: None,
        })
    }

    fn outcome(&self, transport: Transport, ends: &Ends) -> Outcome {
        match transport {
            Transport::Tcp => self.tcp_outcome(ends.destination.is_ipv4()),
            Transport::Icmp => self.icmp_outcome(ends),
            _ => self.datagram_outcome(),
        }
    }

    fn tcp_outcome(&self, is_v4: bool) -> Outcome {
        // `^`: Zeek reversed the direction because it saw an answer first, so `orig` did not
        // open anything (answers to spoofed traffic look like this). A side that sent no packet
        // at all did not open anything either.
        let is_flipped = self
            .history
            .text()
            .is_some_and(|history| history.starts_with('^'));
        let orig_is_silent = self.orig_pkts.count() == Some(0);
        let responder_sent = self.resp_pkts.count().is_some_and(|count| count > 0);
        if is_flipped || (orig_is_silent && responder_sent) {
            return Outcome::NotAnAttempt;
        }
        match self.conn_state.text() {
            // SH and RSTOS0: the originator closed or reset before any SYN-ACK. SHR: a SYN-ACK
            // with FIN, so the connection was never established.
            Some("S0" | "SH" | "SHR" | "RSTOS0") if self.is_one_sided(responder_sent, is_v4) => {
                Outcome::Unseen
            }
            Some("S0" | "SH" | "SHR" | "RSTOS0") => Outcome::Unanswered,
            Some("REJ" | "RSTRH") => Outcome::Refused,
            // Reset before any payload in either direction: no service was provided. A
            // SYN or connect scan of an open port looks the same, so it is not a success.
            Some("RSTO" | "RSTR") if !self.carried_payload() => Outcome::Refused,
            Some("S1" | "S2" | "S3" | "SF" | "RSTO" | "RSTR") => Outcome::Answered,
            // Midstream traffic: the start was not observed, so it is unknown which side started.
            Some("OTH") => Outcome::NotAnAttempt,
            _ => Outcome::Unseen,
        }
    }

    /// Whether the originator acknowledged or sent data, and no packet came back. That is impossible
    /// without an answer, so Zeek observes one direction only.
    fn is_one_sided(&self, responder_sent: bool, is_v4: bool) -> bool {
        let went_on = if let Some(history) = self.history.text() {
            history.contains(['A', 'D'])
        } else {
            // Some converters count the headers, so a retransmitted SYN has bytes too.
            let volume = self.volume().unwrap_or_default();
            let header = attempts::header_bytes(is_v4);
            volume.bytes_out > 0 && !attempts::are_all(&volume, header, 1)
        };
        went_on && !responder_sent
    }

    fn carried_payload(&self) -> bool {
        self.orig_bytes.count().unwrap_or(0) > 0 || self.resp_bytes.count().unwrap_or(0) > 0
    }

    fn datagram_outcome(&self) -> Outcome {
        match self.conn_state.text() {
            Some("S0") => Outcome::Unanswered,
            Some("SF") => Outcome::Answered,
            // Only the responder sent packets.
            Some("SHR" | "OTH") => Outcome::NotAnAttempt,
            _ => Outcome::Unseen,
        }
    }

    /// Zeek assigns most ICMP the state OTH, so the packets are used. Errors and replies are reactions to
    /// a packet of another host.
    fn icmp_outcome(&self, ends: &Ends) -> Outcome {
        // The type. Converters of packet captures put the code into the high byte.
        let [_, icmp_type] = ends.source_port.to_be_bytes();
        if icmp::kind(ends.destination, icmp_type) != icmp::Kind::Request {
            return Outcome::NotAnAttempt;
        }
        match self.resp_pkts.count() {
            Some(0) => Outcome::Unanswered,
            Some(_) => Outcome::Answered,
            None => self.datagram_outcome(),
        }
    }

    fn volume(&self) -> Option<Volume> {
        let counts = [
            &self.orig_bytes,
            &self.resp_bytes,
            &self.orig_pkts,
            &self.resp_pkts,
        ]
        .map(Scalar::count);
        let duration_us = duration_us(&self.duration);
        if counts.iter().all(Option::is_none) && duration_us.is_none() {
            return None;
        }
        let [bytes_out, bytes_in, packets_out, packets_in] = counts.map(Option::unwrap_or_default);
        Some(Volume {
            bytes_out,
            bytes_in,
            packets_out,
            packets_in,
            duration_us: duration_us.unwrap_or_default(),
            is_final: true,
        })
    }

    fn dns(&mut self, ends: &Ends) -> Result<Signal<'a>, NoSignal> {
        let nonexistent = match (self.rcode_name.text(), self.rcode.count()) {
            (Some(name), _) => Some(name == "NXDOMAIN"),
            (None, Some(code)) => Some(code == 3),
            (None, None) => None,
        };
        let query = self.query.take_text().and_then(super::without_trailing_dot);
        Ok(Signal::Dns(DnsQuery {
            time: ends.time,
            source: ends.source,
            query: query.ok_or(SkipReason::NoName)?,
            answers: std::mem::take(&mut self.answers.0),
            nonexistent,
        }))
    }

    fn ssl(&mut self, ends: &Ends) -> Result<Signal<'a>, NoSignal> {
        Ok(Signal::Tls(TlsName {
            time: ends.time,
            source: ends.source,
            source_port: ends.source_port,
            destination: ends.destination,
            destination_port: ends.destination_port,
            server_name: self.server_name.take_text().ok_or(SkipReason::NoName)?,
        }))
    }
}

/// See [`json::both_readings`](super::json::both_readings).
#[cfg(test)]
pub(super) fn both_readings(text: &str) -> [Result<String, Malformed>; 2] {
    super::json::both_readings::<Line<'_>>(text)
}

#[cfg(test)]
mod tests;
