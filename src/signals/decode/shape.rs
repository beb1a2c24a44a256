//! Log shapes: what a log that is read in the wrong format, or not readable at all, looks like, and what to do about
//! it. `replay`, `doctor` and the operator's conditions use this table to name a log; no decoder uses it.

use serde_json::{Map, Value};

use super::{Format, SkipReason, sniff, text_of, wrapper};
use crate::limits;

/// The recognised kind of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogShape {
    /// Its usual name, to follow "they look like".
    pub name: &'static str,
    /// What to do, as an imperative without a full stop.
    pub advice: &'static str,
}

const fn shape(name: &'static str, advice: &'static str) -> LogShape {
    LogShape { name, advice }
}

/// Recognises `bytes`: one line of a log, or the beginning of a file. `None` if no known kind of log
/// has this shape.
#[must_use]
pub fn looks_like(bytes: &[u8]) -> Option<LogShape> {
    if let Some((_, found)) = BINARY.iter().find(|(magic, _)| bytes.starts_with(magic)) {
        return Some(*found);
    }
    let mut lines = bytes.split(|byte| *byte == b'\n');
    let first = lines.find(|line| !line.trim_ascii().is_empty())?;
    if let Some(format) = sniff(first) {
        return Some(readable(format));
    }
    let raw = beginning(first);
    let text = text_of(raw.as_bytes()).unwrap_or(raw);
    if let Ok(Value::Object(object)) = serde_json::from_str(text) {
        return Some(of_object(&object));
    }
    of_text(text).or_else(|| of_text(raw))
}

/// The valid UTF-8 at the beginning of a line, up to the bound of a line.
fn beginning(line: &[u8]) -> &str {
    let line = line.get(..limits::LINE_BYTES_MAX).unwrap_or(line);
    let is_text = |error: std::str::Utf8Error| line.get(..error.valid_up_to());
    match std::str::from_utf8(line) {
        Ok(text) => text,
        Err(error) => is_text(error)
            .and_then(|text| std::str::from_utf8(text).ok())
            .unwrap_or_default(),
    }
}

/// A log in a supported format, though perhaps not in the configured one.
const fn readable(format: Format) -> LogShape {
    match format {
        Format::Hubble => shape("hubble", "name the format hubble"),
        Format::Zeek => shape("zeek", "name the format zeek"),
        Format::Ulogd => shape("ulogd", "name the format ulogd"),
        Format::Vpc => shape("vpc", "name the format vpc"),
        Format::Calico => shape("calico", "name the format calico"),
        Format::Suricata => shape("suricata", "name the format suricata"),
    }
}

/// Files that are not text, by their first bytes.
const BINARY: [(&[u8], LogShape); 14] = [
    (
        &[0x1f, 0x8b],
        shape("gzip", "decompress it, or give the file itself to replay"),
    ),
    (
        &[0x28, 0xb5, 0x2f, 0xfd],
        shape("zstd", "decompress it, or give the file itself to replay"),
    ),
    (b"BZh", shape("bzip2", "decompress it with bzip2 -d")),
    (
        &[0xfd, b'7', b'z', b'X', b'Z'],
        shape("xz", "decompress it with xz -d"),
    ),
    (b"PK\x03\x04", shape("zip", "unpack it with unzip")),
    (
        &[0x04, 0x22, 0x4d, 0x18],
        shape("lz4", "decompress it with lz4 -d"),
    ),
    (&[0xd4, 0xc3, 0xb2, 0xa1], PCAP),
    (&[0xa1, 0xb2, 0xc3, 0xd4], PCAP),
    (&[0x4d, 0x3c, 0xb2, 0xa1], PCAP),
    (&[0xa1, 0xb2, 0x3c, 0x4d], PCAP),
    (&[0x0a, 0x0d, 0x0d, 0x0a], PCAP),
    (
        b"PAR1",
        shape(
            "Apache Parquet",
            "write the flow log as text: set its file format to plain-text",
        ),
    ),
    (&[0xff, 0xfe], UTF_16),
    (&[0xfe, 0xff], UTF_16),
];

