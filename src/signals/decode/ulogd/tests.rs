//! ulogd2 lines: real ones, as written for events of the kernel, and invalid ones.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::tests::{check as check_line, flow as flow_of, shared};
use super::super::{Format, sniff};
use super::*;

#[track_caller]
fn check(line: &str, expected: &str) {
    check_line(Format::Ulogd, line, expected);
}

fn packet(rest: &str) -> String {
    format!(
        r#"{{"timestamp": "2026-11-24T10:14:57.984364", "dvc": "Netfilter", "raw.pktlen": 60, "raw.pktcount": 1, "oob.prefix": "", "oob.hook": 2, "src_ip": "10.244.0.21", "dest_ip": "203.0.113.53", {rest}}}"#
    )
}

fn tcp_packet(rest: &str) -> String {
    packet(&format!(
        r#""ip.protocol": 6, "src_port": 36686, "dest_port": 6379{rest}"#
    ))
}

/// A conntrack event with its counters: packets and bytes from the target.
fn event(number: u8, protocol: u8, reply: Option<(u64, u64)>) -> String {
    let counters = reply.map_or(String::new(), |(packets, bytes)| {
        format!(
            r#""orig.raw.pktlen": 60, "orig.raw.pktcount": 1, "reply.raw.pktlen": {bytes}, "reply.raw.pktcount": {packets}, "#
        )
    });
    format!(
        r#"{{"timestamp": "2026-11-24T10:15:57", "dvc": "Netfilter", "orig.ip.protocol": {protocol}, "orig.l4.sport": 35054, "orig.l4.dport": 5432, {counters}"ct.id": 7, "ct.event": {number}, "flow.start.sec": 1795515297, "flow.start.usec": 990874, "flow.end.sec": 1795515299, "flow.end.usec": 990889, "oob.family": 2, "oob.protocol": 0, "src_ip": "10.244.0.21", "dest_ip": "203.0.113.90"}}"#
    )
}

#[track_caller]
fn check_event(number: u8, protocol: u8, reply: Option<(u64, u64)>, expected: Outcome) {
    let line = event(number, protocol, reply);
    assert_eq!(flow_of(Format::Ulogd, &line).outcome, expected, "{line}");
}

