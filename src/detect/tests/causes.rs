//! Failures with a visible cause: they are no scan, and an attacker gains little from causing them.

use super::*;
use crate::model::Severity::{Alert, Quarantine};
use crate::model::Signature::{HorizontalScan, VerticalScan};

fn inner(n: usize) -> String {
    format!("10.244.{}.{}", 10 + n / 250, n % 250 + 1)
}

fn fail_beside(bench: &mut Bench, target: &str, port: u16, neighbour: Neighbour) {
    let flow = flow(target, port, Outcome::Refused, bench.now());
    let (subject, signal) = (pod("agent"), Signal::Flow(flow));
    let found = bench.engine.step(&Attributed {
        neighbour,
        ..by(&subject, Workload::Standard, &signal)
    });
    bench.findings.extend(found);
}

fn udp(target: &str, outcome: Outcome, seconds: i64) -> Signal<'static> {
    Signal::Flow(Flow {
        transport: Transport::Udp,
        ..flow(target, 443, outcome, seconds)
    })
}

#[test]
fn siblings_that_do_not_listen_and_pods_that_just_ended_are_no_scan_and_strangers_are() {
    for neighbour in [Neighbour::Sibling, Neighbour::Departed] {
        let mut bench = Bench::new();
        (0..200).for_each(|n| fail_beside(&mut bench, &inner(n), 7_800, neighbour));
        assert_eq!(bench.findings, vec![], "{neighbour:?}");
        (0..35).for_each(|n| fail_beside(&mut bench, &inner(n), 22, Neighbour::Stranger));
        bench.check(HorizontalScan, Some(Quarantine));
    }
}

#[test]
fn all_ports_of_a_sibling_are_a_scan() {
    let mut bench = Bench::new();
    (1..36).for_each(|port| fail_beside(&mut bench, "10.244.9.9", port, Neighbour::Sibling));
    bench.check(VerticalScan, Some(Quarantine));
}

#[test]
fn a_sibling_that_never_answers_a_packet_is_no_scan_either() {
    let mut bench = Bench::new();
    for n in 0..100 {
        let signal = Signal::Flow(flow(&inner(n), 7_800, Outcome::Pending, 0));
        bench.engine.step(&Attributed {
            neighbour: Neighbour::Sibling,
            ..by(&pod("agent"), Workload::Standard, &signal)
        });
    }
    bench.expire_pending(60);
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn quic_that_is_dropped_beside_tcp_that_answers_is_no_scan_in_either_order() {
    for is_tcp_first in [true, false] {
        let mut bench = Bench::new();
        for n in 0..600 {
            let seconds = i64::try_from(n).unwrap();
            let tcp = Signal::Flow(flow(&host(n), 443, Outcome::Answered, seconds));
            let silent = udp(&host(n), Outcome::Unanswered, seconds);
            let order = if is_tcp_first {
                [tcp, silent]
            } else {
                [silent, tcp]
            };
            for signal in &order {
                bench.signal(signal);
            }
        }
        assert_eq!(bench.findings, vec![], "{is_tcp_first}");
    }
}

#[test]
fn the_web_without_names_takes_140_straight_failures_and_with_names_35() {
    let mut bench = Bench::new();
    bench.sweep(0..136, 443, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Alert));
    bench.sweep(136..142, 443, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Quarantine));

    let mut bench = Bench::new();
    bench.signal(&dns("names.example.net", &["192.0.2.1"], 0));
    bench.sweep(0..35, 443, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Quarantine));
}

/// An object store with eight networks. Each contact is with an address of its own.
fn object_store(n: usize) -> String {
    format!("52.{}.{}.{}", 16 + n % 8, n / 2_000, n / 8 % 250 + 1)
}

fn contacts_with_object_store(
    bench: &mut Bench,
    numbers: std::ops::Range<usize>,
    outcome: Outcome,
) {
    for n in numbers {
        bench.contact(&object_store(n), 443, outcome);
    }
}

