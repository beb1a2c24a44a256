//! Miners that no list names, and what attackers vary.

use super::story::*;
use super::*;
use crate::model::Severity::{Alert, Quarantine};
use crate::model::Signature::Mining;
use crate::model::{DeviceUse, GpuSample};

#[test]
fn a_miner_behind_an_unknown_proxy_on_443_with_a_plateau_at_half_is_quarantined() {
    let mut bench = Bench::new().with_names();
    bench.session(POOL).plateau(0.52, 0.01);
    bench.check(Mining, Some(Quarantine));
    let evidence = &bench.findings.last().unwrap().evidence;
    let summary = evidence.summary.as_str();
    assert!(
        summary.contains("port 443") && summary.contains("processor use"),
        "{summary}"
    );
    assert_eq!(evidence.examples.len(), 1);
    assert!(!evidence.against.is_empty() && evidence.score >= evidence.threshold);
}

#[test]
fn in_a_log_without_names_a_port_of_the_web_makes_it_an_alert_and_any_other_a_quarantine() {
    for (port, expected) in [
        (443, Alert),
        (8_080, Alert),
        (9_000, Alert),
        (7_012, Quarantine),
    ] {
        let mut bench = Bench::new();
        bench.session(Session { port, ..POOL }).plateau(0.52, 0.01);
        bench.check(Mining, Some(expected));
    }
}

#[test]
fn the_unit_of_the_samples_does_not_matter() {
    for level in [0.3, 52.0, 7.8, 780.0] {
        let mut bench = Bench::new().with_names();
        bench.session(POOL).plateau(level, level * 0.02);
        bench.check(Mining, Some(Quarantine));
    }
}

#[test]
fn the_record_of_the_session_may_come_at_its_end() {
    let mut bench = Bench::new().with_names();
    bench.plateau(0.52, 0.01).session(POOL);
    bench.check(Mining, Some(Quarantine));
}

#[test]
fn a_session_that_is_reopened_every_four_minutes_is_one() {
    let mut bench = Bench::new().with_names();
    for n in 0..5 {
        let piece = Session {
            from: 100 + n * 245,
            seconds: 240,
            bytes_out: 1_200,
            bytes_in: 8_000,
            packets: 80,
            ..POOL
        };
        bench.session(piece);
    }
    bench.plateau(0.52, 0.01);
    bench.check(Mining, Some(Quarantine));
}

#[test]
fn two_pools_at_once_do_not_hide_each_other() {
    let mut bench = Bench::new().with_names();
    bench.session(POOL);
    bench.session(Session {
        host: "203.0.113.9",
        ..POOL
    });
    bench.plateau(0.52, 0.01);
    bench.check(Mining, Some(Quarantine));
}

#[test]
fn dips_in_the_plateau_do_not_hide_it() {
    let mut bench = Bench::new().with_names();
    bench.session(POOL);
    for seconds in (0..1_300).step_by(10) {
        let base = match seconds {
            ..130 => 0.07,
            _ if seconds % 120 == 0 => 0.3,
            _ => 0.52,
        };
        bench.signal(&cpu(seconds, base));
    }
    bench.check(Mining, Some(Quarantine));
}

#[test]
fn a_plain_name_that_the_attacker_bought_makes_it_an_alert() {
    let mut bench = Bench::new().named("cdn.example.com", POOL.host);
    bench.session(POOL).plateau(0.52, 0.01);
    bench.check(Mining, Some(Alert));
}

#[test]
fn a_pool_like_name_and_a_session_are_an_alert_and_with_a_plateau_a_quarantine() {
    let mut bench = Bench::new();
    bench.signal(&tls("ws9.supermine.example", POOL.host, 40_100, 99));
    bench.session(POOL);
    bench.check(Mining, Some(Alert));
    bench.plateau(0.52, 0.01);
    bench.check(Mining, Some(Quarantine));
}