#[test]
fn a_first_packet_does_not_show_the_answer() {
    let out = "tcp 10.244.0.21 36686 > 203.0.113.53 6379";
    check(
        &tcp_packet(r#", "tcp.syn": 1, "tcp.ack": 0, "tcp.rst": 0"#),
        &format!("{out} Unseen forwarded"),
    );
    check(&tcp_packet(""), &format!("{out} Unseen forwarded"));
    check(
        &tcp_packet(r#", "tcp.fin": 1, "tcp.ack": 0"#),
        &format!("{out} Unseen forwarded"),
    );
    for flags in [
        r#""tcp.syn": 1, "tcp.ack": 1"#,
        r#""tcp.ack": 1"#,
        r#""tcp.rst": 1"#,
    ] {
        check(
            &tcp_packet(&format!(", {flags}")),
            "skipped UnknownDirection",
        );
    }
    let udp = packet(r#""ip.protocol": 17, "src_port": 37009, "dest_port": 53"#);
    check(
        &udp,
        "udp 10.244.0.21 37009 > 203.0.113.53 53 Unseen forwarded",
    );
    assert_eq!(flow_of(Format::Ulogd, &udp).volume, None);
}

#[test]
fn a_rule_that_labels_its_drops_shows_them() {
    let line = tcp_packet(r#", "tcp.syn": 1, "raw.label": 0, "action": "blocked""#);
    check(
        &line,
        "tcp 10.244.0.21 36686 > 203.0.113.53 6379 Denied dropped",
    );
    let allowed = line.replace("blocked", "allowed");
    check(
        &allowed,
        "tcp 10.244.0.21 36686 > 203.0.113.53 6379 Unseen forwarded",
    );
}

#[test]
fn icmp_counts_as_a_request_only() {
    let icmp = |rest: &str| packet(&format!(r#""ip.protocol": 1, {rest}"#));
    check(
        &icmp(r#""icmp.type": 8, "icmp.code": 0"#),
        "icmp 10.244.0.21 0 > 203.0.113.53 0 Unseen forwarded",
    );
    check(
        &icmp(r#""icmp.type": 3, "icmp.code": 3"#),
        "skipped IcmpHousekeeping",
    );
    check(
        &icmp(r#""icmp.type": 0, "icmp.code": 0"#),
        "skipped IcmpHousekeeping",
    );
    let six = r#"{"timestamp": "2023-05-21T10:54:05.058650", "raw.pktlen": 64, "oob.time.sec": 1684666445, "oob.time.usec": 58650, "action": "blocked", "ip6.nexthdr": 58, "icmpv6.type": 134, "src_ip": "fe80::dad7:75ff:fef2:f959", "dest_ip": "ff02::1"}"#;
    check(six, "skipped IcmpHousekeeping");
    check(
        &six.replace("134", "128"),
        "icmp fe80::dad7:75ff:fef2:f959 0 > ff02::1 0 Denied dropped",
    );
}

/// NFCT writes no type for `ICMPv6`; the kernel tracks only requests.
#[test]
fn the_end_of_a_ping_over_ipv6_shows_whether_it_was_answered() {
    let end = |packets_in: u8| {
        format!(
            r#"{{"timestamp": "2026-11-30T04:00:57", "dvc": "Netfilter", "orig.ip.protocol": 58, "orig.raw.pktlen": 104, "orig.raw.pktcount": 1, "reply.ip.protocol": 58, "reply.raw.pktlen": {}, "reply.raw.pktcount": {packets_in}, "ct.mark": 0, "ct.id": 490691199, "ct.event": 4, "flow.start.sec": 1796011235, "flow.start.usec": 744505, "flow.end.sec": 1796011240, "flow.end.usec": 744505, "oob.family": 10, "oob.protocol": 0, "src_ip": "fd00:10:244::5", "dest_ip": "2001:db8:113::10", "reply.ip.saddr.str": "2001:db8:113::10", "reply.ip.daddr.str": "fd00:10:244::5"}}"#,
            u32::from(packets_in) * 104,
        )
    };
    for (packets_in, outcome) in [(0, Outcome::Unanswered), (1, Outcome::Answered)] {
        let line = end(packets_in);
        let flow = flow_of(Format::Ulogd, &line);
        assert_eq!((flow.transport, flow.outcome), (Transport::Icmp, outcome));
    }
}

#[test]
fn a_connection_that_begins_is_unseen_even_with_counters() {
    for protocol in [1, 6, 17, 47] {
        check_event(1, protocol, None, Outcome::Unseen);
        check_event(1, protocol, Some((0, 0)), Outcome::Unseen);
    }
    let begin = event(1, 6, None);
    assert_eq!(flow_of(Format::Ulogd, &begin).volume, None);
}

#[test]
fn a_packet_behind_the_rule_of_living_connections_is_no_attempt() {
    let prefixed = |line: &str, prefix: &str| {
        let field = format!(r#""oob.prefix": "{prefix}""#);
        line.replace(r#""oob.prefix": """#, &field)
    };
    let out = "tcp 10.244.0.21 36686 > 203.0.113.53 6379";
    let line = prefixed(&tcp_packet(r#", "tcp.ack": 1"#), "alive");
    check(&line, &format!("{out} Established forwarded"));
    let plain = packet(r#""ip.protocol": 17, "src_port": 37009, "dest_port": 443"#);
    let udp = prefixed(&plain, "alive");
    check(
        &udp,
        "udp 10.244.0.21 37009 > 203.0.113.53 443 Established forwarded",
    );
    let shows = |line: &str| {
        let signal = Signal::Flow(flow_of(Format::Ulogd, line));
        Format::Ulogd.shows_survivors(&signal)
    };
    assert!(shows(&udp));
    let ended = event(4, 6, Some((2, 80)));
    for other in [&tcp_packet(""), &ended, &prefixed(&plain, "other")] {
        assert!(!shows(other), "{other}");
    }
}

#[test]
fn an_end_without_a_begin_does_not_show_when_its_packets_passed() {
    let has_start_time = |line: &str| Format::Ulogd.has_start_time(&flow_of(Format::Ulogd, line));
    let end = event(4, 6, Some((9, 900)));
    assert!(has_start_time(&end));
    assert!(!has_start_time(&end.replace("flow.start", "flow.nothing")));
    assert!(!has_start_time(&event(2, 6, Some((9, 900)))));
    assert!(has_start_time(&tcp_packet("")));
}

#[test]
fn an_update_shows_an_answer_and_nothing_else() {
    check_event(2, 6, Some((3, 180)), Outcome::Answered);
    check_event(2, 17, Some((1, 40)), Outcome::Answered);
    check_event(2, 6, Some((0, 0)), Outcome::Unseen);
    check_event(2, 6, Some((1, 40)), Outcome::Unseen);
    check_event(2, 6, None, Outcome::Unseen);
    let line = event(2, 6, Some((3, 180)));
    assert_eq!(
        flow_of(Format::Ulogd, &line)
            .volume
            .map(|volume| volume.is_final),
        Some(false)
    );
}

#[test]
fn an_end_shows_the_outcome() {
    for protocol in [1, 6, 17] {
        check_event(4, protocol, Some((0, 0)), Outcome::Unanswered);
    }
    check_event(4, 6, Some((1, 40)), Outcome::Refused);
    // One SYN-ACK, then the scanner's reset.
    check_event(4, 6, Some((1, 60)), Outcome::Answered);
    check_event(4, 6, Some((1, 44)), Outcome::Answered);
    check_event(4, 6, Some((2, 80)), Outcome::Answered);
    check_event(4, 17, Some((1, 40)), Outcome::Answered);
    let six = event(4, 6, Some((1, 60)))
        .replace("10.244.0.21", "2001:db8::1")
        .replace("203.0.113.90", "2001:db8::2");
    assert_eq!(flow_of(Format::Ulogd, &six).outcome, Outcome::Refused);
    assert_eq!(
        flow_of(
            Format::Ulogd,
            &six.replace(": 60, \"reply.raw.pktcount", ": 64, \"reply.raw.pktcount")
        )
        .outcome,
        Outcome::Answered
    );
}

#[test]
fn an_initiator_that_goes_on_without_an_answer_shows_one_direction_only() {
    let line = |packets: u64, bytes: u64, protocol| {
        let counts = format!(r#""orig.raw.pktlen": {bytes}, "orig.raw.pktcount": {packets}"#);
        event(4, protocol, Some((0, 0)))
            .replace(r#""orig.raw.pktlen": 60, "orig.raw.pktcount": 1"#, &counts)
    };
    let outcome = |line: &str| flow_of(Format::Ulogd, line).outcome;
    assert_eq!(outcome(&line(9, 1112, 6)), Outcome::Unseen);
    assert_eq!(outcome(&line(3, 60 + 52 + 52, 6)), Outcome::Unseen);
    assert_eq!(outcome(&line(7, 420, 6)), Outcome::Unanswered);
    assert_eq!(outcome(&line(9, 1112, 17)), Outcome::Unanswered);
}

#[test]
fn without_accounting_an_end_shows_nothing() {
    check_event(4, 6, None, Outcome::Unseen);
    let zeros =
        event(4, 6, Some((0, 0))).replace(r#""orig.raw.pktcount": 1"#, r#""orig.raw.pktcount": 0"#);
    let flow = flow_of(Format::Ulogd, &zeros);
    assert_eq!((flow.outcome, flow.volume), (Outcome::Unseen, None));
}

#[test]
fn an_end_is_read_in_full() {
    let line = event(4, 6, Some((1, 40)));
    let expected = Flow {
        time: EventTime::from_seconds(1_795_515_297, 990_874),
        source: [10, 244, 0, 21].into(),
        source_port: 35054,
        destination: [203, 0, 113, 90].into(),
        destination_port: 5432,
        transport: Transport::Tcp,
        outcome: Outcome::Refused,
        forwarded: true,
        volume: Some(Volume {
            bytes_out: 60,
            bytes_in: 40,
            packets_out: 1,
            packets_in: 1,
            duration_us: 2_000_015,
            is_final: true,
        }),
        destination_name: None,
        pod: None,
        is_inferred: false,
        node: None,
    };
    assert_eq!(flow_of(Format::Ulogd, &line), expected);
}

#[test]
fn the_most_exact_time_of_a_line_is_taken() {
    let check_time = |line: &str, expected: &str| {
        assert_eq!(
            flow_of(Format::Ulogd, line).time.to_string(),
            expected,
            "{line}"
        );
    };
    let end = event(4, 6, Some((1, 40)));
    check_time(&end, "2026-11-24T10:14:57.990874Z");
    let no_start = end.replace("flow.start", "flow.nothing");
    check_time(&no_start, "2026-11-24T10:14:59.990889Z");
    check_time(
        &end.replace("1795515297", "0"),
        "2026-11-24T10:14:59.990889Z",
    );
    let no_flow_times = no_start.replace("flow.end", "flow.none");
    check_time(&no_flow_times, "2026-11-24T10:15:57Z");
    check_time(
        &no_flow_times.replace("10:15:57", "10:15:57+0200"),
        "2026-11-24T08:15:57Z",
    );
    let logged = tcp_packet(r#", "oob.time.sec": 1795515297, "oob.time.usec": 984365"#);
    check_time(&logged, "2026-11-24T10:14:57.984365Z");
    check_time(&tcp_packet(""), "2026-11-24T10:14:57.984364Z");
}

#[test]
fn clocks_that_go_back_give_no_duration() {
    let line = event(4, 6, Some((5, 400))).replace("1795515299", "1795515200");
    assert_eq!(
        flow_of(Format::Ulogd, &line)
            .volume
            .map(|volume| volume.duration_us),
        Some(0)
    );
}

#[test]
fn what_has_no_target_is_skipped() {
    check(
        &packet(r#""ip.protocol": 6, "ip.fragoff": 185"#),
        "skipped FieldsMissing",
    );
    check(
        r#"{"timestamp": "2026-11-24T10:14:57", "raw.pktlen": 28, "oob.hook": 1, "arp.hwtype": 1}"#,
        "skipped FieldsMissing",
    );
    check(&packet(r#""oob.mark": 0"#), "skipped FieldsMissing");
    check(
        &packet(r#""ip.protocol": 47"#),
        "ip 10.244.0.21 0 > 203.0.113.53 0 Unseen forwarded",
    );
}

#[test]
fn broken_fields_make_a_malformed_record() {
    let whole = event(4, 6, Some((1, 40)));
    let check_replaced = |from: &str, to: &str, expected: &str| {
        let line = whole.replacen(from, to, 1);
        assert_ne!(line, whole);
        check(&line, expected);
    };
    check_replaced("5432", "70000", "malformed BadPort");
    check_replaced("10.244.0.21", "10.244.0.x", "malformed BadAddress");
    check_replaced("1795515297", "99999999999999", "malformed BadTime");
    check_replaced("990874", "1990874", "malformed BadTime");
    check_replaced(
        r#""orig.ip.protocol": 6"#,
        r#""orig.ip.protocol": 300"#,
        "malformed BadNumber",
    );
    check_replaced(r#""ct.event": 4"#, r#""ct.event": 9"#, "unknown");
    check_replaced(
        r#""ct.event": 4"#,
        r#""ct.event": 4, "ct.event": 1"#,
        "malformed DuplicateKey",
    );
    let no_time = tcp_packet("").replace("timestamp", "stamp");
    check(&no_time, "malformed MissingField");
}

/// Outcomes of a file's lines, by kind of line; every line must be a flow.
fn outcomes(path: &Path) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for line in std::fs::read_to_string(path).unwrap().lines() {
        assert_eq!(sniff(line.as_bytes()), Some(Format::Ulogd), "{line}");
        let flow = flow_of(Format::Ulogd, line);
        let kind = match flow.volume {
            Some(volume) if volume.is_final => "end",
            Some(_) => "update",
            None => "first",
        };
        *counts
            .entry(format!(
                "{kind} {} {:?}",
                flow.transport.name(),
                flow.outcome
            ))
            .or_default() += 1;
    }
    counts
}

fn table(rows: &[(&str, usize)]) -> BTreeMap<String, usize> {
    rows.iter()
        .map(|(name, count)| ((*name).to_owned(), *count))
        .collect()
}

#[test]
fn the_recording_contains_what_its_readme_describes() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("e2e/recording/egress.jsonl");
    let expected = [
        ("end tcp Answered", 200),
        ("end tcp Refused", 105),
        ("end tcp Unanswered", 319),
        ("end udp Answered", 81),
        // 730 NFLOG lines and 705 begins.
        ("first tcp Unseen", 639 + 624),
        ("first udp Unseen", 91 + 81),
    ];
    assert_eq!(outcomes(&path), table(&expected));
}

#[test]
fn the_mining_session_of_the_recording_keeps_its_figures() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("e2e/recording/egress.jsonl");
    let lines = std::fs::read_to_string(path).unwrap();
    let session = lines
        .lines()
        .map(|line| flow_of(Format::Ulogd, line))
        .find(|flow| flow.destination_port == 3333 && flow.volume.is_some())
        .and_then(|flow| flow.volume)
        .unwrap();
    assert_eq!((session.packets_out, session.bytes_out), (96, 8_817));
    assert_eq!((session.packets_in, session.bytes_in), (62, 24_288));
    // 226 s of session, followed by the kernel's time-out.
    assert!(
        (226_000_000..260_000_000).contains(&session.duration_us),
        "{session:?}"
    );
}

#[test]
fn lines_of_a_real_node_are_read() {
    if let Some(path) = shared("samples/netfilter/nflog.json") {
        assert_eq!(outcomes(&path), table(&[("first tcp Unseen", 60)]));
    }
    if let Some(path) = shared("samples/netfilter/nfct.json") {
        let expected = [("end tcp Refused", 30), ("first tcp Unseen", 90)];
        assert_eq!(outcomes(&path), table(&expected));
    }
}

/// With `eventv1=1` ulogd2 writes `@timestamp`; the kernel's own time is only present if the kernel timestamps
/// packets.
#[test]
fn a_time_is_read_under_either_of_its_names() {
    let line = r#"{"@timestamp":"2025-11-29T08:00:00.000000","dvc":"Netfilter","raw.pktlen":60,"oob.prefix":"egress","oob.hook":2,"action":"blocked","ip.protocol":6,"src_port":45000,"dest_port":6379,"tcp.syn":1,"tcp.ack":0,"tcp.rst":0,"src_ip":"10.9.1.90","dest_ip":"10.60.0.4"}"#;
    let read = flow_of(Format::Ulogd, line);
    assert_eq!(read.time.to_string(), "2025-11-29T08:00:00Z");
    let without = line.replace("\"@timestamp\"", "\"@version\"");
    check(&without, "malformed MissingField");
    let Some(path) = shared("cases/in/u03-at-timestamp.json") else {
        return;
    };
    let log = std::fs::read_to_string(path).unwrap();
    for line in log.lines() {
        flow_of(Format::Ulogd, line);
    }
}
