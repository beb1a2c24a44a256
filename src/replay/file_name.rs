//! What the name of a file reveals about its log. Called by `captures` and `lines`.
//!
//! ```text
//! json_streaming_conn.1.log    kind conn, family json_streaming_conn
//! conn.08:00:00-09:00:00.log.gz    kind conn, family conn, compressed
//! eve.json-20251129.zst    family eve.json, compressed
//! 1234_vpcflowlogs_eu-west-1_fl-1_20251129T0805Z_0a1b2c3d.log.gz    family 1234_..._fl-1.log
//! ```

use std::path::Path;

/// File name endings of logs.
const LOG_EXTENSIONS: [&str; 4] = [".log", ".jsonl", ".ndjson", ".json"];

/// Endings of compressed files that are read.
const COMPRESSED: [&str; 4] = [".gz", ".zst", ".zstd", ".gzip"];

/// Endings of files that contain logs but are not read, with what to do.
const NOT_READ: [(&str, &str); 11] = [
    (".bz2", "decompress it with bzip2 -d"),
    (".xz", "decompress it with xz -d"),
    (".lz4", "decompress it with lz4 -d"),
    (".zip", "unpack it with unzip"),
    (".tar", "unpack it with tar"),
    (".tgz", "unpack it with tar"),
    (".pcap", "make a log of it with zeek -r or suricata -r"),
    (".pcapng", "make a log of it with zeek -r or suricata -r"),
    (
        ".parquet",
        "write the flow log as text: set its file format to plain-text",
    ),
    (".csv", "convert it into a format of docs/sources.md"),
    (
        ".tsv",
        "give it a name that ends in .log if it is a log of Zeek's",
    ),
];

/// The names of Zeek's logs with contacts.
const ZEEK_LOGS: [&str; 3] = ["conn", "dns", "ssl"];

/// The names of Zeek's and zeekctl's other logs.
const ZEEK_OTHERS: &[&str] = &[
    "analyzer",
    "analyzer_debug",
    "barnyard2",
    "broker",
    "capture_loss",
    "cluster",
    "communication",
    "config",
    "conn-summary",
    "conn_long",
    "conn_red",
    "crash",
    "dce_rpc",
    "debug",
    "dhcp",
    "dnp3",
    "dns_red",
    "dpd",
    "files",
    "files_red",
    "ftp",
    "generic_dns_tunnels",
    "generic_icmp_tunnels",
    "http",
    "http_red",
    "intel",
    "ipsec",
    "irc",
    "kerberos",
    "known_certs",
    "known_devices",
    "known_domains",
    "known_hosts",
    "known_modbus",
    "known_names",
    "known_remotes",
    "known_services",
    "known_users",
    "ldap",
    "ldap_search",
    "loaded_scripts",
    "mail",
    "management",
    "modbus",
    "modbus_register_change",
    "mqtt_connect",
    "mqtt_publish",
    "mqtt_subscribe",
    "mysql",
    "netcontrol",
    "netcontrol_drop",
    "netcontrol_shunt",
    "notice",
    "notice_alarm",
    "ntlm",
    "ntp",
    "ocsp",
    "openflow",
    "ospf",
    "packet_filter",
    "pe",
    "postgresql",
    "print",
    "prof",
    "profinet",
    "quic",
    "radius",
    "rdp",
    "redis",
    "reporter",
    "rfb",
    "signatures",
    "sip",
    "smb_cmd",
    "smb_files",
    "smb_mapping",
    "smtp",
    "smtp_links",
    "snmp",
    "socks",
    "software",
    "ssh",
    "ssl_red",
    "stats",
    "stderr",
    "stdout",
    "stun",
    "stun_nat",
    "suricata_corelight",
    "syslog",
    "telemetry",
    "telemetry_histogram",
    "tftp",
    "traceroute",
    "tunnel",
    "unified2",
    "unknown_protocols",
    "vpn",
    "websocket",
    "weird",
    "weird_red",
    "weird_stats",
    "wireguard",
    "x509",
    "x509_red",
];

