//! Zeek lines: as producers write them, and invalid ones.

use std::borrow::Cow;

use super::super::tests::{flow, shared};
use super::super::{Decoded, Format, decode as decode_line, sniff};
use super::*;
use crate::limits;

fn conn(proto: &str, rest: &str) -> String {
    format!(
        r#"{{"ts":1700828217.314165,"uid":"CfykLO1IT1nVRJhLA3","id.orig_h":"192.168.1.9","id.orig_p":50820,"id.resp_h":"45.33.32.156","id.resp_p":443,"proto":"{proto}",{rest}}}"#
    )
}

#[track_caller]
fn check_outcome(proto: &str, rest: &str, expected: Outcome) {
    let line = conn(proto, rest);
    assert_eq!(
        flow(Format::Zeek, &line).outcome,
        expected,
        "{proto} {rest}"
    );
}

#[test]
fn a_refused_connection_is_read_in_full() {
    let line = r#"{"ts":1700828217.314165,"uid":"CfykLO1IT1nVRJhLA3","id.orig_h":"192.168.1.9","id.orig_p":50820,"id.resp_h":"45.33.32.156","id.resp_p":443,"proto":"tcp","duration":0.2069,"orig_bytes":0,"resp_bytes":0,"conn_state":"REJ","local_orig":true,"local_resp":false,"missed_bytes":0,"history":"Sr","orig_pkts":1,"orig_ip_bytes":60,"resp_pkts":1,"resp_ip_bytes":40}"#;
    let expected = Flow {
        time: EventTime::from_micros(1_700_828_217_314_165),
        source: [192, 168, 1, 9].into(),
        source_port: 50820,
        destination: [45, 33, 32, 156].into(),
        destination_port: 443,
        transport: Transport::Tcp,
        outcome: Outcome::Refused,
        forwarded: true,
        volume: Some(Volume {
            packets_out: 1,
            packets_in: 1,
            duration_us: 206_900,
            is_final: true,
            ..Volume::default()
        }),
        destination_name: None,
        pod: None,
        is_inferred: false,
        node: None,
    };
    assert_eq!(flow(Format::Zeek, line), expected);
}

