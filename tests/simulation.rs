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
use std::sync::LazyLock;

use sim::attack::{Attack, Manner, Pace, run_all};
use sim::cluster::Cell;
use sim::controls::{self, Control};
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
            group: u64::try_from(n).unwrap() * sim::cluster::GROUPS,
        };
        let cell = Cell::of(vec![Plan {
            day_count: 1,
            ..Plan::of(origin, profile, 2)
        }]);
        let events = cell.play(&[], |_, _| {});
        let before = quarantined(&cell, &events);
        let events = fault.apply(events, &mut Random::of(&[SEED, 99]));
        let made: Vec<_> = quarantined(&cell, &events)
            .difference(&before)
            .copied()
            .collect();
        assert!(
            made.is_empty(),
            "{fault:?} makes a finding on pods {made:?}: seed {SEED}, {origin:?}, {profile:?}"
        );
    }
}

fn quarantined(cell: &Cell, events: &[Event]) -> BTreeSet<usize> {
    let said = judge(cell, events);
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
fn an_attacker_in_a_run_of_each_profile_is_found_and_nobody_beside_it() {
    for (profile, is_found) in controls::planted(SEED, 1, 2) {
        assert!(is_found, "{profile:?}");
    }
}

/// Pods that are quarantined with what the operator gives to the engine, and without.
fn wire(name: &str) -> Control {
    static CONTROLS: LazyLock<Vec<Control>> = LazyLock::new(|| controls::wires(SEED));
    let control = CONTROLS.iter().find(|control| control.name == name);
    *control.unwrap()
}

#[track_caller]
fn check_wire(name: &str, wired: usize, cut: usize) {
    let control = wire(name);
    assert_eq!((control.wired, control.cut), (wired, cut), "{name}");
}

#[test]
fn a_scan_by_a_run_is_found_because_its_pods_are_known_to_be_of_it() {
    check_wire("run", 20, 0);
}

#[test]
fn a_scan_by_a_run_over_the_agents_of_its_nodes_is_found_for_the_same_reason() {
    check_wire("run_of_agents", 20, 0);
}

#[test]
fn a_loss_on_one_node_hides_no_scan_on_another_because_nodes_are_known() {
    check_wire("node", 1, 0);
}

#[test]
fn a_pod_that_only_scans_is_found_because_its_log_shows_answers_to_others() {
    check_wire("others", 1, 0);
}

#[test]
fn a_log_that_shows_no_answers_convicts_nobody() {
    check_wire("answers", 1, 0);
}

#[test]
fn workers_that_wait_for_each_other_are_spared_because_they_are_siblings() {
    let siblings = wire("siblings");
    assert_eq!(siblings.wired, 0);
    assert!(siblings.cut > 0, "{siblings:?}");
}

#[test]
fn workers_on_many_nodes_are_spared_because_agents_learn_the_addresses_of_siblings() {
    let siblings = wire("siblings_of_agents");
    assert_eq!(siblings.wired, 0);
    assert!(siblings.cut > 0, "{siblings:?}");
}

#[test]
fn clients_of_pods_that_ended_on_other_nodes_are_spared_because_agents_learn_which_ended() {
    check_wire("ended_of_agents", 0, 2);
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
        Cell::of(vec![Plan::of(origin, Profile::Crawler, 1)])
            .play(&outages(seed, 0), |_, _| {})
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
