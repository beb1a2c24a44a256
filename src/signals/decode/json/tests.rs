//! Compares the reader with serde: the same lines, the same structs.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::super::tests::{properties, shared};
use super::super::{Malformed, hubble, ulogd, zeek};

/// The readings of a line by this reader and by serde, with the structs of each format.
fn readings(line: &str) -> [[Result<String, Malformed>; 2]; 3] {
    [
        hubble::both_readings(line),
        zeek::both_readings(line),
        ulogd::both_readings(line),
    ]
}

/// Checks that this reader and serde have the same result. A different result is allowed only where serde finds
/// something that is not JSON, because that can be in a value that this reader skips.
#[track_caller]
fn check(line: &str) {
    for [ours, reference] in readings(line) {
        if reference != Err(Malformed::NotJson) {
            assert_eq!(ours, reference, "{line}");
        }
    }
}

/// Checks that this reader reports the same error as serde, for every format.
#[track_caller]
fn check_refused(line: &str, expected: Malformed) {
    for [ours, reference] in readings(line) {
        assert_eq!(reference, Err(expected), "serde: {line}");
        assert_eq!(ours, Err(expected), "{line}");
    }
}

#[test]
fn faults_of_structure_are_found_wherever_they_are() {
    for line in [
        r#"{"a":1,}"#,
        r#"{"a" 1}"#,
        r#"{"a":1 "b":2}"#,
        r#"{,"a":1}"#,
        r#"{"a":1]"#,
        r"{a:1}",
        r"{1:1}",
        r#"{"a":}"#,
        r#"{"a":1}}"#,
        r#"{"a":1} {"b":2}"#,
        r#"{"a":1}x"#,
        r#"{"a":"x"y"}"#,
        "{\"a\":\"\u{1}\"}",
        "{\"\u{1}\":1}",
    ] {
        check_refused(line, Malformed::NotJson);
    }
    for line in [
        "{",
        r#"{""#,
        r#"{"a"#,
        r#"{"a\\"#,
        r#"{"a""#,
        r#"{"a":"#,
        r#"{"a":1"#,
        r#"{"a":1,"#,
        r#"{"a":{"b":[1,2]"#,
        r#"{"a":["]}"]"#,
        r#"{"a":"}"#,
        r#"{"a":"\"}"#,
    ] {
        check_refused(line, Malformed::Truncated);
    }
}

#[test]
fn values_that_are_read_are_checked_like_serde_checks_them() {
    for value in [
        "01",
        "1.",
        ".5",
        "1e",
        "+1",
        "-",
        "1.5.2",
        "0x10",
        "tru",
        "truee",
        "nul",
        "NaN",
        "1e999",
        r#""\q""#,
        r#""\ud800""#,
        r#""\u12""#,
        "[1,]",
        "[1 2]",
        "[01]",
    ] {
        for key in ["time", "ts", "timestamp", "ips", "answers"] {
            check(&format!("{{\"{key}\":{value}}}"));
        }
        let line = format!("{{\"time\":{value},\"ts\":{value},\"timestamp\":{value}}}");
        let is_list = value.starts_with('[');
        for [ours, reference] in readings(&line) {
            assert_eq!(reference, Err(Malformed::NotJson), "serde: {line}");
            assert!(is_list || ours == reference, "{ours:?}: {line}");
        }
    }
}

#[test]
fn numbers_have_the_value_that_serde_gives_them() {
    for number in [
        "0",
        "-0",
        "7",
        "-7",
        "9007199254740991",
        "9007199254740993",
        "9007199254740993.5",
        "18446744073709551615",
        "18446744073709551616",
        "9999999999999999999",
        "0.1",
        "0.30",
        "1700828217.314165",
        "1700828217.3141651234",
        "1.7976931348623157e308",
        "5e-324",
        "1E2",
        "0.00000000000000000000001",
        "123456.7890123456789012345",
        "0.0",
        "4503599627370497.5",
    ] {
        let line = format!("{{\"ts\": {number} ,\"time\":{number},\"timestamp\":{number}\n}}");
        for [ours, reference] in readings(&line) {
            assert!(reference.is_ok(), "{reference:?}: {line}");
            assert_eq!(ours, reference, "{line}");
        }
    }
}

#[test]
fn a_key_that_is_spelled_with_escapes_is_the_same_key() {
    for line in [
        r#"{"\u0074ime":1,"\u0074s":2,"\u0074imestamp":3}"#,
        r#"{"ti\u006de":1,"ts":2,"timestamp\u0000":3}"#,
    ] {
        check(line);
    }
    check_refused(
        r#"{"time":1,"\u0074ime":1,"ts":1,"t\u0073":1,"timestamp":1,"\u0074imestamp":1}"#,
        Malformed::DuplicateKey,
    );
}

