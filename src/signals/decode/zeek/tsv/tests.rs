//! Zeek's columns: headers of every kind, and lines that do not match their header.

use super::*;
use crate::signals::decode::tests::{shared, summary};
use crate::signals::decode::{Decoder, Format, decode as decode_alone, sniff};

/// The results for the lines of a log, in order, without headers and blank lines.
fn read(log: &str) -> Vec<String> {
    let mut decoder = Decoder::new(Format::Zeek);
    let mut found = Vec::new();
    for line in log.lines() {
        let result = decoder.decode(line.as_bytes());
        if result != Decoded::Skipped(SkipReason::Header) {
            found.push(summary(&result));
        }
        decoder.learn(line.as_bytes());
    }
    found
}

/// A header with these separators, and names between `|`.
fn header(separator: (&str, &str), path: &str, fields: &str) -> String {
    let (written, sign) = separator;
    format!(
        "#separator {written}\n#set_separator{sign};\n#empty_field{sign}(empty)\n#unset_field{sign}-\n\
         #path{sign}{path}\n#open{sign}2025-11-29-08-00-00\n#fields{sign}{}\n#types{sign}x\n",
        fields.replace('|', sign)
    )
}

const TAB: (&str, &str) = ("\\x09", "\t");

const CONN: &str = "ts|uid|id.orig_h|id.orig_p|id.resp_h|id.resp_p|proto|service|duration|orig_bytes|resp_bytes|conn_state|history|orig_pkts|resp_pkts";

const REFUSED: &str = "tcp 10.9.1.50 52000 > 10.30.0.4 3389 Refused forwarded";

fn conn(separator: (&str, &str)) -> String {
    let line = "1764403200.250000|C1|10.9.1.50|52000|10.30.0.4|3389|tcp|-|0.000021|0|0|REJ|Sr|1|1";
    header(separator, "conn", CONN) + &line.replace('|', separator.1)
}

#[test]
fn columns_are_read_like_the_same_line_as_json() {
    let log = conn(TAB);
    let mut decoder = Decoder::new(Format::Zeek);
    let (last, head) = log
        .rsplit_once('\n')
        .map(|(head, last)| (last, head))
        .unwrap();
    head.lines().for_each(|line| decoder.learn(line.as_bytes()));
    let json = r#"{"ts":1764403200.25,"uid":"C1","id.orig_h":"10.9.1.50","id.orig_p":52000,"id.resp_h":"10.30.0.4","id.resp_p":3389,"proto":"tcp","duration":0.000021,"orig_bytes":0,"resp_bytes":0,"conn_state":"REJ","history":"Sr","orig_pkts":1,"resp_pkts":1}"#;
    let as_json = decode_alone(Format::Zeek, json.as_bytes());
    assert!(matches!(as_json, Decoded::Signal(_)), "{as_json:?}");
    assert_eq!(decoder.decode(last.as_bytes()), as_json);
    // Reading continues after the format of a log has changed.
    assert_eq!(decoder.decode(json.as_bytes()), as_json);
}

#[test]
fn any_separator_and_any_order_of_columns_is_read() {
    for separator in [
        TAB,
        ("\\x2c", ","),
        ("\\x7c", "|"),
        ("\\x20", " "),
        ("|", "|"),
        ("\\x3b\\x3b", ";;"),
    ] {
        assert_eq!(read(&conn(separator)), [REFUSED], "{separator:?}");
    }
    let turned = header(
        TAB,
        "conn",
        "conn_state|id_resp_p|id_resp_h|x|id_orig_p|id_orig_h|proto|ts",
    ) + "REJ\t3389\t10.30.0.4\t\t52000\t10.9.1.50\ttcp\t1764403200.25";
    assert_eq!(read(&turned), [REFUSED]);
}

#[test]
fn names_and_servers_are_read_and_escapes_are_undone() {
    let dns = header(
        TAB,
        "dns",
        "ts|id.orig_h|id.orig_p|id.resp_h|id.resp_p|query|rcode_name|answers",
    ) + "1764403200.25\t10.9.1.50\t1\t10.96.0.10\t53\ta\\x09b\\\\.example.org\tNOERROR\tcname.example.org;198.51.100.1;TXT 9 a\\x3b192.0.2.1;2001:db8::1";
    assert_eq!(
        read(&dns),
        [
            "dns 10.9.1.50 queries a\tb\\.example.org [198.51.100.1, 2001:db8::1] nonexistent Some(false)"
        ]
    );
    let ssl = header(
        TAB,
        "ssl",
        "ts|id.orig_h|id.orig_p|id.resp_h|id.resp_p|cipher|server_name|established",
    ) + "1764403200.25\t10.9.1.50\t1\t198.51.100.1\t443\t-\tpool.example.org\tT";
    assert_eq!(read(&ssl), ["tls 10.9.1.50 pool.example.org"]);
}