#[test]
fn a_session_on_a_port_of_pools_is_an_alert_without_a_list() {
    let mut bench = Bench::new();
    bench.session(Session {
        port: 3_333,
        ..POOL
    });
    bench.check(Mining, Some(Alert));
}

#[test]
fn a_pool_that_gets_more_than_it_sends_is_found_on_its_port() {
    let mut bench = Bench::new();
    let equihash = Session {
        port: 3_333,
        bytes_out: 130_000,
        bytes_in: 6_000,
        ..POOL
    };
    bench.session(equihash);
    bench.check(Mining, Some(Alert));
}

#[test]
fn a_proxy_inside_the_cluster_with_a_plateau_is_an_alert() {
    let mut bench = Bench::new().with_names();
    bench
        .session(Session {
            host: "10.244.7.9",
            port: 3_333,
            ..POOL
        })
        .plateau(0.52, 0.01);
    bench.check(Mining, Some(Alert));
}

/// The packets of a session in a log of packets: one every so many seconds, from one port.
fn packets(bench: &mut Bench, port: u16, every: usize) {
    for seconds in (100..1_300).step_by(every) {
        let jitter = i64::from(u8::from(noise(seconds) > 0.0)) * 3;
        bench.signal(&Signal::Flow(flow(
            POOL.host,
            port,
            Outcome::Answered,
            seconds + jitter,
        )));
    }
}

#[test]
fn a_log_without_bytes_shows_the_session_but_not_who_sends_more_so_it_is_an_alert() {
    let mut bench = Bench::new().with_names();
    packets(&mut bench, 443, 20);
    assert_eq!(bench.findings, vec![]);
    bench.plateau(0.52, 0.01);
    bench.check(Mining, Some(Alert));
}

#[test]
fn later_packets_that_open_nothing_carry_the_session_on() {
    let mut bench = Bench::new();
    for seconds in (100..1_300).step_by(30) {
        let outcome = if seconds == 100 {
            Outcome::Pending
        } else {
            Outcome::NotAnAttempt
        };
        bench.signal(&Signal::Flow(flow(POOL.host, 3_333, outcome, seconds)));
    }
    bench.check(Mining, Some(Alert));
}

#[test]
fn a_burst_of_short_connections_does_not_push_out_the_long_one() {
    let mut bench = Bench::new();
    for seconds in 100..1_300_i64 {
        if seconds % 20 == 0 {
            bench.signal(&Signal::Flow(flow(
                POOL.host,
                3_333,
                Outcome::Answered,
                seconds,
            )));
        }
        for n in 0..4 {
            let source_port = u16::try_from(20_000 + seconds * 4 + n).unwrap();
            let short = flow("192.0.2.80", 443, Outcome::Answered, seconds);
            bench.signal(&Signal::Flow(Flow {
                source_port,
                ..short
            }));
        }
    }
    bench.check(Mining, Some(Alert));
}

#[test]
fn the_updates_of_one_connection_are_one_session() {
    let mut bench = Bench::new();
    for minute in 1..=20_u64 {
        let so_far = Session {
            port: 3_333,
            seconds: minute * 60,
            bytes_out: minute * 300,
            bytes_in: minute * 2_000,
            packets: minute * 20,
            ..POOL
        };
        bench.session(so_far);
    }
    bench.check(Mining, Some(Alert));
    assert_eq!(bench.findings.last().unwrap().evidence.contact_count, 1);
}

#[test]
fn the_slices_of_one_connection_add_up() {
    let mut bench = Bench::new();
    for n in 0..10_i64 {
        let slice = Session {
            port: 3_333,
            from: 100 + n * 60,
            seconds: 60,
            bytes_out: 300,
            bytes_in: 2_000,
            packets: 20,
            ..POOL
        };
        let flow = Flow {
            source_port: 40_000,
            ..slice.flow()
        };
        bench.signal(&Signal::Flow(flow));
    }
    bench.check(Mining, Some(Alert));
    assert_eq!(bench.findings.last().unwrap().evidence.contact_count, 1);
}