const PCAP: LogShape = shape(
    "a capture of packets (pcap)",
    "make a log of it: zeek -r FILE LogAscii::use_json=T, or suricata -r FILE",
);

const UTF_16: LogShape = shape("UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 FILE");

const ECS: LogShape = shape(
    "Elastic Common Schema (Filebeat, Elastic Agent)",
    "read the log that the shipper reads, before it renames the fields",
);

const PRETTY: LogShape = shape(
    "JSON over several lines (jq's default output)",
    "write one object per line: jq -c . FILE",
);

/// Objects by their keys; the first row with all keys present is used.
const BY_KEYS: &[(&[&str], LogShape)] = &[
    (&["ecs"], ECS),
    (&["ecs.version"], ECS),
    (&["@timestamp", "event", "source"], ECS),
    (&["@timestamp", "event", "agent"], ECS),
    (&["source.ip", "destination.ip"], ECS),
    (&["@timestamp", "event.dataset"], ECS),
    (&["@timestamp", "@metadata"], ECS),
    (
        &["logGroup", "logEvents"],
        shape(
            "a CloudWatch Logs subscription (Firehose, Lambda)",
            "unpack the messages: jq -r '.logEvents[].message' FILE",
        ),
    ),
    (
        &["ingestionTime", "message"],
        shape(
            "CloudWatch Logs events",
            "unpack the messages: jq -r '.message' FILE",
        ),
    ),
    (
        &["records", "requestId"],
        shape(
            "a Kinesis Data Firehose request",
            "unpack the records: jq -r '.records[].data' FILE | base64 -d",
        ),
    ),
    (
        &["recordId", "data"],
        shape(
            "a Kinesis Data Firehose record",
            "unpack the records: jq -r '.data' FILE | base64 -d",
        ),
    ),
    (
        &["events", "nextForwardToken"],
        shape(
            "the output of aws logs get-log-events",
            "unpack the messages: jq -r '.events[].message' FILE",
        ),
    ),
    (
        &["__REALTIME_TIMESTAMP"],
        shape(
            "the systemd journal as JSON",
            "write the messages alone: journalctl -o cat",
        ),
    ),
    (
        &["logName", "insertId"],
        shape(
            "Google Cloud Logging entries",
            "use a log of the nodes, such as Cilium's Hubble exporter: this one is not read",
        ),
    ),
    (
        &["connection", "disposition"],
        shape(
            "GKE network policy logging",
            "use Cilium's Hubble exporter: this log is not read",
        ),
    ),
    (
        &["resourceLogs"],
        shape(
            "OpenTelemetry logs (OTLP)",
            "read the log that the collector reads",
        ),
    ),
    (
        &["streams"],
        shape(
            "a Loki push request",
            "read the log that the agent of Loki reads",
        ),
    ),
    (
        &["auditID", "requestURI"],
        shape(
            "a Kubernetes audit log",
            "give a log of network flows: docs/sources.md lists them",
        ),
    ),
    (
        &["class_uid", "metadata"],
        shape(
            "OCSF events",
            "read the log that they were made of: docs/sources.md lists the formats",
        ),
    ),
    (
        &["uid_orig", "flow_src_ip"],
        shape("IPFIX as JSON", "IPFIX and NetFlow are not read"),
    ),
    (
        &["ts", "ts_delta", "peer"],
        shape("Zeek's capture_loss log", ZEEK_OTHER),
    ),
    (
        &["ts", "peer", "pkts_proc"],
        shape("Zeek's stats log", ZEEK_OTHER),
    ),
    (
        &["ts", "peer", "name"],
        shape("Zeek's weird log", ZEEK_OTHER),
    ),
    (&["ts", "uid"], shape("another log of Zeek", ZEEK_OTHER)),
    (
        &["ts", "host", "port_num"],
        shape("Zeek's known_services log", ZEEK_OTHER),
    ),
    (
        &["stream", "log"],
        shape(
            "container output in Docker's json-file, with no record of a known format in it",
            "look at the container: it must write its log as one JSON object per line",
        ),
    ),
    (
        &["log"],
        shape(
            "the output of fluent-bit or another log shipper, with no record of a known format in log",
            "read the log that the shipper reads",
        ),
    ),
    (
        &["message", "@timestamp"],
        shape(
            "the output of a log shipper (message, @timestamp)",
            "read the log that the shipper reads",
        ),
    ),
    (
        &["src_ip", "dest_ip", "event_type"],
        shape(
            "Suricata's EVE without a timestamp",
            "keep the field timestamp in the log",
        ),
    ),
    (
        &["level", "msg"],
        shape("a program's own messages (level, msg)", NOT_FLOWS),
    ),
    (
        &["level", "message"],
        shape("a program's own messages (level, message)", NOT_FLOWS),
    ),
    (
        &["severity", "message"],
        shape("a program's own messages (severity, message)", NOT_FLOWS),
    ),
];