#[test]
fn a_header_may_come_again_with_other_columns() {
    let other = header(
        TAB,
        "conn",
        "ts|proto|id.orig_h|id.orig_p|id.resp_h|id.resp_p|conn_state",
    ) + "1764403200.25\ttcp\t10.9.1.50\t52000\t10.30.0.4\t3389\tREJ\n#close\t2025-11-29-09-00-00";
    let weird = header(TAB, "weird", "ts|id.orig_h|name") + "1764403200.25\t10.9.1.50\tx";
    let log = [conn(TAB), other, weird, conn(TAB)].join("\n");
    assert_eq!(read(&log), [REFUSED, REFUSED, "skipped OtherLog", REFUSED]);
}

#[test]
fn a_header_without_a_path_is_known_by_its_columns() {
    let log = conn(TAB);
    let without = log.lines().filter(|line| !line.starts_with("#path"));
    let log = without.collect::<Vec<_>>().join("\n");
    assert_eq!(read(&log), [REFUSED]);
    let fields_alone = log.lines().skip_while(|line| !line.starts_with("#fields"));
    assert_eq!(
        read(&fields_alone.collect::<Vec<_>>().join("\n")),
        [REFUSED]
    );
}

#[test]
fn lines_that_do_not_match_their_header_are_distinguished() {
    let head = header(TAB, "conn", CONN);
    let good = conn(TAB);
    let good = good.lines().last().unwrap();
    let check = |line: &str, expected: &str| assert_eq!(read(&format!("{head}{line}")), [expected]);
    check(&good[..30], "malformed Truncated");
    check(&format!("{good}\tmore"), "unknown");
    check(&good.replace("52000", "99999"), "malformed BadPort");
    check(
        &good.replace("10.9.1.50", "10.9.1.500"),
        "malformed BadAddress",
    );
    check(
        &good.replace("1764403200.250000", "soon"),
        "malformed BadTime",
    );
    check(&good.replace("10.9.1.50", "-"), "malformed MissingField");
    assert_eq!(read(good), ["malformed NoHeader"]);
    assert_eq!(read("#fields\nnothing"), ["malformed NotJson"]);
    let too_many = header(TAB, "conn", &"a|".repeat(300));
    assert_eq!(read(&format!("{too_many}{good}")), ["malformed NoHeader"]);
}

#[test]
fn a_container_runtimes_prefix_may_stand_before_header_and_columns() {
    let log = conn(TAB);
    let prefixed = log
        .lines()
        .map(|line| format!("2025-11-29T08:00:00.1Z stdout F {line}"));
    let prefixed: Vec<_> = prefixed.collect();
    assert_eq!(read(&prefixed.join("\n")), [REFUSED]);
    assert_eq!(sniff(prefixed[0].as_bytes()), Some(Format::Zeek));
}

#[test]
fn another_scope_separator_is_read_in_json_too() {
    let dotted = r#"{"ts":1,"id.orig_h":"10.9.1.50","id.orig_p":52000,"id.resp_h":"10.30.0.4","id.resp_p":3389,"proto":"tcp","conn_state":"REJ"}"#;
    for separator in ["_", "-", "::", "/"] {
        let line = dotted.replace("id.", &format!("id{separator}"));
        let decoded = decode_alone(Format::Zeek, line.as_bytes());
        assert_eq!(summary(&decoded), REFUSED, "{separator}");
        assert_eq!(sniff(line.as_bytes()), Some(Format::Zeek), "{separator}");
    }
    let twice = dotted
        .replace("id.", "id_")
        .replace("\"proto\"", "\"id-orig_h\":\"10.9.1.51\",\"proto\"");
    let decoded = decode_alone(Format::Zeek, twice.as_bytes());
    assert_eq!(summary(&decoded), "malformed DuplicateKey");
}

#[test]
fn the_recorded_logs_are_read_whole() {
    for (path, count) in [
        ("cases/in/z05-tsv/conn.log", 60),
        ("cases/detect/zeek-tsv/conn.log", 60),
    ] {
        let Some(path) = shared(path) else { continue };
        let log = std::fs::read_to_string(path).unwrap();
        let flows = read(&log)
            .into_iter()
            .filter(|line| line.starts_with("tcp"));
        assert_eq!(flows.count(), count);
    }
}

proptest::proptest! {
    #[test]
    fn no_header_and_no_line_makes_it_panic(
        lines in proptest::collection::vec("(#separator |#fields\t|#path\t|#unset_field\t|)[ -~\t]{0,60}", 0..8),
    ) {
        let _ = read(&lines.join("\n"));
    }
}
