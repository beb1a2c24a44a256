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

/// The attacker answers itself on many ports of one host, so that the cache of contacts forgets what waits for an answer.
#[test]
fn answered_contacts_between_the_probes_do_not_make_waiting_ones_forgotten() {
    for filler_count in [900, 0] {
        let mut bench = Bench::new();
        let mut port = 1_024;
        for n in 0..60 {
            let seconds = i64::try_from(n).unwrap();
            bench.signal(&Signal::Flow(flow(
                &inner(n),
                22,
                Outcome::Pending,
                seconds,
            )));
            for _ in 0..filler_count / 9 {
                port = if port == 65_000 { 1_024 } else { port + 1 };
                let filler = flow("203.0.113.9", port, Outcome::Answered, seconds);
                bench.signal(&Signal::Flow(filler));
            }
        }
        bench.expire_pending(100);
        bench.check(HorizontalScan, Some(Quarantine));
    }
}

/// A fast scan behind the outage of five own servers: what more than a hundred targets fail in is none, and before that
/// each failure counts a little however many there are.
#[test]
fn an_outage_covers_a_hundred_targets_and_no_failure_whole() {
    let mut bench = Bench::new();
    let contact = |bench: &mut Bench, target: &str, port, outcome, at: usize| {
        let seconds = i64::try_from(at / 20).unwrap();
        bench.signal(&Signal::Flow(flow(target, port, outcome, seconds)));
    };
    for outcome in [Outcome::Answered, Outcome::Refused] {
        (0..5).for_each(|n| contact(&mut bench, &host(n), 8_443, outcome, 0));
    }
    for n in 0..90 {
        contact(&mut bench, &inner(n), 22, Outcome::Refused, n);
    }
    bench.check(HorizontalScan, Some(Severity::Alert));
    let nats = bench.engine.highest_walk_nats(&"agent".into());
    assert!(nats > 10.0, "the budget of a burst is 8: {nats}");
    for n in 90..200 {
        contact(&mut bench, &inner(n), 22, Outcome::Refused, n);
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

/// Five servers of the attacker answer, and then refuse, every half hour; the scan hides behind that outage.
#[test]
fn an_outage_that_the_pod_makes_itself_hides_no_scan() {
    for (has_outage, targets) in [(true, 60), (true, 1_000), (false, 60)] {
        let mut bench = Bench::new();
        for n in 0..5 {
            bench.contact(&host(n), 8_443, Outcome::Answered);
        }
        for round in 0..targets / 10 {
            for n in 0..5 {
                let outcome = if has_outage {
                    Outcome::Refused
                } else {
                    Outcome::Answered
                };
                bench.contact(&host(n), 8_443, outcome);
            }
            for n in 0..10 {
                bench.contact(&inner(round * 10 + n), 22, Outcome::Refused);
            }
        }
        let severest = bench.findings.iter().map(|finding| finding.severity).max();
        let expected = if has_outage && targets == 60 {
            Severity::Alert
        } else {
            Quarantine
        };
        assert_eq!(severest, Some(expected), "{has_outage}, {targets}");
    }
}

/// Contacts with hosts that all refuse, each after a look-up of its name.
fn look_up_and_contact(
    names: impl Fn(usize) -> String,
    hosts: impl Fn(usize) -> String,
    port: u16,
) -> Bench {
    let mut bench = Bench::new();
    for n in 0..60 {
        bench.signal(&dns(&names(n), &[&hosts(n)], bench.now()));
        bench.contact(&hosts(n), port, Outcome::Refused);
    }
    bench
}

#[test]
fn names_that_contain_their_address_or_are_not_of_the_cluster_excuse_no_scan_of_it() {
    let dashed = |n: usize| inner(n).replace('.', "-");
    let pods = |n| format!("{}.team.pod.cluster.local", dashed(n));
    look_up_and_contact(pods, inner, 22).check(HorizontalScan, Some(Quarantine));
    let foreign = |n| format!("n{n}.d{n}.example");
    look_up_and_contact(foreign, inner, 22).check(HorizontalScan, Some(Quarantine));
    let spelled = |n| format!("{}.nip.io", host(n));
    look_up_and_contact(spelled, host, 22).check(HorizontalScan, Some(Quarantine));
}

#[test]
fn failed_targets_inside_of_one_domain_are_a_scan_and_those_of_many_domains_are_not() {
    let private = |n: usize| format!("10.9.0.{}", n + 1);
    let one = |n| format!("n{n}.evil.example");
    let many = |n| format!("www.site-{n}.example");
    look_up_and_contact(one, private, 22).check(HorizontalScan, Some(Quarantine));
    look_up_and_contact(many, private, 22).check(HorizontalScan, None);
    look_up_and_contact(one, host, 22).check(HorizontalScan, None);
}

#[test]
fn a_name_does_not_excuse_a_scan_of_the_ports_of_its_host() {
    let mut bench = Bench::new();
    bench.signal(&dns("target.evil.example", &["10.9.0.1"], 0));
    for port in 1..60 {
        bench.contact("10.9.0.1", port, Outcome::Refused);
    }
    bench.check(VerticalScan, Some(Quarantine));
    bench.check(HorizontalScan, None);
}

/// Workers of a headless Service that do not listen yet, or any addresses in an EndpointSlice of the attacker.
#[test]
fn failed_targets_that_the_cluster_names_are_an_alert_at_most() {
    for (count, expected) in [(60, None), (300, Some(Severity::Alert))] {
        let mut bench = Bench::new();
        for n in 0..count {
            let name = format!("worker-{n}.workers.team.svc.cluster.local");
            bench.signal(&dns(&name, &[&inner(n)], bench.now()));
            bench.contact(&inner(n), 29_500, Outcome::Refused);
        }
        bench.check(HorizontalScan, expected);
    }
}

/// A zone of the attacker, or one service of a provider with other addresses in each answer behind a firewall.
#[test]
fn failed_targets_of_one_domain_on_the_internet_are_an_alert_from_118_on() {
    for (count, expected) in [(80, None), (300, Some(Severity::Alert))] {
        for port in [22, 443] {
            let mut bench = Bench::new();
            for n in 0..count {
                bench.signal(&dns("bucket.s3.example.com", &[&host(n)], bench.now()));
                bench.contact(&host(n), port, Outcome::Unanswered);
            }
            bench.check(HorizontalScan, expected);
        }
    }
}

#[test]
fn a_contact_with_a_name_that_the_log_shows_after_it_counts_for_the_domain_too() {
    let mut bench = Bench::new();
    for n in 0..60_i64 {
        let seconds = n;
        let contact = flow(&format!("10.9.0.{}", n + 1), 22, Outcome::Pending, seconds);
        bench.signal(&Signal::Flow(contact));
        bench.signal(&dns(
            &format!("n{n}.evil.example"),
            &[&format!("10.9.0.{}", n + 1)],
            seconds,
        ));
    }
    bench.expire_pending(100);
    bench.check(HorizontalScan, Some(Quarantine));
    let summary = bench.findings.last().unwrap().evidence.summary.to_string();
    assert!(summary.contains("below one registered domain"), "{summary}");
}

/// The attacker owns a network and answers itself from all of its addresses.
#[test]
fn answers_from_one_network_pay_once() {
    for (network, paid) in [("203.0.113", false), ("45.7", true)] {
        let mut bench = Bench::new();
        for n in 0..120 {
            bench.contact(&host(n), 22, Outcome::Refused);
            let own = if paid {
                format!("{network}.{n}.1")
            } else {
                format!("{network}.{}", n + 1)
            };
            bench.contact(&own, 22, Outcome::Answered);
        }
        let expected = (!paid).then_some(Quarantine);
        bench.check(HorizontalScan, expected);
    }
    let mut bench = Bench::new();
    for n in 0..60 {
        bench.contact(&host(n), 22, Outcome::Refused);
        bench.contact(&format!("2001:db8:0:{n:x}::1"), 22, Outcome::Answered);
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

/// A known target becomes new again when the cache of contacts has lost it.
#[test]
fn one_target_inside_that_becomes_new_again_pays_once() {
    let mut bench = Bench::new();
    for n in 0..40 {
        bench.contact(&inner(n), 22, Outcome::Refused);
        bench.contact("10.244.200.1", 22, Outcome::Answered);
        bench.sweep(n * 1_000..n * 1_000 + 800, 443, Outcome::Answered);
    }
    bench.check(HorizontalScan, Some(Quarantine));
}