#[test]
fn an_object_store_that_answered_and_is_dropped_is_an_alert_at_most_in_a_log_without_names() {
    let mut bench = Bench::new();
    contacts_with_object_store(&mut bench, 0..40, Outcome::Answered);
    contacts_with_object_store(&mut bench, 40..1_000, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Alert));

    let mut control = Bench::new();
    contacts_with_object_store(&mut control, 0..8, Outcome::Answered);
    contacts_with_object_store(&mut control, 40..200, Outcome::Unanswered);
    control.check(HorizontalScan, Some(Quarantine));

    for (served, expected) in [(40, Alert), (8, Quarantine)] {
        let mut one_direction = Bench::new();
        (0..served).for_each(|n| {
            one_sided(&mut one_direction, &object_store(n), 443, Outcome::Unseen);
        });
        (40..400).for_each(|n| {
            one_sided(
                &mut one_direction,
                &object_store(n),
                443,
                Outcome::Unanswered,
            );
        });
        one_direction.check(HorizontalScan, Some(expected));
    }
}

#[test]
fn networks_that_answered_excuse_no_scan_of_others_and_none_in_which_some_hosts_answer() {
    let mut elsewhere = Bench::new();
    contacts_with_object_store(&mut elsewhere, 0..40, Outcome::Answered);
    elsewhere.sweep(0..150, 443, Outcome::Unanswered);
    elsewhere.check(HorizontalScan, Some(Quarantine));

    let mut mixed = Bench::new();
    contacts_with_object_store(&mut mixed, 0..40, Outcome::Answered);
    for n in 40..800 {
        let outcome = if n % 30 < 8 && n < 80 {
            Outcome::Answered
        } else {
            Outcome::Unanswered
        };
        mixed.contact(&object_store(n), 443, outcome);
    }
    mixed.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn a_network_that_answered_still_takes_a_long_scan_into_quarantine() {
    let mut bench = Bench::new();
    contacts_with_object_store(&mut bench, 0..40, Outcome::Answered);
    contacts_with_object_store(&mut bench, 40..2_000, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn an_agent_behind_a_wall_that_tries_nine_sites_an_hour_for_days_is_left_alone() {
    let mut bench = Bench::new();
    for n in 0..1_500 {
        let seconds = i64::try_from(n).unwrap() * 400;
        let flow = flow(&host(n), 443, Outcome::Unanswered, seconds);
        bench.signal(&Signal::Flow(flow));
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn what_a_policy_denied_on_the_way_to_the_internet_is_an_alert_at_most() {
    let mut bench = Bench::new();
    bench.sweep(0..500, 22, Outcome::Denied);
    bench.check(HorizontalScan, Some(Alert));
}

#[test]
fn ipv6_that_never_answered_is_no_quarantine_on_the_web_and_one_on_other_ports() {
    let sweep = |bench: &mut Bench, port| {
        for n in 0..400 {
            bench.contact(&format!("2001:db8::{n:x}"), port, Outcome::Unanswered);
        }
    };
    let mut bench = Bench::new();
    sweep(&mut bench, 443);
    bench.check(HorizontalScan, Some(Alert));
    bench.contact("2001:db8:1::1", 443, Outcome::Answered);
    for n in 0..200 {
        bench.contact(&format!("2001:db8:2::{n:x}"), 443, Outcome::Unanswered);
    }
    bench.check(HorizontalScan, Some(Quarantine));

    let mut bench = Bench::new();
    sweep(&mut bench, 22);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn data_ports_of_an_ftp_server_weigh_a_quarter_and_those_of_another_host_all() {
    for (has_ftp, expected) in [(true, None), (false, Some(Quarantine))] {
        let mut bench = Bench::new();
        if has_ftp {
            bench.contact("198.51.100.7", 21, Outcome::Answered);
        }
        for port in 40_000..40_035 {
            bench.contact("198.51.100.7", port, Outcome::Unanswered);
        }
        bench.check(VerticalScan, expected);
    }
}

#[test]
fn new_targets_that_fail_while_known_ones_do_are_an_alert_at_most_for_some_minutes() {
    let mut bench = Bench::new();
    (0..5).for_each(|n| {
        bench.contact(&inner(n), 9_100, Outcome::Answered);
    });
    let fail_all = |bench: &mut Bench, new: std::ops::Range<usize>| {
        for n in new {
            bench.contact(&inner(n % 5), 9_100, Outcome::Unanswered);
            bench.contact(&inner(n), 9_100, Outcome::Unanswered);
        }
    };
    fail_all(&mut bench, 100..200);
    bench.check(HorizontalScan, Some(Alert));
    // Who makes his own servers fail is found all the same.
    fail_all(&mut bench, 200..350);
    bench.check(HorizontalScan, Some(Quarantine));
}

/// A whole connection in a log that has only what the pod sends: a client that sends more than a SYN was answered.
fn one_sided(bench: &mut Bench, target: &str, port: u16, outcome: Outcome) {
    bench.log_shows_answers = false;
    bench.seconds += 1;
    let volume = Volume {
        bytes_in: 0,
        packets_in: 0,
        ..volume(1, 900, 9)
    };
    let flow = Flow {
        volume: Some(volume),
        ..flow(target, port, outcome, bench.seconds)
    };
    bench.signal(&Signal::Flow(flow));
}

#[test]
fn an_ftp_server_in_a_log_of_one_direction_is_known_by_what_the_client_sends() {
    for (control, expected) in [
        (Outcome::Unseen, None),
        (Outcome::Unanswered, Some(Quarantine)),
    ] {
        let mut bench = Bench::new();
        one_sided(&mut bench, "198.51.100.7", 21, control);
        for port in 40_000..40_036 {
            one_sided(&mut bench, "198.51.100.7", port, Outcome::Unanswered);
        }
        bench.check(VerticalScan, expected);
    }
}

#[test]
fn targets_that_served_and_fall_silent_later_are_no_new_ones_in_a_log_of_one_direction() {
    let visit = |bench: &mut Bench, hosts: std::ops::Range<usize>, outcome| {
        hosts.for_each(|n| one_sided(bench, &inner(n), 9_100, outcome));
    };
    let mut bench = Bench::new();
    visit(&mut bench, 0..40, Outcome::Unseen);
    visit(&mut bench, 0..40, Outcome::Unanswered);
    assert_eq!(bench.severity(HorizontalScan), None);
    visit(&mut bench, 100..140, Outcome::Unanswered);
    visit(&mut bench, 200..240, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn data_sent_after_a_silence_takes_it_back_in_a_log_of_one_direction() {
    for (later, is_found) in [(Outcome::Unseen, false), (Outcome::Unanswered, true)] {
        let mut bench = Bench::new();
        for n in 0..60 {
            one_sided(&mut bench, &inner(n), 9_100, Outcome::Unanswered);
            one_sided(&mut bench, &inner(n), 9_100, later);
        }
        assert_eq!(bench.severity(HorizontalScan) == Some(Quarantine), is_found);
    }
}

#[test]
fn a_conntrack_log_of_one_direction_knows_a_server_by_the_end_of_its_connection() {
    for (has_end, expected) in [(true, None), (false, Some(Quarantine))] {
        let mut bench = Bench::new();
        bench.log_shows_answers = false;
        bench.contact("198.51.100.7", 21, Outcome::Unseen);
        if has_end {
            one_sided(&mut bench, "198.51.100.7", 21, Outcome::Unseen);
        }
        for port in 40_000..40_036 {
            one_sided(&mut bench, "198.51.100.7", port, Outcome::Unanswered);
        }
        bench.check(VerticalScan, expected);
    }
}
