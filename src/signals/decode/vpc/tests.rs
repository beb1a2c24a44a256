//! Lines as documented by AWS, and what must not be concluded from them.

use super::*;
use crate::signals::decode::tests::{check as check_line, summary};
use crate::signals::decode::{Decoder, Format, sniff};

/// All relevant fields, in a possible order of version 5.
const HEADER: &str = "version vpc-id instance-id interface-id account-id type srcaddr dstaddr \
                      srcport dstport pkt-srcaddr pkt-dstaddr protocol bytes packets start end \
                      action tcp-flags log-status flow-direction traffic-path";

/// A record with [`HEADER`].
struct Row {
    source: (&'static str, u16),
    destination: (&'static str, u16),
    protocol: u8,
    packets: u64,
    bytes: u64,
    action: &'static str,
    flags: &'static str,
    direction: &'static str,
}

impl Default for Row {
    fn default() -> Self {
        Self {
            source: ("10.0.1.5", 41_000),
            destination: ("198.51.100.7", 443),
            protocol: 6,
            packets: 1,
            bytes: 60,
            action: "ACCEPT",
            flags: "2",
            direction: "egress",
        }
    }
}

impl Row {
    fn text(&self) -> String {
        format!(
            "5 vpc-1 i-1 eni-1 123456789012 IPv4 10.0.0.1 203.0.113.1 {} {} {} {} {} {} {} 1750000000 \
             1750000045 {} {} OK {} 8",
            self.source.1,
            self.destination.1,
            self.source.0,
            self.destination.0,
            self.protocol,
            self.bytes,
            self.packets,
            self.action,
            self.flags,
            self.direction,
        )
    }
}

#[track_caller]
fn check(row: &Row, expected: &str) {
    check_after(HEADER, &row.text(), expected);
}

#[track_caller]
fn check_after(header: &str, line: &str, expected: &str) {
    let mut decoder = Decoder::new(Format::Vpc);
    decoder.learn(header.as_bytes());
    assert_eq!(
        summary(&decoder.decode(line.as_bytes())),
        expected,
        "{line}"
    );
}

#[test]
fn the_default_order_is_read_without_a_header() {
    let client = "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 40641 22 6 20 4249 \
                  1418530010 1418530070 ACCEPT OK";
    check_line(
        Format::Vpc,
        client,
        "tcp 172.31.16.139 40641 > 172.31.16.21 22 Unseen forwarded",
    );
    let rejected = client.replace("ACCEPT", "REJECT");
    check_line(
        Format::Vpc,
        &rejected,
        "tcp 172.31.16.139 40641 > 172.31.16.21 22 Denied dropped",
    );
    assert_eq!(sniff(client.as_bytes()), Some(Format::Vpc));
    assert_eq!(sniff(HEADER.as_bytes()), Some(Format::Vpc));
    assert_eq!(sniff(b"5 of 14 words that are no record of any log"), None);
}

#[test]
fn without_flags_a_reply_is_reversed_and_two_low_ports_are_inconclusive() {
    let reply = "2 123456789010 eni-1 172.31.9.69 10.0.1.5 443 49761 6 20 4249 1418530010 1418530070 ACCEPT OK";
    check_line(
        Format::Vpc,
        reply,
        "tcp 10.0.1.5 49761 > 172.31.9.69 443 Answered forwarded",
    );
    let reset = reply.replace("6 20 4249", "6 1 40");
    check_line(
        Format::Vpc,
        &reset,
        "tcp 10.0.1.5 49761 > 172.31.9.69 443 Refused forwarded",
    );
    let refused_reply = reply.replace("ACCEPT", "REJECT");
    check_line(
        Format::Vpc,
        &refused_reply,
        "tcp 10.0.1.5 49761 > 172.31.9.69 443 NotAnAttempt dropped",
    );
    let low = reply.replace("49761", "2049");
    check_line(Format::Vpc, &low, "skipped UnknownDirection");
    let high = reply.replace(" 443 ", " 50001 ");
    check_line(Format::Vpc, &high, "skipped UnknownDirection");
}

#[test]
fn the_header_names_the_columns_and_the_packets_own_address_counts() {
    check(
        &Row::default(),
        "tcp 10.0.1.5 41000 > 198.51.100.7 443 Unanswered forwarded",
    );
    let braces = HEADER
        .split(' ')
        .map(|name| format!("${{{name}}}"))
        .collect::<Vec<_>>()
        .join(" ");
    check_after(
        &braces,
        &Row::default().text(),
        "tcp 10.0.1.5 41000 > 198.51.100.7 443 Unanswered forwarded",
    );
    check_after(HEADER, HEADER, "skipped Header");
    check_line(Format::Vpc, &Row::default().text(), "unknown");
}

#[test]
fn nothing_but_syns_is_silence_and_anything_more_is_no_proof() {
    let sent = |packets, bytes, flags| Row {
        packets,
        bytes,
        flags,
        ..Row::default()
    };
    let unanswered = "tcp 10.0.1.5 41000 > 198.51.100.7 443 Unanswered forwarded";
    let unseen = "tcp 10.0.1.5 41000 > 198.51.100.7 443 Unseen forwarded";
    check(&sent(1, 44, "2"), unanswered);
    check(&sent(7, 420, "2"), unanswered);
    check(&sent(3, 120, "2"), unanswered);
    // A SYN and an ACK.
    check(&sent(2, 112, "2"), unseen);
    check(&sent(2, 88, "2"), unseen);
    check(&sent(3, 132, "2"), unseen);
    check(&sent(8, 568, "2"), unseen);
    check(&sent(4, 216, "3"), unseen);
    check(
        &sent(9, 9_000, "0"),
        "tcp 10.0.1.5 41000 > 198.51.100.7 443 NotAnAttempt forwarded",
    );
}

#[test]
fn answers_are_turned_round_by_their_flags_whatever_the_ports() {
    let reply = |flags, packets, bytes| Row {
        source: ("198.51.100.7", 61_000),
        destination: ("10.0.1.5", 1_024),
        direction: "ingress",
        flags,
        packets,
        bytes,
        ..Row::default()
    };
    check(
        &reply("18", 9, 7_000),
        "tcp 10.0.1.5 1024 > 198.51.100.7 61000 Answered forwarded",
    );
    check(
        &reply("19", 9, 7_000),
        "tcp 10.0.1.5 1024 > 198.51.100.7 61000 Answered forwarded",
    );
    let reset = Row {
        source: ("198.51.100.7", 23),
        destination: ("10.0.1.5", 41_000),
        ..reply("4", 1, 40)
    };
    check(
        &reset,
        "tcp 10.0.1.5 41000 > 198.51.100.7 23 Refused forwarded",
    );
}

#[test]
fn a_servers_replies_are_no_scan_of_its_clients() {
    for port in 32_768..32_900 {
        let reply = Row {
            source: ("10.0.1.80", 8_080),
            destination: ("10.0.2.9", port),
            flags: "18",
            ..Row::default()
        };
        // At the server's own interface, the record of the client counts.
        check(&reply, "skipped IngressView");
        let cut_off = Row {
            flags: "4",
            packets: 9,
            bytes: 900,
            direction: "-",
            ..reply
        };
        let expected = format!("tcp 10.0.2.9 {port} > 10.0.1.80 8080 NotAnAttempt forwarded");
        check(&cut_off, &expected);
    }
}

#[test]
fn the_receiving_interface_does_not_count() {
    let row = Row {
        direction: "ingress",
        ..Row::default()
    };
    check(&row, "skipped IngressView");
}

#[test]
fn datagrams_are_judged_by_ports_and_icmp_is_inconclusive() {
    let datagram = |source, destination| Row {
        source,
        destination,
        protocol: 17,
        flags: "0",
        direction: "-",
        ..Row::default()
    };
    check(
        &datagram(("10.0.1.5", 40_000), ("10.0.0.2", 53)),
        "udp 10.0.1.5 40000 > 10.0.0.2 53 Unseen forwarded",
    );
    check(
        &datagram(("10.0.0.2", 53), ("10.0.1.5", 40_000)),
        "udp 10.0.1.5 40000 > 10.0.0.2 53 Answered forwarded",
    );
    check(
        &datagram(("10.0.1.5", 40_000), ("10.0.0.2", 40_001)),
        "skipped UnknownDirection",
    );
    let ping = Row {
        protocol: 1,
        ..datagram(("10.0.1.5", 0), ("10.0.0.2", 0))
    };
    check(&ping, "skipped UnknownDirection");
}

#[test]
fn windows_without_data_are_distinguished_from_windows_that_lost_some() {
    let line =
        |status| format!("2 123456789010 eni-1 - - - - - - - 1431280876 1431280934 - {status}");
    check_line(Format::Vpc, &line("NODATA"), "skipped NotTraffic");
    check_line(
        Format::Vpc,
        &line("SKIPDATA"),
        "lost 1 at 2015-05-10T18:02:14Z",
    );
    check_line(Format::Vpc, &line("OK"), "skipped FieldsMissing");
}

#[test]
fn each_record_counts_one_direction() {
    let mut decoder = Decoder::new(Format::Vpc);
    decoder.learn(HEADER.as_bytes());
    let text = Row {
        packets: 9,
        bytes: 900,
        flags: "3",
        ..Row::default()
    }
    .text();
    let Decoded::Signal(Signal::Flow(flow)) = decoder.decode(text.as_bytes()) else {
        panic!("no flow: {text}");
    };
    let volume = flow.volume.unwrap();
    assert_eq!((volume.bytes_out, volume.bytes_in), (900, 0));
    assert_eq!(volume.duration_us, 45_000_000);
    assert!(volume.is_final);
    assert_eq!(flow.time.to_string(), "2025-06-15T15:06:40Z");
}

#[test]
fn broken_lines_are_reported() {
    let line = "2 123456789010 eni-1 172.31.9.69 10.0.1.5 443 49761 6 20 4249 1418530010 1418530070 ACCEPT OK";
    let check = |from: &str, to: &str, expected: &str| {
        check_line(Format::Vpc, &line.replace(from, to), expected);
    };
    check(" ACCEPT OK", "", "malformed Truncated");
    check(" OK", " OK OK", "unknown");
    check("172.31.9.69", "172.31.9.691", "malformed BadAddress");
    check(" 443 ", " 70000 ", "malformed BadPort");
    check(" 6 20", " 600 20", "malformed BadNumber");
    check("20 4249", "20 x", "malformed BadNumber");
    check("1418530010", "9999999999", "malformed BadTime");
    check("ACCEPT", "MAYBE", "skipped NoVerdict");
    check("2 1234", "3 1234", "unknown");
    check(
        "hello",
        "",
        "tcp 10.0.1.5 49761 > 172.31.9.69 443 Answered forwarded",
    );
    check_line(Format::Vpc, "hello", "unknown");
    check_line(Format::Vpc, "{}", "unknown");
    let exported = format!("2014-12-14T04:06:50.000Z {line}");
    check_line(
        Format::Vpc,
        &exported,
        "tcp 10.0.1.5 49761 > 172.31.9.69 443 Answered forwarded",
    );
}

#[test]
fn a_header_of_any_length_is_bounded() {
    let names = vec!["srcaddr dstaddr"; 200].join(" ");
    assert_eq!(Columns::from_header(names.as_bytes()), None);
    assert_eq!(Columns::from_header(b"srcaddr and dstaddr, please"), None);
}
