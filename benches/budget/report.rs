//! What the bench prints: tables for people, `figure NAME VALUE UNIT` lines for machines.

use std::time::Duration;

use crate::sim::attack::{Attack, Pace, Result};
use crate::sim::controls::Control;
use crate::sim::group::Plan;
use crate::sim::honest::Profile;
use crate::sim::judge::Said;
use crate::sim::tally::{Row, Tally, percentile, upper95};
use crate::sim::tape::SECOND;

/// False quarantines of one profile that are printed one by one.
const SHOWN_MAX: usize = 3;

/// The honest part.
#[allow(clippy::cast_precision_loss)] // counts far below 2^52
pub fn honest(tally: &Tally, took: Duration) {
    println!(
        "{:<12} {:<7} {:>9} {:>11} {:>9} {:>6} {:>12} {:>11}",
        "profile",
        "names",
        "pod-days",
        "quarantines",
        "in outage",
        "acted",
        "upper95/day",
        "alerts/day"
    );
    for ((profile, shows_dns), row) in &tally.rows {
        line(
            profile.name(),
            if *shows_dns { "seen" } else { "unseen" },
            row,
        );
    }
    let total = tally.total();
    line("all", "", &total);
    false_quarantines(tally);
    let pod_days = total.pod_days as f64;
    let seconds = took.as_secs_f64();
    println!(
        "{} records in {seconds:.0} s, {:.0} pod-days/s",
        total.records,
        pod_days / seconds
    );
    println!("figure budget.pod_days {} pod-days", total.pod_days);
    println!(
        "figure budget.blind_pod_days {} pod-days",
        total.blind_pod_days
    );
    println!(
        "figure budget.spread_pod_days {} pod-days",
        total.spread_pod_days
    );
    println!(
        "figure budget.agent_pod_days {} pod-days",
        total.agent_pod_days
    );
    println!(
        "figure budget.shared_accelerator_pod_days {} pod-days",
        total.shared_pod_days
    );
    println!(
        "figure budget.false_quarantines {} quarantines",
        total.quarantines
    );
    println!("figure budget.in_outage {} quarantines", total.in_outage);
    println!("figure budget.acted {} quarantines", total.acted);
    println!(
        "figure budget.upper95 {:.2e} per_pod_day",
        upper95(total.quarantines) / pod_days
    );
    println!(
        "figure budget.alerted {:.2e} pods_per_pod_day",
        total.alerted as f64 / pod_days
    );
    let edge = |is_wanted: &dyn Fn(Profile) -> bool| {
        let rows = tally.rows.iter().filter(|((p, _), _)| is_wanted(*p));
        rows.map(|(_, row)| row.quarantines).sum::<usize>()
    };
    println!(
        "figure budget.null_edge_quarantines {} quarantines",
        edge(&|profile| profile == Profile::NullEdge)
    );
}

/// Some of each profile, with what plays them again.
fn false_quarantines(tally: &Tally) {
    for profile in Profile::ALL {
        let of_profile = tally.quarantines.iter().filter(|q| q.stratum.0 == profile);
        for quarantine in of_profile.clone().take(SHOWN_MAX) {
            let origin = quarantine.origin;
            println!(
                "false quarantine: --seed {} --part {} --group {} --print ({}, pod {}{}): {}",
                origin.seed,
                origin.part,
                origin.group,
                profile.name(),
                quarantine.pod,
                if quarantine.acted {
                    ""
                } else {
                    ", stopped by the breaker"
                },
                quarantine.summary
            );
        }
        let count = of_profile.count();
        if count > SHOWN_MAX {
            println!("    and {} more of {}", count - SHOWN_MAX, profile.name());
        }
    }
}

#[allow(clippy::cast_precision_loss)] // counts far below 2^52
fn line(name: &str, names: &str, row: &Row) {
    let pod_days = row.pod_days as f64;
    println!(
        "{name:<12} {names:<7} {:>9} {:>11} {:>9} {:>6} {:>12.2e} {:>11.2e}",
        row.pod_days,
        row.quarantines,
        row.in_outage,
        row.acted,
        upper95(row.quarantines) / pod_days,
        row.alerted as f64 / pod_days
    );
}