/// Hashing as DCGM sees it.
fn hashing(n: i64) -> GpuSample {
    GpuSample {
        device: Some(1),
        device_use: DeviceUse::Exclusive,
        utilization: Some(1.0),
        sm_active: Some(0.97),
        tensor_active: Some(0.0),
        dram_active: Some(0.7),
        int_active: Some(0.6),
        fp64_active: None,
        power_watts: Some(290.0 + noise(n)),
        memory_used_mib: Some(5_300.0),
        link_bytes_per_second: Some(100_000.0),
    }
}

#[test]
fn an_accelerator_that_hashes_during_the_session_makes_it_a_quarantine() {
    let mut bench = Bench::new().with_names();
    bench.session(POOL);
    for seconds in (130..1_300).step_by(15) {
        bench.signal(&gpu(seconds, hashing(seconds)));
    }
    bench.check(Mining, Some(Quarantine));
    let summary = bench.findings.last().unwrap().evidence.summary.as_str();
    assert!(summary.contains("accelerator"), "{summary}");
}

#[test]
fn figures_of_a_device_that_others_use_or_may_use_are_no_evidence() {
    for device_use in [DeviceUse::Unknown, DeviceUse::Shared] {
        let mut bench = Bench::new().with_names();
        bench.session(POOL);
        for seconds in (130..1_300).step_by(15) {
            let sample = GpuSample {
                device_use,
                ..hashing(seconds)
            };
            bench.signal(&gpu(seconds, sample));
        }
        assert_eq!(bench.findings, vec![], "{device_use:?}");
    }
}

#[test]
fn what_a_device_showed_is_withdrawn_when_it_turns_out_to_be_shared() {
    let shared = |device| GpuSample {
        device: Some(device),
        device_use: DeviceUse::Shared,
        ..GpuSample::default()
    };
    for (device, expected) in [(1, None), (2, Some(Quarantine))] {
        let mut bench = Bench::new().with_names();
        for seconds in (130..1_300).step_by(15) {
            bench.signal(&gpu(seconds, hashing(seconds)));
        }
        bench.signal(&gpu(1_300, shared(device)));
        bench.session(POOL);
        bench.check(Mining, expected);
    }
}

#[test]
fn the_evidence_describes_only_what_was_measured() {
    for (power_watts, words) in [(Some(290.0), true), (None, false)] {
        let mut bench = Bench::new().with_names();
        bench.session(POOL);
        for seconds in (130..1_300).step_by(15) {
            let sample = GpuSample {
                power_watts,
                link_bytes_per_second: None,
                ..hashing(seconds)
            };
            bench.signal(&gpu(seconds, sample));
        }
        bench.check(Mining, Some(Quarantine));
        let summary = bench.findings.last().unwrap().evidence.summary.as_str();
        assert_eq!(summary.contains("even power"), words, "{summary}");
        assert!(summary.contains("integer work"), "{summary}");
        assert!(!summary.contains("link"), "{summary}");
    }
}

#[test]
fn training_on_an_accelerator_is_not_hashing() {
    for tensor_active in [Some(0.4), None] {
        let mut bench = Bench::new().with_names();
        bench.session(POOL);
        for seconds in (130..1_300).step_by(15) {
            bench.signal(&gpu(
                seconds,
                GpuSample {
                    tensor_active,
                    ..hashing(seconds)
                },
            ));
        }
        assert_eq!(bench.findings, vec![], "{tensor_active:?}");
    }
}

#[test]
fn processors_and_accelerator_together_are_one_family() {
    let mut bench = Bench::new().named("cdn.example.com", POOL.host);
    bench.session(POOL).plateau(0.52, 0.01);
    for seconds in (130..1_300).step_by(15) {
        bench.signal(&gpu(seconds, hashing(seconds)));
    }
    bench.check(Mining, Some(Alert));
}

