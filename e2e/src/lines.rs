//! Writes an egress log as ulogd2 writes it from conntrack events (NFCT): the begin and the end of
//! each connection. Where a pod is to be seen at work it also writes what the NFLOG rule for living
//! connections logs (docs/containment.md).
//!
//! Used by tests that need a pod to do one certain thing at a certain time; the demo plays a
//! recording instead. Only the fields that say something about a contact are written.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Numbers of the kinds of conntrack events.
const BEGIN: u8 = 1;
const END: u8 = 4;

/// What the other side answered: packets and bytes.
type Reply = (u32, u32);

/// One reset without options: 20 bytes of TCP behind 20 of IPv4.
const REFUSED: Reply = (1, 40);
const ANSWERED: Reply = (6, 2_000);

/// A port that nobody of [`EgressLog::chatter`] listens on.
pub const SCANNED_PORT: u16 = 22;

/// A log file of its own, gone when dropped.
#[derive(Debug)]
pub struct EgressLog {
    folder: tempfile::TempDir,
}

impl EgressLog {
    /// An empty log.
    pub fn create() -> anyhow::Result<Self> {
        let log = Self {
            folder: tempfile::tempdir().context("failed to make a folder for the log")?,
        };
        std::fs::write(log.path(), "").context("failed to make the log")?;
        Ok(log)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("egress.jsonl")
    }

    /// The log as the operator's `--source` takes it.
    #[must_use]
    pub fn source(&self) -> String {
        format!("ulogd:{}", self.path().display())
    }

    /// `pod` tries `count` hosts on one port now, and each refuses. `block` sets scans apart whose
    /// targets must be new ones; 250 hosts are in each.
    pub fn scan_hosts(&self, pod: &str, block: u8, count: u8) -> anyhow::Result<()> {
        self.scan_hosts_at(pod, block, count, Timestamp::now())
    }

    /// The same at another time.
    pub fn scan_hosts_at(
        &self,
        pod: &str,
        block: u8,
        count: u8,
        time: Timestamp,
    ) -> anyhow::Result<()> {
        let targets = (1..=count).map(|host| (format!("10.99.{block}.{host}"), SCANNED_PORT));
        self.write(targets.flat_map(|(host, port)| connection(pod, &host, port, time, REFUSED)))
    }

    /// `pod` tries these hosts on one port now, and each refuses.
    pub fn ask_hosts(&self, pod: &str, hosts: &[String]) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let hosts = hosts.iter();
        self.write(hosts.flat_map(|host| connection(pod, host, SCANNED_PORT, now, REFUSED)))
    }

    /// `pod` tries `count` ports of one host now, and each refuses.
    pub fn scan_ports(&self, pod: &str, count: u16) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let ports = 1_000..1_000 + count;
        self.write(ports.flat_map(|port| connection(pod, "10.98.0.1", port, now, REFUSED)))
    }

    /// `pod` opens a connection at this time, and it is answered.
    pub fn answered(&self, pod: &str, start: Timestamp) -> anyhow::Result<()> {
        self.write(connection(pod, "203.0.113.80", 443, start, ANSWERED))
    }

    /// `pod` does its honest work during `span` from now on: one answered connection per second.
    /// The lines are written at once, so the log is ahead of the clock afterwards.
    pub fn chatter(&self, pod: &str, span: Duration) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let starts = (0..=span.as_secs()).map(|second| now + Duration::from_secs(second));
        self.write(starts.flat_map(|start| {
            let [begin, end] = connection(pod, "203.0.113.10", 80, start, ANSWERED);
            [begin, alive(pod, "203.0.113.10", 80, start), end]
        }))
    }

    /// The same on a node without the rule for living connections.
    pub fn chatter_without_alive(&self, pod: &str, span: Duration) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let starts = (0..=span.as_secs()).map(|second| now + Duration::from_secs(second));
        self.write(starts.flat_map(|start| connection(pod, "203.0.113.10", 80, start, ANSWERED)))
    }

    /// A connection of `pod` that was open before lives on at this time.
    pub fn lives_on(&self, pod: &str, time: Timestamp) -> anyhow::Result<()> {
        self.write([alive(pod, "203.0.113.80", 443, time)])
    }

    /// `pod` had one connection with this host and port from `start` on, for so long, as thin and as
    /// much led by the other side as one with a mining pool: a packet each way every 7 s.
    pub fn session(
        &self,
        pod: &str,
        (host, port): (&str, u16),
        start: Timestamp,
        span: Duration,
    ) -> anyhow::Result<()> {
        let count = span.as_secs() / 7;
        let end = start + span;
        let mut last = line(pod, host, port, start, END);
        if let Some(fields) = last.as_object_mut() {
            let counted = json!({
                "orig.raw.pktlen": count * 70,
                "orig.raw.pktcount": count,
                "reply.raw.pktlen": count * 190,
                "reply.raw.pktcount": count,
                "flow.end.sec": end.as_second(),
                "flow.end.usec": end.subsec_microsecond(),
            });
            fields.extend(counted.as_object().cloned().unwrap_or_default());
        }
        self.write([last])
    }

    /// Adds text that need not be lines of ulogd.
    pub fn append(&self, text: &str) -> anyhow::Result<()> {
        append(&self.path(), text)
    }

    fn write(&self, lines: impl IntoIterator<Item = Value>) -> anyhow::Result<()> {
        let mut text = String::new();
        for line in lines {
            text.push_str(&line.to_string());
            text.push('\n');
        }
        append(&self.path(), &text)
    }
}

