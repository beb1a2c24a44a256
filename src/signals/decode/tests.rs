//! Properties of every format.

use std::path::PathBuf;

use super::*;

/// Recorded data beside the repository; `None`, with a message, if it is missing.
pub(super) fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("YELLOWJACK_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    println!(
        "skipped: {} is not here (set YELLOWJACK_SHARED)",
        path.display()
    );
    None
}

/// The flow of a line; a different result fails the test.
#[track_caller]
pub(super) fn flow(format: Format, line: &str) -> crate::model::Flow<'_> {
    match decode(format, line.as_bytes()) {
        Decoded::Signal(Signal::Flow(flow)) => flow,
        other => panic!("no flow but {other:?}: {line}"),
    }
}

#[test]
fn names_lead_back_to_formats() {
    for format in Format::ALL {
        assert_eq!(Format::from_name(format.name()), Some(format));
    }
    assert_eq!(Format::from_name("syslog"), None);
}

/// All formats except the one that is not JSON.
fn json_formats() -> impl Iterator<Item = Format> {
    Format::ALL
        .into_iter()
        .filter(|format| *format != Format::Vpc)
}

#[test]
fn a_line_that_is_no_record_is_distinguished_from_a_broken_one() {
    for format in json_formats() {
        let check = |line: &[u8], expected: Decoded<'_>| {
            assert_eq!(
                decode(format, line),
                expected,
                "{}",
                String::from_utf8_lossy(line)
            );
        };
        check(b"", Decoded::Skipped(SkipReason::Blank));
        check(b" \r\n", Decoded::Skipped(SkipReason::Blank));
        check(b"{}", Decoded::Unknown);
        check(b"[1,2]", Decoded::Unknown);
        check(b"{\"level\":\"info\",\"msg\":\"hello\"}", Decoded::Unknown);
        check(b"hello", Decoded::Malformed(Malformed::NotJson));
        check(
            b"{\"a\":1} {\"b\":2}",
            Decoded::Malformed(Malformed::NotJson),
        );
        check(b"{\"a\":", Decoded::Malformed(Malformed::Truncated));
        check(b"{\"a\":\"\xff\"}", Decoded::Malformed(Malformed::NotUtf8));
        check(
            b"2026-02-24T08:43:39.07Z stdout P {\"flow\":{",
            Decoded::Malformed(Malformed::PartialLine),
        );
    }
}

#[test]
fn a_line_beyond_the_bound_is_not_even_read() {
    let line = vec![b' '; limits::LINE_BYTES_MAX + 1];
    for format in Format::ALL {
        assert_eq!(
            decode(format, &line),
            Decoded::Malformed(Malformed::TooLong)
        );
    }
}

/// A one-line summary of the result for a line, so that tables of tests stay readable.
pub(super) fn summary(decoded: &Decoded<'_>) -> String {
    match decoded {
        Decoded::Signal(Signal::Flow(flow)) => {
            let passed = if flow.forwarded {
                "forwarded"
            } else {
                "dropped"
            };
            let pod = flow.pod.as_ref().map_or(String::new(), |pod| {
                format!(" pod {}/{}", pod.namespace, pod.name)
            });
            let name = flow
                .destination_name
                .as_ref()
                .map_or(String::new(), |name| format!(" name {name}"));
            format!(
                "{} {} {} > {} {} {:?} {passed}{pod}{name}",
                flow.transport.name(),
                flow.source,
                flow.source_port,
                flow.destination,
                flow.destination_port,
                flow.outcome,
            )
        }
        Decoded::Signal(Signal::Dns(query)) => format!(
            "dns {} queries {} {:?} nonexistent {:?}",
            query.source, query.query, query.answers, query.nonexistent
        ),
        Decoded::Signal(Signal::Tls(name)) => format!("tls {} {}", name.source, name.server_name),
        Decoded::Signal(Signal::Sample(sample)) => format!("sample {}", sample.pod),
        Decoded::Signal(Signal::Lost(lost)) => format!("lost {} at {}", lost.count, lost.time),
        Decoded::Skipped(reason) => format!("skipped {}", reason.name()),
        Decoded::Unknown => "unknown".to_owned(),
        Decoded::Malformed(malformed) => format!("malformed {}", malformed.name()),
    }
}

/// Checks the summary of a line.
#[track_caller]
pub(super) fn check(format: Format, line: &str, expected: &str) {
    assert_eq!(
        summary(&decode(format, line.as_bytes())),
        expected,
        "{line}"
    );
}