#[test]
fn a_key_that_comes_twice_is_refused_before_what_follows_it() {
    for (place, key) in [(0, "time"), (1, "ts"), (2, "timestamp")] {
        let line = format!(r#"{{"{key}":null,"{key}""#);
        let [ours, reference] = &readings(&line)[place];
        assert_eq!(ours, &Err(Malformed::DuplicateKey), "{line}");
        assert_eq!(ours, reference, "{line}");
    }
}

#[test]
fn text_with_brackets_and_quotes_does_not_leave_its_string() {
    for text in [
        r#"\"},\"flow\":{"#,
        r"]]]]}}}}",
        r"\\",
        r#"\\\"{["#,
        "{\\\"a\\\":[",
        "\u{e4}\u{1f600}]",
    ] {
        for padding in 0..130 {
            let pad = "x".repeat(padding);
            check(&format!(
                r#"{{"labels":["{pad}{text}",{{"b":"{text}"}}],"ts":1,"time":2,"timestamp":3,"flow":{{"source":{{"labels":["{text}"],"pod_name":"{text}"}}}}}}"#
            ));
        }
    }
}

/// A line that is cut by a crash or a full disk is followed by a complete one, without a line terminator in between.
#[test]
fn a_cut_line_that_is_joined_with_a_whole_one_is_never_a_record() {
    let whole = r#"{"flow":{"time":"2026-02-24T08:43:39Z","source":{"labels":["a]}\"","k8s:x=\\"],"pod_name":"a\"b"},"IP":{"source":"10.0.0.1","destination":"10.0.0.2"}},"labels":{"a":["]"],"b":"}{"},"ts":1,"src_ip":"10.0.0.1","time":"2026-02-24T08:43:39Z"}"#;
    for [ours, _] in readings(whole) {
        assert!(ours.is_ok());
    }
    for (cut, _) in whole.char_indices().skip(1) {
        let line = format!("{}{whole}", &whole[..cut]);
        for [ours, _] in readings(&line) {
            assert!(ours.is_err(), "cut at {cut}: {ours:?}");
        }
    }
}

#[test]
fn recorded_lines_read_as_serde_reads_them() {
    let files = [
        "samples/hubble.jsonl",
        "samples/netfilter/nfct.json",
        "samples/netfilter/nflog.json",
        "corpus/coinhive-browser/conn.log",
        "corpus/coinhive-browser/dns.log",
        "corpus/coinhive-browser/ssl.log",
    ];
    for path in files.into_iter().filter_map(shared) {
        let text = std::fs::read_to_string(&path).unwrap();
        for line in text
            .lines()
            .filter(|line| line.starts_with('{'))
            .take(2_000)
        {
            check(line);
            let is_read = readings(line).iter().all(|[ours, _]| ours.is_ok());
            assert!(is_read, "{line}");
        }
    }
}

const KEYS: [&str; 24] = [
    "flow",
    "time",
    "IP",
    "l4",
    "TCP",
    "flags",
    "SYN",
    "source",
    "source_port",
    "labels",
    "l7",
    "dns",
    "ips",
    "destination_names",
    "ts",
    "id.orig_h",
    "answers",
    "src_ip",
    "ct.event",
    "timestamp",
    "x",
    "",
    "\\u0066low",
    "a\\\"b",
];

/// Arbitrary JSON, with the keys of the formats and with white space.
fn json() -> impl Strategy<Value = String> {
    let text = prop_oneof![
        select(&properties::HOSTILE[..]).prop_map(str::to_owned),
        "\"[a-z{}\\[\\]:, \u{e4}]{0,80}\"",
        Just(r#""\\\"}]""#.to_owned()),
        "[0-9]{1,20}",
        "[0-9]{1,12}\\.[0-9]{1,12}",
    ];
    let space = select(&["", "", " ", "\t", " \n"][..]);
    text.prop_recursive(5, 60, 6, move |inner| {
        let field =
            (select(&KEYS[..]), inner.clone(), space.clone()).prop_map(|(key, value, space)| {
                format!("{space}\"{key}\"{space}:{space}{value}{space}")
            });
        prop_oneof![
            3 => vec(field, 0..6).prop_map(|fields| format!("{{{}}}", fields.join(","))),
            1 => vec(inner, 0..5).prop_map(|items| format!("[{}]", items.join(", "))),
        ]
    })
    .prop_map(|value| {
        if value.starts_with('{') {
            value
        } else {
            format!("{{\"flow\":{value}}}")
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_lines_read_as_serde_reads_them(line in properties::mutated()) {
        if let Ok(line) = std::str::from_utf8(&line) {
            let line = line.trim_ascii();
            if line.starts_with('{') {
                check(line);
            }
        }
    }

    #[test]
    fn json_of_any_shape_reads_as_serde_reads_it(line in json()) {
        check(&line);
    }

    #[test]
    fn cut_json_of_any_shape_is_never_a_record(line in json(), cut in any::<prop::sample::Index>()) {
        let cut = cut.index(line.len().max(2) - 1).max(1);
        if let Some(cut) = line.get(..cut).filter(|cut| !cut.trim_ascii_end().is_empty()) {
            for [ours, _] in readings(cut) {
                prop_assert!(ours.is_err(), "{:?}: {}", ours, cut);
            }
            check(cut);
        }
    }
}
