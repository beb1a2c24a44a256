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

fn run<'a>(events: impl IntoIterator<Item = &'a Event>) -> BTreeMap<usize, Vec<Finding>> {
    let mut engine = engine();
    let mut findings: BTreeMap<usize, Vec<Finding>> = BTreeMap::new();
    for event in events {
        let subject = pod(&format!("pod-{}", event.pod));
        let found = engine.step(&subject, Workload::Standard, &event.signal);
        findings.entry(event.pod).or_default().extend(found);
    }
    findings
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
            let alone = run(events.iter().filter(|event| event.pod == number));
            prop_assert_eq!(Some(&findings), alone.get(&number));
        }
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
