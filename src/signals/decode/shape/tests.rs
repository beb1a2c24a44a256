//! Logs that are recognised by their shape, and others that are not.

use super::*;

#[track_caller]
fn check(bytes: &[u8], name: &str) {
    let found = looks_like(bytes);
    let found = found.map(|found| found.name);
    assert!(
        found.is_some_and(|found| found.contains(name)),
        "wanted {name}, found {found:?}: {}",
        String::from_utf8_lossy(bytes)
    );
}

#[test]
fn logs_of_formats_that_are_read_are_named() {
    check(br#"{"ts":1,"id.orig_h":"10.0.0.1"}"#, "zeek");
    check(b"#separator \\x09\n#set_separator\t,\n", "zeek");
    check(br#"{"flow":{}}"#, "hubble");
    check(br#"{"raw.pktlen":60}"#, "ulogd");
    check(
        br#"{"log":"{\"flow\":{}}\n","stream":"stdout","time":"2025-11-29T08:00:00Z"}"#,
        "hubble",
    );
    check(br#"Nov 29 08:00:00 node1 suricata[77]: {"timestamp":"2025-11-29T08:00:00Z","event_type":"flow"}"#, "suricata");
}

#[test]
fn shapes_that_are_not_read_are_named() {
    check(&[0x1f, 0x8b, 8, 0], "gzip");
    check(&[0x28, 0xb5, 0x2f, 0xfd, 0], "zstd");
    check(&[0xd4, 0xc3, 0xb2, 0xa1, 2, 0], "pcap");
    check(b"a,b\n1,2\n", "CSV");
    check(b"\"src\";\"dst\";\"port\"\n", "CSV");
    check(b"{\n  \"flow\": {\n", "jq");
    check(b"[{\"a\":1},{\"b\":2}]", "array");
    check(br#"{"@timestamp":"2025-11-29T08:00:00Z","ecs":{"version":"8"},"source":{"ip":"10.0.0.1"}}"#, "Elastic");
    check(
        br#"{"messageType":"DATA_MESSAGE","logGroup":"vpc","logEvents":[{"message":"2 1 eni-1"}]}"#,
        "CloudWatch",
    );
    check(
        br#"{"requestId":"1","timestamp":1,"records":[{"data":"eA=="}]}"#,
        "Firehose",
    );
    check(br#"{"__REALTIME_TIMESTAMP":"1","MESSAGE":"x"}"#, "journal");
    check(
        br#"{"log":"hello\n","stream":"stdout","time":"2025-11-29T08:00:00Z"}"#,
        "json-file",
    );
    check(
        br#"{"ts":1.0,"ts_delta":900.0,"peer":"zeek","gaps":0}"#,
        "capture_loss",
    );
    check(
        br#"{"level":"info","msg":"hello","ts":"2026"}"#,
        "own messages",
    );
    check(br#"{"x":1}"#, "another program");
    check(
        b"Nov 29 08:00:00 node1 kernel: egress SRC=10.0.0.1 DST=10.0.0.2 PROTO=TCP",
        "netfilter",
    );
    check(
        b"<134>Nov 29 08:00:00 node1 sshd[3]: Invalid user x",
        "syslog",
    );
    check(
        b"Nov 29 08:00:00.000: a/b:1 (ID:1) -> c/d:2 (ID:2) to-endpoint FORWARDED (TCP Flags: SYN)",
        "hubble observe",
    );
    check(
        b"1764403200.25\tC1\t10.0.0.1\t1\t10.0.0.2\t2\ttcp\t-\t-\t-\t-\tS0",
        "without their header",
    );
    check(b"2025-11-29T08:00:00Z stdout F hello there", "CRI");
}

#[test]
fn what_has_no_shape_is_not_named() {
    for bytes in [&b""[..], b"\n\n", b"hello there", b"\xff\x00\xfe", b"x"] {
        assert_eq!(looks_like(bytes), None, "{bytes:?}");
    }
}

#[test]
fn every_name_comes_with_something_to_do() {
    for format in Format::ALL {
        assert!(!readable(format).advice.is_empty());
        for reason in <SkipReason as strum::VariantArray>::VARIANTS {
            let found = why_no_signals(format, *reason);
            assert!(!found.name.is_empty() && !found.advice.ends_with('.'));
        }
    }
    for (_, found) in BY_KEYS.iter().chain(BY_WORDS) {
        assert!(!found.advice.is_empty() && !found.advice.ends_with('.'));
    }
}