const ZEEK_OTHER: &str = "give conn.log, dns.log and ssl.log: this one holds no connections";

const NOT_FLOWS: &str = "give a log of network flows: docs/sources.md lists them";

fn of_object(object: &Map<String, Value>) -> LogShape {
    let has_all = |keys: &[&str]| keys.iter().all(|key| object.contains_key(*key));
    let known = BY_KEYS.iter().find(|(keys, _)| has_all(keys));
    known.map_or(
        shape(
            "JSON of another program",
            "give a log in a format of docs/sources.md",
        ),
        |(_, found)| *found,
    )
}

fn of_text(text: &str) -> Option<LogShape> {
    if text.starts_with('#') && text.contains("separator") || text.starts_with("#fields") {
        return Some(shape("Zeek columns", "name the format zeek"));
    }
    if text.starts_with("[{") || text.starts_with("[ {") {
        return Some(shape(
            "one JSON array",
            "write one object per line: jq -c '.[]' FILE",
        ));
    }
    if matches!(text, "{" | "[") || (text.starts_with('"') && text.contains("\": ")) {
        return Some(PRETTY);
    }
    if text.starts_with('{') {
        return Some(shape(
            "JSON that is cut or joined",
            "write one whole object per line",
        ));
    }
    let by_words = BY_WORDS
        .iter()
        .find(|(words, _)| words.iter().all(|word| text.contains(word)));
    if let Some((_, found)) = by_words {
        return Some(*found);
    }
    if wrapper::message_of_syslog(text).is_some() {
        return Some(shape(
            "syslog lines, with no record of a known format behind the prefix",
            "write the log of the sensor to a file of its own",
        ));
    }
    of_columns(text)
}

/// Text by words in it; the first row with all words present is used.
const BY_WORDS: &[(&[&str], LogShape)] = &[
    (
        &["<?xml"],
        shape("XML", "give a log in a format of docs/sources.md"),
    ),
    (
        &["<html"],
        shape("an HTML page", "look at what wrote it: it is no log"),
    ),
    (
        &["SRC=", "DST=", "PROTO="],
        shape(
            "netfilter's messages (iptables LOG, ulogd LOGEMU)",
            "log with ulogd2's JSON output: docs/sources.md has the set-up",
        ),
    ),
    (
        &["SIP: ", "DIP: "],
        shape(
            "the AWS network policy agent's messages",
            "use VPC flow logs or ulogd2: these are not read",
        ),
    ),
    (&[" -> ", "identity", "(TCP"], HUBBLE_COMPACT),
    (&[" -> ", "FORWARDED"], HUBBLE_COMPACT),
    (&[" -> ", "DROPPED"], HUBBLE_COMPACT),
    (
        &["IP ", " > ", "Flags ["],
        shape(
            "tcpdump's text",
            "log the connections with Zeek or Suricata, not the packets",
        ),
    ),
    (
        &["[**]", "->"],
        shape(
            "Suricata's fast.log",
            "give eve.json: it has flow, dns and tls events",
        ),
    ),
    (
        &["level=", "msg="],
        shape("a program's own messages (logfmt)", NOT_FLOWS),
    ),
    (
        &[" stdout F "],
        shape(
            "container output (CRI), with no record of a known format in it",
            "look at the container: it must write its log as one JSON object per line",
        ),
    ),
    (
        &[" stderr F "],
        shape("a container's error output (CRI)", NOT_FLOWS),
    ),
];

