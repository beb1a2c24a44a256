//! Our messages against Cilium's definitions: what an exporter writes and what Relay sends must mean
//! the same.

use std::path::{Path, PathBuf};

use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, Kind};
use serde_json::{Value, json};
use yellowjack::testing::model::{Outcome, Signal};
use yellowjack::testing::signals::decode::relay::{
    self, FIELDS_READ, FIELDS_READ_TOO, Timestamp, flows_request, lost_source, node_state,
};
use yellowjack::testing::signals::decode::{Decoded, Format, decode};

use crate::cilium;

/// The line that we make of a message.
fn line_of(message: &[u8]) -> String {
    let mut line = Vec::new();
    relay::read(message).unwrap().write_line(&mut line);
    String::from_utf8(line).unwrap()
}

fn check_equal(line: &str) -> Decoded<'_> {
    let by_file = decode(Format::Hubble, line.as_bytes());
    let whole = cilium::parse(line);
    let paths = FIELDS_READ.iter().chain(&FIELDS_READ_TOO);
    let paths: Vec<_> = paths.map(|path| (*path).to_owned()).collect();
    for sent in [whole.clone(), cilium::mask(&whole, &paths)] {
        let ours = line_of(&sent.encode_to_vec());
        assert_eq!(
            decode(Format::Hubble, ours.as_bytes()),
            by_file,
            "{line}\n{ours}"
        );
    }
    by_file
}

/// Recorded lines: those of the cases, and those of real clusters where they lie beside this folder.
fn recorded() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let shared = std::env::var_os("YELLOWJACK_SHARED")
        .map_or_else(|| root.parent().unwrap().join("shared"), PathBuf::from);
    let real = shared.join("samples/hubble.jsonl");
    if !real.exists() {
        println!(
            "skipped: {} is not here (set YELLOWJACK_SHARED)",
            real.display()
        );
    }
    let cases = ["honest/lossy-node", "scan/ipv6", "scan/denied-by-policy"];
    let cases = cases
        .iter()
        .map(|case| root.join("tests/cases").join(case).join("flows.ndjson"));
    cases.chain(real.exists().then_some(real)).collect()
}

#[test]
fn recorded_flows_give_the_same_signals_through_a_file_and_through_relay() {
    for file in recorded() {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut signals = 0;
        for line in text.lines() {
            signals += usize::from(matches!(check_equal(line), Decoded::Signal(_)));
        }
        assert!(signals > 0, "{}", file.display());
    }
}

