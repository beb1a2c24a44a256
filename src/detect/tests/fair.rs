//! Mining: ports that are not those of pools, starter lists, probing of many pools, sparse samples.

use super::story::*;
use super::*;
use crate::model::Severity::{Alert, Quarantine};
use crate::model::Signature::{Mining, TunnelService};

#[test]
fn the_ports_of_currency_nodes_are_no_ports_of_pools() {
    for port in [8_333, 18_333, 8_332, 9_999, 9_333, 18_080, 30_303] {
        let mut bench = Bench::new();
        bench.session(Session { port, ..POOL });
        assert_eq!(bench.findings, vec![], "{port}");
    }
    let mut control = Bench::new();
    control.session(Session {
        port: 3_333,
        ..POOL
    });
    control.check(Mining, Some(Alert));
}

#[test]
fn a_currency_node_with_a_busy_processor_is_an_alert_at_most() {
    for port in [8_333, 9_999] {
        let mut bench = Bench::new();
        bench.session(Session { port, ..POOL }).plateau(0.52, 0.01);
        assert!(bench.severity(Mining) <= Some(Alert), "{port}");
    }
}

/// A connection that is over after half a second.
fn short(target: &str, port: u16, outcome: Outcome, seconds: i64) -> Signal<'static> {
    Signal::Flow(flow(target, port, outcome, seconds))
}

const POOL_PORTS: [u16; 5] = [3_333, 4_444, 5_555, 7_777, 14_444];

/// Contacts with this number of hosts on this number of pool ports, one each `every` seconds; each `silent`-th does not
/// answer.
fn walk(hosts: usize, ports: usize, every: i64, silent: usize) -> Bench {
    let mut bench = Bench::new();
    for n in 0..hosts {
        let outcome = if silent > 0 && n % silent == 0 {
            Outcome::Unanswered
        } else {
            Outcome::Answered
        };
        let time = i64::try_from(n).unwrap() * every;
        let port = POOL_PORTS[n % ports];
        bench.signal(&short(&host(n * 3), port, outcome, time));
    }
    bench
}

#[test]
fn a_catalogue_of_pools_that_is_walked_is_an_alert_and_never_more() {
    walk(12, 4, 5, 0).check(Mining, Some(Alert));
    walk(24, 5, 60, 3).check(Mining, Some(Alert));
    let bench = walk(60, 5, 1, 4);
    bench.check(Mining, Some(Alert));
    let evidence = &bench.findings.first().unwrap().evidence;
    let summary = evidence.summary.as_str();
    assert!(summary.contains("8 of them answered"), "{summary}");
    assert!(summary.contains("catalogue"), "{summary}");
}

#[test]
fn fewer_hosts_or_ports_or_answers_or_more_time_is_no_walk() {
    for (hosts, ports, every, silent) in [
        (7, 4, 5, 0),    // hosts
        (20, 3, 5, 0),   // ports
        (20, 5, 5, 1),   // no answers
        (20, 5, 900, 0), // four hosts an hour
    ] {
        let bench = walk(hosts, ports, every, silent);
        assert_eq!(
            bench.severity(Mining),
            None,
            "{hosts} {ports} {every} {silent}"
        );
    }
}

#[test]
fn hosts_inside_and_a_peer_to_peer_client_walk_no_catalogue() {
    let mut inside = Bench::new();
    for n in 0..40_u8 {
        let target = format!("10.9.0.{n}");
        let port = POOL_PORTS[usize::from(n) % 5];
        inside.signal(&short(&target, port, Outcome::Answered, i64::from(n)));
    }
    assert_eq!(inside.severity(Mining), None);
    let mut peers = Bench::new();
    for n in 0..2_000_usize {
        let port = match n % 100 {
            0 => POOL_PORTS[(n / 100) % 5],
            _ => u16::try_from(10_000 + n * 7).unwrap(),
        };
        let time = i64::try_from(n).unwrap();
        peers.signal(&short(&host(n), port, Outcome::Answered, time));
    }
    assert_eq!(peers.severity(Mining), None);
}

#[test]
fn a_pod_remembers_a_bounded_number_of_such_contacts() {
    let bench = walk(2_000, 5, 1, 0);
    bench.check(Mining, Some(Alert));
    assert!(bench.findings.len() < 10, "{}", bench.findings.len());
}

