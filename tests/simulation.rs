//! The simulator of `make bench-budget` at a size for every test run: honest pods are left alone,
//! attackers are found, and what a log does to its records makes no finding.
//!
//! Every failure prints what is needed to play it again with `make bench-budget ARGS="... --print"`.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../benches/budget/sim/mod.rs"]
#[allow(dead_code)] // the bench uses the rest of it
mod sim;

use std::collections::BTreeSet;

use sim::attack::{Attack, Manner, Pace, run_all};
use sim::faults::Fault;
use sim::group::{Origin, Plan, outages};
use sim::honest::Profile;
use sim::judge::judge;
use sim::part::Size;
use sim::random::Random;
use sim::tally::{Tally, percentile, upper95};
use sim::tape::Event;

const SEED: u64 = 20;

fn part(pod_days: usize, threads: usize) -> Tally {
    sim::part::run(Size {
        seed: SEED,
        part: 0,
        pod_days,
        threads,
    })
}

#[test]
fn no_honest_pod_is_quarantined() {
    let tally = part(300, 2);
    assert!(tally.total().pod_days >= 300);
    let wrong = &tally.quarantines;
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// One pod of each profile in each log, with the fault; no outage, whose findings would be its own.
fn check_fault(fault: Fault) {
    for (n, profile) in Profile::ALL.into_iter().enumerate() {
        let origin = Origin {
            seed: SEED,
            part: 1,
            group: u64::try_from(n).unwrap(),
        };
        let plan = Plan {
            day_count: 1,
            ..Plan::of(origin, profile, 2)
        };
        let events = plan.play(&[], |_| {});
        let before = quarantined(&plan, &events);
        let events = fault.apply(events, &mut Random::of(&[SEED, 99]));
        let made: Vec<_> = quarantined(&plan, &events)
            .difference(&before)
            .copied()
            .collect();
        assert!(
            made.is_empty(),
            "{fault:?} makes a finding on pods {made:?}: seed {SEED}, {origin:?}, {profile:?}"
        );
    }
}

fn quarantined(plan: &Plan, events: &[Event]) -> BTreeSet<usize> {
    let said = judge(plan, events);
    let quarantines = said.iter().filter(|word| word.is_quarantine());
    quarantines.map(|word| word.pod).collect()
}

#[test]
fn loss_makes_no_finding() {
    check_fault(Fault::Loss);
}

#[test]
fn doubled_records_make_no_finding() {
    check_fault(Fault::Doubles);
}

#[test]
fn disorder_makes_no_finding() {
    check_fault(Fault::Disorder);
}

#[test]
fn a_clock_that_jumps_makes_no_finding() {
    check_fault(Fault::ClockJump);
}

#[test]
fn an_old_part_of_the_log_makes_no_finding() {
    check_fault(Fault::OldPart);
}

#[track_caller]
fn check_attack(pace: Pace, manner: Manner, hit_percent: u8, contacts_max: u64) {
    let attack = Attack {
        pace,
        manner,
        hit_percent,
    };
    let results = run_all(attack, SEED, 4, 2);
    let mut found: Vec<u64> = results.iter().filter_map(|r| r.quarantined_after).collect();
    assert_eq!(
        found.len(),
        results.len(),
        "seed {SEED}, {attack:?}: {results:#?}"
    );
    let median = percentile(&mut found, 0.5).unwrap();
    assert!(
        median <= contacts_max,
        "seed {SEED}, {attack:?}: {results:#?}"
    );
}

#[test]
fn a_fast_scan_is_found() {
    check_attack(Pace::TwentyTwoPerSecond, Manner::Sweep, 10, 300);
    check_attack(Pace::TwentyTwoPerSecond, Manner::Ports, 10, 300);
}

#[test]
fn a_scan_of_one_target_in_34_seconds_is_found() {
    check_attack(Pace::OnePer34Seconds, Manner::Sweep, 2, 60);
}

#[test]
fn a_scan_of_one_target_in_ten_minutes_is_found() {
    check_attack(Pace::OnePer10Minutes, Manner::Sweep, 10, 120);
}

#[test]
fn a_scan_spread_over_the_pods_of_a_run_is_found() {
    check_attack(Pace::OnePerSecond, Manner::Spread, 2, 700);
}

#[test]
fn the_same_seed_gives_the_same_figures_on_any_number_of_threads() {
    let (once, again) = (part(60, 1), part(60, 3));
    assert_eq!(once.rows, again.rows);
    assert!(once.total().records > 10_000);
}

#[test]
fn another_seed_gives_another_day() {
    let day = |seed| {
        let origin = Origin {
            seed,
            part: 0,
            group: 0,
        };
        Plan::of(origin, Profile::Crawler, 1)
            .play(&outages(seed, 0), |_| {})
            .len()
    };
    assert_ne!(day(1), day(2));
}

#[test]
fn the_bound_follows_the_rule_of_three_and_the_poisson_tables() {
    for (count, bound) in [(0, 2.996), (1, 4.744), (10, 16.962), (100, 118.08)] {
        let found = upper95(count);
        assert!((found - bound).abs() < 0.01, "{count}: {found}");
    }
}
