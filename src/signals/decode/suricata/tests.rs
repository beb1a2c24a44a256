//! Events as written by Suricata 4 to 8.

use super::*;
use crate::signals::decode::tests::{check as check_line, flow};
use crate::signals::decode::{Decoded, Decoder, Format, sniff};

/// A TCP flow with these counters and flags.
fn tcp(counters: &str, flags: &str) -> String {
    format!(
        r#"{{"timestamp":"2026-11-24T10:15:00.000000+0000","flow_id":1,"event_type":"flow","src_ip":"10.0.1.5","src_port":41000,"dest_ip":"198.51.100.7","dest_port":443,"proto":"TCP","flow":{{{counters},"bytes_toserver":74,"bytes_toclient":0,"start":"2026-11-24T10:14:00.500000+0000","end":"2026-11-24T10:14:03.500000+0000","age":3,"alerted":false}}{flags}}}"#
    )
}

#[track_caller]
fn check(line: &str, expected: &str) {
    check_line(Format::Suricata, line, expected);
}

#[test]
fn counters_and_flags_show_the_outcome_of_a_connection() {
    let check_outcome = |counters: &str, flags: &str, outcome: Outcome| {
        let line = tcp(counters, flags);
        assert_eq!(flow(Format::Suricata, &line).outcome, outcome, "{line}");
    };
    let silent = r#""pkts_toserver":3,"pkts_toclient":0,"state":"new","reason":"timeout""#;
    check_outcome(silent, "", Outcome::Unanswered);
    check_outcome(
        silent,
        r#","tcp":{"tcp_flags":"02","tcp_flags_ts":"02","tcp_flags_tc":"00"}"#,
        Outcome::Unanswered,
    );
    check_outcome(&silent.replace("timeout", "shutdown"), "", Outcome::Unseen);
    let closed = r#""pkts_toserver":1,"pkts_toclient":1,"state":"closed","reason":"timeout""#;
    check_outcome(closed, "", Outcome::Refused);
    check_outcome(
        closed,
        r#","tcp":{"tcp_flags_ts":"02","tcp_flags_tc":"14"}"#,
        Outcome::Refused,
    );
    let answered = r#""pkts_toserver":9,"pkts_toclient":9,"state":"closed","reason":"timeout""#;
    check_outcome(answered, "", Outcome::Answered);
    check_outcome(
        answered,
        r#","tcp":{"tcp_flags_ts":"1b","tcp_flags_tc":"1b"}"#,
        Outcome::Answered,
    );
    // Opened and reset without a byte, like a scan of an open port.
    check_outcome(
        answered,
        r#","tcp":{"tcp_flags_ts":"16","tcp_flags_tc":"12"}"#,
        Outcome::Refused,
    );
    // Observed from the middle: the first packet was not a SYN.
    check_outcome(
        answered,
        r#","tcp":{"tcp_flags_ts":"18","tcp_flags_tc":"18"}"#,
        Outcome::NotAnAttempt,
    );
}

