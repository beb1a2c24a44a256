//! What a broken log, a broken network and an attacker who knows the rules cannot do.

use super::*;
use crate::limits;
use crate::model::Severity::Quarantine;
use crate::model::Signature::{HorizontalScan, VerticalScan};

/// The n-th host of the cluster.
fn inner(n: usize) -> String {
    format!("10.244.{}.{}", 10 + n / 250, n % 250 + 1)
}

#[test]
fn a_target_per_34_seconds_for_three_days_is_a_scan_whatever_else_the_pod_does() {
    let mut bench = Bench::new();
    let mut seconds = 0;
    for n in 0..40 {
        seconds += 34;
        bench.signal(&Signal::Flow(flow(
            &inner(n),
            1433,
            Outcome::Pending,
            seconds,
        )));
        for other in 0..50 {
            let target = host(n * 50 + other);
            bench.signal(&Signal::Flow(flow(
                &target,
                443,
                Outcome::Answered,
                seconds,
            )));
        }
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn a_target_per_hour_is_a_scan_too_in_a_log_of_packets() {
    let mut bench = Bench::new();
    for n in 0..40 {
        let seconds = i64::try_from(n).unwrap() * 3_600;
        bench.signal(&Signal::Flow(flow(
            &inner(n),
            1433,
            Outcome::Pending,
            seconds,
        )));
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn dead_targets_that_are_retried_every_hour_for_three_days_count_once() {
    let mut bench = Bench::new();
    for round in 0..72 {
        for n in 0..30 {
            bench.contact(&inner(n), 5_432, Outcome::Refused);
        }
        // More than the memory of contacts holds, so that it has forgotten them next time.
        bench.sweep(round * 900..round * 900 + 900, 443, Outcome::Answered);
    }
    assert_ne!(bench.severity(HorizontalScan), Some(Quarantine));
}

#[test]
fn a_log_that_is_read_twice_finds_nothing_new() {
    let mut bench = Bench::new();
    for _ in 0..5 {
        for n in 0..400_usize {
            let seconds = i64::try_from(n).unwrap();
            bench.signal(&Signal::Flow(flow(
                &host(n),
                443,
                Outcome::Answered,
                seconds,
            )));
            if n % 14 == 0 {
                bench.signal(&Signal::Flow(flow(
                    &inner(n),
                    22,
                    Outcome::Refused,
                    seconds,
                )));
            }
        }
    }
    assert_ne!(bench.severity(HorizontalScan), Some(Quarantine));
}

#[test]
fn a_log_of_last_week_after_that_of_today_finds_nothing_either() {
    let mut bench = Bench::new();
    for week in [0, -604_800, 0] {
        for n in 0..60_usize {
            let seconds = week + i64::try_from(n).unwrap();
            let contact = |outcome| Signal::Flow(flow(&host(n), 443, outcome, seconds));
            bench.signal(&contact(Outcome::Pending));
            bench.signal(&contact(Outcome::Answered));
        }
    }
    bench.expire_pending(1_000);
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn one_record_with_an_absurd_time_does_not_fail_what_waits() {
    for jump in [10 * 365 * 86_400, 3_600, -10 * 365 * 86_400] {
        let mut bench = Bench::new();
        for n in 0..100 {
            bench.signal(&Signal::Flow(flow(&host(n), 443, Outcome::Pending, 0)));
        }
        bench.signal(&Signal::Flow(flow(
            "10.96.0.1",
            443,
            Outcome::Answered,
            jump,
        )));
        for n in 0..100 {
            bench.signal(&Signal::Flow(flow(&host(n), 443, Outcome::Answered, 1)));
        }
        bench.expire_pending(100);
        assert_eq!(bench.findings, vec![], "a jump of {jump} s");
    }
}

#[test]
fn a_clock_that_is_set_does_not_fail_what_waits() {
    for jump in [400_000_000, 3_600, -3_600, -400_000_000] {
        let mut bench = Bench::new();
        for n in 0..100 {
            bench.signal(&Signal::Flow(flow(&host(n), 443, Outcome::Pending, 0)));
        }
        for n in 0..100 {
            bench.signal(&Signal::Flow(flow(
                &host(n),
                443,
                Outcome::Answered,
                jump + 1,
            )));
        }
        bench.expire_pending(jump + 100);
        assert_eq!(bench.findings, vec![], "a jump of {jump} s");
    }
}

#[test]
fn known_peers_that_all_fail_at_once_are_no_scan() {
    let mut bench = Bench::new();
    for n in 0..200 {
        bench.contact(&inner(n), 9_000, Outcome::Answered);
    }
    for _ in 0..10 {
        for n in 0..200 {
            bench.contact(&inner(n), 9_000, Outcome::Unanswered);
        }
    }
    let severest = bench.findings.iter().map(|finding| finding.severity).max();
    assert_ne!(severest, Some(Quarantine));
}

#[test]
fn a_crawler_with_a_third_of_dead_links_behind_names_is_left_alone() {
    let mut bench = Bench::new();
    for n in 0..3_000 {
        bench.signal(&dns(&format!("s{n}.example.org"), &[&host(n)], bench.now()));
        let outcome = if n % 10 < 3 {
            Outcome::Unanswered
        } else {
            Outcome::Answered
        };
        bench.contact(&host(n), 443, outcome);
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn health_checks_and_discovery_of_addresses_that_mostly_answer_are_left_alone() {
    let mut bench = Bench::new();
    for round in 0..50 {
        for n in 0..80 {
            let is_down = n == round;
            let outcome = if is_down {
                Outcome::Refused
            } else {
                Outcome::Answered
            };
            bench.contact(&inner(n), 8_080, outcome);
        }
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn the_ports_of_one_host_over_udp_are_a_vertical_scan() {
    let mut bench = Bench::new();
    for port in 1..=35 {
        let flow = flow("10.244.3.3", port, Outcome::Unanswered, i64::from(port));
        bench.signal(&Signal::Flow(Flow {
            transport: Transport::Udp,
            ..flow
        }));
    }
    bench.check(VerticalScan, Some(Quarantine));
}

#[test]
fn scans_of_ipv6_addresses_are_found() {
    let mut bench = Bench::new();
    for n in 0..35 {
        bench.contact(&format!("fd00:10:244::{n:x}"), 22, Outcome::Denied);
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn refilling_the_memory_of_contacts_does_not_make_a_walk_forget() {
    let mut bench = Bench::new();
    for n in 0..35 {
        bench.contact(&inner(n), 22, Outcome::Refused);
        bench.sweep(n * 1_000..n * 1_000 + 1_000, 443, Outcome::Answered);
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn one_known_target_that_answers_again_and_again_pays_once() {
    let mut bench = Bench::new();
    bench.contact("10.244.200.1", 22, Outcome::Answered);
    for n in 0..35 {
        bench.contact(&inner(n), 22, Outcome::Refused);
        bench.contact("10.244.200.1", 22, Outcome::Answered);
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn evidence_shows_how_a_scan_began_and_what_it_does_now() {
    let mut bench = Bench::new();
    bench.sweep(0..100, 23, Outcome::Unanswered);
    let evidence = &bench.findings.last().unwrap().evidence;
    assert_eq!(evidence.examples.len(), limits::EXAMPLES_MAX);
    assert_eq!(evidence.examples[0].destination.to_string(), host(0));
    let latest = evidence.examples.last().unwrap();
    assert_eq!(latest.time, evidence.last);
}
