//! Memory of the engine: a quiet pod, the busiest pod there can be, and 10,000 pods of a cluster.
//! Called by the bench alone; counts bytes that are allocated and not freed.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Instant;

use stats_alloc::Region;
use yellowjack::testing::detect::{Attributed, Engine, EngineConfig, Origin, PoolList, Workload};
use yellowjack::testing::model::{
    DnsQuery, EventTime, Flow, Neighbour, Outcome, PodKey, RunKey, Signal, Subject, TlsName,
    Transport, Volume,
};
use yellowjack::testing::pipeline::{expire_pods, process_signal};
use yellowjack::testing::signals::{Index, Membership, PodFacts};

use super::lines::{Random, START_SECONDS};

/// Pods of one kind whose mean is taken.
const SAMPLE_COUNT: u32 = 100;

/// Pods of one run.
const RUN_PODS: u32 = 10;

/// Signals that flood a pod. Every bound is reached after some thousands.
const FLOOD_COUNT: u64 = 60_000;

/// Pods that come and go within an hour, and how many of them live at the same time.
const CHURN_COUNT: u32 = 100_000;
const CHURN_LIVING: u32 = 500;

/// Prints the memory figures.
pub fn measure() {
    let kib = |bytes: f64| bytes / 1024.0;
    let quiet = bytes_per_pod(SAMPLE_COUNT, |engine, pod| talk(engine, pod, 5, 40));
    println!("figure state.quiet {:.2} KiB", kib(quiet));
    let busy = bytes_per_pod(RUN_PODS, flood);
    println!("figure state.busy {:.2} KiB", kib(busy));
    let alone = bytes_per_pod(5, |engine, pod| flood_by(engine, &alone(pod), FLOOD_COUNT));
    println!("figure state.busy_without_run {:.2} KiB", kib(alone));
    let mixed = bytes_per_pod(10_000, mixed);
    println!(
        "figure state.pods_10k {:.1} MiB",
        mixed * 10_000.0 / 1024.0 / 1024.0
    );
    println!("figure state.churn {:.2} percent", churn(true));
    println!(
        "figure state.churn_without_sources {:.2} percent",
        churn(false)
    );
    measure_saving();
}

/// How much more is held after 100,000 pods came and went within an hour of event time than after the first
/// quarter of them, which is longer than what ended is kept.
fn churn(has_sources: bool) -> f64 {
    let region = Region::new(super::ALLOCATOR);
    let (mut index, mut engine) = (Index::new(), Engine::new(EngineConfig::default()));
    let mut early = 0.0;
    for number in 0..CHURN_COUNT {
        let second = i64::from(number) * 3_600 / i64::from(CHURN_COUNT);
        let now = EventTime::from_seconds(second, 0);
        if let Some(gone) = number.checked_sub(CHURN_LIVING) {
            index.delete(&subject(gone).pod, now);
        }
        let subject = subject(number);
        let address = churning_address(number);
        let run = format!("agents/{}", number % CHURN_LIVING);
        let membership = Membership {
            run: Some(RunKey::from(run.as_str())),
            workload: Workload::Standard,
        };
        index.enroll(&subject.pod, Some(membership));
        index.apply(churning_pod(subject.pod, number, address, now), now);
        if has_sources {
            let contact = Signal::Flow(Flow {
                time: now,
                source: address,
                ..flow(u64::from(number), churning_address(number ^ 1), 443)
            });
            let taken = process_signal(&mut engine, &index, 0, &contact, |_, _| false);
            assert!(taken.is_ok(), "the pod is known");
            if number.is_multiple_of(CHURN_COUNT / 120) {
                expire_pods(&mut engine, &mut index, now);
            }
        }
        if number == CHURN_COUNT / 4 {
            early = held(&region);
        }
    }
    100.0 * (held(&region) / early - 1.0)
}

fn churning_address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(0x0a40_0000 | number))
}

fn churning_pod(key: PodKey, number: u32, address: IpAddr, since: EventTime) -> PodFacts {
    PodFacts {
        key,
        namespace: "agents".to_owned(),
        name: format!("worker-{number}"),
        ips: vec![address],
        host_network: false,
        node: Some("10.10.21.166".to_owned()),
        since,
        ended_at: None,
        terminating_since: None,
        workload: None,
    }
}

