//! Mining: the families of evidence, and that none of them acts alone.

use super::*;
use crate::model::Severity::{Alert, Quarantine};
use crate::model::Signature::Mining;

const POOLS: &str = "pool.example.net\n203.0.113.133\n";

/// A session of so many seconds at the rate of a real one: 100 B/s, 15 packets/min.
fn session(target: &str, seconds: u64) -> Signal<'static> {
    let flow = flow(target, 443, Outcome::Answered, 0);
    let volume = Some(volume(seconds, seconds * 100, seconds / 4));
    Signal::Flow(Flow { volume, ..flow })
}

#[test]
fn a_listed_name_alone_is_an_alert() {
    let mut bench = Bench::with_pools(POOLS);
    bench.signal(&dns("eu.pool.example.net", &[], 0));
    bench.check(Mining, Some(Alert));
}

#[test]
fn a_listed_address_alone_is_an_alert_even_where_the_log_shows_no_outcome() {
    let mut bench = Bench::with_pools(POOLS);
    bench.contact("203.0.113.133", 3333, Outcome::Unseen);
    bench.check(Mining, Some(Alert));
}

#[test]
fn the_shape_of_a_session_alone_is_nothing() {
    let mut bench = Bench::with_pools(POOLS);
    bench.signal(&session("198.51.100.7", 3_000));
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn a_long_thin_session_with_a_listed_address_is_quarantined() {
    let mut bench = Bench::with_pools(POOLS);
    bench.signal(&session("203.0.113.133", 300));
    bench.check(Mining, Some(Quarantine));
    let evidence = &bench.findings[0].evidence;
    assert!(evidence.score >= evidence.threshold && evidence.score <= 18.0 + 1e-9);
}

#[test]
fn an_address_learnt_from_the_answer_for_a_listed_name_counts_as_listed() {
    let mut bench = Bench::with_pools(POOLS);
    bench.signal(&dns("pool.example.net", &["198.51.100.7"], 0));
    bench.signal(&session("198.51.100.7", 300));
    bench.check(Mining, Some(Quarantine));
}

#[test]
fn what_one_pod_learnt_from_dns_is_not_held_against_another() {
    let mut bench = Bench::with_pools(POOLS);
    bench.signal(&dns("pool.example.net", &["198.51.100.7"], 0));
    let session = session("198.51.100.7", 300);
    assert_eq!(
        bench
            .engine
            .step(&by(&pod("other"), Workload::Standard, &session)),
        vec![]
    );
}

#[test]
fn a_listed_name_in_a_tls_handshake_marks_its_server() {
    let mut bench = Bench::with_pools(POOLS);
    bench.signal(&tls("pool.example.net", "198.51.100.7", 40_000, 0));
    bench.check(Mining, Some(Alert));
    bench.signal(&session("198.51.100.7", 300));
    bench.check(Mining, Some(Quarantine));
    assert_eq!(
        bench.findings.last().unwrap().evidence.contact_count,
        1,
        "one connection"
    );
}

#[test]
fn a_short_session_with_a_pool_stays_an_alert() {
    let mut bench = Bench::with_pools(POOLS);
    bench.signal(&session("203.0.113.133", 200));
    bench.check(Mining, Some(Alert));
}

#[test]
fn sessions_that_are_cut_into_pieces_add_up() {
    let mut bench = Bench::with_pools(POOLS);
    for n in 0..6_u16 {
        let Signal::Flow(piece) = session("203.0.113.133", 60) else {
            unreachable!()
        };
        let piece = Flow {
            time: at(i64::from(n) * 70),
            source_port: 40_000 + n,
            ..piece
        };
        bench.signal(&Signal::Flow(piece));
    }
    bench.check(Mining, Some(Quarantine));
}

#[test]
fn sessions_at_the_same_time_do_not_add_up() {
    let mut bench = Bench::with_pools(POOLS);
    for n in 0..6 {
        let Signal::Flow(piece) = session("203.0.113.133", 60) else {
            unreachable!()
        };
        bench.signal(&Signal::Flow(Flow {
            source_port: 40_000 + n,
            ..piece
        }));
    }
    bench.check(Mining, Some(Alert));
}

#[test]
fn a_download_from_a_listed_address_has_not_the_shape_of_mining() {
    let mut bench = Bench::with_pools(POOLS);
    let flow = flow("203.0.113.133", 443, Outcome::Answered, 0);
    let volume = Some(volume(600, 600_000_000, 600_000));
    bench.signal(&Signal::Flow(Flow { volume, ..flow }));
    bench.check(Mining, Some(Alert));
}

#[test]
fn a_session_that_never_ends_is_judged_while_it_lasts() {
    let mut bench = Bench::with_pools(POOLS);
    for seconds in [60, 120, 180, 240, 300] {
        let Signal::Flow(flow) = session("203.0.113.133", seconds) else {
            unreachable!()
        };
        let volume = flow.volume.map(|volume| Volume {
            is_final: false,
            ..volume
        });
        bench.signal(&Signal::Flow(Flow { volume, ..flow }));
    }
    bench.check(Mining, Some(Quarantine));
    assert_eq!(bench.findings.last().unwrap().evidence.contact_count, 1);
}

#[test]
fn without_a_list_a_pool_like_name_needs_a_session() {
    let mut bench = Bench::new();
    bench.signal(&dns("xmr.pool.example.net", &["203.0.113.133"], 0));
    assert_eq!(bench.findings, vec![]);
    bench.signal(&session("203.0.113.133", 3_000));
    bench.check(Mining, Some(Alert));
}

#[test]
fn a_listed_name_is_found_in_any_case_and_with_the_dot_of_the_root() {
    for name in [
        "EU.Pool.Example.NET",
        "pool.example.net.",
        "pool.example.net",
    ] {
        let mut bench = Bench::with_pools(POOLS);
        bench.signal(&dns(name, &[], 0));
        bench.check(Mining, Some(Alert));
    }
}

#[test]
fn retries_of_a_denied_pool_are_no_session() {
    let mut bench = Bench::with_pools(POOLS);
    for n in 0..60 {
        let retry = flow("203.0.113.133", 3_333, Outcome::Denied, n * 30);
        bench.signal(&Signal::Flow(retry));
    }
    bench.check(Mining, Some(Alert));
}

#[test]
fn hostile_names_reach_the_evidence_only_as_the_lists_own_entry() {
    let mut bench = Bench::with_pools(POOLS);
    bench.signal(&dns("\u{1b}[2J.pool.example.net", &[], 0));
    let summary = bench.findings[0].evidence.summary.as_str();
    assert!(
        summary.contains("pool.example.net") && !summary.contains("[2J"),
        "{summary}"
    );
}
