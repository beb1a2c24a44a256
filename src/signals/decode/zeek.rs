//! Zeek logs `conn`, `dns` and `ssl`: JSON here, columns of text in [`tsv`]. Called by [`super::decode`]
//! and [`super::Decoder`].
//!
//! `_path` names the log only where Zeek streams JSON, so the three are told apart by the fields
//! that only one of them has. Zeek writes a connection at its end: every outcome is final.
//!
//! `Log::default_scope_sep` decides what stands between `id` and `orig_h`. With the default, a dot,
//! the addresses are read with everything else; with another one they are read in a second pass.

mod scoped;
pub(super) mod tsv;

use std::net::IpAddr;

use super::field::{Addresses, Scalar, Skipped, duration_us};
use super::json::{read_line, record};
use super::{Malformed, NoSignal, SkipReason, attempts, icmp};
use crate::model::{DnsQuery, EventTime, Flow, Outcome, Signal, TlsName, Transport, Volume};

record! {
    /// The fields of the three logs that say something about a contact.
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

/// Which log a line is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Log {
    Conn,
    Dns,
    Ssl,
}

impl Log {
    /// The log that Zeek calls so; `None` for those that hold no contacts.
    fn from_path(path: &str) -> Option<Self> {
        match path {
            "conn" => Some(Self::Conn),
            "dns" => Some(Self::Dns),
            "ssl" => Some(Self::Ssl),
            _ => None,
        }
    }
}

/// Whether a key is the originator's address, whatever the scope separator.
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

/// What every log has: when, and who with whom.
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

    /// A line without a name of its log and without what the three have. Zeek's word about itself is no sign that its
    /// logs are of another program; a quiet network has nothing else.
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
            // For ICMP these fields hold type and code.
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
        // `^`: Zeek turned the direction round because it saw an answer first, so `orig` did not
        // open anything (answers to spoofed traffic look like this). A side that sent no packet
        // at all opened nothing either.
        let is_flipped = self
            .history
            .text()
            .is_some_and(|history| history.starts_with('^'));
        let orig_is_silent = self.orig_pkts.count() == Some(0);
        let resp_spoke = self.resp_pkts.count().is_some_and(|count| count > 0);
        if is_flipped || (orig_is_silent && resp_spoke) {
            return Outcome::NotAnAttempt;
        }
        match self.conn_state.text() {
            // SH and RSTOS0: the originator closed or reset before any SYN-ACK. SHR: a SYN-ACK
            // with FIN, and nothing ever stood.
            Some("S0" | "SH" | "SHR" | "RSTOS0") if self.is_one_sided(resp_spoke, is_v4) => {
                Outcome::Unseen
            }
            Some("S0" | "SH" | "SHR" | "RSTOS0") => Outcome::Unanswered,
            Some("REJ" | "RSTRH") => Outcome::Refused,
            // Reset before a byte of payload either way: nothing was served. This is also what a
            // SYN or connect scan leaves of an open port, so it is no success.
            Some("RSTO" | "RSTR") if !self.carried_payload() => Outcome::Refused,
            Some("S1" | "S2" | "S3" | "SF" | "RSTO" | "RSTR") => Outcome::Answered,
            // Midstream traffic: the start was not seen, so nothing says who started.
            Some("OTH") => Outcome::NotAnAttempt,
            _ => Outcome::Unseen,
        }
    }

    /// Whether the originator acknowledged or sent data, and no packet came back: nobody does without
    /// an answer, so Zeek sees one direction only.
    fn is_one_sided(&self, resp_spoke: bool, is_v4: bool) -> bool {
        let went_on = if let Some(history) = self.history.text() {
            history.contains(['A', 'D'])
        } else {
            // Some converters count the headers, so a SYN that is sent again has bytes too.
            let volume = self.volume().unwrap_or_default();
            let header = attempts::header_bytes(is_v4);
            volume.bytes_out > 0 && !attempts::are_all(&volume, header, 1)
        };
        went_on && !resp_spoke
    }

    fn carried_payload(&self) -> bool {
        self.orig_bytes.count().unwrap_or(0) > 0 || self.resp_bytes.count().unwrap_or(0) > 0
    }

    fn datagram_outcome(&self) -> Outcome {
        match self.conn_state.text() {
            Some("S0") => Outcome::Unanswered,
            Some("SF") => Outcome::Answered,
            // Only the responder spoke.
            Some("SHR" | "OTH") => Outcome::NotAnAttempt,
            _ => Outcome::Unseen,
        }
    }

    /// Zeek gives most ICMP the state OTH, so packets decide. Errors and answers are sent because
    /// of somebody else's packet.
    fn icmp_outcome(&self, ends: &Ends) -> Outcome {
        // The type. Converters from packets put the code into the high byte.
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
