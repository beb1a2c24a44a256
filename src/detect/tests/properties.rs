//! Properties: what holds for every stream of signals.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// One signal of one of four pods, small enough that hosts and ports repeat.
#[derive(Clone, Debug)]
struct Event {
    pod: usize,
    signal: Signal<'static>,
}

fn outcome() -> impl Strategy<Value = Outcome> {
    prop_oneof![
        1 => Just(Outcome::Unseen),
        3 => Just(Outcome::Pending),
        1 => Just(Outcome::Answered),
        3 => Just(Outcome::Refused),
        3 => Just(Outcome::Unanswered),
        1 => Just(Outcome::Denied),
        1 => Just(Outcome::NotAnAttempt),
        1 => Just(Outcome::Established),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let flow = (0..400_usize, 0..3_u16, outcome(), 0..600_i64).prop_map(|(n, port, outcome, t)| {
        Signal::Flow(Flow {
            volume: (n % 7 == 0).then(|| volume(400, 40_000, 100)),
            ..flow(&host(n), [22, 80, 6_346][usize::from(port)], outcome, t)
        })
    });
    let dns =
        (0..400_usize, 0..600_i64).prop_map(|(n, t)| dns("a.pool.example.net", &[&host(n)], t));
    let signal = prop_oneof![40 => flow, 1 => dns];
    (0..4_usize, signal).prop_map(|(pod, signal)| Event { pod, signal })
}

fn engine() -> Engine {
    let pools = PoolList::parse("pool.example.net").0;
    Engine::new(EngineConfig {
        pools,
        ..EngineConfig::default()
    })
}

fn subject(pod: usize) -> Subject {
    Subject {
        pod: PodKey::from(format!("pod-{pod}").as_str()),
        run: Some(crate::model::RunKey::from(["red", "blue"][pod % 2])),
    }
}

/// The findings about the pods of one run, or of two, in a log that has all events.
fn run_in_teams<'a>(
    events: impl IntoIterator<Item = &'a Event>,
    is_in: impl Fn(&Event) -> bool,
) -> Vec<Finding> {
    let mut engine = engine();
    let step = |event: &Event| -> Vec<Finding> {
        // The visibility of a log is learned from all pods.
        if !is_in(event) {
            engine.observe_unattributed(LOG, &event.signal);
            return Vec::new();
        }
        let subject = subject(event.pod);
        engine.step(&by(&subject, Workload::Standard, &event.signal))
    };
    events.into_iter().flat_map(step).collect()
}

/// The highest severity of each pod and signature.
fn worst(findings: &[Finding]) -> BTreeMap<(PodKey, Signature), Severity> {
    let mut worst = BTreeMap::new();
    for finding in findings {
        let key = (finding.subject.pod.clone(), finding.signature);
        let severity = worst.entry(key).or_insert(finding.severity);
        *severity = finding.severity.max(*severity);
    }
    worst
}

/// A contact with its final outcome: nothing waits.
fn is_final(event: &Event) -> bool {
    !matches!(&event.signal, Signal::Flow(flow) if flow.outcome == Outcome::Pending)
}

fn is_failure(event: &Event) -> bool {
    matches!(&event.signal, Signal::Flow(flow) if flow.outcome.success() == Some(false))
}

fn is_undenied_failure(event: &Event) -> bool {
    is_failure(event)
        && !matches!(&event.signal, Signal::Flow(flow) if flow.outcome == Outcome::Denied)
}

fn run<'a>(events: impl IntoIterator<Item = &'a Event>) -> BTreeMap<usize, Vec<Finding>> {
    run_among(events, |_| true)
}

/// The findings about some of the pods, in a log that has all events.
fn run_among<'a>(
    events: impl IntoIterator<Item = &'a Event>,
    is_in: impl Fn(&Event) -> bool,
) -> BTreeMap<usize, Vec<Finding>> {
    let mut engine = engine();
    let mut findings: BTreeMap<usize, Vec<Finding>> = BTreeMap::new();
    for event in events {
        if !is_in(event) {
            engine.observe_unattributed(LOG, &event.signal);
            continue;
        }
        let subject = pod(&format!("pod-{}", event.pod));
        let found = engine.step(&by(&subject, Workload::Standard, &event.signal));
        findings.entry(event.pod).or_default().extend(found);
    }
    findings
}

