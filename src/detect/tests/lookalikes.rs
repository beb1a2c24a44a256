//! Honest sessions that look like those of a miner: what separates them, one test per kind.

use super::story::*;
use super::*;
use crate::model::Severity::Alert;
use crate::model::Signature::Mining;

/// There is no finding for the session alone, nor with constant processor use from before.
#[track_caller]
fn check_silent(bench: &mut Bench, session: Session) {
    bench.session(session);
    assert_eq!(bench.findings, vec![]);
    for seconds in (0..1_300).step_by(10) {
        bench.signal(&cpu(seconds, 0.9 + 0.3 * noise(seconds)));
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn a_websocket_with_a_name_is_silent() {
    let mut bench = Bench::new().named("ws.chat.example.com", POOL.host);
    check_silent(
        &mut bench,
        Session {
            seconds: 7_200,
            bytes_out: 90_000,
            bytes_in: 120_000,
            packets: 3_000,
            ..POOL
        },
    );
}

#[test]
fn a_websocket_in_a_log_without_names_is_silent() {
    check_silent(
        &mut Bench::new(),
        Session {
            bytes_out: 30_000,
            ..POOL
        },
    );
}

#[test]
fn a_json_rpc_agent_over_tcp_is_silent() {
    let session = Session {
        port: 8_765,
        bytes_out: 60_000,
        bytes_in: 80_000,
        packets: 900,
        ..POOL
    };
    check_silent(&mut Bench::new(), session);
    check_silent(
        &mut Bench::new().named("tools.example.com", POOL.host),
        session,
    );
    check_silent(
        &mut Bench::new(),
        Session {
            host: "10.244.3.4",
            ..session
        },
    );
    check_silent(
        &mut Bench::new(),
        Session {
            host: "10.1.2.3",
            ..session
        },
    );
}

#[test]
fn a_long_poll_is_silent() {
    let poll = Session {
        bytes_out: 40_000,
        bytes_in: 12_000,
        packets: 200,
        ..POOL
    };
    check_silent(&mut Bench::new(), poll);
    check_silent(
        &mut Bench::new().named("queue.example.com", POOL.host),
        poll,
    );
}

#[test]
fn a_shell_is_silent() {
    let shell = Session {
        port: 22,
        seconds: 9_000,
        bytes_out: 90_000,
        bytes_in: 400_000,
        packets: 5_000,
        ..POOL
    };
    check_silent(&mut Bench::new(), shell);
    check_silent(&mut Bench::new().with_names(), shell);
}

#[test]
fn queues_stores_and_telemetry_are_silent() {
    for port in [
        9_092, 5_672, 1_883, 8_883, 5_432, 27_017, 9_300, 4_317, 5_222,
    ] {
        check_silent(&mut Bench::new(), Session { port, ..POOL });
        check_silent(&mut Bench::new().with_names(), Session { port, ..TRACKER });
    }
}

#[test]
fn a_training_run_with_a_tracker_is_silent_where_the_log_has_its_name() {
    let mut bench = Bench::new().named("api.tracker.example", TRACKER.host);
    bench.session(TRACKER).plateau(1.0, 0.005);
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn a_training_run_with_a_tracker_is_no_quarantine_in_a_log_without_names() {
    for level in [0.5, 1.0] {
        let mut bench = Bench::new();
        bench.session(TRACKER).plateau(level, 0.005);
        bench.check(Mining, Some(Alert));
    }
}

#[test]
fn a_compile_during_a_websocket_that_was_there_before_is_silent() {
    let mut bench = Bench::new().named("ws.chat.example.com", POOL.host);
    bench.session(Session {
        seconds: 1_300,
        from: 0,
        bytes_out: 30_000,
        ..POOL
    });
    for seconds in (0..1_300).step_by(10) {
        let busy = (600..1_250).contains(&seconds);
        bench.signal(&cpu(seconds, if busy { 1.0 } else { 0.1 }));
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn workers_of_a_cluster_that_compute_evenly_are_no_quarantine() {
    let mut bench = Bench::new().with_names();
    for (host, port) in [
        ("10.244.1.1", 6_379),
        ("10.244.1.1", 10_002),
        ("10.244.1.2", 10_003),
    ] {
        bench.session(Session { host, port, ..POOL });
    }
    bench.plateau(1.0, 0.005);
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn a_plateau_alone_is_nothing() {
    let mut bench = Bench::new();
    bench.plateau(0.5, 0.001);
    bench.contact("192.0.2.80", 443, Outcome::Answered);
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn an_idle_pod_is_no_plateau() {
    let mut bench = Bench::new().with_names();
    bench.session(POOL);
    for seconds in (0..1_300).step_by(10) {
        bench.signal(&cpu(seconds, 0.01));
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn use_that_creeps_up_is_no_plateau() {
    let mut bench = Bench::new().with_names();
    bench.session(POOL);
    for n in 0..130 {
        bench.signal(&cpu(
            n * 10,
            0.1 + 0.006 * f64::from(u8::try_from(n).unwrap()),
        ));
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn peers_of_a_file_sharing_network_are_silent() {
    let mut bench = Bench::new();
    bench.sweep(0..60, 6_346, Outcome::Answered);
    for n in 0..4_u16 {
        let host = [
            "198.51.100.1",
            "198.51.100.2",
            "198.51.100.3",
            "198.51.100.4",
        ][usize::from(n)];
        bench.session(Session {
            host,
            port: 45_700 + n,
            ..POOL
        });
    }
    assert_eq!(bench.severity(Mining), None);
}

#[test]
fn keep_alive_requests_one_after_the_other_are_silent() {
    let mut bench = Bench::new();
    for n in 0..30 {
        let piece = Session {
            from: n * 70,
            seconds: 60,
            bytes_out: 2_000,
            bytes_in: 9_000,
            packets: 30,
            ..POOL
        };
        bench.session(piece);
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn downloads_and_short_requests_leave_no_session() {
    let mut bench = Bench::new();
    for n in 0..2_000 {
        let n_port = u16::try_from(n % 40_000).unwrap();
        let short = Session {
            port: 3_333,
            from: n,
            seconds: 2,
            bytes_out: 500,
            bytes_in: 5_000,
            packets: 12,
            ..POOL
        };
        let flow = Flow {
            source_port: n_port,
            ..short.flow()
        };
        bench.signal(&Signal::Flow(flow));
    }
    bench.session(Session {
        port: 3_333,
        seconds: 600,
        bytes_in: 900_000_000,
        packets: 900_000,
        ..POOL
    });
    assert_eq!(bench.findings, vec![]);
}
