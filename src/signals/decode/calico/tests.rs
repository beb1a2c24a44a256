//! Records as written by Calico's agent and Goldmane.

use super::*;
use crate::signals::decode::tests::{check as check_line, flow};
use crate::signals::decode::{Format, sniff};

const DENIED: &str = r#"{"start_time":1659621542,"end_time":1659621842,"source_ip":"10.48.116.157","source_name":"multitool","source_name_aggr":"multitool","source_namespace":"default","nat_outgoing_ports":null,"source_port":null,"source_type":"wep","source_labels":{"labels":["run=multitool"]},"dest_ip":"10.48.127.224","dest_name":"checkout-598d5b586d-wsvmz","dest_name_aggr":"checkout-598d5b586d-*","dest_namespace":"shop","dest_port":5050,"dest_type":"wep","proto":"tcp","action":"deny","reporter":"src","policies":{"all_policies":["1|app|shop/app.checkout|deny|-1"]},"bytes_in":0,"bytes_out":300,"num_flows":1,"num_flows_started":1,"num_flows_completed":0,"packets_in":0,"packets_out":5,"dest_domains":null}"#;

#[track_caller]
fn check(line: &str, expected: &str) {
    check_line(Format::Calico, line, expected);
}

/// An allowed flow with these counters: packets and bytes, out and in; connections in total, started
/// and completed.
fn allowed(packets: [u64; 2], bytes: [u64; 2], connections: [u64; 3]) -> String {
    DENIED
        .replace("\"deny\"", "\"allow\"")
        .replace(
            "\"packets_out\":5",
            &format!("\"packets_out\":{}", packets[0]),
        )
        .replace(
            "\"packets_in\":0",
            &format!("\"packets_in\":{}", packets[1]),
        )
        .replace("\"bytes_out\":300", &format!("\"bytes_out\":{}", bytes[0]))
        .replace("\"bytes_in\":0", &format!("\"bytes_in\":{}", bytes[1]))
        .replace(
            "\"num_flows\":1",
            &format!("\"num_flows\":{}", connections[0]),
        )
        .replace(
            "\"num_flows_started\":1",
            &format!("\"num_flows_started\":{}", connections[1]),
        )
        .replace(
            "\"num_flows_completed\":0",
            &format!("\"num_flows_completed\":{}", connections[2]),
        )
}

#[test]
fn a_denied_flow_is_about_its_pod() {
    check(
        DENIED,
        "tcp 10.48.116.157 0 > 10.48.127.224 5050 Denied dropped pod default/multitool",
    );
    assert_eq!(sniff(DENIED.as_bytes()), Some(Format::Calico));
}

#[test]
fn the_targets_report_does_not_count() {
    let line = DENIED.replace("\"src\"", "\"dst\"");
    check(&line, "skipped IngressView");
}

#[test]
fn what_adds_up_pods_or_targets_is_about_none_of_them() {
    check(
        &DENIED.replace("\"10.48.116.157\"", "null"),
        "skipped Aggregated",
    );
    check(
        &DENIED.replace("\"10.48.127.224\"", "null"),
        "skipped Aggregated",
    );
    check(&DENIED.replace(":5050", ":null"), "skipped Aggregated");
}

#[test]
fn goldmane_names_groups_so_no_pod_is_blamed() {
    let api = r#"{"Key":{"source_name":"agent-*","source_namespace":"rl","dest_name":"pub","dest_port":443,"proto":"tcp","reporter":"Src","action":"Allow"},"start_time":1750000000,"end_time":1750000015,"packets_out":9}"#;
    check(api, "skipped Aggregated");
    assert_eq!(sniff(api.as_bytes()), Some(Format::Calico));
    check(r#"{"id":"1","flow":{"Key":{}}}"#, "skipped Aggregated");
    let flat = r#"{"start_time":1750000000,"end_time":1750000015,"source_name":"agent-*","source_namespace":"rl","dest_name":"pub","dest_port":443,"proto":"tcp","reporter":"Src","action":"Allow","bytes_in":1}"#;
    check(flat, "skipped Aggregated");
}

#[test]
fn counters_show_the_outcome_of_an_allowed_flow() {
    let check_outcome = |line: &str, outcome: Outcome| {
        assert_eq!(flow(Format::Calico, line).outcome, outcome, "{line}");
    };
    check_outcome(&allowed([3, 0], [180, 0], [1, 1, 0]), Outcome::Unanswered);
    // Acknowledgements and data: the log contains one direction only.
    check_outcome(&allowed([9, 0], [1112, 0], [1, 1, 1]), Outcome::Unseen);
    check_outcome(&allowed([9, 9], [900, 4_000], [1, 1, 1]), Outcome::Answered);
    check_outcome(&allowed([2, 2], [120, 80], [2, 2, 2]), Outcome::Refused);
    // An older connection: an idle window is no failure, and an ACK of 40 bytes no refusal.
    check_outcome(&allowed([1, 0], [52, 0], [1, 0, 0]), Outcome::NotAnAttempt);
    check_outcome(&allowed([1, 1], [52, 40], [1, 0, 0]), Outcome::Answered);
    let uncounted = DENIED
        .replace("\"deny\"", "\"allow\"")
        .replace("\"packets_in\":0", "\"packets_in\":null");
    check_outcome(&uncounted, Outcome::Unseen);
}

#[test]
fn only_a_connection_that_was_there_before_and_after_lasts_for_the_window() {
    let volume = |line: &str| flow(Format::Calico, line).volume.unwrap();
    let whole = volume(&allowed([9, 9], [900, 900], [1, 0, 0]));
    assert_eq!(whole.duration_us, 300_000_000);
    assert!(!whole.is_final);
    let short = volume(&allowed([9, 9], [900, 900], [1, 1, 1]));
    assert_eq!(short.duration_us, 0);
    assert!(short.is_final);
    let several = volume(&allowed([9, 9], [900, 900], [4, 0, 0]));
    assert_eq!(several.duration_us, 0);
}

#[test]
fn several_connections_to_one_target_are_one_flow_and_its_domain_is_its_name() {
    let line = allowed([9, 0], [540, 0], [9, 9, 0]).replace(
        "\"dest_domains\":null",
        "\"dest_domains\":[\"pool.example.org\"]",
    );
    check(
        &line,
        "tcp 10.48.116.157 0 > 10.48.127.224 5050 Unanswered forwarded pod default/multitool name pool.example.org",
    );
}

#[test]
fn other_lines_are_reported() {
    check("{}", "unknown");
    check(&DENIED.replace("\"deny\"", "\"pass\""), "skipped NoVerdict");
    check(&DENIED.replace("5050", "505050"), "malformed BadPort");
    check(
        &DENIED.replace("10.48.116.157", "10.48"),
        "malformed BadAddress",
    );
    check(
        &DENIED.replace("1659621542", "\"noon\""),
        "malformed BadTime",
    );
    let icmp = DENIED
        .replace("\"tcp\"", "\"icmp\"")
        .replace(":5050", ":null");
    check(
        &icmp,
        "icmp 10.48.116.157 0 > 10.48.127.224 0 Denied dropped pod default/multitool",
    );
    let number = DENIED.replace("\"tcp\"", "132");
    check(
        &number,
        "sctp 10.48.116.157 0 > 10.48.127.224 5050 Denied dropped pod default/multitool",
    );
}
