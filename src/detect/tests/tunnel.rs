//! Tunnels: sessions used from the remote side, data in names, listed services.

use super::story::*;
use super::*;
use crate::model::Severity::{Alert, Quarantine};
use crate::model::Signature::{DnsTunnel, ReverseTunnel, TunnelService};

/// Two hours in which the remote side types and the pod answers.
const REVERSE: Session = Session {
    host: "203.0.113.22",
    port: 22,
    from: 0,
    seconds: 7_200,
    bytes_out: 2_000_000,
    bytes_in: 150_000,
    packets: 6_000,
};

fn with_services(list: &str) -> Bench {
    let mut bench = Bench::new();
    bench.engine = Engine::new(EngineConfig {
        tunnels: PoolList::parse(list).0,
        pools: PoolList::parse("pool.example.net").0,
        ..EngineConfig::default()
    });
    bench
}

#[test]
fn a_long_shell_that_is_used_from_the_remote_side_is_an_alert() {
    for bench in [
        Bench::new(),
        Bench::new().named("relay.example.org", REVERSE.host),
    ] {
        let mut bench = bench;
        bench.session(REVERSE);
        bench.check(ReverseTunnel, Some(Alert));
        let evidence = &bench.findings[0].evidence;
        assert!(
            evidence
                .summary
                .as_str()
                .contains("the remote side sends requests")
        );
        assert!(!evidence.against.is_empty());
    }
}

#[test]
fn one_on_443_without_a_server_name_is_an_alert() {
    let mut bench = Bench::new().with_names();
    bench.session(Session {
        port: 443,
        ..REVERSE
    });
    bench.check(ReverseTunnel, Some(Alert));
}

#[test]
fn turns_with_breaks_between_them_are_seen_in_interval_records() {
    let mut bench = Bench::new().with_names();
    let mut so_far = Session {
        seconds: 0,
        bytes_out: 0,
        bytes_in: 0,
        packets: 10,
        port: 2_222,
        ..REVERSE
    };
    for minute in 1..=40_u64 {
        so_far.seconds = minute * 60;
        if minute % 3 != 0 {
            so_far.bytes_out += 4_000;
            so_far.bytes_in += 300;
            so_far.packets += 40;
        }
        bench.session(so_far);
    }
    bench.check(ReverseTunnel, Some(Alert));
}

