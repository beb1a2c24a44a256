//! Wrappers that are removed, and texts that must not be mistaken for one.

use super::super::tests::{shared, summary};
use super::super::{Format, decode, sniff};

const RECORD: &str = r#"{"ts":1,"id.orig_h":"10.9.1.50","id.orig_p":52000,"id.resp_h":"10.30.0.4","id.resp_p":3389,"proto":"tcp","conn_state":"REJ"}"#;

const REFUSED: &str = "tcp 10.9.1.50 52000 > 10.30.0.4 3389 Refused forwarded";

fn wrapped(before: &str, after: &str) -> String {
    let log = serde_json::to_string(&format!("{RECORD}\n")).unwrap();
    format!("{{{before}\"log\":{log}{after}}}")
}

#[track_caller]
fn check(line: &str, expected: &str) {
    assert_eq!(
        summary(&decode(Format::Zeek, line.as_bytes())),
        expected,
        "{line}"
    );
}

#[test]
fn what_docker_and_fluent_bit_wrote_is_unwrapped() {
    for line in [
        wrapped("", r#","stream":"stdout","time":"2025-11-29T08:00:00Z""#),
        wrapped(r#""stream":"stdout","logtag":"F","#, ""),
        wrapped(
            r#""date":1764403200.1,"kubernetes":{"pod_name":"x","labels":{"log":"y"}},"#,
            "",
        ),
        format!("2025-11-29T08:00:00.1Z stdout F {}", wrapped("", "")),
    ] {
        check(&line, REFUSED);
        assert_eq!(sniff(line.as_bytes()), Some(Format::Zeek), "{line}");
    }
}

#[test]
fn every_format_sees_through_a_wrapper() {
    for (format, record) in super::super::tests::SEEDS {
        if format == Format::Vpc {
            continue;
        }
        let log = serde_json::to_string(record).unwrap();
        let line = format!(r#"{{"log":{log},"stream":"stdout","time":"2025-11-29T08:00:00Z"}}"#);
        let alone = decode(format, record.as_bytes());
        assert_eq!(decode(format, line.as_bytes()), alone, "{line}");
        let prefixed = format!("<134>Nov 29 08:00:00 node1 sensor[7]: {record}");
        assert_eq!(decode(format, prefixed.as_bytes()), alone, "{prefixed}");
    }
}

#[test]
fn prefixes_of_syslog_are_taken_off() {
    for prefix in [
        "Nov 29 08:00:00 node1 zeek: ",
        "<13>Nov  9 08:00:00 node1 zeek[12]: @cee: ",
        "2025-11-29T08:00:00.123456+00:00 node1 zeek: ",
        "<134>1 2025-11-29T08:00:00.003Z node1 zeek 77 - - ",
        "<134>1 2025-11-29T08:00:00.003Z node1 zeek 77 ID47 [x@1 a=\"b\"] \u{feff}",
        "2025-11-29T08:00:00.123456789Z ",
    ] {
        check(&format!("{prefix}{RECORD}"), REFUSED);
    }
}

/// A pod that can cause a log message of some program must not be able to write a record.
#[test]
fn a_record_within_a_free_text_is_none() {
    for line in [
        format!("Nov 29 08:00:00 node1 sshd[3]: Invalid user {RECORD}"),
        format!("Nov 29 08:00:00 node1 {RECORD}"),
        format!("hello {RECORD}"),
        format!("zeek: {RECORD}"),
        format!("2025-11-29T08:00:00Z stdout {RECORD}"),
        wrapped(r#""message":"x","#, ""),
        wrapped("", "").replace("\"log\"", "\"message\""),
        wrapped("", "").replace("\"log\"", "\"msg\""),
        wrapped("", "").replace("{\\\"ts", "x {\\\"ts"),
        format!(
            "{{\"log\":{}}}",
            serde_json::to_string(&wrapped("", "")).unwrap()
        ),
    ] {
        let decoded = decode(Format::Zeek, line.as_bytes());
        assert!(
            !matches!(decoded, super::super::Decoded::Signal(_)),
            "{line}"
        );
        assert_eq!(sniff(line.as_bytes()), None, "{line}");
    }
}

#[test]
fn the_recorded_wrapper_is_read_whole() {
    let Some(path) = shared("cases/in/h07-docker-json-file.log") else {
        return;
    };
    let log = std::fs::read_to_string(path).unwrap();
    let count = log.lines().count();
    let flows = log
        .lines()
        .filter(|line| summary(&decode(Format::Hubble, line.as_bytes())).starts_with("tcp"));
    assert_eq!(flows.count(), count);
}