fn append(path: &Path, text: &str) -> anyhow::Result<()> {
    OpenOptions::new()
        .append(true)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("failed to write to {}", path.display()))
}

/// What the rule for living connections logs of one at this time.
pub(crate) fn alive(pod: &str, host: &str, port: u64, time: Timestamp) -> Value {
    json!({
        "timestamp": time.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string(),
        "dvc": "Netfilter",
        "raw.pktlen": 52,
        "raw.pktcount": 1,
        "oob.prefix": "alive",
        "oob.time.sec": time.as_second(),
        "oob.time.usec": time.subsec_microsecond(),
        "oob.hook": 4,
        "ip.protocol": 6,
        "src_ip": pod,
        "dest_ip": host,
        "src_port": 40_000,
        "dest_port": port,
        "tcp.syn": 0,
        "tcp.ack": 1,
    })
}

/// A connection of this address now that is answered: begin and end.
pub(crate) fn answered_now(address: &str) -> [Value; 2] {
    connection(address, "203.0.113.80", 443, Timestamp::now(), ANSWERED)
}

/// Begin and end of a TCP connection of 2 ms.
fn connection(pod: &str, host: &str, port: u16, start: Timestamp, reply: Reply) -> [Value; 2] {
    let end = start + Duration::from_millis(2);
    let begin = line(pod, host, port, start, BEGIN);
    let mut last = line(pod, host, port, start, END);
    if let Some(fields) = last.as_object_mut() {
        let counted = json!({
            "orig.raw.pktlen": 1_000,
            "orig.raw.pktcount": 5,
            "reply.raw.pktlen": reply.1,
            "reply.raw.pktcount": reply.0,
            "flow.end.sec": end.as_second(),
            "flow.end.usec": end.subsec_microsecond(),
        });
        fields.extend(counted.as_object().cloned().unwrap_or_default());
    }
    [begin, last]
}

fn line(pod: &str, host: &str, port: u16, start: Timestamp, event: u8) -> Value {
    json!({
        "timestamp": start.strftime("%Y-%m-%dT%H:%M:%S").to_string(),
        "dvc": "Netfilter",
        "src_ip": pod,
        "dest_ip": host,
        "orig.ip.protocol": 6,
        "orig.l4.sport": 40_000,
        "orig.l4.dport": port,
        "orig.raw.pktlen": 0,
        "orig.raw.pktcount": 0,
        "reply.ip.protocol": 6,
        "reply.l4.sport": port,
        "reply.l4.dport": 40_000,
        "reply.raw.pktlen": 0,
        "reply.raw.pktcount": 0,
        "ct.event": event,
        "flow.start.sec": start.as_second(),
        "flow.start.usec": start.subsec_microsecond(),
        "oob.family": 2,
        "oob.protocol": 0,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use yellowjack::testing::model::{Outcome, Signal};
    use yellowjack::testing::signals::decode::{Decoded, Format, decode};

    fn outcomes(log: &EgressLog) -> Vec<Outcome> {
        let text = std::fs::read_to_string(log.path()).unwrap();
        let decoded = text
            .lines()
            .map(|line| decode(Format::Ulogd, line.as_bytes()));
        decoded
            .map(|decoded| match decoded {
                Decoded::Signal(Signal::Flow(flow)) => flow.outcome,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn the_decoder_reads_what_is_meant() {
        let log = EgressLog::create().unwrap();
        log.scan_hosts("10.244.0.1", 0, 1).unwrap();
        log.answered("10.244.0.1", Timestamp::now()).unwrap();
        log.lives_on("10.244.0.1", Timestamp::now()).unwrap();
        let expected = [
            Outcome::Unseen,
            Outcome::Refused,
            Outcome::Unseen,
            Outcome::Answered,
            Outcome::Established,
        ];
        assert_eq!(outcomes(&log), expected);
    }
}