#[test]
fn a_shell_that_the_pod_uses_is_silent() {
    let mut bench = Bench::new();
    bench.session(Session {
        bytes_out: 150_000,
        bytes_in: 2_000_000,
        ..REVERSE
    });
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn a_copy_over_ssh_is_silent() {
    let mut bench = Bench::new();
    bench.session(Session {
        bytes_out: 9_000_000_000,
        bytes_in: 3_000_000,
        packets: 9_000_000,
        ..REVERSE
    });
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn trackers_and_telemetry_that_push_for_hours_are_silent() {
    let mut bench = Bench::new().named("api.tracker.example", REVERSE.host);
    bench.session(Session {
        port: 443,
        ..REVERSE
    });
    bench.session(Session {
        port: 4_317,
        host: "203.0.113.23",
        ..REVERSE
    });
    assert_eq!(bench.findings, vec![]);
    let mut nameless = Bench::new();
    nameless.session(Session {
        port: 443,
        ..REVERSE
    });
    assert_eq!(nameless.findings, vec![]);
}

#[test]
fn requests_that_follow_each_other_for_hours_are_no_reverse_tunnel() {
    let mut bench = Bench::new().with_names();
    for n in 0..100 {
        bench.session(Session {
            port: 443,
            from: n * 65,
            seconds: 60,
            bytes_out: 20_000,
            bytes_in: 3_000,
            packets: 60,
            ..REVERSE
        });
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn a_session_inside_the_cluster_is_no_reverse_tunnel() {
    let mut bench = Bench::new();
    bench.session(Session {
        host: "10.244.9.9",
        ..REVERSE
    });
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn a_listed_service_is_an_alert_and_used_as_a_tunnel_a_quarantine() {
    let mut bench = with_services("tunnel.example.io");
    bench.signal(&dns("abc.tunnel.example.io", &[REVERSE.host], 0));
    bench.check(TunnelService, Some(Alert));
    bench.session(Session {
        port: 443,
        ..REVERSE
    });
    assert_eq!(
        bench.findings.iter().map(|f| f.severity).max(),
        Some(Quarantine)
    );
}

#[test]
fn a_reverse_tunnel_beside_a_listed_pool_is_a_quarantine() {
    let mut bench = with_services("");
    bench.signal(&dns("pool.example.net", &["198.51.100.7"], 0));
    bench.contact("198.51.100.7", 3_333, Outcome::Answered);
    bench.session(REVERSE);
    bench.check(ReverseTunnel, Some(Quarantine));
}

/// A name of 32 letters that carries data.
fn coded(n: i64) -> String {
    let mut state = u64::try_from(n)
        .unwrap()
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        | 1;
    (0..32)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            char::from(b'a' + u8::try_from(state >> 59).unwrap() % 26)
        })
        .collect()
}

#[test]
fn data_in_names_is_an_alert_after_a_hundred_names_and_not_before() {
    let mut bench = Bench::new();
    for n in 0..85 {
        bench.signal(&dns(&format!("{}.t.example.net", coded(n)), &[], n));
    }
    assert_eq!(bench.findings, vec![]);
    for n in 85..125 {
        bench.signal(&dns(&format!("{}.t.example.net", coded(n)), &[], n));
    }
    bench.check(DnsTunnel, Some(Alert));
    let summary = bench.findings[0].evidence.summary.as_str();
    assert!(summary.contains("example.net"), "{summary}");
}

#[test]
fn a_slow_tunnel_is_found_as_long_as_it_carries_anything() {
    let mut bench = Bench::new();
    for n in 0..200 {
        bench.signal(&dns(&format!("{}.example.net", coded(n)), &[], n * 40));
    }
    bench.check(DnsTunnel, Some(Alert));
}

#[test]
fn a_tunnel_that_is_spread_over_many_domains_is_found() {
    for domains in [17, 60] {
        let mut bench = Bench::new();
        for n in 0..600 {
            let name = format!("{}.d{}.example", coded(n), n % domains);
            bench.signal(&dns(&name, &[], n / 2));
        }
        bench.check(DnsTunnel, Some(Alert));
    }
}

#[test]
fn a_tunnel_in_short_names_is_found_by_its_rate() {
    for (short, answers) in [(15, vec![]), (8, vec![]), (15, vec!["192.0.2.7"])] {
        let mut bench = Bench::new();
        for n in 0..2_400 {
            let name = format!("{}.example.net", &coded(n)[..short]);
            bench.signal(&dns(&name, &answers, n / 20));
        }
        bench.check(DnsTunnel, Some(Alert));
    }
}

#[test]
fn a_crawler_of_many_domains_with_some_long_names_is_silent() {
    let mut bench = Bench::new();
    for n in 0..20_000 {
        let below = if n % 30 == 0 {
            coded(n)
        } else {
            "www".to_owned()
        };
        let answers: &[&str] = if n % 4 == 0 { &[] } else { &["192.0.2.7"] };
        bench.signal(&dns(&format!("{below}.site-{n}.example"), answers, n * 3));
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn the_search_list_of_a_pod_does_not_make_names_new() {
    let mut bench = Bench::new();
    for n in 0..1_000 {
        let host = coded(n % 20);
        for search in [
            "",
            ".team.svc.cluster.local",
            ".svc.cluster.local",
            ".cluster.local",
            ".ec2.internal",
        ] {
            bench.signal(&dns(&format!("{host}.example.net{search}"), &[], n));
        }
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn a_crawler_that_looks_up_many_short_hosts_of_one_domain_is_silent() {
    let mut bench = Bench::new();
    for n in 0..900 {
        bench.signal(&dns(&format!("host-{n}.example.net"), &["192.0.2.7"], n));
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn buckets_and_sites_of_one_provider_are_not_one_domain() {
    let mut bench = Bench::new();
    for n in 0..900 {
        bench.signal(&dns(&format!("{}.s3.amazonaws.com", coded(n)), &[], n));
        bench.signal(&dns(&format!("{}.cloudfront.net", coded(n)), &[], n));
    }
    assert_eq!(bench.findings, vec![]);
}

#[test]
fn many_other_domains_do_not_push_the_tunnel_out() {
    let mut bench = Bench::new();
    for n in 0..400 {
        bench.signal(&dns(&format!("{}.example.net", coded(n)), &[], n));
        for other in 0..6 {
            bench.signal(&dns(&format!("www.site-{}.example", n * 6 + other), &[], n));
        }
    }
    bench.check(DnsTunnel, Some(Alert));
}

#[test]
fn hostile_names_are_cleaned_in_the_evidence() {
    let mut bench = Bench::new();
    for n in 0..140 {
        bench.signal(&dns(
            &format!("\u{1b}[2J{}.ex\u{202e}ample.net", coded(n)),
            &[],
            n,
        ));
    }
    let summary = bench.findings[0].evidence.summary.as_str();
    assert!(
        !summary.contains('\u{1b}') && !summary.contains('\u{202e}'),
        "{summary}"
    );
}