/// A pod of a cluster in which one in a hundred is as busy as can be.
fn mixed(engine: &mut Engine, pod: u32) {
    match pod % 100 {
        0 => flood_by(engine, &subject(pod), 8_000),
        1..20 => talk(engine, pod, 60, 300),
        _ => talk(engine, pod, 5, 40),
    }
}

/// What it takes to save the state of 10,000 pods for a restart: bytes, time in all, and the longest time for which one
/// slice keeps the pipeline.
fn measure_saving() {
    let mut engine = Engine::new(EngineConfig::default());
    (0..10_000).for_each(|pod| mixed(&mut engine, pod));
    let mut best = (f64::MAX, f64::MAX, 0);
    for _ in 0..5 {
        let (mut saving, mut piece) = (engine.saving(), Vec::new());
        let (mut byte_count, mut slice_bytes, mut longest) = (0, 0, 0.0_f64);
        let (start, mut slice) = (Instant::now(), Instant::now());
        while engine.save_next(&mut saving, &mut piece).unwrap_or(false) {
            byte_count += piece.len();
            slice_bytes += piece.len();
            if slice_bytes >= yellowjack::testing::limits::STATE_SLICE_BYTES {
                longest = longest.max(slice.elapsed().as_secs_f64());
                (slice, slice_bytes) = (Instant::now(), 0);
            }
        }
        let all = start.elapsed().as_secs_f64();
        best = (best.0.min(all), best.1.min(longest), byte_count);
    }
    let mib = super::as_f64(best.2) / 1024.0 / 1024.0;
    println!("figure state.saved_10k {mib:.1} MiB");
    println!("figure state.save_10k {:.1} ms", best.0 * 1e3);
    println!("figure state.save_slice {:.2} ms", best.1 * 1e3);
}

/// Bytes of an engine after `fill` was called for each of `count` pods, per pod.
fn bytes_per_pod(count: u32, fill: impl Fn(&mut Engine, u32)) -> f64 {
    let config = EngineConfig {
        pools: PoolList::parse("pool.example\n").0,
        ..EngineConfig::default()
    };
    let region = Region::new(super::ALLOCATOR);
    let mut engine = Engine::new(config);
    for pod in 0..count {
        fill(&mut engine, pod);
    }
    assert_eq!(engine.pod_count(), usize::try_from(count).unwrap_or(0));
    held(&region) / f64::from(count)
}

/// Bytes that were allocated in a region and not freed.
fn held(region: &Region<'_, std::alloc::System>) -> f64 {
    let change = region.change();
    super::as_f64(
        change
            .bytes_allocated
            .saturating_sub(change.bytes_deallocated),
    )
}

fn subject(pod: u32) -> Subject {
    Subject {
        pod: PodKey::from(format!("6f1c4d9e-0000-4000-8000-{pod:012}").as_str()),
        run: Some(RunKey::from(format!("agents/{}", pod / RUN_PODS).as_str())),
    }
}

/// The same pod, but of no run.
fn alone(pod: u32) -> Subject {
    Subject {
        run: None,
        ..subject(pod)
    }
}

fn by<'a>(subject: &'a Subject, signal: &'a Signal<'a>) -> Attributed<'a> {
    Attributed {
        signal,
        subject,
        origin: Origin {
            source: 0,
            node: Some("10.10.21.166"),
        },
        neighbour: Neighbour::Stranger,
        workload: Workload::Standard,
    }
}

fn time(nth: u64) -> EventTime {
    let micros = START_SECONDS * 1_000_000 + nth * 5_000;
    EventTime::from_micros(i64::try_from(micros).unwrap_or_default())
}

fn flow(nth: u64, destination: IpAddr, port: u16) -> Flow<'static> {
    Flow {
        time: time(nth),
        source: IpAddr::V4(Ipv4Addr::new(10, 244, 0, 9)),
        source_port: 40_000,
        destination,
        destination_port: port,
        transport: Transport::Tcp,
        outcome: Outcome::Answered,
        forwarded: true,
        volume: None,
        destination_name: None,
        pod: None,
        is_inferred: false,
        node: None,
    }
}

/// Honest work: a few names, each resolved and then contacted again and again.
fn talk(engine: &mut Engine, pod: u32, target_count: u64, signal_count: u64) {
    let subject = subject(pod);
    let mut random = Random::new(pod.into());
    for nth in 0..signal_count {
        let target = random.below(target_count);
        let [.., a, b, c] = Random::new(target).next().to_be_bytes();
        let address = IpAddr::V4(Ipv4Addr::new(52, a, b, c));
        if nth < target_count {
            let query = Signal::Dns(DnsQuery {
                time: time(nth),
                source: IpAddr::V4(Ipv4Addr::new(10, 244, 0, 9)),
                query: Cow::Owned(format!("service-{target}.example.com")),
                answers: vec![address],
                nonexistent: Some(false),
            });
            engine.step(&by(&subject, &query));
        }
        let signal = Signal::Flow(flow(nth, address, 443));
        engine.step(&by(&subject, &signal));
    }
}