#[test]
fn the_state_of_a_tcp_connection_shows_its_outcome() {
    for state in ["S0", "SH", "SHR", "RSTOS0"] {
        check_outcome(
            "tcp",
            &format!(r#""conn_state":"{state}""#),
            Outcome::Unanswered,
        );
    }
    for state in ["REJ", "RSTRH"] {
        check_outcome(
            "tcp",
            &format!(r#""conn_state":"{state}""#),
            Outcome::Refused,
        );
    }
    for state in ["S1", "S2", "S3", "SF"] {
        check_outcome(
            "tcp",
            &format!(r#""conn_state":"{state}""#),
            Outcome::Answered,
        );
    }
    for state in ["RSTO", "RSTR"] {
        let bare = format!(r#""conn_state":"{state}","orig_bytes":0,"resp_bytes":0"#);
        check_outcome("tcp", &bare, Outcome::Refused);
        check_outcome(
            "tcp",
            &format!(r#""conn_state":"{state}""#),
            Outcome::Refused,
        );
        let used = format!(r#""conn_state":"{state}","orig_bytes":0,"resp_bytes":21"#);
        check_outcome("tcp", &used, Outcome::Answered);
    }
    check_outcome("tcp", r#""conn_state":"OTH""#, Outcome::NotAnAttempt);
    check_outcome("tcp", r#""conn_state":"NEW-ONE""#, Outcome::Unseen);
}

#[test]
fn answers_to_spoofed_traffic_are_no_attempts_of_the_one_that_got_them() {
    check_outcome(
        "tcp",
        r#""conn_state":"RSTRH","history":"^hR""#,
        Outcome::NotAnAttempt,
    );
    check_outcome(
        "tcp",
        r#""conn_state":"REJ","history":"^r""#,
        Outcome::NotAnAttempt,
    );
    check_outcome(
        "tcp",
        r#""conn_state":"S1","orig_pkts":0,"resp_pkts":2"#,
        Outcome::NotAnAttempt,
    );
}

#[test]
fn an_originator_that_goes_on_without_an_answer_shows_a_log_of_one_direction() {
    let check = |state: &str, history: &str, expected| {
        let counts = r#""orig_pkts":9,"orig_bytes":812,"resp_pkts":0,"resp_bytes":0"#;
        let rest = format!(r#""conn_state":"{state}","history":"{history}",{counts}"#);
        check_outcome("tcp", &rest, expected);
    };
    check("SH", "SADF", Outcome::Unseen);
    check("S0", "SA", Outcome::Unseen);
    check("S0", "SAD", Outcome::Unseen);
    check("RSTOS0", "SADR", Outcome::Unseen);
    check("S0", "S", Outcome::Unanswered);
    check("S0", "ST", Outcome::Unanswered);
    check("SH", "SF", Outcome::Unanswered);
    check("RSTOS0", "SR", Outcome::Unanswered);
    // Without a history, the byte counts are used.
    let bytes = |count: u64| format!(r#""conn_state":"S0","orig_bytes":{count},"resp_pkts":0"#);
    check_outcome("tcp", &bytes(812), Outcome::Unseen);
    check_outcome("tcp", &bytes(0), Outcome::Unanswered);
    let one = format!(r#"{},"orig_pkts":1"#, bytes(60));
    check_outcome("tcp", &one, Outcome::Unanswered);
    let again = format!(r#"{},"orig_pkts":2"#, bytes(120));
    check_outcome("tcp", &again, Outcome::Unanswered);
}

#[test]
fn datagrams_answer_or_do_not() {
    check_outcome("udp", r#""conn_state":"S0""#, Outcome::Unanswered);
    check_outcome("udp", r#""conn_state":"SF""#, Outcome::Answered);
    check_outcome("udp", r#""conn_state":"SHR""#, Outcome::NotAnAttempt);
}

#[test]
fn icmp_has_no_ports_and_only_requests_are_attempts() {
    let line = |icmp_type: u16, rest: &str| {
        format!(
            r#"{{"ts":1,"id.orig_h":"10.0.0.1","id.orig_p":{icmp_type},"id.resp_h":"10.0.0.2","id.resp_p":3,"proto":"icmp",{rest}}}"#
        )
    };
    let check = |icmp_type, rest: &str, expected| {
        let line = line(icmp_type, rest);
        let flow = flow(Format::Zeek, &line);
        assert_eq!((flow.source_port, flow.destination_port), (0, 0), "{line}");
        assert_eq!(
            (flow.transport, flow.outcome),
            (Transport::Icmp, expected),
            "{line}"
        );
    };
    check(8, r#""conn_state":"OTH","resp_pkts":1"#, Outcome::Answered);
    check(
        8,
        r#""conn_state":"OTH","resp_pkts":0"#,
        Outcome::Unanswered,
    );
    check(8, r#""conn_state":"S0""#, Outcome::Unanswered);
    check(
        3,
        r#""conn_state":"OTH","resp_pkts":0"#,
        Outcome::NotAnAttempt,
    );
    check(
        0,
        r#""conn_state":"OTH","resp_pkts":0"#,
        Outcome::NotAnAttempt,
    );
    check(
        771,
        r#""conn_state":"S0","resp_pkts":0"#,
        Outcome::NotAnAttempt,
    );
}

#[test]
fn times_come_as_seconds_or_as_dates() {
    for ts in ["1521911720.615923", r#""2018-03-24T17:15:20.615923Z""#] {
        let line = conn("tcp", r#""conn_state":"SF""#).replace("1700828217.314165", ts);
        let time = flow(Format::Zeek, &line).time;
        assert_eq!(time.to_string(), "2018-03-24T17:15:20.615923Z", "{ts}");
    }
}

#[test]
fn fields_come_in_any_order_and_odd_kinds_of_what_only_adds_are_ignored() {
    let line = r#"{"conn_state":"SF","proto":"tcp","id.resp_p":443,"id.resp_h":"::ffff:45.33.32.156","orig_bytes":"12","resp_bytes":null,"duration":"-","orig_pkts":{"a":[1]},"id.orig_p":50820.0,"id.orig_h":"fe80::1%eth0","ts":1700828217}"#;
    let flow = flow(Format::Zeek, line);
    assert_eq!(flow.source.to_string(), "fe80::1");
    assert_eq!(flow.destination.to_string(), "45.33.32.156");
    assert_eq!(flow.volume.map(|volume| volume.bytes_out), Some(12));
}

#[test]
fn dns_gives_the_name_and_its_addresses() {
    let line = r#"{"_path":"dns","ts":1.5,"uid":"C1","id.orig_h":"10.0.0.7","id.orig_p":5353,"id.resp_h":"10.0.0.2","id.resp_p":53,"proto":"udp","query":"pool.example.net.","qtype_name":"A","rcode":0,"rcode_name":"NOERROR","answers":["cdn.example.net","203.0.113.133","2001:db8::1",7,null],"TTLs":[1.0],"rejected":false}"#;
    let expected = DnsQuery {
        time: EventTime::from_micros(1_500_000),
        source: [10, 0, 0, 7].into(),
        query: "pool.example.net".into(),
        answers: vec![
            "203.0.113.133".parse().unwrap(),
            "2001:db8::1".parse().unwrap(),
        ],
        nonexistent: Some(false),
    };
    assert_eq!(
        decode_line(Format::Zeek, line.as_bytes()),
        Decoded::Signal(Signal::Dns(expected))
    );
}

#[test]
fn dns_shows_whether_the_name_exists_where_the_log_does() {
    let check = |rest: &str, expected| {
        let line = conn("udp", rest);
        match decode_line(Format::Zeek, line.as_bytes()) {
            Decoded::Signal(Signal::Dns(query)) => {
                assert_eq!(query.nonexistent, expected, "{rest}");
            }
            other => panic!("{rest}: {other:?}"),
        }
    };
    check(r#""query":"a.example""#, None);
    check(r#""query":"a.example","rcode":3"#, Some(true));
    check(r#""query":"a.example","rcode_name":"NXDOMAIN""#, Some(true));
    check(
        r#""query":"a.example","rcode_name":"SERVFAIL","rcode":2"#,
        Some(false),
    );
}

#[test]
fn an_endless_answer_is_cut() {
    let answers = vec![r#""192.0.2.1""#; limits::DNS_ANSWERS_MAX * 2].join(",");
    let line = conn(
        "udp",
        &format!(r#""query":"a.example","answers":[{answers}]"#),
    );
    match decode_line(Format::Zeek, line.as_bytes()) {
        Decoded::Signal(Signal::Dns(query)) => {
            assert_eq!(query.answers.len(), limits::DNS_ANSWERS_MAX);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn tls_gives_the_server_name_or_nothing() {
    let named = conn(
        "tcp",
        r#""version":"TLSv13","server_name":"pool.example.net""#,
    );
    match decode_line(Format::Zeek, named.as_bytes()) {
        Decoded::Signal(Signal::Tls(name)) => {
            assert_eq!(name.server_name, "pool.example.net");
            assert!(matches!(name.server_name, Cow::Borrowed(_)));
            assert_eq!((name.source_port, name.destination_port), (50820, 443));
        }
        other => panic!("{other:?}"),
    }
    let unnamed = conn(
        "tcp",
        r#""version":"TLSv13","cipher":"X","established":true"#,
    );
    let skipped = Decoded::Skipped(SkipReason::NoName);
    assert_eq!(decode_line(Format::Zeek, unnamed.as_bytes()), skipped);
    let root = conn("udp", r#""query":".""#);
    assert_eq!(decode_line(Format::Zeek, root.as_bytes()), skipped);
}

#[test]
fn other_logs_of_zeek_are_passed_over() {
    let line = r#"{"_path":"http","ts":1.5,"id.orig_h":"10.0.0.7","host":"example.net"}"#;
    let other = Decoded::Skipped(SkipReason::OtherLog);
    assert_eq!(decode_line(Format::Zeek, line.as_bytes()), other);
    let unnamed = line.replace(r#""_path":"http","#, "");
    assert_eq!(
        decode_line(Format::Zeek, unnamed.as_bytes()),
        Decoded::Skipped(SkipReason::OtherLog)
    );
}

#[test]
fn broken_fields_make_a_malformed_record() {
    let whole = conn("tcp", r#""conn_state":"SF""#);
    let check = |from: &str, to: &str, expected| {
        let line = whole.replace(from, to);
        assert_ne!(line, whole);
        let decoded = decode_line(Format::Zeek, line.as_bytes());
        assert_eq!(decoded, Decoded::Malformed(expected), "{line}");
    };
    check("50820", "70000", Malformed::BadPort);
    check("50820", "-1", Malformed::BadPort);
    check("50820", "\"x\"", Malformed::BadPort);
    check("1700828217.314165", "1e300", Malformed::BadTime);
    check("1700828217.314165", "1e999", Malformed::NotJson);
    check("1700828217.314165", "-5", Malformed::BadTime);
    check(
        "1700828217.314165",
        "9223372036854775807",
        Malformed::BadTime,
    );
    check("192.168.1.9", "pod-a", Malformed::BadAddress);
    check("\"192.168.1.9\"", "{\"a\":1}", Malformed::BadAddress);
    check("id.resp_h", "id.nothing", Malformed::MissingField);
    check("\"uid\":", "\"ts\":1,\"uid\":", Malformed::DuplicateKey);
}

#[test]
fn every_line_of_the_corpus_is_read() {
    let Some(corpus) = shared("corpus") else {
        return;
    };
    let mut counts = (0, 0, 0);
    for capture in std::fs::read_dir(corpus)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        for log in ["conn.log", "dns.log", "ssl.log"].map(|log| capture.join(log)) {
            let Ok(lines) = std::fs::read_to_string(&log) else {
                continue;
            };
            for line in lines.lines() {
                assert_eq!(sniff(line.as_bytes()), Some(Format::Zeek), "{line}");
                match decode_line(Format::Zeek, line.as_bytes()) {
                    Decoded::Signal(Signal::Flow(_)) => counts.0 += 1,
                    Decoded::Signal(Signal::Dns(_)) => counts.1 += 1,
                    Decoded::Signal(Signal::Tls(_)) => counts.2 += 1,
                    other => panic!("{}: {other:?}: {line}", log.display()),
                }
            }
        }
    }
    assert_eq!(
        counts,
        (29_050, 72, 345),
        "conn, dns and ssl lines of the corpus"
    );
}
