//! First packets of connections that the log never confirms, line by line.

use super::super::{Decoded, Decoder, Format};
use super::*;

const POD: &str = "10.244.0.66";
const OTHER: &str = "10.244.0.21";
const BEGIN: u8 = 1;
const END: u8 = 4;

/// A log that is read line by line.
struct Log {
    decoder: Decoder,
    known: Unconfirmed,
    denied: Vec<(u16, u16)>,
}

impl Log {
    fn new() -> Self {
        Self {
            decoder: Decoder::new(Format::Ulogd),
            known: Unconfirmed::default(),
            denied: Vec::new(),
        }
    }

    fn read(&mut self, line: &str) {
        let (decoded, tracking) = self.decoder.decode_with_conntrack(line.as_bytes());
        let Decoded::Signal(Signal::Flow(flow)) = decoded else {
            panic!("{decoded:?}");
        };
        if let Some(tracking) = tracking {
            let denied = self.known.take(&flow, tracking);
            self.note(&denied);
        }
    }

    fn note(&mut self, denied: &[Flow<'_>]) {
        for flow in denied {
            assert_eq!((flow.outcome, flow.forwarded), (Outcome::Denied, false));
            self.denied.push((flow.source_port, flow.destination_port));
        }
    }

    /// The first packet of a connection with `target`, as NFLOG writes it.
    fn packet(&mut self, pod: &str, (port, target): (u16, &str), second: i64) {
        self.read(&packet_line(pod, (port, target), second));
    }

    /// A line of NFCT; the packets go to `real`.
    fn event(&mut self, kind: u8, pod: &str, (port, target): (u16, &str), real: &str, second: i64) {
        self.read(&format!(
            r#"{{"orig.ip.protocol":6,"orig.l4.sport":{port},"orig.l4.dport":443,"reply.l4.sport":443,"ct.event":{kind},"flow.start.sec":{second},"src_ip":"{pod}","dest_ip":"{target}","reply.ip.saddr.str":"{real}"}}"#
        ));
    }

    /// A connection of another pod, which is accepted.
    fn others(&mut self, port: u16, second: i64) {
        let ends = (port, "203.0.113.80");
        self.packet(OTHER, ends, second);
        self.event(BEGIN, OTHER, ends, "203.0.113.80", second);
    }
}

fn packet_line(pod: &str, (port, target): (u16, &str), second: i64) -> String {
    format!(
        r#"{{"raw.pktlen":60,"oob.prefix":"","oob.time.sec":{second},"oob.hook":2,"ip.protocol":6,"src_port":{port},"dest_port":443,"tcp.syn":1,"tcp.ack":0,"tcp.rst":0,"src_ip":"{pod}","dest_ip":"{target}"}}"#
    )
}

#[test]
fn a_packet_without_a_begin_was_dropped_where_others_have_theirs() {
    let mut log = Log::new();
    log.packet(POD, (5_000, "198.51.100.1"), 100);
    log.others(1, 101);
    log.others(2, 109);
    assert!(log.denied.is_empty(), "a begin may be late");
    log.others(3, 110);
    assert_eq!(log.denied, [(5_000, 443)]);
    log.others(4, 200);
    assert_eq!(log.denied.len(), 1, "it counts once");
}

#[test]
fn a_begin_before_or_after_its_packet_proves_that_it_passed() {
    let mut log = Log::new();
    log.packet(POD, (5_000, "198.51.100.1"), 100);
    log.event(BEGIN, POD, (5_000, "198.51.100.1"), "198.51.100.1", 100);
    // ulogd2 may write the NFCT event first.
    log.event(BEGIN, POD, (5_001, "198.51.100.2"), "198.51.100.2", 101);
    log.packet(POD, (5_001, "198.51.100.2"), 101);
    // Of an entry that was there before, the end is all there is.
    log.packet(POD, (5_002, "198.51.100.3"), 101);
    log.event(END, POD, (5_002, "198.51.100.3"), "198.51.100.3", 101);
    log.others(1, 150);
    assert!(log.denied.is_empty());
}

#[test]
fn a_service_is_known_by_the_pod_behind_it() {
    let mut log = Log::new();
    // FORWARD sees the pod behind the service; connection tracking has both.
    log.packet(POD, (5_000, "10.244.1.5"), 100);
    log.event(BEGIN, POD, (5_000, "10.96.0.7"), "10.244.1.5", 100);
    // A connection to another target from the same port clears nothing.
    log.packet(POD, (5_001, "10.244.1.6"), 100);
    log.event(BEGIN, POD, (5_001, "10.96.0.8"), "10.244.1.9", 100);
    log.others(1, 150);
    assert_eq!(log.denied, [(5_001, 443)]);
}

#[test]
fn without_the_begins_of_others_nothing_is_known() {
    let mut log = Log::new();
    for second in 100..300 {
        log.packet(POD, (5_000, &format!("198.51.100.{}", second - 99)), second);
    }
    assert!(log.denied.is_empty());
    // Earlier begins prove nothing: NFCT may have died since.
    let mut log = Log::new();
    log.others(1, 99);
    log.packet(POD, (5_000, "198.51.100.1"), 100);
    log.packet(POD, (5_000, "198.51.100.2"), 150);
    log.packet(POD, (5_000, "198.51.100.3"), 170);
    assert!(log.denied.is_empty());
}

#[test]
fn a_repeated_packet_of_an_unanswered_connection_was_not_dropped() {
    let mut log = Log::new();
    log.packet(POD, (5_000, "198.51.100.1"), 100);
    log.event(BEGIN, POD, (5_000, "198.51.100.1"), "198.51.100.1", 100);
    for second in [101, 103, 107, 115, 131, 163, 227] {
        log.packet(POD, (5_000, "198.51.100.1"), second);
        log.others(u16::try_from(second).unwrap(), second);
    }
    log.others(1, 260);
    assert!(log.denied.is_empty());
}

#[test]
fn a_flood_after_which_events_may_be_missing_convicts_no_pod() {
    let mut log = Log::new();
    log.packet(OTHER, (5_000, "198.51.100.1"), 100);
    for port in 1..=u16::try_from(LINES_PER_SECOND_MAX).unwrap() + 1 {
        log.packet(POD, (port, "198.51.100.2"), 100);
    }
    log.packet(OTHER, (5_001, "198.51.100.3"), 101);
    log.others(1, 150);
    assert!(log.denied.is_empty());
    log.packet(OTHER, (5_002, "198.51.100.4"), 150);
    log.others(2, 161);
    assert_eq!(log.denied, [(5_002, 443)], "it is over");
}

#[test]
fn one_pod_takes_no_room_from_another_and_the_whole_is_bounded() {
    let mut log = Log::new();
    for nth in 0..2_000_u16 {
        let target = format!("198.51.{}.{}", nth / 250, nth % 250);
        log.packet(POD, (5_000, &target), 100 + i64::from(nth) / 1_000);
    }
    assert_eq!(log.known.streams.waiting_count, limits::PENDING_MAX);
    log.packet(OTHER, (5_001, "203.0.113.9"), 102);
    log.others(1, 103);
    log.others(2, 120);
    assert!(log.denied.contains(&(5_001, 443)));
    assert_eq!(log.denied.len(), limits::PENDING_MAX + 1);
    assert_eq!(
        (
            log.known.streams.waiting_count,
            log.known.streams.waiting_of.len()
        ),
        (0, 0)
    );

    let mut log = Log::new();
    let mut most = 0;
    for nth in 0..150_000_u32 {
        let target = format!("198.{}.{}.{}", nth >> 16, (nth >> 8) & 255, nth & 255);
        log.event(
            BEGIN,
            POD,
            (5_000, &target),
            &target,
            100 + i64::from(nth) / 1_000,
        );
        most = most.max(log.known.streams.entries.len());
    }
    assert!(most <= limits::CONFIRMED_MAX + 1, "{most}");
    assert!(log.known.streams.confirmed_due.len() <= limits::CONFIRMED_MAX + 1);
}

#[test]
fn a_labelled_packet_and_one_without_a_begin_of_its_own_are_left_unchanged() {
    let mut log = Log::new();
    let line = packet_line(POD, (5_000, "198.51.100.1"), 100);
    log.read(&line.replace("\"oob.prefix\"", "\"action\":\"allowed\",\"oob.prefix\""));
    log.read(&line.replace("\"ip.protocol\":6", "\"ip.protocol\":132"));
    log.read(&line.replace("\"oob.prefix\":\"\"", "\"oob.prefix\":\"alive\""));
    log.others(1, 150);
    assert!(log.denied.is_empty());
}

/// A packet, or the begin of its connection, over UDP or ICMP.
fn datagram(log: &mut Log, protocol: u8, is_begin: bool, port: u16, second: i64) {
    let (target, ports) = match protocol {
        1 => (
            "198.51.100.1",
            String::from(r#""icmp.type":8,"icmp.code":0"#),
        ),
        _ if is_begin => (
            "198.51.100.1",
            format!(r#""orig.l4.sport":{port},"orig.l4.dport":161"#),
        ),
        _ => (
            "198.51.100.1",
            format!(r#""src_port":{port},"dest_port":161"#),
        ),
    };
    let kind = if is_begin {
        format!(r#""ct.event":1,"flow.start.sec":{second},"orig.ip.protocol":{protocol}"#)
    } else {
        format!(
            r#""raw.pktlen":60,"oob.prefix":"","oob.time.sec":{second},"oob.hook":2,"ip.protocol":{protocol}"#
        )
    };
    let pod = if is_begin { OTHER } else { POD };
    log.read(&format!(
        r#"{{{kind},{ports},"src_ip":"{pod}","dest_ip":"{target}","reply.ip.saddr.str":"{target}"}}"#
    ));
}

#[test]
fn datagrams_and_pings_are_denied_where_others_over_the_same_transport_have_their_begin() {
    for (protocol, other) in [(17, 1), (1, 17)] {
        let mut log = Log::new();
        log.others(1, 100);
        datagram(&mut log, protocol, false, 5_000, 300);
        log.others(2, 305);
        datagram(&mut log, other, true, 7, 306);
        log.others(3, 320);
        assert!(log.denied.is_empty(), "of {protocol} no begin was logged");
        datagram(&mut log, protocol, true, 7, 321);
        log.others(4, 331);
        let expected = if protocol == 1 { (0, 0) } else { (5_000, 161) };
        assert_eq!(log.denied, [expected]);
    }
}

#[test]
fn a_stream_of_datagrams_that_began_before_the_log_was_not_dropped() {
    let mut log = Log::new();
    log.others(1, 100);
    // It is never answered, so each of its packets looks like a first one.
    for second in (110..900).step_by(20) {
        datagram(&mut log, 17, false, 5_000, second);
        datagram(&mut log, 17, true, 7, second);
        log.others(2, second);
    }
    assert!(log.denied.is_empty(), "{:?}", log.denied);
}

#[test]
fn many_datagrams_take_no_room_from_connections() {
    let mut log = Log::new();
    log.others(1, 100);
    log.packet(POD, (5_000, "198.51.100.1"), 300);
    for nth in 0..=limits::CONFIRMED_DATAGRAMS_MAX {
        let port = u16::try_from(nth).unwrap();
        datagram(
            &mut log,
            17,
            true,
            port,
            300 + i64::try_from(nth / 1_000).unwrap(),
        );
    }
    assert!(log.known.datagrams.unreliable_until.is_some());
    log.others(2, 340);
    log.others(3, 352);
    assert_eq!(log.denied, [(5_000, 443)]);
}

#[test]
fn the_end_of_a_recorded_log_is_judged_with_what_it_shows() {
    let mut log = Log::new();
    log.packet(POD, (5_000, "198.51.100.1"), 100);
    log.others(1, 102);
    log.packet(POD, (5_001, "198.51.100.1"), 102);
    let denied = std::mem::take(&mut log.known).finish();
    log.note(&denied);
    assert_eq!(log.denied, [(5_000, 443)]);
}