const HUBBLE_COMPACT: LogShape = shape(
    "the text of hubble observe",
    "write JSON: hubble observe -o jsonpb",
);

fn of_columns(text: &str) -> Option<LogShape> {
    let by_tabs = text.split('\t').count();
    if by_tabs >= 10 {
        return Some(shape(
            "Zeek columns without their header",
            "keep the lines that begin with # before them",
        ));
    }
    if by_tabs >= 3 {
        return Some(shape(
            "columns between tabs",
            "give a log in a format of docs/sources.md",
        ));
    }
    let is_value = |value: &str| !value.trim_matches('"').contains(' ');
    for sign in [',', ';', '|'] {
        if text.contains(sign) && text.split(sign).all(is_value) {
            return Some(shape(
                "CSV",
                "convert it into a format of docs/sources.md: CSV has no fixed columns",
            ));
        }
    }
    let words = text.split_ascii_whitespace();
    let is_vpc = text.contains("eni-") || text.contains(" ACCEPT ") || text.contains(" REJECT ");
    if is_vpc && words.count() >= 8 {
        return Some(shape(
            "AWS VPC flow logs without their header",
            "keep the first line, which names the fields, or use the default order",
        ));
    }
    None
}

/// Why a log of this format yielded no signals if all of its lines were skipped for this reason, and
/// what to do about it.
#[must_use]
pub(crate) const fn why_no_signals(format: Format, reason: SkipReason) -> LogShape {
    match (format, reason) {
        (Format::Suricata, SkipReason::OtherLog | SkipReason::NotTraffic) => shape(
            "Suricata events of other kinds than flow, dns, tls and quic (netflow, alert, http)",
            "write flow events: add - flow to the types of eve-log",
        ),
        (Format::Zeek, SkipReason::OtherLog | SkipReason::Header) => {
            shape("another log of Zeek", ZEEK_OTHER)
        }
        (Format::Hubble, SkipReason::UnknownDirection) => shape(
            "Hubble flows without is_reply, TCP flags and traffic_direction",
            "add is_reply, l4, traffic_direction, event_type and trace_observation_point to the field mask of the exporter",
        ),
        (Format::Hubble, SkipReason::FieldsMissing | SkipReason::NoVerdict) => shape(
            "Hubble flows without addresses, ports or verdict",
            "add IP, l4 and verdict to the field mask of the exporter",
        ),
        (Format::Hubble, SkipReason::IngressView) => shape(
            "Hubble flows as the receiving side sees them",
            "export egress too: take traffic_direction out of the filters of the exporter",
        ),
        (Format::Hubble, SkipReason::OtherL7) => shape(
            "Hubble's records of application protocols",
            "export flows of layers 3 and 4 as well",
        ),
        (Format::Vpc, SkipReason::UnknownDirection) => shape(
            "VPC flow logs that do not show which side started",
            "add tcp-flags and flow-direction to the fields of the flow log",
        ),
        (Format::Vpc, SkipReason::FieldsMissing | SkipReason::NoVerdict) => shape(
            "VPC flow logs without addresses, protocol or action",
            "add srcaddr, dstaddr, srcport, dstport, protocol and action to the fields of the flow log",
        ),
        (Format::Vpc, SkipReason::Header | SkipReason::NotTraffic) => shape(
            "a VPC flow log without traffic",
            "choose another file: this one holds a header, or NODATA records, alone",
        ),
        (Format::Calico, SkipReason::Aggregated) => shape(
            "Calico flow logs that add up several pods",
            "turn aggregation off: flowLogsFileAggregationKindForAllowed: 0",
        ),
        (Format::Ulogd, SkipReason::UnknownDirection) => shape(
            "packets from the middle of connections",
            "log the first packet of each connection: docs/sources.md has the rules",
        ),
        (_, SkipReason::Blank) => shape("blank lines", "look at what writes the log"),
        (_, SkipReason::Aggregated) => {
            shape("records that add up several pods", "turn aggregation off")
        }
        _ => shape(
            "records without information about a connection",
            "compare the set-up of the log with docs/sources.md",
        ),
    }
}

#[cfg(test)]
mod tests;