/// The names of Suricata's other logs.
const SURICATA_OTHERS: &[&str] = &[
    "alert-debug",
    "certs",
    "drop",
    "fast",
    "files",
    "filestore",
    "http",
    "http-data",
    "keyword_perf",
    "packet_stats",
    "pcap_stats",
    "prefilter_perf",
    "rule_perf",
    "stats",
    "suricata",
    "suricata-start",
    "tls",
    "tls-store",
];

/// A prefix of the package json-streaming-logs.
const STREAMING: &str = "json_streaming_";

/// The shortest date or time inside a name: `20260224`, `08:00:00`. A shorter number belongs to the name, as
/// in `worker-2.log`.
const DATE_BYTES: usize = 8;

/// The parts of a file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileName {
    /// The name of the log, without what rotation and compression added.
    pub(super) family: String,
    /// The log's name without its ending.
    pub(super) stem: String,
    /// Whether it has the extension of a log.
    pub(super) is_log: bool,
    /// Whether it is a compressed file.
    pub(super) is_compressed: bool,
    /// The name without the compression's ending.
    pub(super) uncompressed: String,
}

impl FileName {
    pub(super) fn of(path: &Path) -> Self {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let uncompressed = COMPRESSED
            .iter()
            .find_map(|ending| name.strip_suffix(ending))
            .unwrap_or(&name);
        let (stem, extension, is_log) = match split_extension(uncompressed) {
            Some((stem, extension)) => (stem, extension, true),
            None => (without_rotation(uncompressed), "", false),
        };
        let stem = without_date(stem);
        Self {
            family: format!("{stem}{extension}"),
            stem: stem.to_owned(),
            is_log,
            is_compressed: uncompressed.len() < name.len(),
            uncompressed: uncompressed.to_owned(),
        }
    }

    /// Which of Zeek's logs with contacts it is.
    pub(super) fn zeek_kind(&self) -> Option<&'static str> {
        let bare = self.stem.strip_prefix(STREAMING).unwrap_or(&self.stem);
        ZEEK_LOGS.into_iter().find(|kind| *kind == bare)
    }

    /// Whether the package json-streaming-logs wrote it.
    pub(super) fn is_streaming(&self) -> bool {
        self.stem.starts_with(STREAMING)
    }

    /// Whether it is one of the logs without contacts that Zeek or zeekctl write.
    pub(super) fn is_other_of_zeek(&self) -> bool {
        let bare = self.stem.strip_prefix(STREAMING).unwrap_or(&self.stem);
        ZEEK_OTHERS.contains(&bare)
    }

    /// Whether it is one of the logs that Suricata writes beside its events.
    pub(super) fn is_other_of_suricata(&self) -> bool {
        SURICATA_OTHERS.contains(&self.stem.as_str())
    }

    /// Whether it is Suricata's log of events.
    pub(super) fn is_eve(&self) -> bool {
        self.stem == "eve" || self.stem.starts_with("eve-") || self.stem.starts_with("eve.")
    }
}

/// What to do about a file with a log in a form that is not read.
pub(super) fn not_read(path: &Path) -> Option<&'static str> {
    let name = path.file_name()?.to_str()?;
    NOT_READ
        .iter()
        .find_map(|(ending, advice)| name.ends_with(ending).then_some(*advice))
}

/// The stem and the extension of a log. Rotation may have appended a tag.
fn split_extension(name: &str) -> Option<(&str, &'static str)> {
    LOG_EXTENSIONS.into_iter().find_map(|extension| {
        let at = name.rfind(extension)?;
        let stem = name.get(..at).filter(|stem| !stem.is_empty())?;
        let tag = name.get(at + extension.len()..)?;
        let is_end = tag.is_empty() || tag.strip_prefix(['.', '-', '_']).is_some_and(is_tag);
        is_end.then_some((stem, extension))
    })
}