#[test]
fn a_container_runtimes_prefix_is_taken_off() {
    let line =
        "2026-02-24T08:43:39.07Z stdout F {\"lost_events\":{},\"time\":\"2026-02-24T08:43:39Z\"}";
    check(Format::Hubble, line, "lost 0 at 2026-02-24T08:43:39Z");
    let tagged = line.replace(" F ", " F:x ");
    check(Format::Hubble, &tagged, "lost 0 at 2026-02-24T08:43:39Z");
    assert_eq!(sniff(line.as_bytes()), Some(Format::Hubble));
    let no_time = line.replace("2026-02-24T08:43:39.07Z stdout", "somewhere stdout");
    check(Format::Hubble, &no_time, "malformed NotJson");
}

#[test]
fn keys_alone_name_the_format() {
    let check = |line: &str, expected| assert_eq!(sniff(line.as_bytes()), expected, "{line}");
    check(r#"{"flow":{}}"#, Some(Format::Hubble));
    check(r#"{"verdict":"FORWARDED","IP":{}}"#, Some(Format::Hubble));
    check(r#"{"ts":1,"id.orig_h":"10.0.0.1"}"#, Some(Format::Zeek));
    check(r#"{"dvc":"x","ct.event":4}"#, Some(Format::Ulogd));
    check(r#"{"raw.pktlen":60}"#, Some(Format::Ulogd));
    check(r#"{"id.orig_h":"10.0.0.1","ct.event":4}"#, None);
    check(r#"{"level":"info"}"#, None);
    check("{\"flow\":", None);
    check("[]", None);
    check("", None);
}

#[test]
fn nesting_without_end_is_refused_or_skipped_but_never_climbed() {
    for format in Format::ALL {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            for depth in [200, limits::LINE_BYTES_MAX / 8] {
                let nest = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                for key in ["flow", "ts", "src_ip", "nothing", "answers"] {
                    let line = format!("{{\"{key}\":{nest}}}");
                    let decoded = decode(format, line.as_bytes());
                    assert!(!matches!(decoded, Decoded::Signal(_)), "{key} {depth}");
                    assert_eq!(
                        sniff(line.as_bytes()).is_some(),
                        key == "flow",
                        "{key} {depth}"
                    );
                }
                let _ = decode(format, nest.as_bytes());
                let _ = decode(format, open.repeat(depth).as_bytes());
            }
        }
    }
}

#[test]
fn names_of_reasons_are_unique() {
    let mut names = <SkipReason as strum::VariantNames>::VARIANTS.to_vec();
    names.extend(Malformed::ALL.map(Malformed::name));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

/// Complete lines of every kind, as seeds for mutation.
pub(super) const SEEDS: [(Format, &str); 17] = [
    (
        Format::Hubble,
        r#"{"flow":{"time":"2026-02-24T08:43:39.070396373Z","verdict":"FORWARDED","IP":{"source":"10.10.21.241","destination":"9.134.108.44"},"l4":{"TCP":{"source_port":58012,"destination_port":9922,"flags":{"SYN":true}}},"source":{"namespace":"a","pod_name":"b"},"destination_names":["x.example","y"],"event_type":{"type":4},"traffic_direction":"EGRESS","is_reply":false},"time":"2026-02-24T08:43:39Z"}"#,
    ),
    (
        Format::Hubble,
        r#"{"time":"2026-02-24T08:43:39Z","verdict":"DROPPED","drop_reason":133,"IP":{"source":"fe80::1","destination":"::ffff:1.2.3.4"},"l4":{"ICMPv6":{"type":128}}}"#,
    ),
    (
        Format::Hubble,
        r#"{"flow":{"time":"2026-02-24T08:43:39Z","verdict":"FORWARDED","IP":{"source":"10.0.0.10","destination":"10.0.0.1"},"l7":{"type":"RESPONSE","dns":{"query":"a.example.","ips":["192.0.2.1","192.0.2.2"],"rcode":3}},"is_reply":true}}"#,
    ),
    (
        Format::Hubble,
        r#"{"lost_events":{"source":"HUBBLE_RING_BUFFER","num_events_lost":"1"},"time":"2025-09-28T08:25:44.749505064Z"}"#,
    ),
    (
        Format::Zeek,
        r#"{"ts":1700828217.314165,"id.orig_h":"192.168.1.9","id.orig_p":50820,"id.resp_h":"45.33.32.156","id.resp_p":443,"proto":"tcp","duration":0.2069,"orig_bytes":0,"resp_bytes":0,"conn_state":"REJ","history":"Sr","orig_pkts":1,"resp_pkts":1}"#,
    ),
    (
        Format::Zeek,
        r#"{"_path":"dns","ts":"2018-03-24T17:15:20.615923Z","id.orig_h":"10.0.0.7","id.orig_p":5353,"id.resp_h":"10.0.0.2","id.resp_p":53,"query":"a\u00e4.example.","rcode":0,"answers":["203.0.113.133","2001:db8::1"]}"#,
    ),
    (
        Format::Zeek,
        r#"{"ts":1,"id.orig_h":"10.0.0.7","id.orig_p":53,"id.resp_h":"10.0.0.2","id.resp_p":443,"server_name":"pool.example.net"}"#,
    ),
    (
        Format::Ulogd,
        r#"{"timestamp": "2026-11-24T10:14:57.984364", "raw.pktlen": 60, "oob.prefix": "", "oob.time.sec": 1795515297, "oob.time.usec": 984364, "oob.hook": 2, "ip.protocol": 6, "src_port": 37009, "dest_port": 53, "tcp.ack": 0, "tcp.rst": 0, "tcp.syn": 1, "src_ip": "10.244.0.21", "dest_ip": "203.0.113.53"}"#,
    ),
    (
        Format::Ulogd,
        r#"{"timestamp": "2026-11-24T10:14:57", "orig.ip.protocol": 6, "orig.l4.sport": 35054, "orig.l4.dport": 5432, "orig.raw.pktlen": 60, "orig.raw.pktcount": 1, "reply.raw.pktlen": 40, "reply.raw.pktcount": 1, "ct.event": 4, "flow.start.sec": 1795515297, "flow.start.usec": 990874, "flow.end.sec": 1795515297, "flow.end.usec": 990889, "src_ip": "10.244.0.21", "dest_ip": "203.0.113.90"}"#,
    ),
    (
        Format::Vpc,
        "2 123456789010 eni-1235b8ca123456789 172.31.16.139 172.31.16.21 40641 22 6 20 4249 1418530010 1418530070 ACCEPT OK",
    ),
    (
        Format::Vpc,
        "2 123456789010 eni-1235b8ca123456789 - - - - - - - 1418530010 1418530070 - SKIPDATA",
    ),
    (
        Format::Calico,
        r#"{"start_time":1659621542,"end_time":1659621842,"source_ip":"10.48.116.157","source_name":"multitool","source_namespace":"default","source_port":null,"source_type":"wep","dest_ip":"10.48.127.224","dest_port":5050,"proto":"tcp","action":"deny","reporter":"src","bytes_in":0,"bytes_out":300,"num_flows":1,"num_flows_started":1,"num_flows_completed":0,"packets_in":0,"packets_out":5,"dest_domains":["a.example"]}"#,
    ),
    (
        Format::Suricata,
        r#"{"timestamp":"2026-11-24T10:15:00.000000+0000","flow_id":1,"event_type":"flow","src_ip":"10.0.1.5","src_port":41000,"dest_ip":"198.51.100.7","dest_port":443,"proto":"TCP","flow":{"pkts_toserver":3,"pkts_toclient":0,"bytes_toserver":222,"bytes_toclient":0,"start":"2026-11-24T10:14:00.500000+0000","end":"2026-11-24T10:14:03.500000+0000","age":3,"state":"new","reason":"timeout"},"tcp":{"tcp_flags_ts":"02","tcp_flags_tc":"00"}}"#,
    ),
    (
        Format::Suricata,
        r#"{"timestamp":"2026-11-24T10:15:00+0000","event_type":"dns","src_ip":"10.0.1.5","src_port":5353,"dest_ip":"10.0.0.2","dest_port":53,"proto":"UDP","dns":{"version":2,"type":"answer","rrname":"a.example","rcode":"NOERROR","answers":[{"rrname":"a.example","rrtype":"A","rdata":"192.0.2.7"}],"grouped":{"A":["192.0.2.7"]}}}"#,
    ),
    (
        Format::Suricata,
        r#"{"timestamp":"2026-11-24T10:15:00+0000","event_type":"dns","src_ip":"10.0.0.2","src_port":53,"dest_ip":"10.0.1.5","dest_port":5353,"proto":"UDP","dns":{"version":3,"type":"response","rcode":"NXDOMAIN","queries":[{"rrname":"a.example","rrtype":"A"}],"answers":[]}}"#,
    ),
    (
        Format::Suricata,
        r#"{"timestamp":"2026-11-24T10:15:00Z","event_type":"tls","src_ip":"10.0.1.5","src_port":5,"dest_ip":"192.0.2.7","dest_port":443,"proto":"TCP","tls":{"sni":"pool.example.org","version":"TLS 1.3"}}"#,
    ),
    (
        Format::Suricata,
        r#"{"timestamp":"2026-11-24T10:15:00Z","event_type":"stats","stats":{"uptime":9,"capture":{"kernel_drops":900,"kernel_drops_delta":7}}}"#,
    ),
];

#[test]
fn every_seed_is_a_signal_and_known_by_its_keys() {
    for (format, line) in SEEDS {
        let decoded = decode(format, line.as_bytes());
        assert!(matches!(decoded, Decoded::Signal(_)), "{decoded:?}: {line}");
        assert_eq!(sniff(line.as_bytes()), Some(format), "{line}");
    }
}

#[test]
fn a_cut_line_is_never_a_signal() {
    for (format, line) in SEEDS {
        for length in 1..line.len() {
            let Some(cut) = line.get(..length) else {
                continue;
            };
            let decoded = decode(format, cut.as_bytes());
            // In text without brackets, a truncated word may be a valid one.
            let is_unknown = format == Format::Vpc && decoded == Decoded::Unknown;
            assert!(
                matches!(decoded, Decoded::Malformed(_)) || is_unknown,
                "{decoded:?}: {cut}"
            );
        }
    }
}

/// What must hold for every line, even a hostile one.
fn check_bounds(line: &[u8]) {
    let _ = sniff(line);
    for format in Format::ALL {
        // Also a line in the place of a header.
        let mut after = Decoder::new(format);
        after.learn(line);
        for (_, seed) in SEEDS {
            let _ = after.decode(seed.as_bytes());
        }
        let decoded = decode(format, line);
        assert_eq!(Decoder::new(format).decode(line), decoded);
        let Decoded::Signal(signal) = &decoded else {
            continue;
        };
        let latest = crate::model::EventTime::from_seconds(limits::EVENT_SECONDS_MAX, 0);
        assert!(signal.time().as_micros() >= 0 && signal.time() <= latest);
        match signal {
            Signal::Dns(query) => {
                assert!(query.answers.len() <= limits::DNS_ANSWERS_MAX);
                assert!(!query.query.is_empty() && query.query.len() <= line.len());
            }
            Signal::Flow(flow) => {
                assert!(flow.source.to_canonical() == flow.source);
                assert!(flow.destination.to_canonical() == flow.destination);
            }
            Signal::Tls(name) => assert!(!name.server_name.is_empty()),
            Signal::Sample(_) | Signal::Lost(_) => {}
        }
    }
}

pub(super) mod properties {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::{Index, select};

    use super::*;

    /// Hostile values that replace the value of a field.
    pub(in crate::signals::decode) const HOSTILE: [&str; 22] = [
        "null",
        "true",
        "-1",
        "0",
        "1",
        "70000",
        "18446744073709551616",
        "1e308",
        "-0.0",
        "\"\"",
        "\"-\"",
        "\"\\u0000\"",
        "\"\\ud800\"",
        "\"::ffff:10.0.0.1\"",
        "\"999.1.1.1\"",
        "[]",
        "{}",
        "[[[[]]]]",
        "\"9999-12-31T23:59:59Z\"",
        "{\"flags\":1}",
        "[\"a\",1,null,{}]",
        "4",
    ];

    /// Lines that were valid before some of their bytes were changed.
    pub(in crate::signals::decode) fn mutated() -> impl Strategy<Value = Vec<u8>> {
        let edit = (any::<Index>(), 0..4_u8, any::<u8>(), select(&HOSTILE[..]));
        (select(&SEEDS[..]), vec(edit, 1..6)).prop_map(|((_, line), edits)| {
            let mut bytes = line.as_bytes().to_vec();
            for (index, kind, byte, hostile) in edits {
                let at = index.index(bytes.len().max(1));
                match kind {
                    0 if at < bytes.len() => bytes[at] = byte,
                    1 => bytes.truncate(at),
                    2 => bytes.insert(at.min(bytes.len()), byte),
                    _ => replace_value(&mut bytes, at, hostile),
                }
            }
            bytes
        })
    }

    /// Replaces the value after the next colon by `hostile`.
    fn replace_value(bytes: &mut Vec<u8>, at: usize, hostile: &str) {
        let Some(colon) = bytes.iter().skip(at).position(|byte| *byte == b':') else {
            return;
        };
        let start = at + colon + 1;
        let end = bytes
            .iter()
            .skip(start)
            .position(|byte| matches!(byte, b',' | b'}'));
        let end = end.map_or(bytes.len(), |length| start + length);
        bytes.splice(start..end, hostile.bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_a_decoder_panic(line in vec(any::<u8>(), 0..200)) {
            check_bounds(&line);
        }

        #[test]
        fn no_mutation_of_a_line_makes_a_decoder_panic(line in mutated()) {
            check_bounds(&line);
        }
    }
}
