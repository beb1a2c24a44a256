//! Scans: what is one, what is not, and what an attacker cannot do about it.

use super::*;
use crate::limits;
use crate::model::Severity::{Alert, Quarantine};
use crate::model::Signature::{HorizontalScan, VerticalScan};

#[test]
fn thirty_five_silent_hosts_on_one_port_are_a_scan_and_thirty_four_are_not() {
    let mut bench = Bench::new();
    bench.sweep(0..34, 23, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Alert));
    bench.contact(&host(34), 23, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Quarantine));
    let evidence = &bench.findings.last().unwrap().evidence;
    assert_eq!(evidence.contact_count, 35);
    assert!(evidence.score >= evidence.threshold);
    assert!(evidence.examples.len() <= limits::EXAMPLES_MAX && !evidence.examples.is_empty());
    assert_eq!((evidence.first, evidence.last), (at(1), at(35)));
    assert!(
        evidence.summary.as_str().ends_with('.'),
        "cut: {}",
        evidence.summary
    );
}

#[test]
fn denied_refused_and_silent_contacts_all_count_as_failures() {
    let mut bench = Bench::new();
    let outcomes = [Outcome::Denied, Outcome::Refused, Outcome::Unanswered];
    for (n, outcome) in outcomes.into_iter().cycle().take(36).enumerate() {
        bench.contact(&format!("10.244.9.{n}"), 445, outcome);
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn many_ports_of_one_host_are_a_vertical_scan_and_no_horizontal_one() {
    let mut bench = Bench::new();
    for port in 1..=35 {
        bench.contact("10.244.3.3", port, Outcome::Refused);
    }
    bench.check(VerticalScan, Some(Quarantine));
    bench.check(HorizontalScan, None);
}

#[test]
fn a_sweep_over_udp_and_one_by_ping_are_scans_too() {
    for transport in [Transport::Udp, Transport::Icmp] {
        let mut bench = Bench::new();
        for n in 0..35 {
            let seconds = i64::try_from(n).unwrap();
            let flow = Flow {
                transport,
                ..flow(&host(n), 161, Outcome::Unanswered, seconds)
            };
            bench.signal(&Signal::Flow(flow));
        }
        bench.check(HorizontalScan, Some(Quarantine));
        bench.check(VerticalScan, None);
    }
}

#[test]
fn one_target_per_half_minute_for_hours_is_a_scan() {
    let mut bench = Bench::new();
    for n in 0..36 {
        let seconds = i64::try_from(n).unwrap() * 34;
        bench.signal(&Signal::Flow(flow(
            &host(n),
            1433,
            Outcome::Unanswered,
            seconds,
        )));
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn a_dead_dependency_that_is_retried_forever_is_one_failure() {
    let mut bench = Bench::new();
    for n in 0..5_000 {
        bench.contact("10.96.0.17", 5432, Outcome::Refused);
        // Other contacts, so that the dead one could be dropped from the cache and counted again.
        bench.contact(&host(n), 443, Outcome::Answered);
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn a_dns_outage_is_not_a_scan() {
    let mut bench = Bench::new();
    for _ in 0..1_000 {
        for resolver in ["10.96.0.10", "10.96.0.11", "8.8.8.8"] {
            let seconds = bench.now();
            let query = flow(resolver, 53, Outcome::Unanswered, seconds);
            bench.signal(&Signal::Flow(Flow {
                transport: Transport::Udp,
                ..query
            }));
        }
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn an_agent_with_failures_in_half_of_its_contacts_is_left_alone() {
    let mut bench = Bench::new();
    for n in 0..5_000 {
        let outcome = if n % 2 == 0 {
            Outcome::Refused
        } else {
            Outcome::Answered
        };
        bench.contact(&host(n), 443, outcome);
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn addresses_from_dns_answers_of_many_domains_are_no_evidence_however_many_fail() {
    let mut bench = Bench::new();
    for n in 0..200 {
        bench.signal(&dns(
            &format!("dead{n}.d{}.example", n / 20),
            &[&host(n)],
            0,
        ));
        bench.contact(&host(n), 443, Outcome::Unanswered);
    }
    assert_eq!(bench.findings, vec![]);
    bench.sweep(1_000..1_035, 443, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn a_name_that_the_log_gives_counts_like_a_dns_answer() {
    let mut bench = Bench::new();
    for n in 0..50 {
        let flow = flow(&host(n), 443, Outcome::Unanswered, 0);
        let destination_name = Some("dead.example.net".into());
        bench.signal(&Signal::Flow(Flow {
            destination_name,
            ..flow
        }));
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn successes_on_the_internet_never_pay_for_failures_inside_the_cluster() {
    let mut bench = Bench::new();
    for n in 0..35 {
        bench.sweep(n * 20..n * 20 + 20, 22, Outcome::Answered);
        bench.contact(&format!("10.244.9.{n}"), 22, Outcome::Refused);
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn successes_before_a_scan_are_no_credit() {
    let mut bench = Bench::new();
    bench.sweep(0..10_000, 22, Outcome::Answered);
    bench.sweep(20_000..20_035, 22, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn a_target_that_answers_after_all_is_taken_back() {
    let mut bench = Bench::new();
    // Workers that start before their peers listen.
    for n in 0..30 {
        bench.contact(&format!("10.244.7.{n}"), 29_500, Outcome::Refused);
    }
    for n in 0..30 {
        bench.contact(&format!("10.244.7.{n}"), 29_500, Outcome::Answered);
    }
    for n in 30..60 {
        bench.contact(&format!("10.244.7.{n}"), 29_500, Outcome::Refused);
    }
    bench.check(HorizontalScan, Some(Alert));
}

#[test]
fn a_contact_without_an_answer_fails_ten_seconds_later_and_not_before() {
    let mut bench = Bench::new();
    for n in 0..40 {
        bench.signal(&Signal::Flow(flow(&host(n), 23, Outcome::Pending, 0)));
    }
    bench.expire_pending(9);
    assert_eq!(bench.findings, vec![]);
    bench.expire_pending(10);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn a_contact_that_is_answered_in_time_does_not_fail() {
    let mut bench = Bench::new();
    for n in 0..40 {
        bench.signal(&Signal::Flow(flow(&host(n), 443, Outcome::Pending, 0)));
        bench.signal(&Signal::Flow(flow(&host(n), 443, Outcome::Answered, 1)));
    }
    bench.expire_pending(100);
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn first_packets_of_a_source_without_answers_are_never_failures() {
    let mut bench = Bench::new();
    bench
        .sweep(0..100, 443, Outcome::Unseen)
        .sweep(100..200, 443, Outcome::NotAnAttempt);
    bench.expire_pending(100_000);
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn the_records_of_one_contact_count_once() {
    let mut bench = Bench::new();
    for n in 0..34 {
        bench.contact(&host(n), 23, Outcome::Unseen);
        bench.contact(&host(n), 23, Outcome::Pending);
        bench.contact(&host(n), 23, Outcome::Unanswered);
        bench.contact(&host(n), 23, Outcome::Refused);
    }
    bench.expire_pending(100_000);
    bench.check(HorizontalScan, Some(Alert));
    bench.contact(&host(34), 23, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn silence_while_the_node_loses_records_is_no_evidence_but_refusals_still_count() {
    let mut bench = Bench::new();
    bench.engine.record_loss(LOG, at(5), 100);
    for n in 0..60 {
        bench.signal(&Signal::Flow(flow(&host(n), 23, Outcome::Pending, 5)));
    }
    bench.expire_pending(1_000);
    assert_eq!(bench.findings, vec![]);
    bench.sweep(0..35, 23, Outcome::Refused);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn the_losses_of_another_node_or_source_do_not_hide_a_scan() {
    let (other_node, other_source) = (Some("node-2"), 1);
    for origin in [
        Origin {
            node: other_node,
            ..LOG
        },
        Origin {
            source: other_source,
            ..LOG
        },
    ] {
        let mut bench = Bench::new();
        bench.engine.record_loss(origin, at(5), 100);
        for n in 0..60 {
            bench.signal(&Signal::Flow(flow(&host(n), 23, Outcome::Pending, 5)));
        }
        bench.expire_pending(100);
        bench.check(HorizontalScan, Some(Quarantine));
    }
}

#[test]
fn a_contact_waits_for_the_log_that_it_is_in_and_not_for_another() {
    let mut bench = Bench::new();
    let slow = Origin { source: 1, ..LOG };
    let answered = flow("203.0.113.200", 443, Outcome::Answered, 6);
    bench
        .engine
        .observe_unattributed(slow, &Signal::Flow(answered));
    for n in 0..60 {
        let signal = Signal::Flow(flow(&host(n), 23, Outcome::Pending, 5));
        bench.engine.step(&Attributed {
            origin: slow,
            ..by(&pod("agent"), Workload::Standard, &signal)
        });
    }
    // The other log is ahead: the answers may still come.
    bench.signal(&Signal::Flow(flow(&host(99), 443, Outcome::Answered, 60)));
    let read_up_to = |source| Some(at(if source == 1 { 6 } else { 60 }));
    assert_eq!(bench.engine.expire_pending(read_up_to), vec![]);
    assert_eq!(
        bench
            .engine
            .expire_pending(|source| (source == 0).then_some(at(90))),
        vec![]
    );
    let found = bench.engine.expire_pending(|_| Some(at(60)));
    bench.findings.extend(found);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn more_open_contacts_than_are_kept_do_not_hide_a_scan() {
    let mut bench = Bench::new();
    for n in 0..10_000 {
        bench.signal(&Signal::Flow(flow(&host(n), 23, Outcome::Pending, 0)));
    }
    bench.expire_pending(10);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn open_contacts_from_before_the_clock_went_back_do_not_hide_a_scan() {
    let mut bench = Bench::new();
    for n in 0..limits::PENDING_MAX {
        bench.signal(&Signal::Flow(flow(
            &host(n),
            443,
            Outcome::Pending,
            1_000_000,
        )));
    }
    for n in 1_000..1_040 {
        bench.signal(&Signal::Flow(flow(&host(n), 23, Outcome::Pending, 0)));
    }
    bench.expire_pending(20);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn a_crawlers_dead_links_weigh_half_and_its_internal_failures_whole() {
    let mut bench = Bench::new();
    bench.workload = Workload::Crawler;
    bench.sweep(0..68, 8_443, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Alert));
    bench.sweep(68..70, 8_443, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Quarantine));

    let mut bench = Bench::new();
    bench.workload = Workload::Crawler;
    for n in 0..35 {
        bench.contact(&format!("10.244.9.{n}"), 443, Outcome::Unanswered);
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn peer_to_peer_traffic_is_an_alert_at_most() {
    for default_port_every in [2, 5] {
        let mut bench = Bench::new();
        for n in 0..2_000_usize {
            let own_port = u16::try_from(10_000 + n).unwrap();
            let port = if n % default_port_every == 0 {
                6_346
            } else {
                own_port
            };
            bench.contact(&host(n), port, Outcome::Unanswered);
        }
        bench.check(HorizontalScan, Some(Alert));
        let against = &bench.findings.last().unwrap().evidence.against;
        assert!(against[0].as_str().contains("peer-to-peer"), "{against:?}");
    }
}

#[test]
fn a_little_noise_on_other_ports_does_not_make_a_scan_peer_to_peer_traffic() {
    let mut bench = Bench::new();
    for n in 0..200 {
        let port = if n % 6 == 0 {
            10_000 + u16::try_from(n).unwrap()
        } else {
            22
        };
        bench.contact(&host(n), port, Outcome::Unanswered);
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn a_scan_of_several_ports_on_all_hosts_is_never_taken_for_peer_to_peer_traffic() {
    for port_count in [2_u16, 10, 33, 34, 35, 60] {
        let mut bench = Bench::new();
        for n in 0..60 {
            for port in 1..=port_count {
                bench.contact(&host(n), port, Outcome::Unanswered);
            }
        }
        let found = bench.findings.iter().map(|finding| finding.severity).max();
        assert_eq!(found, Some(Quarantine), "{port_count} ports");
    }
}

#[test]
fn a_scan_of_a_hundred_ports_in_random_order_over_the_internet_is_an_alert() {
    let mut bench = Bench::new();
    for n in 0..600_usize {
        let port = 1_000 + u16::try_from(n * 37 % 100).unwrap();
        bench.contact(&host(n), port, Outcome::Unanswered);
    }
    bench.check(HorizontalScan, Some(Severity::Alert));
}

/// Blocks of hosts and ports that are just too small for the walk of a host or a port.
#[test]
fn a_scan_that_changes_its_hosts_and_ports_before_a_walk_grows_is_an_alert() {
    for ports in [1, 5, 15, 23] {
        let mut bench = Bench::new();
        for block in 0..12_usize {
            for n in 0..23 * ports {
                let port = u16::try_from(1_000 + block * ports + n % ports).unwrap();
                bench.contact(&host(block * 23 + n / ports), port, Outcome::Refused);
            }
        }
        bench.check(HorizontalScan, Some(Severity::Alert));
    }
}

#[test]
fn peers_with_ports_of_their_own_are_no_scan_of_many_ports() {
    let mut bench = Bench::new();
    for n in 0..2_000_usize {
        let port = 20_000 + u16::try_from(n * 7_919 % 40_000).unwrap();
        let outcome = if n % 3 == 0 {
            Outcome::Answered
        } else {
            Outcome::Unanswered
        };
        bench.contact(&host(n), port, outcome);
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn peer_to_peer_contacts_before_a_scan_do_not_excuse_it() {
    let mut bench = Bench::new();
    for n in 0..1_000 {
        bench.contact(
            &host(n),
            u16::try_from(2_000 + n).unwrap(),
            Outcome::Unanswered,
        );
    }
    bench.sweep(5_000..5_130, 22, Outcome::Unanswered);
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn noise_on_other_ports_cannot_push_a_scan_out_of_the_bounded_walks() {
    let mut bench = Bench::new();
    // Fill every walk with two failures, then mix the scan with fresh noise, inside the cluster,
    // where nothing is excused as peer-to-peer traffic.
    for port in 1..=2 * u16::try_from(limits::WALKS_MAX).unwrap() {
        bench.contact("10.244.1.1", port, Outcome::Refused);
        bench.contact("10.244.1.2", port, Outcome::Refused);
    }
    let mut noise = 10_000;
    for n in 0..60 {
        bench.contact(&format!("10.244.2.{n}"), 22, Outcome::Refused);
        for _ in 0..3 {
            noise += 1;
            bench.contact(
                &format!("10.244.3.{}", noise % 250),
                noise,
                Outcome::Refused,
            );
        }
    }
    bench.check(HorizontalScan, Some(Quarantine));
}

#[test]
fn a_traceroute_is_no_vertical_scan() {
    let mut bench = Bench::new();
    for hop in 0..100 {
        let flow = flow("203.0.113.7", 33_434 + hop, Outcome::Unanswered, 0);
        bench.signal(&Signal::Flow(Flow {
            transport: Transport::Udp,
            ..flow
        }));
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn multicast_and_loopback_are_nobodys_contact() {
    let mut bench = Bench::new();
    for n in 0..100 {
        bench.contact(&format!("239.1.1.{n}"), 5_353, Outcome::Unanswered);
        bench.contact(&format!("127.0.0.{n}"), 5_353, Outcome::Refused);
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn a_long_scan_is_reported_a_logarithmic_number_of_times() {
    let mut bench = Bench::new();
    bench.sweep(0..20_000, 23, Outcome::Unanswered);
    // 25 (alert), 35 (quarantine), 70, 140, ... 17,920.
    assert_eq!(bench.findings.len(), 11, "{:?}", bench.findings.len());
}

#[test]
fn a_pod_that_was_reset_has_no_state() {
    let mut bench = Bench::new();
    bench.sweep(0..34, 23, Outcome::Unanswered);
    bench.engine.forget(&pod("agent").pod);
    assert_eq!(bench.engine.pod_count(), 0);
    bench.findings.clear();
    bench.sweep(34..42, 23, Outcome::Unanswered);
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn a_pod_beyond_the_bound_is_refused_and_counted_and_displaces_none() {
    let mut engine = Engine::new(EngineConfig::default());
    for n in 0..limits::PODS_MAX + 3 {
        let signal = Signal::Flow(flow("203.0.113.1", 443, Outcome::Answered, 0));
        engine.step(&by(&pod(&format!("pod-{n}")), Workload::Standard, &signal));
    }
    assert_eq!(engine.pod_count(), limits::PODS_MAX);
    assert_eq!(engine.refused_signal_count(), 3);
}

#[test]
fn ipv4_written_as_ipv6_is_the_same_target() {
    let mut bench = Bench::new();
    for n in 0..34 {
        bench.contact(&host(n), 23, Outcome::Unanswered);
        bench.contact(&format!("::ffff:{}", host(n)), 23, Outcome::Unanswered);
    }
    bench.check(HorizontalScan, Some(Alert));
}