fn flood(engine: &mut Engine, pod: u32) {
    // Each pod with targets of its own, so that the run has as many as there are.
    flood_by(engine, &subject(pod), FLOOD_COUNT + u64::from(pod));
}

/// Everything that a pod can do to fill its state: new hosts, new ports, every transport, attempts
/// without an answer, IPv6, names, answers, pool sessions.
fn flood_by(engine: &mut Engine, subject: &Subject, signal_count: u64) {
    let mut random = Random::new(signal_count);
    for nth in 0..signal_count {
        let signal = flood_signal(nth, &mut random);
        engine.step(&by(subject, &signal));
    }
}

fn flood_signal(nth: u64, random: &mut Random) -> Signal<'static> {
    if nth % 16 < 3 {
        name_signal(nth, random)
    } else {
        Signal::Flow(flood_flow(nth, random))
    }
}

/// Any address, one in four of them IPv6.
fn any_address(nth: u64, random: &mut Random) -> IpAddr {
    if nth.is_multiple_of(4) {
        let bits = u128::from(random.next()) << 64 | u128::from(random.next());
        return IpAddr::V6((bits | 0x2000 << 112).into());
    }
    let bits = u32::try_from(random.below(1 << 24)).unwrap_or(0);
    IpAddr::V4(Ipv4Addr::from_bits(0x3400_0000 | bits))
}

/// A host that is contacted on many ports.
fn scanned_host(nth: u64) -> IpAddr {
    let host = u8::try_from(nth / 64 % 200).unwrap_or(0);
    IpAddr::V4(Ipv4Addr::new(52, 0, 0, host))
}

fn name_signal(nth: u64, random: &mut Random) -> Signal<'static> {
    let source = IpAddr::V4(Ipv4Addr::new(10, 244, 0, 9));
    let label = random.next();
    match nth % 16 {
        0 => Signal::Dns(DnsQuery {
            time: time(nth),
            source,
            query: Cow::Owned(format!("{label:x}.pool.example")),
            answers: (1..33).map(|_| any_address(1, random)).collect(),
            nonexistent: Some(nth.is_multiple_of(3)),
        }),
        1 => Signal::Dns(DnsQuery {
            time: time(nth),
            source,
            query: Cow::Owned(format!("{label:016x}.{}.example", nth % 4_000)),
            answers: vec![any_address(nth, random)],
            nonexistent: Some(true),
        }),
        _ => Signal::Tls(TlsName {
            time: time(nth),
            source,
            source_port: 40_000,
            destination: any_address(nth, random),
            destination_port: u16::try_from(random.below(65_535)).unwrap_or(1),
            server_name: Cow::Owned(format!("{label:x}.pool.example")),
        }),
    }
}

fn flood_flow(nth: u64, random: &mut Random) -> Flow<'static> {
    let far = any_address(nth, random);
    let port = u16::try_from(random.below(65_535)).unwrap_or(1);
    let scanned_port = u16::try_from(random.below(100)).unwrap_or(1);
    let to = |destination, port, outcome| Flow {
        outcome,
        ..flow(nth, destination, port)
    };
    match nth % 16 {
        3..6 => Flow {
            volume: Some(Volume {
                bytes_out: 5_000,
                bytes_in: 9_000,
                packets_out: 100,
                packets_in: 100,
                duration_us: 900_000_000,
                is_final: nth.is_multiple_of(2),
            }),
            ..flow(nth, far, port)
        },
        6..9 => to(far, scanned_port, Outcome::Pending),
        9..11 => to(scanned_host(nth), port, Outcome::Unanswered),
        11 => Flow {
            transport: Transport::Udp,
            ..flow(nth, far, port)
        },
        12 => Flow {
            transport: Transport::Udp,
            ..to(far, scanned_port, Outcome::Unanswered)
        },
        13 => Flow {
            transport: Transport::Icmp,
            ..flow(nth, far, 0)
        },
        14 => to(far, scanned_port, Outcome::Denied),
        _ => flow(nth, far, port),
    }
}
