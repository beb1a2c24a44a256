//! Attacks on detection by somebody who has read this repository, replayed from generated logs, each with its control.
//!
//! An attack is one pod, or a run of some, beside an honest pod, with a trick that is meant to keep a scan, a miner or a tunnel
//! from being found. It must lead to the action that its table states. The same log without the trick must be caught,
//! which shows that the attack is one. An attack that is known to remain is in the tables too, and counted apart.
//! `make attacks` runs these with the attacks on the Kubernetes API and prints the list.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_precision_loss
)]

mod answers;
mod attack;
mod log;
mod miners;
mod names;
mod scans;
mod tunnels;

use attack::Attack;
use log::{Fate, Format, Log};
use yellowjack::testing::model::Severity;

/// Tries the attacks of a table, prints a line for each that `make attacks` reads, and lists what is not as it must be.
#[track_caller]
fn check(attacks: &[Attack]) {
    let mut wrong = Vec::new();
    for attack in attacks {
        let tried = attack.run();
        let (is_stopped, name) = (tried.is_stopped, &attack.name);
        let harms_others = !tried.outcome.framed.is_empty() || !tried.control.framed.is_empty();
        let result = match (is_stopped, attack.remains) {
            _ if harms_others => "succeeded",
            (true, _) => "stopped",
            (false, Some(_)) => "remains",
            (false, None) => "succeeded",
        };
        let control = if tried.is_control_caught {
            "caught"
        } else {
            "failed"
        };
        let (outcome, without) = (tried.outcome.words(), tried.control.words());
        let keeps = attack.remains.unwrap_or("what it did until then");
        println!("attack:\t{name}\treplay\t{result}\t{outcome}\t{keeps}\t{control}\t{without}");
        if !is_stopped && attack.remains.is_none() {
            wrong.push(format!(
                "{name} succeeded: {outcome}, not {:?}",
                attack.demand
            ));
        }
        if is_stopped && attack.remains.is_some() {
            wrong.push(format!(
                "{name} is stopped now; it must not be listed as remaining"
            ));
        }
        if !tried.is_control_caught {
            wrong.push(format!("the control of {name} was not caught: {without}"));
        }
        if harms_others {
            wrong.push(format!("{name} led to a finding on an honest pod"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn scans_whose_pod_answers_itself_or_pushes_contacts_out_of_memory_are_stopped() {
    check(&answers::evictions());
    check(&answers::paid_answers());
    check(&answers::camouflage());
}

#[test]
fn scans_behind_an_outage_that_the_pod_makes_itself_are_stopped() {
    check(&answers::outages());
}

#[test]
fn scans_of_targets_that_dns_names_are_stopped() {
    check(&names::spelled());
    check(&names::own_zones());
}

#[test]
fn scans_of_many_ports_at_once_are_stopped() {
    check(&scans::many_ports());
}

#[test]
fn scans_that_pods_of_a_run_share_out_are_stopped() {
    check(&scans::shared());
}

#[test]
fn inventories_by_dns_alone_are_stopped() {
    check(&scans::inventories());
}

#[test]
fn miners_that_disguise_their_session_or_their_load_are_stopped() {
    check(&miners::plain());
    check(&miners::padded());
    check(&miners::getwork());
    check(&miners::uneven());
}

#[test]
fn installers_that_walk_a_catalogue_of_pools_are_stopped() {
    check(&miners::catalogues());
}

#[test]
fn tunnels_in_dns_that_are_spread_or_short_are_stopped() {
    check(&tunnels::spread());
    check(&tunnels::short());
}

/// The suite itself: what leads to nothing is not taken for stopped.
#[test]
fn a_pod_that_hardly_fails_is_neither_a_stopped_attack_nor_a_control_that_was_caught() {
    let quiet = Attack::new("quiet", Severity::Alert, |_| {
        let mut log = Log::of(Format::Zeek);
        for n in 0..10 {
            log.contact(f64::from(n), &format!("10.9.0.{n}"), 22, Fate::Refuses);
        }
        log
    });
    let tried = quiet.run();
    assert!(!tried.is_stopped && !tried.is_control_caught);
    assert_eq!(tried.outcome.words(), "nothing");
}