#[test]
fn an_initiator_that_goes_on_without_an_answer_shows_a_log_of_one_direction() {
    let check_outcome = |flags: &str, state: &str, packets: u64, outcome: Outcome| {
        let counters = format!(
            r#""pkts_toserver":{packets},"pkts_toclient":0,"state":"{state}","reason":"timeout""#
        );
        let line = tcp(&counters, flags);
        assert_eq!(flow(Format::Suricata, &line).outcome, outcome, "{line}");
    };
    let flags = |flags: &str| format!(r#","tcp":{{"tcp_flags_ts":"{flags}","tcp_flags_tc":"00"}}"#);
    check_outcome(&flags("1b"), "established", 9, Outcome::Unseen);
    check_outcome(&flags("12"), "new", 2, Outcome::Unseen);
    for syns in ["02", "c2", "03", "06"] {
        check_outcome(&flags(syns), "new", 7, Outcome::Unanswered);
    }
    check_outcome("", "established", 9, Outcome::Unseen);
    check_outcome("", "new", 9, Outcome::Unseen);
    check_outcome("", "new", 7, Outcome::Unanswered);
}

#[test]
fn what_suricata_itself_drops_is_denied() {
    let line = tcp(
        r#""pkts_toserver":1,"pkts_toclient":0,"state":"new","reason":"timeout","action":"drop""#,
        "",
    );
    check(
        &line,
        "tcp 10.0.1.5 41000 > 198.51.100.7 443 Denied dropped",
    );
}

#[test]
fn a_flow_keeps_its_start_and_its_length() {
    let line = tcp(
        r#""pkts_toserver":1,"pkts_toclient":0,"state":"new","reason":"timeout""#,
        "",
    );
    let flow = flow(Format::Suricata, &line);
    assert_eq!(flow.time.to_string(), "2026-11-24T10:14:00.5Z");
    let volume = flow.volume.unwrap();
    assert_eq!((volume.bytes_out, volume.packets_out), (74, 1));
    assert_eq!(volume.duration_us, 3_000_000);
    assert!(volume.is_final);
}

#[test]
fn datagrams_and_pings_are_flows_and_icmp_errors_are_not() {
    let udp = r#"{"timestamp":"2026-11-24T10:15:00+0000","event_type":"flow","src_ip":"fd00::5","src_port":5000,"dest_ip":"fd00::1","dest_port":161,"proto":"UDP","flow":{"pkts_toserver":1,"pkts_toclient":1,"age":0}}"#;
    check(udp, "udp fd00::5 5000 > fd00::1 161 Answered forwarded");
    let ping = r#"{"timestamp":"2026-11-24T10:15:00+0000","event_type":"flow","src_ip":"10.0.1.5","dest_ip":"10.0.1.6","proto":"ICMP","icmp_type":8,"icmp_code":0,"flow":{"pkts_toserver":1,"pkts_toclient":0}}"#;
    check(ping, "icmp 10.0.1.5 0 > 10.0.1.6 0 Unanswered forwarded");
    let error = ping.replace(r#""icmp_type":8"#, r#""icmp_type":3"#);
    check(&error, "skipped IcmpHousekeeping");
}

#[test]
fn every_shape_of_a_dns_event_is_read() {
    let event = |ends: &str, dns: &str| {
        format!(
            r#"{{"timestamp":"2026-11-24T10:15:00.1+0000","event_type":"dns",{ends},"proto":"UDP","dns":{{{dns}}}}}"#
        )
    };
    let client = r#""src_ip":"10.0.1.5","src_port":5353,"dest_ip":"10.0.0.2","dest_port":53"#;
    let server = r#""src_ip":"10.0.0.2","src_port":53,"dest_ip":"10.0.1.5","dest_port":5353"#;
    let query = "dns 10.0.1.5 queries pool.example.org [] nonexistent None";
    let answer = "dns 10.0.1.5 queries pool.example.org [192.0.2.7] nonexistent Some(false)";
    let v1 = r#""type":"query","id":1,"rrname":"pool.example.org","rrtype":"A","tx_id":0"#;
    check(&event(client, v1), query);
    let v1 = r#""type":"answer","id":1,"rcode":"NOERROR","rrname":"pool.example.org","rrtype":"A","ttl":9,"rdata":"192.0.2.7""#;
    check(&event(server, v1), answer);
    let v2 = r#""version":2,"type":"answer","id":1,"qr":true,"rrname":"pool.example.org","rrtype":"A","rcode":"NOERROR","answers":[{"rrname":"pool.example.org","rrtype":"CNAME","rdata":"a.example.net"},{"rrname":"a.example.net","rrtype":"A","ttl":9,"rdata":"192.0.2.7"}],"grouped":{"CNAME":["a.example.net"],"A":["192.0.2.7"]}"#;
    check(&event(client, v2), answer);
    check(&event(server, v2), answer);
    let v3 = r#""version":3,"type":"request","tx_id":0,"id":1,"opcode":0,"queries":[{"rrname":"pool.example.org","rrtype":"A"}]"#;
    check(&event(client, v3), query);
    let v3 = r#""version":3,"type":"response","rcode":"NXDOMAIN","queries":[{"rrname":"pool.example.org","rrtype":"A"}],"answers":null"#;
    check(
        &event(client, v3),
        "dns 10.0.1.5 queries pool.example.org [] nonexistent Some(true)",
    );
    check(&event(client, r#""type":"request""#), "skipped NoName");
}

#[test]
fn an_answer_with_very_many_addresses_is_cut() {
    let records = vec![r#"{"rdata":"192.0.2.1"}"#; 500].join(",");
    let line = format!(
        r#"{{"timestamp":"2026-11-24T10:15:00Z","event_type":"dns","src_ip":"10.0.1.5","dest_ip":"10.0.0.2","dns":{{"type":"answer","rrname":"a","answers":[{records}]}}}}"#
    );
    match decode(&line) {
        Ok(Signal::Dns(query)) => assert_eq!(query.answers.len(), limits::DNS_ANSWERS_MAX),
        other => panic!("{other:?}"),
    }
}

#[test]
fn names_of_handshakes_are_kept() {
    let event = r#"{"timestamp":"2026-11-24T10:15:00Z","event_type":"tls","src_ip":"10.0.1.5","src_port":5,"dest_ip":"192.0.2.7","dest_port":443,"proto":"TCP","tls":{"sni":"pool.example.org","version":"TLS 1.3"}}"#;
    check(event, "tls 10.0.1.5 pool.example.org");
    let quic = event
        .replace(r#""event_type":"tls""#, r#""event_type":"quic""#)
        .replace(r#""tls":{"#, r#""quic":{"#);
    check(&quic, "tls 10.0.1.5 pool.example.org");
    check(&event.replace("sni", "subject"), "skipped NoName");
}

#[test]
fn other_events_are_skipped_and_broken_ones_reported() {
    check(r#"{"event_type":"alert","alert":{}}"#, "skipped OtherLog");
    check(r#"{"event_type":"stats","stats":{}}"#, "skipped NotTraffic");
    check(r#"{"event_type":"flow"}"#, "malformed MissingField");
    check(
        r#"{"event_type":"flow","flow":{"pkts_toserver":1}}"#,
        "malformed MissingField",
    );
    let line = tcp(r#""state":"new""#, "");
    check(&line.replace("10.0.1.5", "10.0.1"), "malformed BadAddress");
    check(&line.replace("41000", "410000"), "malformed BadPort");
    check(
        &line.replace("2026-11-24T10:14:00.500000+0000", "noon"),
        "malformed BadTime",
    );
    check(
        &line,
        "tcp 10.0.1.5 41000 > 198.51.100.7 443 Unseen forwarded",
    );
    assert_eq!(sniff(line.as_bytes()), Some(Format::Suricata));
}

#[test]
fn losses_are_counted_from_the_delta_or_from_two_counts() {
    let stats = |capture: &str| {
        format!(
            r#"{{"timestamp":"2026-11-24T10:15:00Z","event_type":"stats","stats":{{"uptime":9,"capture":{{{capture}}}}}}}"#
        )
    };
    check(
        &stats(r#""kernel_drops":900,"kernel_drops_delta":7"#),
        "lost 7 at 2026-11-24T10:15:00Z",
    );
    let mut decoder = Decoder::new(Format::Suricata);
    let mut lost = |count: u64| {
        let line = stats(&format!(r#""kernel_drops":{count}"#));
        let lost = match decoder.decode(line.as_bytes()) {
            Decoded::Signal(Signal::Lost(lost)) => lost.count,
            Decoded::Skipped(SkipReason::NotTraffic) => 0,
            other => panic!("{other:?}"),
        };
        decoder.learn(line.as_bytes());
        lost
    };
    // Packets lost before the log begins are not new; after a restart all of them are.
    assert_eq!([900, 900, 907, 5].map(&mut lost), [0, 0, 7, 5]);
}