/// One group, played again.
pub fn group(plan: &Plan, said: &[Said]) {
    println!("{plan:#?}");
    let pods = plan.first_pod..plan.first_pod.saturating_add(plan.pod_count);
    for word in said.iter().filter(|word| pods.contains(&word.pod)) {
        let finding = &word.finding;
        println!(
            "{} pod {} {} {}: {:.1} of {:.1} nats: {}",
            word.at / SECOND,
            word.pod.saturating_sub(plan.first_pod),
            finding.severity.name(),
            finding.signature.name(),
            finding.evidence.score,
            finding.evidence.threshold,
            finding.evidence.summary
        );
        for example in &finding.evidence.examples {
            println!(
                "    {} {}/{} {:?}",
                example.destination,
                example.transport.name(),
                example.port,
                example.outcome
            );
        }
        for against in &finding.evidence.against {
            println!("    but {against}");
        }
    }
}

/// The controls: attackers beside honest work, and what each wire is worth.
pub fn controls(planted: &[(Profile, bool)], controls: &[Control]) {
    let found = planted.iter().filter(|(_, is_found)| *is_found).count();
    for (profile, _) in planted.iter().filter(|(_, is_found)| !is_found) {
        println!("not found: an attacker in a run of {}", profile.name());
    }
    println!(
        "\nfigure control.planted_found {found} of_{}",
        planted.len()
    );
    for control in controls {
        println!(
            "figure control.{} {} quarantines_{}_without",
            control.name, control.wired, control.cut
        );
    }
}

/// Head of the table of attacks.
pub fn attack_head() {
    println!(
        "\n{:<12} {:<12} {:>5} {:>6} {:>7} {:>7} {:>10} {:>10} {:>8}",
        "pace", "manner", "hits", "missed", "p50", "p99", "time p50", "time p99", "alerted"
    );
}

/// One kind of attack.
pub fn attack(attack: Attack, results: &[Result]) {
    let Summary {
        missed,
        contacts,
        within,
        alerted,
    } = summary(results);
    println!(
        "{:<12} {:<12} {:>4}% {:>6} {:>7} {:>7} {:>8} s {:>8} s {:>8}",
        attack.pace.name(),
        attack.manner.name(),
        attack.hit_percent,
        format!("{missed}/{}", results.len()),
        shown(contacts.0),
        shown(contacts.1),
        shown(within.0),
        shown(within.1),
        alerted
    );
}

/// Figures of one pace.
pub fn pace(pace: Pace, results: &[Result]) {
    let Summary {
        missed,
        contacts,
        within,
        ..
    } = summary(results);
    let name = pace.name();
    if let ((Some(p50), Some(p99)), (Some(within), _)) = (contacts, within) {
        println!("figure attack.{name}.contacts_p50 {p50} contacts");
        println!("figure attack.{name}.contacts_p99 {p99} contacts");
        println!("figure attack.{name}.time_p50 {within} s");
    }
    println!("figure attack.{name}.missed {missed} of_{}", results.len());
}

struct Summary {
    missed: usize,
    contacts: (Option<u64>, Option<u64>),
    within: (Option<i64>, Option<i64>),
    alerted: usize,
}

fn summary(results: &[Result]) -> Summary {
    let mut contacts: Vec<u64> = results.iter().filter_map(|r| r.quarantined_after).collect();
    let within = results.iter().filter_map(|r| r.quarantined_within);
    let mut within: Vec<i64> = within.map(|within| within / SECOND).collect();
    Summary {
        missed: results.len() - contacts.len(),
        contacts: (
            percentile(&mut contacts, 0.5),
            percentile(&mut contacts, 0.99),
        ),
        within: (percentile(&mut within, 0.5), percentile(&mut within, 0.99)),
        alerted: results.iter().filter(|r| r.alerted_after.is_some()).count(),
    }
}

fn shown<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
