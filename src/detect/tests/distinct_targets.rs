//! Counters of distinct targets: scans with targets that answer, and failures that an attacker hides among successes.

use super::*;
use crate::model::Severity::{Alert, Quarantine};
use crate::model::Signature::HorizontalScan;

/// The n-th host of the cluster.
fn inner(n: usize) -> String {
    format!("10.244.{}.{}", 10 + n / 250, n % 250 + 1)
}

#[test]
fn a_sweep_of_the_cluster_that_every_host_answers_is_an_alert_and_never_more() {
    let mut bench = Bench::new();
    for n in 0..85 {
        bench.contact(&inner(n), 22, Outcome::Answered);
    }
    assert_eq!(bench.findings, vec![]);
    for n in 85..120 {
        bench.contact(&inner(n), 22, Outcome::Answered);
    }
    bench.check(HorizontalScan, Some(Alert));
    for n in 120..5_000 {
        bench.contact(&inner(n), 22, Outcome::Answered);
    }
    bench.check(HorizontalScan, Some(Alert));
    let evidence = &bench.findings.last().unwrap().evidence;
    assert!(evidence.score >= evidence.threshold);
    assert!(evidence.against[0].as_str().contains("answered"));
    assert!(
        bench.findings.len() < 10,
        "{} findings",
        bench.findings.len()
    );
}

#[test]
fn the_same_hundred_services_again_and_again_for_days_are_fifty_services() {
    let mut bench = Bench::new();
    for round in 0..100 {
        for n in 0..50 {
            bench.contact(&inner(n), 8_080, Outcome::Answered);
        }
        // So many others between them that the services are forgotten and count as new.
        for n in 0..800 {
            bench.contact(&host(round * 800 + n), 443, Outcome::Answered);
        }
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn many_addresses_that_dns_named_are_no_inventory() {
    let mut bench = Bench::new();
    for n in 0..500 {
        bench.signal(&dns(&format!("s{n}.svc.cluster.local"), &[&inner(n)], 0));
        bench.contact(&inner(n), 80, Outcome::Answered);
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn web_servers_and_hosts_without_any_name_in_the_log_are_no_inventory_on_the_internet() {
    let mut bench = Bench::new();
    bench.sweep(0..2_000, 6_881, Outcome::Answered);
    bench.signal(&dns("doh.example.net", &["192.0.2.1"], bench.now()));
    bench.sweep(2_000..4_000, 443, Outcome::Answered);
    assert_eq!(bench.findings, vec![]);
    bench.sweep(4_000..4_120, 22, Outcome::Answered);
    bench.check(HorizontalScan, Some(Alert));
}

#[test]
fn an_inventory_of_fewer_hosts_than_a_hundred_an_hour_is_left_alone() {
    let mut bench = Bench::new();
    for n in 0..600 {
        let seconds = i64::try_from(n).unwrap() * 60;
        let flow = flow(&inner(n), 9_100, Outcome::Answered, seconds);
        bench.signal(&Signal::Flow(flow));
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn failures_inside_that_are_paid_for_one_by_one_with_successes_still_alert() {
    let mut bench = Bench::new();
    for n in 0..60 {
        bench.contact(&inner(2 * n), 22, Outcome::Answered);
        bench.contact(&inner(2 * n + 1), 22, Outcome::Refused);
    }
    assert_eq!(bench.findings, vec![], "as often as not");
    for n in 60..130 {
        bench.contact(&inner(2 * n), 22, Outcome::Answered);
        bench.contact(&inner(2 * n + 1), 22, Outcome::Refused);
    }
    bench.check(HorizontalScan, Some(Alert));
}

#[test]
fn a_scan_of_which_every_fourth_target_answers_alerts_early_and_is_quarantined_in_the_end() {
    let mut bench = Bench::new();
    let sweep = |hosts: std::ops::Range<usize>, bench: &mut Bench| {
        for n in hosts {
            let is_open = n % 4 == 3;
            let outcome = if is_open {
                Outcome::Answered
            } else {
                Outcome::Refused
            };
            bench.contact(&inner(n), 22, outcome);
        }
    };
    sweep(0..160, &mut bench);
    bench.check(HorizontalScan, Some(Alert));
    sweep(160..600, &mut bench);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn other_services_cannot_displace_a_counter() {
    let mut bench = Bench::new();
    for n in 0..130 {
        bench.contact(&inner(n), 22, Outcome::Answered);
        let port = 10_000 + u16::try_from(n).unwrap();
        bench.contact(&inner(n), port, Outcome::Answered);
    }
    bench.check(HorizontalScan, Some(Alert));
}

fn look_up(bench: &mut Bench, name: &str, nonexistent: bool, seconds: i64) {
    let Signal::Dns(query) = dns(name, &[], seconds) else {
        unreachable!("a query")
    };
    bench.signal(&Signal::Dns(DnsQuery {
        nonexistent: Some(nonexistent),
        ..query
    }));
}

#[test]
fn reverse_look_ups_of_a_network_inside_are_an_alert_and_those_of_the_internet_are_none() {
    for (network, expected) in [("96.10", Some(Severity::Alert)), ("51.198", None)] {
        let mut bench = Bench::new();
        for n in 0..400 {
            let name = format!("{}.{}.{network}.in-addr.arpa", n % 250, n / 250);
            look_up(&mut bench, &name, true, n);
        }
        bench.check(HorizontalScan, expected);
    }
}

#[test]
fn guesses_of_service_names_are_an_alert_and_the_search_list_of_a_resolver_is_none() {
    let guess = |n| format!("svc-{n}.team.svc.cluster.local");
    let search = |n| format!("site-{n}.com.svc.cluster.local");
    let long = |n| format!("www.site-{n}.dev.team.svc.cluster.local");
    let few = |n: i64| format!("svc-{}.team.svc.cluster.local", n % 100);
    let check = |name: &dyn Fn(i64) -> String, expected| {
        let mut bench = Bench::new();
        (0..400).for_each(|n| look_up(&mut bench, &name(n), true, n));
        bench.check(HorizontalScan, expected);
    };
    check(&guess, Some(Severity::Alert));
    check(&search, None);
    check(&long, None);
    check(&few, None);
}