/// A bench with this list as both starter lists.
fn starter(list: &str) -> Bench {
    let list = PoolList::parse(list).0;
    let config = EngineConfig {
        starter_pools: list.clone(),
        starter_tunnels: list,
        ..EngineConfig::default()
    };
    Bench {
        engine: Engine::new(config),
        ..Bench::new()
    }
}

#[test]
fn a_match_of_the_starter_list_is_an_alert_whatever_the_session_looks_like() {
    let long = Session {
        port: 9_001,
        bytes_out: 300_000,
        bytes_in: 90_000,
        packets: 900,
        ..POOL
    };
    let mut bench = starter("pool.example.net").named("eu.pool.example.net", POOL.host);
    bench.session(long);
    bench.check(Mining, Some(Alert));
    let evidence = &bench.findings.first().unwrap().evidence;
    assert!(evidence.summary.as_str().contains("starter list"));
    let against: Vec<_> = evidence
        .against
        .iter()
        .map(crate::model::BoundedText::as_str)
        .collect();
    assert!(
        against.iter().any(|a| a.contains("never leads")),
        "{against:?}"
    );
    // The same by the user's own list, and without any.
    let mut own = Bench::with_pools("pool.example.net").named("eu.pool.example.net", POOL.host);
    own.session(long);
    own.check(Mining, Some(Quarantine));
    let mut none = Bench::new().named("eu.example.net", POOL.host);
    none.session(long);
    none.check(Mining, None);
}

#[test]
fn a_match_of_the_starter_list_adds_nothing_to_other_evidence() {
    // An alert without the list stays one with it, and so does what is a quarantine by itself.
    for (name, expected) in [
        ("cdn.example.com", Alert),
        ("ws9.supermine.example", Quarantine),
    ] {
        for list in ["", name] {
            let mut bench = starter(list).named(name, POOL.host);
            bench.session(POOL).plateau(0.52, 0.01);
            bench.check(Mining, Some(expected));
        }
    }
}

#[test]
fn a_tunnel_service_of_the_starter_list_and_a_listed_pool_are_no_quarantine_together() {
    let lists = |starter: &str, own: &str| {
        let mut bench = Bench::new();
        bench.engine = Engine::new(EngineConfig {
            pools: PoolList::parse("pool.example.net").0,
            tunnels: PoolList::parse(own).0,
            starter_tunnels: PoolList::parse(starter).0,
            ..EngineConfig::default()
        });
        let mut bench = bench
            .named("pool.example.net", POOL.host)
            .named("connect.tunnel.example", "203.0.113.50");
        bench.signal(&short(POOL.host, 443, Outcome::Answered, 10));
        bench.signal(&short("203.0.113.50", 443, Outcome::Answered, 20));
        bench
    };
    lists("tunnel.example", "").check(TunnelService, Some(Alert));
    lists("", "tunnel.example").check(TunnelService, Some(Quarantine));
    lists("", "").check(TunnelService, None);
}

/// The same load, one sample each so many seconds: each is the average since the one before.
fn sampled(bench: &mut Bench, every: i64, from: i64, steps_up_at: i64, until: i64) {
    let (low, high) = (0.1, 0.54);
    let mut time = from;
    while time <= until {
        let all = every.min(time - from + every);
        let busy = (time - steps_up_at).clamp(0, all);
        #[allow(clippy::cast_precision_loss)]
        let share = busy as f64 / all as f64;
        let level = low + (high - low) * share + 0.003 * noise(time);
        bench.signal(&cpu(time, level));
        time += every;
    }
}

#[test]
fn one_sample_a_minute_leads_to_the_same_judgement_as_one_per_15_s() {
    for port in [443, 7_012] {
        for (steps_up_at, until) in [
            (25, 2_400),
            (125, 2_400),
            (200, 1_500),
            (25, 700),
            (25, 460),
        ] {
            let judged = |every: i64, first: i64| {
                let mut bench = Bench::new().with_names();
                let session = Session {
                    port,
                    from: 5,
                    seconds: u64::try_from(until).unwrap(),
                    bytes_out: 3_800,
                    bytes_in: 63_000,
                    packets: 500,
                    ..POOL
                };
                bench.session(session);
                sampled(&mut bench, every, first, steps_up_at, until);
                bench.severity(Mining)
            };
            let expected = judged(15, 12);
            for first in [12, 30, 57] {
                let found = judged(60, first);
                assert_eq!(
                    found, expected,
                    "port {port} step {steps_up_at} until {until} first {first}"
                );
            }
        }
    }
}