/// A name without extension and without the tag of a rotation, as in `egress.1`.
fn without_rotation(name: &str) -> &str {
    match name.rsplit_once('.') {
        Some((stem, tag)) if is_tag(tag) && !stem.is_empty() => stem,
        _ => name,
    }
}

/// The stem of a name without the date or time that rotation appended.
fn without_date(stem: &str) -> &str {
    // AWS appends a hash to the time of a flow log in S3.
    let stem = match stem.rsplit_once('_') {
        Some((before, hash)) if is_hash(hash) && before.ends_with('Z') => before,
        _ => stem,
    };
    let separators = stem.match_indices(['.', '-', '_']);
    for (at, _) in separators {
        let (Some(before), Some(tag)) = (stem.get(..at), stem.get(at + 1..)) else {
            continue;
        };
        let is_long = tag.len() >= DATE_BYTES || before.starts_with(STREAMING);
        if is_tag(tag) && is_long && !before.is_empty() {
            return before;
        }
    }
    stem
}

fn is_hash(text: &str) -> bool {
    text.len() == 8 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn is_tag(tag: &str) -> bool {
    let is_date_byte = |byte: u8| byte.is_ascii_digit() || b"-_.:TZ".contains(&byte);
    tag.starts_with(|c: char| c.is_ascii_digit()) && tag.bytes().all(is_date_byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, family: &str, kind: Option<&str>) {
        let found = FileName::of(Path::new(name));
        assert_eq!(
            (found.family.as_str(), found.zeek_kind()),
            (family, kind),
            "{name}"
        );
        assert!(found.is_log, "{name}");
    }

    #[test]
    fn rotated_and_compressed_files_belong_to_their_log() {
        for name in [
            "conn.log",
            "conn.log.1",
            "conn.log.2.gz",
            "conn.log-20251129.zst",
            "conn.08:00:00-09:00:00.log",
            "conn.07:00:00-08:00:00.log.gz",
            "conn.2025-11-29-08-00-00.log.gz",
            "conn_20251129_080000.log",
            "conn-20251129.log",
        ] {
            check(name, "conn.log", Some("conn"));
        }
        for name in [
            "json_streaming_dns.log",
            "json_streaming_dns.1.log",
            "json_streaming_dns.12.log.gz",
        ] {
            check(name, "json_streaming_dns.log", Some("dns"));
        }
        check("eve-2025-11-29-08:00.json.gz", "eve.json", None);
        check("eve.json.3.zst", "eve.json", None);
        check("egress-2025-11-29T08-43-39.070.log", "egress.log", None);
        let vpc = "1234_vpcflowlogs_eu-west-1_fl-0a1b_20251129T0805Z_0a1b2c3d.log.gz";
        check(vpc, "1234_vpcflowlogs_eu-west-1_fl-0a1b.log", None);
        check("worker-2.log", "worker-2.log", None);
    }

    #[test]
    fn logs_without_contacts_are_recognised_by_their_names() {
        for name in [
            "capture_loss.log",
            "conn-summary.08:00:00-09:00:00.log.gz",
            "conn_long.log",
            "stderr.log",
            "packet_filter.log",
            "json_streaming_weird.1.log",
        ] {
            let found = FileName::of(Path::new(name));
            assert!(
                found.is_other_of_zeek() && found.zeek_kind().is_none(),
                "{name}"
            );
        }
        assert!(FileName::of(Path::new("fast.log.1.gz")).is_other_of_suricata());
        assert!(FileName::of(Path::new("eve-20251129.json")).is_eve());
    }

    #[test]
    fn what_is_no_log_is_none() {
        for name in [
            "README.md",
            "pools.txt",
            "run.sh",
            "a.log.bak",
            ".log",
            "notes",
        ] {
            assert!(!FileName::of(Path::new(name)).is_log, "{name}");
        }
        assert!(not_read(Path::new("a.pcap")).is_some());
        assert!(not_read(Path::new("a.log")).is_none());
    }
}