/// Without what mining makes of repeated sessions.
fn only_scans(events: Vec<Event>) -> Vec<Event> {
    let is_flow =
        |event: &Event| matches!(&event.signal, Signal::Flow(flow) if flow.volume.is_none());
    events.into_iter().filter(is_flow).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_finds_the_same_again(events in prop::collection::vec(event(), 0..400)) {
        prop_assert_eq!(run(&events), run(&events));
    }

    #[test]
    fn pods_do_not_influence_each_other(events in prop::collection::vec(event(), 0..400)) {
        let together = run(&events);
        for (number, findings) in together {
            let alone = run_among(&events, |event| event.pod == number);
            prop_assert_eq!(Some(&findings), alone.get(&number));
        }
    }

    #[test]
    fn a_run_changes_nothing_for_the_pods_of_another(
        events in prop::collection::vec(event(), 0..600),
    ) {
        let together = run_in_teams(&events, |_| true);
        for team in [0, 1] {
            let alone = run_in_teams(&events, |event| event.pod % 2 == team);
            let of_team = |finding: &&Finding| finding.subject.run == subject(team).run;
            let of_team: Vec<_> = together.iter().filter(of_team).cloned().collect();
            prop_assert_eq!(of_team, alone);
        }
    }

    #[test]
    fn a_pod_without_a_failure_of_its_own_is_never_accused(
        events in prop::collection::vec(event(), 0..600),
    ) {
        let is_honest = |event: &&Event| event.pod != 0 || !is_failure(event);
        let events: Vec<_> = events.iter().filter(is_honest).filter(|e| is_final(e)).collect();
        for ((pod, signature), severity) in worst(&run_in_teams(events, |_| true)) {
            let is_accused = pod == subject(0).pod && signature != Signature::Mining;
            prop_assert!(!is_accused || severity == Severity::Alert);
        }
    }

    #[test]
    fn a_record_that_comes_twice_changes_nothing(
        events in prop::collection::vec(event(), 0..400).prop_map(only_scans),
    ) {
        let twice: Vec<_> = events.iter().flat_map(|event| [event, event]).collect();
        prop_assert_eq!(run_in_teams(&events, |_| true), run_in_teams(twice, |_| true));
    }

    #[test]
    fn a_log_that_comes_twice_finds_nothing_worse(
        events in prop::collection::vec(event().prop_filter("final", is_final), 0..300)
            .prop_map(only_scans),
    ) {
        let twice: Vec<_> = events.iter().chain(&events).collect();
        prop_assert_eq!(worst(&run_in_teams(&events, |_| true)), worst(&run_in_teams(twice, |_| true)));
    }

    #[test]
    fn failures_weigh_the_same_in_any_order(
        // What a policy denied weighs nothing for a quarantine, and a run's walk books a member's
        // first failures with the weight of the one that makes them count.
        events in prop::collection::vec(event().prop_filter("failed", is_undenied_failure), 0..300)
            .prop_map(only_scans),
        seed in any::<u64>(),
    ) {
        let mut shuffled = events.clone();
        // Deterministic, and independent of the events' own order.
        shuffled.sort_by_key(|event| {
            use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
            let text = format!("{seed} {:?}", event.signal);
            BuildHasherDefault::<DefaultHasher>::default().hash_one(text)
        });
        prop_assert_eq!(worst(&run_in_teams(&events, |_| true)), worst(&run_in_teams(&shuffled, |_| true)));
    }

    #[test]
    fn evidence_keeps_its_promises(events in prop::collection::vec(event(), 0..400)) {
        for finding in run(&events).into_values().flatten() {
            let evidence = finding.evidence;
            prop_assert!(evidence.score >= evidence.threshold);
            prop_assert!(evidence.first <= evidence.last);
            prop_assert!(evidence.contact_count > 0);
            prop_assert!(evidence.examples.len() <= crate::limits::EXAMPLES_MAX);
            prop_assert!(evidence.against.len() <= crate::limits::AGAINST_MAX);
            prop_assert!(evidence.summary.as_str().ends_with('.'));
        }
    }

    #[test]
    fn mostly_answered_contacts_are_never_quarantined_in_any_order(
        order in Just((0..200_usize).collect::<Vec<_>>()).prop_shuffle(),
    ) {
        // 30 of 200 links are dead: the worst order has them all first, one below the line.
        let mut bench = Bench::new();
        for n in order {
            let outcome = if n < 30 { Outcome::Unanswered } else { Outcome::Answered };
            bench.contact(&host(n), 443, outcome);
        }
        prop_assert_ne!(bench.severity(Signature::HorizontalScan), Some(Severity::Quarantine));
    }
}