#[test]
fn a_listed_pool_and_a_plateau_do_not_need_a_long_session_record() {
    let mut bench = Bench::with_pools("pool.example.net").named("pool.example.net", POOL.host);
    bench.session(Session {
        seconds: 900,
        bytes_out: 4_000_000,
        bytes_in: 4_000_000,
        packets: 60_000,
        ..POOL
    });
    bench.check(Mining, Some(Alert));
    bench.plateau(0.52, 0.01);
    bench.check(Mining, Some(Quarantine));
}

/// Filler in the pool's connection, or more packets than a pool needs.
const PADDED: [Session; 3] = [
    Session {
        bytes_out: 1_140_000,
        bytes_in: 1_140_000,
        packets: 2_400,
        ..POOL
    },
    Session {
        packets: 20_000,
        bytes_in: 400_000,
        ..POOL
    },
    Session {
        bytes_in: 18_000_000,
        packets: 40_000,
        ..POOL
    },
];

#[test]
fn filler_in_the_session_of_a_miner_does_not_hide_it() {
    for padded in PADDED {
        let mut bench = Bench::new().with_names();
        bench.session(padded).plateau(0.52, 0.01);
        bench.check(Mining, Some(Alert));
        let mut bench = Bench::new().with_names();
        bench.session(padded);
        bench.check(Mining, None);
    }
}

/// A miner that polls for work in new connections: (seconds of each, seconds between their starts).
const GETWORK: [(u64, i64); 3] = [(2, 20), (25, 30), (1, 45)];

#[test]
fn short_connections_that_follow_each_other_are_the_session_of_a_miner() {
    for (seconds, every) in GETWORK {
        for has_plateau in [true, false] {
            let mut bench = Bench::new().with_names();
            for n in 0..1_200 / every {
                let piece = Session {
                    port: 7_012,
                    from: 100 + n * every,
                    seconds,
                    bytes_out: 400,
                    bytes_in: 1_500,
                    packets: 12,
                    ..POOL
                };
                bench.session(piece);
            }
            if has_plateau {
                bench.plateau(0.52, 0.01);
            }
            bench.check(Mining, has_plateau.then_some(Alert));
        }
    }
}

/// A log of packets has the SYN before the answer, and conntrack the begin before the end.
#[test]
fn short_connections_are_one_session_also_in_logs_with_a_record_of_each_attempt() {
    for (attempt, volume) in [
        (Outcome::Pending, None),
        (Outcome::Unseen, Some(volume(1, 1_900, 12))),
    ] {
        let mut bench = Bench::new().with_names();
        for n in 0..60_u16 {
            let seconds = 100 + i64::from(n) * 20;
            let record = |outcome, volume| Flow {
                source_port: 41_000 + n,
                volume,
                ..flow(POOL.host, 7_012, outcome, seconds)
            };
            bench.signal(&Signal::Flow(record(attempt, None)));
            bench.signal(&Signal::Flow(record(Outcome::Answered, volume)));
        }
        bench.plateau(0.52, 0.01);
        bench.check(Mining, Some(Alert));
    }
}

#[test]
fn a_load_that_is_a_little_uneven_is_a_plateau_and_one_that_follows_work_is_none() {
    type Load = fn(i64) -> f64;
    let loads: [(Load, bool); 5] = [
        (|n| if n % 4 == 0 { 0.478 } else { 0.52 }, true),
        (|n| if n % 2 == 0 { 0.48 } else { 0.52 }, true),
        (|n| 0.52 + 0.05 * noise(n), true),
        (|n| if n % 3 == 0 { 0.2 } else { 0.52 }, false),
        (|n| 0.52 + 0.3 * noise(n), false),
    ];
    for (nth, (load, is_plateau)) in loads.into_iter().enumerate() {
        let mut bench = Bench::new().with_names();
        bench.session(POOL);
        for seconds in (0..1_300).step_by(10) {
            let base = if seconds < 130 {
                0.07
            } else {
                load(seconds / 10)
            };
            bench.signal(&cpu(seconds, base));
        }
        let found = bench.severity(Mining) == Some(Quarantine);
        assert_eq!(found, is_plateau, "load {nth}");
    }
}
