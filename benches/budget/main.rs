//! `make bench-budget`: how often honest agents would be quarantined, and how soon attackers are.
//!
//! Plays simulated pods through the operator's own index and engines (see `sim`) and prints tables and `figure` lines. Exits
//! 0 also where a pod was quarantined: the figures say it, and docs/error-budget.md says why.

mod report;
#[allow(dead_code)] // tests/simulation.rs uses the rest of it
mod sim;

use std::time::Instant;

use clap::Parser;
use sim::attack::{Attack, Manner, Pace};
use sim::cluster::Cell;
use sim::group::{Origin, outages};
use sim::part::Size;
use sim::tally::Tally;

/// Simulates honest agents and attackers, and prints what the engine would have done.
#[derive(Debug, Parser)]
#[command(name = "bench-budget")]
struct Arguments {
    /// Seed of everything that is random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Parts to simulate
    #[arg(long, default_value_t = 20)]
    parts: u64,
    /// First part, to split the work between machines; with --print the part to play again
    #[arg(long, default_value_t = 0)]
    part: u64,
    /// Pod-days of one part
    #[arg(long, default_value_t = 5_000)]
    pod_days: usize,
    /// Threads
    #[arg(long, default_value_t = std::thread::available_parallelism().map_or(1, usize::from))]
    threads: usize,
    /// Attacks per pace, manner and hit rate; 0 leaves them out
    #[arg(long, default_value_t = 20)]
    attacks: u64,
    /// Group to play again, with --print
    #[arg(long, default_value_t = 0)]
    group: u64,
    /// Print everything that the engine says about one group, and nothing else
    #[arg(long)]
    print: bool,
    /// Given by cargo; means nothing
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let arguments = Arguments::parse();
    if arguments.print {
        play_again(&arguments);
        return;
    }
    let started = Instant::now();
    let mut tally = Tally::default();
    for step in 0..arguments.parts {
        tally.add(sim::part::run(Size {
            seed: arguments.seed,
            part: arguments.part.saturating_add(step),
            pod_days: arguments.pod_days,
            threads: arguments.threads,
        }));
    }
    report::honest(&tally, started.elapsed());
    report::controls(
        &sim::controls::planted(arguments.seed, 3, arguments.threads),
        &sim::controls::wires(arguments.seed),
    );
    if arguments.attacks > 0 {
        attacks(&arguments);
    }
}

/// Plays one group again and prints what the engine said.
fn play_again(arguments: &Arguments) {
    let origin = Origin {
        seed: arguments.seed,
        part: arguments.part,
        group: arguments.group,
    };
    let cell = Cell::draw(origin);
    let events = cell.play(&outages(origin.seed, origin.part), |_, _| {});
    let said = sim::judge::judge(&cell, &events);
    if let Some(plan) = cell.plans.iter().find(|plan| plan.origin == origin) {
        report::group(plan, &said);
    }
}

fn attacks(arguments: &Arguments) {
    report::attack_head();
    for pace in Pace::ALL {
        let mut plain = Vec::new();
        for manner in Manner::ALL {
            for hit_percent in [2, 10, 20, 30] {
                let attack = Attack {
                    pace,
                    manner,
                    hit_percent,
                };
                let results = sim::attack::run_all(
                    attack,
                    arguments.seed,
                    arguments.attacks,
                    arguments.threads,
                );
                report::attack(attack, &results);
                if attack.is_plain() {
                    plain.extend(results);
                }
            }
        }
        report::pace(pace, &plain);
    }
}
