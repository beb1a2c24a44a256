//! Hubble lines: as producers write them, and invalid ones.

use super::super::tests::{check as check_line, flow as flow_of, shared};
use super::super::{Decoded, Format, decode as decode_line, sniff};
use super::*;

#[track_caller]
fn check(line: &str, expected: &str) {
    check_line(Format::Hubble, line, expected);
}

/// A record between a pod and an external host; `rest` may contain any other keys.
fn record(l4: &str, rest: &str) -> String {
    format!(
        r#"{{"flow":{{"time":"2026-02-24T08:43:39Z","IP":{{"source":"10.0.1.5","destination":"203.0.113.7","ipVersion":"IPv4"}},"l4":{l4},{rest}}},"node_name":"n1","time":"2026-02-24T08:43:39Z"}}"#
    )
}

fn tcp(flags: &str) -> String {
    format!(r#"{{"TCP":{{"source_port":40000,"destination_port":443,"flags":{{{flags}}}}}}}"#)
}

const SYN: &str = r#""SYN":true"#;
const SYN_ACK: &str = r#""SYN":true,"ACK":true"#;
const ACK: &str = r#""ACK":true"#;
const PSH_ACK: &str = r#""PSH":true,"ACK":true"#;
const RST: &str = r#""RST":true"#;
const RST_ACK: &str = r#""RST":true,"ACK":true"#;
const UDP: &str = r#"{"UDP":{"source_port":40000,"destination_port":443}}"#;
const OUT: &str = r#""verdict":"FORWARDED","traffic_direction":"EGRESS","is_reply":false"#;
const BACK: &str = r#""verdict":"FORWARDED","traffic_direction":"EGRESS","is_reply":true"#;
const DENIED: &str = r#""verdict":"DROPPED","traffic_direction":"EGRESS","event_type":{"type":1,"sub_type":133},"drop_reason_desc":"POLICY_DENIED""#;

#[test]
fn real_lines_are_decoded_correctly() {
    let Some(path) = shared("samples/hubble.jsonl") else {
        return;
    };
    let lines = std::fs::read_to_string(path).unwrap();
    let expected = [
        "tcp 10.20.0.4 57706 > 169.254.128.9 60002 Answered forwarded pod kube-system/csi-cbs-controller-7788964bc-lsfw5",
        "tcp 10.10.21.241 58012 > 9.134.108.44 9922 Pending forwarded",
        "tcp 10.10.21.241 52662 > 183.47.117.75 9988 NotAnAttempt forwarded",
        "tcp 192.168.85.176 41012 > 192.168.95.3 8181 NotAnAttempt forwarded",
        "tcp 10.0.1.235 60524 > 10.0.0.21 80 Denied dropped pod net-lab/traffic-generator-9b649846d-bxqfc",
        "skipped ForgedSource",
        "tcp 10.244.1.60 44916 > 10.244.1.5 80 Denied dropped pod default/xwing",
        "lost 1 at 2025-09-28T08:25:44.749505Z",
    ];
    assert_eq!(lines.lines().count(), expected.len());
    for (line, expected) in lines.lines().zip(expected) {
        check(line, expected);
        assert_eq!(sniff(line.as_bytes()), Some(Format::Hubble));
    }
}

#[test]
fn a_record_is_read_in_full_and_borrowed() {
    let line = record(
        &tcp(SYN),
        &format!(
            r#"{OUT},"source":{{"ID":7,"namespace":"ml","pod_name":"agent-0"}},"destination_names":["","api.example.net."],"trace_reason":"NEW""#
        ),
    );
    let flow = flow_of(Format::Hubble, &line);
    let expected = Flow {
        time: EventTime::from_micros(1_771_922_619_000_000),
        source: [10, 0, 1, 5].into(),
        source_port: 40000,
        destination: [203, 0, 113, 7].into(),
        destination_port: 443,
        transport: Transport::Tcp,
        outcome: Outcome::Pending,
        forwarded: true,
        volume: None,
        destination_name: Some("api.example.net".into()),
        pod: Some(PodHint {
            namespace: "ml".into(),
            name: "agent-0".into(),
        }),
        is_inferred: false,
        node: Some("n1".into()),
    };
    assert_eq!(flow, expected);
    assert!(matches!(flow.destination_name, Some(Cow::Borrowed(_))));
}

#[test]
fn packets_of_the_initiator_open_or_continue() {
    let out = "tcp 10.0.1.5 40000 > 203.0.113.7 443";
    let check = |flags: &str, rest: &str, outcome: &str| {
        check(
            &record(&tcp(flags), &format!("{OUT}{rest}")),
            &format!("{out} {outcome} forwarded"),
        );
    };
    let new = r#","trace_reason":"NEW""#;
    let established = r#","trace_reason":"ESTABLISHED""#;
    check(SYN, new, "Pending");
    check(SYN, "", "Pending");
    // A retransmitted SYN belongs to the connection of the first.
    check(SYN, established, "Pending");
    check(PSH_ACK, established, "NotAnAttempt");
    check(ACK, "", "NotAnAttempt");
    check(RST, established, "NotAnAttempt");
    // Scans with ACK, FIN or no flag at all are attempts.
    check(ACK, new, "Pending");
    check(r#""FIN":true"#, "", "Pending");
    check("", "", "Pending");
}

#[test]
fn nothing_that_a_pod_sends_counts_as_an_answer_to_itself() {
    for flags in [SYN, SYN_ACK, ACK, PSH_ACK, RST, RST_ACK, ""] {
        for reason in ["NEW", "ESTABLISHED", "REPLY"] {
            let line = record(&tcp(flags), &format!(r#"{OUT},"trace_reason":"{reason}""#));
            let flow = flow_of(Format::Hubble, &line);
            let is_own = flow.source.to_string() == "10.0.1.5";
            assert!(!is_own || flow.outcome.success() != Some(true), "{line}");
            assert_eq!(flow.is_inferred, !is_own, "{line}");
        }
    }
}

#[test]
fn a_syn_ack_answers_regardless_of_is_reply_and_of_the_observer() {
    let turned = "tcp 203.0.113.7 443 > 10.0.1.5 40000 Answered forwarded";
    let out = r#""verdict":"FORWARDED","traffic_direction":"EGRESS""#;
    let inward = r#""verdict":"FORWARDED","traffic_direction":"INGRESS","trace_observation_point":"TO_ENDPOINT""#;
    let unspecified = r#""verdict":"FORWARDED""#;
    for view in [out, inward, unspecified] {
        for reply_field in [
            "",
            r#","is_reply":false"#,
            r#","reply":false"#,
            r#","is_reply":null"#,
        ] {
            let line = record(&tcp(SYN_ACK), &format!("{view}{reply_field}"));
            check(&line, turned);
            assert!(flow_of(Format::Hubble, &line).is_inferred, "{line}");
        }
    }
    let vouched = record(&tcp(SYN_ACK), BACK);
    assert!(!flow_of(Format::Hubble, &vouched).is_inferred);
}

#[test]
fn a_syn_ack_that_a_policy_judged_or_that_the_receiving_side_calls_a_reply_answers_nothing() {
    let verdict = format!(r#"{OUT},"event_type":{{"type":5}}"#);
    check(
        &record(&tcp(SYN_ACK), &verdict),
        "tcp 10.0.1.5 40000 > 203.0.113.7 443 NotAnAttempt forwarded",
    );
    // A forged SYN makes a server send it to a host that requested nothing.
    check(
        &record(&tcp(SYN_ACK), &BACK.replace("EGRESS", "INGRESS")),
        "skipped IngressView",
    );
    let before = r#""verdict":"FORWARDED","traffic_direction":"INGRESS","trace_observation_point":"FROM_NETWORK""#;
    check(
        &record(&tcp(SYN_ACK), before),
        "skipped DuplicateObservation",
    );
    for flags in [SYN, ACK, RST_ACK] {
        let inward = OUT.replace("EGRESS", "INGRESS");
        check(&record(&tcp(flags), &inward), "skipped IngressView");
    }
}

#[test]
fn replies_are_reversed_and_show_the_outcome() {
    let check = |flags: &str, outcome: &str| {
        let rest = format!(
            r#"{BACK},"destination":{{"namespace":"ml","pod_name":"agent-0"}},"source_names":["a.example"]"#
        );
        let expected = format!(
            "tcp 203.0.113.7 443 > 10.0.1.5 40000 {outcome} forwarded pod ml/agent-0 name a.example"
        );
        check(&record(&tcp(flags), &rest), &expected);
    };
    check(SYN_ACK, "Answered");
    check(PSH_ACK, "Answered");
    check(r#""FIN":true,"ACK":true"#, "Answered");
    check("", "Answered");
    check(RST, "Refused");
    check(RST_ACK, "Refused");
    check(r#""RST":true,"PSH":true,"ACK":true"#, "Answered");
    check(SYN, "NotAnAttempt");
}

#[test]
fn the_older_reply_field_counts_only_when_it_is_true() {
    let forwarded = r#""verdict":"FORWARDED","traffic_direction":"EGRESS""#;
    let turned = "tcp 203.0.113.7 443 > 10.0.1.5 40000 Answered forwarded";
    check(
        &record(&tcp(SYN_ACK), &format!(r#"{forwarded},"reply":true"#)),
        turned,
    );
    for rest in [
        forwarded.to_owned(),
        format!(r#"{forwarded},"reply":false"#),
    ] {
        check(&record(&tcp(PSH_ACK), &rest), "skipped UnknownDirection");
    }
    let straight = "tcp 10.0.1.5 40000 > 203.0.113.7 443 Pending forwarded";
    check(
        &record(
            &tcp(SYN),
            &format!(r#"{forwarded},"is_reply":false,"reply":true"#),
        ),
        straight,
    );
}

#[test]
fn an_absent_is_reply_is_never_taken_for_true() {
    let forwarded = r#""verdict":"FORWARDED","traffic_direction":"EGRESS""#;
    check(
        &record(&tcp(SYN), forwarded),
        "tcp 10.0.1.5 40000 > 203.0.113.7 443 Pending forwarded",
    );
    for flags in [ACK, PSH_ACK, RST, ""] {
        check(&record(&tcp(flags), forwarded), "skipped UnknownDirection");
    }
    check(&record(UDP, forwarded), "skipped UnknownDirection");
    let verdict = format!(r#"{forwarded},"event_type":{{"type":5}}"#);
    check(
        &record(UDP, &verdict),
        "udp 10.0.1.5 40000 > 203.0.113.7 443 Pending forwarded",
    );
}

#[test]
fn policy_drops_are_denied_however_the_reason_is_written() {
    let denied = "tcp 10.0.1.5 40000 > 203.0.113.7 443 Denied dropped";
    for reason in [
        r#""drop_reason_desc":"POLICY_DENIED""#,
        r#""drop_reason_desc":"POLICY_DENY","event_type":{"type":5}"#,
        r#""drop_reason_desc":"AUTH_REQUIRED""#,
        r#""drop_reason":133"#,
        r#""drop_reason":181"#,
        r#""drop_reason":189"#,
        r#""event_type":{"type":1,"sub_type":133}"#,
    ] {
        check(
            &record(&tcp(SYN), &format!(r#""verdict":"DROPPED",{reason}"#)),
            denied,
        );
    }
    check(
        &record(&tcp(SYN), r#""drop_reason_desc":"POLICY_DENIED""#),
        denied,
    );
    check(
        &record(UDP, DENIED),
        "udp 10.0.1.5 40000 > 203.0.113.7 443 Denied dropped",
    );
    let ping = r#"{"ICMPv4":{"type":8}}"#;
    check(
        &record(ping, DENIED),
        "icmp 10.0.1.5 0 > 203.0.113.7 0 Denied dropped",
    );
}

#[test]
fn other_drops_blame_the_target_the_sender_or_neither() {
    let check = |reason: &str, expected: &str| {
        let rest = format!(r#""verdict":"DROPPED","drop_reason_desc":"{reason}""#);
        check(&record(&tcp(SYN), &rest), expected);
    };
    let out = "tcp 10.0.1.5 40000 > 203.0.113.7 443";
    for reason in [
        "STALE_OR_UNROUTABLE_IP",
        "NO_TUNNEL_OR_ENCAPSULATION_ENDPOINT",
        "FIB_LOOKUP_FAILED",
    ] {
        check(reason, &format!("{out} Unanswered dropped"));
    }
    for reason in [
        "CT_MAP_INSERTION_FAILED",
        "DROP_RATE_LIMITED",
        "FROM_THE_FUTURE",
    ] {
        check(reason, &format!("{out} Unseen dropped"));
    }
    check("INVALID_SOURCE_IP", "skipped ForgedSource");
}

#[test]
fn a_dropped_packet_that_either_side_may_have_sent_blames_neither() {
    for flags in [ACK, PSH_ACK, SYN_ACK, RST, RST_ACK] {
        check(&record(&tcp(flags), DENIED), "skipped UnknownDirection");
    }
    let probe = "tcp 10.0.1.5 40000 > 203.0.113.7 443 Denied dropped";
    check(&record(&tcp(r#""FIN":true"#), DENIED), probe);
    let masked = r#"{"TCP":{"source_port":40000,"destination_port":443}}"#;
    check(&record(masked, DENIED), probe);
    // Even if a producer marks it as no reply, a cut connection is not a new attempt.
    let cut = format!(r#"{DENIED},"is_reply":false"#);
    check(
        &record(&tcp(ACK), &cut),
        "tcp 10.0.1.5 40000 > 203.0.113.7 443 NotAnAttempt dropped",
    );
}

#[test]
fn views_that_would_count_a_packet_twice_are_skipped() {
    let inward = OUT.replace("EGRESS", "INGRESS");
    check(&record(&tcp(SYN), &inward), "skipped IngressView");
    check(
        &record(&tcp(SYN), &DENIED.replace("EGRESS", "INGRESS")),
        "skipped IngressView",
    );
    let check_point = |point: &str, expected: &str| {
        let rest = format!(r#"{OUT},"trace_observation_point":"{point}""#);
        check(&record(&tcp(SYN), &rest), expected);
    };
    let seen = "tcp 10.0.1.5 40000 > 203.0.113.7 443 Pending forwarded";
    check_point("FROM_ENDPOINT", "skipped DuplicateObservation");
    check_point("FROM_NETWORK", "skipped DuplicateObservation");
    for point in [
        "TO_STACK",
        "TO_NETWORK",
        "TO_OVERLAY",
        "TO_ENDPOINT",
        "TO_PROXY",
    ] {
        check_point(point, seen);
    }
    for verdict in ["TRACED", "TRANSLATED"] {
        let rest = OUT.replace("FORWARDED", verdict);
        check(&record(&tcp(SYN), &rest), "skipped DuplicateObservation");
    }
    check(
        &record(&tcp(SYN), &OUT.replace("FORWARDED", "REDIRECTED")),
        seen,
    );
    check(&record(&tcp(SYN), &OUT.replace("FORWARDED", "AUDIT")), seen);
    check(
        &record(&tcp(SYN), &OUT.replace("FORWARDED", "ERROR")),
        "skipped NoVerdict",
    );
    check(
        &record(&tcp(SYN), r#""is_reply":false"#),
        "skipped NoVerdict",
    );
}

#[test]
fn datagrams_open_and_answer() {
    check(
        &record(UDP, OUT),
        "udp 10.0.1.5 40000 > 203.0.113.7 443 Pending forwarded",
    );
    check(
        &record(UDP, BACK),
        "udp 203.0.113.7 443 > 10.0.1.5 40000 Answered forwarded",
    );
    let sctp = UDP.replace("UDP", "SCTP");
    check(
        &record(&sctp, OUT),
        "sctp 10.0.1.5 40000 > 203.0.113.7 443 Pending forwarded",
    );
    check(
        &record(r#"{"IGMP":{}}"#, OUT),
        "ip 10.0.1.5 0 > 203.0.113.7 0 Pending forwarded",
    );
}

#[test]
fn only_questions_and_answers_of_icmp_count() {
    check(
        &record(r#"{"ICMPv4":{"type":8}}"#, OUT),
        "icmp 10.0.1.5 0 > 203.0.113.7 0 Pending forwarded",
    );
    // Type 0 is omitted.
    check(
        &record(r#"{"ICMPv4":{}}"#, BACK),
        "icmp 203.0.113.7 0 > 10.0.1.5 0 Answered forwarded",
    );
    check(
        &record(r#"{"ICMPv6":{"type":129}}"#, BACK),
        "icmp 203.0.113.7 0 > 10.0.1.5 0 Answered forwarded",
    );
    check(&record(r#"{"ICMPv4":{}}"#, OUT), "skipped IcmpHousekeeping");
    // An error is sent by a router and proves nothing about the router.
    check(
        &record(r#"{"ICMPv4":{"type":3,"code":1}}"#, BACK),
        "skipped IcmpHousekeeping",
    );
    check(
        &record(r#"{"ICMPv6":{"type":135}}"#, OUT),
        "skipped IcmpHousekeeping",
    );
    check(
        &record(r#"{"ICMPv6":{"type":300}}"#, OUT),
        "skipped IcmpHousekeeping",
    );
}

#[test]
fn masked_fields_leave_what_is_left() {
    let bare = r#"{"flow":{"time":"2023-08-21T12:12:18Z","verdict":"DROPPED","IP":{"source":"10.244.1.60","destination":"10.244.1.5"},"source":{},"destination":{},"drop_reason_desc":"POLICY_DENIED"}}"#;
    check(bare, "ip 10.244.1.60 0 > 10.244.1.5 0 Denied dropped");
    check(
        &bare.replace(r#","destination":"10.244.1.5""#, ""),
        "skipped FieldsMissing",
    );
    check(
        r#"{"flow":{"time":"2023-08-21T12:12:18Z","verdict":"DROPPED"}}"#,
        "skipped FieldsMissing",
    );
    let no_flags = r#"{"TCP":{"source_port":40000,"destination_port":443}}"#;
    let out = "tcp 10.0.1.5 40000 > 203.0.113.7 443";
    check(&record(no_flags, OUT), &format!("{out} Pending forwarded"));
    let later = format!(r#"{OUT},"trace_reason":"ESTABLISHED""#);
    check(
        &record(no_flags, &later),
        &format!("{out} NotAnAttempt forwarded"),
    );
    let no_port = r#"{"TCP":{"flags":{"SYN":true}}}"#;
    check(&record(no_port, OUT), "skipped FieldsMissing");
    let no_time = bare.replace(r#""time":"2023-08-21T12:12:18Z","#, "");
    check(&no_time, "malformed MissingField");
    let outer = no_time.replace("}}", r#"},"time":"2023-08-21T12:12:18Z"}"#);
    let outer = outer.replace(r#""source":{}},"time":"2023-08-21T12:12:18Z"}"#, "");
    assert!(matches!(
        decode_line(Format::Hubble, outer.as_bytes()),
        Decoded::Signal(Signal::Flow(_))
    ));
}

#[test]
fn an_older_line_without_envelope_is_the_record_itself() {
    let line = r#"{"time":"2021-06-01T10:00:00.5Z","verdict":"FORWARDED","IP":{"source":"10.4.1.7","destination":"10.8.0.10","ipVersion":"IPv4"},"l4":{"UDP":{"source_port":46133,"destination_port":53}},"source":{"ID":1,"namespace":"shop","pod_name":"cart-0"},"Type":"L3_L4","node_name":"gke-1","traffic_direction":"EGRESS","is_reply":false,"Summary":"UDP"}"#;
    check(
        line,
        "udp 10.4.1.7 46133 > 10.8.0.10 53 Pending forwarded pod shop/cart-0",
    );
    assert_eq!(sniff(line.as_bytes()), Some(Format::Hubble));
}

#[test]
fn an_aggregate_is_its_first_flow() {
    let line = record(
        &tcp(SYN),
        &format!(r#"{OUT},"aggregate":{{"egress_flow_count":12}}"#),
    );
    check(
        &line,
        "tcp 10.0.1.5 40000 > 203.0.113.7 443 Pending forwarded",
    );
}

#[test]
fn a_record_and_a_loss_name_their_node_without_the_cluster() {
    let node_of = |line: &str| match decode_line(Format::Hubble, line.as_bytes()) {
        Decoded::Signal(Signal::Flow(flow)) => flow.node.map(Cow::into_owned),
        Decoded::Signal(Signal::Lost(lost)) => lost.node.map(Cow::into_owned),
        other => panic!("{other:?}"),
    };
    let of_record = record(&tcp(SYN), &format!(r#"{OUT},"node_name":"prod/worker-2""#));
    assert_eq!(node_of(&of_record).as_deref(), Some("worker-2"));
    let of_envelope = record(&tcp(SYN), OUT);
    assert_eq!(node_of(&of_envelope).as_deref(), Some("n1"));
    let lost = r#"{"lost_events":{"num_events_lost":"7"},"node_name":"prod/n1","time":"2026-01-01T00:00:00Z"}"#;
    assert_eq!(node_of(lost).as_deref(), Some("n1"));
}

#[test]
fn loss_is_a_signal_and_other_events_are_not() {
    let lost = |count: &str| {
        format!(
            r#"{{"lost_events":{{"source":"PERF_EVENT_RING_BUFFER","num_events_lost":{count},"cpu":5}},"node_name":"n1","time":"2026-01-01T00:00:00Z"}}"#
        )
    };
    check(
        &lost(r#""18446744073709551615""#),
        "lost 18446744073709551615 at 2026-01-01T00:00:00Z",
    );
    check(&lost("7"), "lost 7 at 2026-01-01T00:00:00Z");
    check(&lost(r#""many""#), "malformed BadNumber");
    check(
        r#"{"lost_events":{"num_events_lost":"7"}}"#,
        "malformed MissingField",
    );
    for key in ["node_status", "agent_event", "debug_event"] {
        check(
            &format!(r#"{{"{key}":{{"type":"X"}},"time":"2026-01-01T00:00:00Z"}}"#),
            "skipped NotTraffic",
        );
    }
}

#[test]
fn dns_records_attribute_the_name_to_the_client() {
    let line = |kind: &str, dns: &str, rest: &str| {
        record(
            UDP,
            &format!(
                r#"{rest},"Type":"L7","l7":{{"type":"{kind}","dns":{{{dns}}}}},"event_type":{{"type":129}}"#
            ),
        )
    };
    check(
        &line(
            "RESPONSE",
            r#""query":"Pool.Example.net.","ips":["198.51.100.7","x","2001:db8::1"],"rrtypes":["A"]"#,
            BACK,
        ),
        "dns 203.0.113.7 queries Pool.Example.net [198.51.100.7, 2001:db8::1] nonexistent Some(false)",
    );
    check(
        &line("RESPONSE", r#""query":"no.example.","rcode":3"#, BACK),
        "dns 203.0.113.7 queries no.example [] nonexistent Some(true)",
    );
    check(
        &line("REQUEST", r#""query":"pool.example.net.""#, OUT),
        "dns 10.0.1.5 queries pool.example.net [] nonexistent None",
    );
    let refused = OUT.replace("FORWARDED", "DROPPED");
    check(
        &line("REQUEST", r#""query":"pool.example.net.""#, &refused),
        "dns 10.0.1.5 queries pool.example.net [] nonexistent None",
    );
    check(&line("REQUEST", r#""query":".""#, OUT), "skipped NoName");
    let http = record(
        &tcp(""),
        &format!(r#"{OUT},"l7":{{"type":"REQUEST","http":{{"method":"GET"}}}}"#),
    );
    check(&http, "skipped OtherL7");
}

#[test]
fn addresses_are_normalised() {
    let line = record(&tcp(SYN), OUT).replace("10.0.1.5", "::ffff:10.0.1.5");
    check(
        &line,
        "tcp 10.0.1.5 40000 > 203.0.113.7 443 Pending forwarded",
    );
    let six = record(&tcp(SYN), OUT)
        .replace("10.0.1.5", "2001:DB8::5")
        .replace("203.0.113.7", "2001:db8:0::7");
    check(
        &six,
        "tcp 2001:db8::5 40000 > 2001:db8::7 443 Pending forwarded",
    );
}

#[test]
fn broken_fields_make_a_malformed_record() {
    let whole = record(&tcp(SYN), OUT);
    let check_replaced = |from: &str, to: &str, expected: &str| {
        let line = whole.replacen(from, to, 1);
        assert_ne!(line, whole);
        check(&line, expected);
    };
    check_replaced("40000", "70000", "malformed BadPort");
    check_replaced("443", "\"https\"", "malformed BadPort");
    check_replaced("10.0.1.5", "10.0.1.500", "malformed BadAddress");
    check_replaced(
        "2026-02-24T08:43:39Z",
        "2426-02-24T08:43:39Z",
        "malformed BadTime",
    );
    check_replaced(
        "\"verdict\"",
        "\"verdict\":\"DROPPED\",\"verdict\"",
        "malformed DuplicateKey",
    );
    check_replaced("\"l4\"", "\"IP\":{},\"l4\"", "malformed DuplicateKey");
    // Unexpected types of optional fields are treated as absent.
    check_replaced(
        "\"l4\"",
        "\"source\":[1,{\"a\":2}],\"source_names\":7,\"l4\"",
        "tcp 10.0.1.5 40000 > 203.0.113.7 443 Pending forwarded",
    );
    check("{\"flow\":7}", "unknown");
    check("{\"flow\":null}", "unknown");
}