#[test]
fn every_kind_of_record_gives_the_same_by_either_way() {
    let flow = |rest: &str| {
        format!(
            r#"{{"flow":{{"time":"2026-02-24T08:43:39.5Z","IP":{{"source":"10.0.1.5","destination":"203.0.113.7"}},{rest}}}}}"#
        )
    };
    let out = r#""verdict":"FORWARDED","traffic_direction":"EGRESS","is_reply":false"#;
    let back = r#""verdict":"FORWARDED","traffic_direction":"EGRESS","is_reply":true"#;
    for rest in [
        format!(r#""l4":{{"TCP":{{"source_port":1,"destination_port":443,"flags":{{"SYN":true}}}}}},{out}"#),
        format!(r#""l4":{{"TCP":{{"source_port":443,"destination_port":9,"flags":{{"SYN":true,"ACK":true}}}}}},{back}"#),
        format!(r#""l4":{{"TCP":{{"source_port":443,"destination_port":9,"flags":{{"RST":true,"ACK":true}}}}}},{back}"#),
        format!(r#""l4":{{"TCP":{{"source_port":1,"destination_port":443,"flags":{{"PSH":true,"ACK":true,"FIN":true}}}}}},{out}"#),
        format!(r#""l4":{{"TCP":{{"source_port":1,"destination_port":443}}}},"trace_reason":"ESTABLISHED",{out}"#),
        format!(r#""l4":{{"TCP":{{"source_port":1}}}},{out}"#),
        format!(r#""l4":{{"UDP":{{"source_port":1,"destination_port":53}}}},{out},"source":{{"namespace":"ml","pod_name":"a"}}"#),
        format!(r#""l4":{{"SCTP":{{"source_port":1,"destination_port":5,"chunk_type":"INIT"}}}},{out},"destination_names":["a.example.","b"]"#),
        format!(r#""l4":{{"ICMPv4":{{"type":8,"code":0}}}},{out}"#),
        format!(r#""l4":{{"ICMPv4":{{"type":0}}}},{back},"source_names":["x"],"destination":{{"namespace":"ml","pod_name":"a"}}"#),
        format!(r#""l4":{{"ICMPv6":{{"type":128}}}},{out}"#),
        format!(r#""l4":{{"IGMP":{{"type":17}}}},{out}"#),
        format!(r#""l4":{{"VRRP":{{"vrid":1}}}},{out}"#),
        out.to_owned(),
        format!(r#""l7":{{"type":"REQUEST","dns":{{"query":"pool.example.com."}}}},{out}"#),
        format!(r#""l7":{{"type":"RESPONSE","dns":{{"query":"pool.example.com.","ips":["192.0.2.1"],"rcode":3}}}},{back}"#),
        format!(r#""l7":{{"type":"REQUEST","http":{{"method":"GET"}}}},{out}"#),
        r#""verdict":"DROPPED","drop_reason":133,"event_type":{"type":1,"sub_type":133},"l4":{"UDP":{"destination_port":9}}"#.to_owned(),
        r#""verdict":"DROPPED","event_type":{"type":5},"l4":{"UDP":{"destination_port":9}}"#.to_owned(),
        r#""verdict":"FORWARDED","traffic_direction":"INGRESS""#.to_owned(),
        r#""verdict":"FORWARDED","trace_observation_point":"FROM_ENDPOINT""#.to_owned(),
        r#""verdict":"AUDIT","event_type":{"type":5},"l4":{"UDP":{"destination_port":9}}"#.to_owned(),
        r#""verdict":"TRACED""#.to_owned(),
        r#""verdict":"ERROR""#.to_owned(),
        r#""l4":{"UDP":{"destination_port":9}},"reply":true,"verdict":"FORWARDED""#.to_owned(),
    ] {
        check_equal(&flow(&rest));
    }
    check_equal(r#"{"flow":{"verdict":"FORWARDED"},"time":"2026-02-24T08:43:39Z"}"#);
    check_equal(
        r#"{"lost_events":{"source":"PERF_EVENT_RING_BUFFER","num_events_lost":"18446744073709551615","cpu":5},"time":"2026-02-24T08:43:39Z"}"#,
    );
    check_equal(r#"{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"7"}}"#);
}

#[test]
fn every_field_has_the_number_and_the_name_that_cilium_gives_it() {
    let l4 = [
        json!({ "TCP": { "source_port": 1, "destination_port": 2, "flags": {
            "FIN": true, "SYN": true, "RST": true, "PSH": true, "ACK": true } } }),
        json!({ "UDP": { "source_port": 3, "destination_port": 4 } }),
        json!({ "ICMPv4": { "type": 5 } }),
        json!({ "ICMPv6": { "type": 6 } }),
        json!({ "SCTP": { "source_port": 7, "destination_port": 8 } }),
        json!({ "VRRP": {} }),
        json!({ "IGMP": {} }),
    ];
    for l4 in l4 {
        let full = json!({
            "flow": {
                "time": "2026-02-24T08:43:39.123456789Z",
                "verdict": "DROPPED",
                "drop_reason": 181,
                "IP": { "source": "10.0.0.1", "destination": "10.0.0.2" },
                "l4": l4,
                "source": { "namespace": "a", "pod_name": "b" },
                "destination": { "namespace": "c", "pod_name": "d" },
                "source_names": ["e", "f"],
                "destination_names": ["g"],
                "l7": { "type": "REQUEST", "dns": { "query": "h.", "ips": ["10.0.0.3"], "rcode": 3 } },
                "reply": true,
                "event_type": { "type": 9, "sub_type": 10 },
                "traffic_direction": "EGRESS",
                "trace_observation_point": "TO_NETWORK",
                "trace_reason": "ESTABLISHED",
                "drop_reason_desc": "POLICY_DENY",
                "is_reply": false,
            },
            "time": "2026-02-24T08:43:40.987654321Z",
        });
        let ours: Value =
            serde_json::from_str(&line_of(&cilium::encode(&full.to_string()))).unwrap();
        assert_eq!(ours, full);
    }
}

/// Sets a field of a flow to each value of its enum, one after the other.
fn check_names(field: &str, name: &str) {
    let flow = cilium::message("flow.Flow");
    let kind = flow.get_field_by_name(field).unwrap().kind();
    assert!(
        matches!(&kind, Kind::Enum(found) if found.full_name() == name),
        "{field}"
    );
    for value in cilium::enumeration(name)
        .values()
        .filter(|value| value.number() != 0)
    {
        let line = json!({ "flow": { field: value.name() } }).to_string();
        let ours: Value = serde_json::from_str(&line_of(&cilium::encode(&line))).unwrap();
        assert_eq!(ours["flow"][field], value.name());
    }
}

#[test]
fn every_value_of_every_enum_has_cilium_s_name() {
    check_names("verdict", "flow.Verdict");
    check_names("traffic_direction", "flow.TrafficDirection");
    check_names("trace_observation_point", "flow.TraceObservationPoint");
    check_names("trace_reason", "flow.TraceReason");
    for value in cilium::enumeration("flow.L7FlowType")
        .values()
        .filter(|value| value.number() != 0)
    {
        let line = json!({ "flow": { "l7": { "type": value.name() } } }).to_string();
        let ours: Value = serde_json::from_str(&line_of(&cilium::encode(&line))).unwrap();
        assert_eq!(ours["flow"]["l7"]["type"], value.name());
    }
    let number = |name: &str, value: &str| {
        let found = cilium::enumeration(name).get_value_by_name(value);
        found.unwrap().number()
    };
    for (name, ours) in [
        ("UNKNOWN_LOST_EVENT_SOURCE", lost_source::UNKNOWN),
        (
            "PERF_EVENT_RING_BUFFER",
            lost_source::PERF_EVENT_RING_BUFFER,
        ),
        ("OBSERVER_EVENTS_QUEUE", lost_source::OBSERVER_EVENTS_QUEUE),
        ("HUBBLE_RING_BUFFER", lost_source::HUBBLE_RING_BUFFER),
    ] {
        assert_eq!(number("flow.LostEventSource", name), ours);
    }
    for (name, ours) in [
        ("NODE_CONNECTED", node_state::CONNECTED),
        ("NODE_UNAVAILABLE", node_state::UNAVAILABLE),
        ("NODE_GONE", node_state::GONE),
        ("NODE_ERROR", node_state::ERROR),
    ] {
        assert_eq!(number("relay.NodeState", name), ours);
    }
}

#[test]
fn every_reason_of_a_drop_means_the_same_by_name_and_by_number() {
    for reason in cilium::enumeration("flow.DropReason").values() {
        let name = reason.name();
        check_equal(&format!(
            r#"{{"flow":{{"time":"2026-02-24T08:43:39Z","verdict":"DROPPED","IP":{{"source":"10.0.1.5","destination":"203.0.113.7"}},"l4":{{"UDP":{{"destination_port":9}}}},"drop_reason_desc":"{name}"}}}}"#
        ));
    }
}

#[test]
fn a_request_says_what_is_wanted_and_cilium_reads_it() {
    let since = Timestamp::from_nanos(1_790_000_000_123_456_789);
    let request = flows_request(since, true);
    let descriptor = cilium::message("observer.GetFlowsRequest");
    let theirs =
        DynamicMessage::decode(descriptor.clone(), request.encode_to_vec().as_slice()).unwrap();
    let field = |name: &str| theirs.get_field_by_name(name).unwrap().into_owned();
    assert_eq!(field("follow").as_bool(), Some(true));
    let filters: Vec<_> = field("blacklist")
        .as_list()
        .unwrap()
        .iter()
        .map(|filter| serde_json::to_value(filter.as_message().unwrap()).unwrap())
        .collect();
    assert_eq!(
        filters,
        [
            json!({ "trafficDirection": ["INGRESS"] }),
            json!({ "verdict": ["TRACED", "TRANSLATED"] }),
        ]
    );
    assert_eq!(
        serde_json::to_value(field("since").as_message().unwrap()).unwrap(),
        "2026-09-21T14:13:20.123456789Z"
    );
    let flow = cilium::message("flow.Flow");
    let mask = field("field_mask");
    let mask = mask
        .as_message()
        .unwrap()
        .get_field_by_name("paths")
        .unwrap()
        .into_owned();
    let paths: Vec<_> = mask
        .as_list()
        .unwrap()
        .iter()
        .map(|path| path.as_str().unwrap().to_owned())
        .collect();
    assert_eq!(paths.len(), FIELDS_READ.len() + FIELDS_READ_TOO.len());
    for path in paths {
        let mut at = Some(flow.clone());
        for name in path.split('.') {
            let field = at
                .take()
                .unwrap()
                .get_field_by_name(name)
                .unwrap_or_else(|| panic!("{path}"));
            at = field.kind().as_message().cloned();
        }
    }
    assert_eq!(flows_request(since, false).field_mask, None);
    // What Cilium until 1.17 reads.
    let before = request.experimental.unwrap().field_mask;
    assert_eq!(before, request.field_mask);
}

#[test]
fn what_cannot_be_read_is_a_malformed_line_and_hostile_text_stays_one_line() {
    for garbage in [&b"\xff\xff\xff"[..], b"\x0a\x05ab", b"\x0a\x02\x2a\xff"] {
        assert_eq!(relay::read(garbage), None, "{garbage:?}");
        let mut line = Vec::new();
        relay::write_unreadable(garbage, &mut line);
        assert_eq!(line.pop(), Some(b'\n'));
        assert!(matches!(
            decode(Format::Hubble, &line),
            Decoded::Malformed(_)
        ));
        assert!(line.is_ascii() && line.len() < 200);
    }
    let hostile = json!({ "flow": {
        "time": "2026-02-24T08:43:39Z", "verdict": "FORWARDED", "traffic_direction": "EGRESS",
        "is_reply": false, "IP": { "source": "10.0.1.5", "destination": "203.0.113.7" },
        "l4": { "UDP": { "destination_port": 9 } },
        "source": { "namespace": "a\n{\"flow\":{}}", "pod_name": "\u{1b}[31m\u{0}\"}" },
    }});
    let line = line_of(&cilium::encode(&hostile.to_string()));
    assert_eq!(line.matches('\n').count(), 1);
    let Decoded::Signal(Signal::Flow(flow)) = decode(Format::Hubble, line.as_bytes()) else {
        panic!("{line}");
    };
    assert_eq!(flow.outcome, Outcome::Pending);
    assert_eq!(flow.pod.unwrap().namespace, "a\n{\"flow\":{}}");
}

#[test]
fn times_that_no_calendar_has_are_malformed_and_not_the_end() {
    for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 5), (1, -5), (1, i32::MAX)] {
        let response = relay::GetFlowsResponse {
            flow: Some(relay::Flow {
                time: Some(Timestamp { seconds, nanos }),
                verdict: 1,
                ..relay::Flow::default()
            }),
            ..relay::GetFlowsResponse::default()
        };
        let line = line_of(&response.encode_to_vec());
        let decoded = decode(Format::Hubble, line.as_bytes());
        assert!(matches!(decoded, Decoded::Malformed(_)), "{decoded:?}");
    }
}
