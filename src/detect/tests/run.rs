//! Scans that are divided among the pods of one run: what is one, which pods it concerns, and what is none.

use super::*;
use crate::limits;
use crate::model::RunKey;
use crate::model::Severity::{Alert, Quarantine};

fn member(run: &str, pod: usize) -> Subject {
    Subject {
        pod: PodKey::from(format!("{run}-pod-{pod}").as_str()),
        run: Some(RunKey::from(run)),
    }
}

/// The n-th host of the cluster.
fn inner(n: usize) -> String {
    format!("10.244.{}.{}", 10 + n / 250, n % 250 + 1)
}

/// An engine and the pods of runs.
struct Team {
    bench: Bench,
    seconds: i64,
}

impl Team {
    fn new() -> Self {
        Self {
            bench: Bench::new(),
            seconds: 0,
        }
    }

    /// One contact in two minutes, so that what they share lasts longer than an outage.
    fn contact(&mut self, subject: &Subject, target: &str, port: u16, outcome: Outcome) {
        self.seconds += 120;
        self.contact_at_once(subject, target, port, outcome);
    }

    fn contact_at_once(&mut self, subject: &Subject, target: &str, port: u16, outcome: Outcome) {
        let flow = flow(target, port, outcome, self.seconds);
        let found = self
            .bench
            .engine
            .step(&by(subject, Workload::Standard, &Signal::Flow(flow)));
        self.bench.findings.extend(found);
    }

    /// So many pods of a run with so many targets of their own each, one pod after the other at
    /// every turn.
    fn share_out(&mut self, run: &str, pod_count: usize, target_count: usize) {
        for n in 0..target_count {
            for pod in 0..pod_count {
                let target = inner(n * pod_count + pod);
                self.contact(&member(run, pod), &target, 22, Outcome::Refused);
            }
        }
    }

    fn severity(&self, subject: &Subject) -> Option<Severity> {
        let findings = self.bench.findings.iter();
        let about = findings.filter(|finding| finding.subject == *subject);
        about.map(|finding| finding.severity).max()
    }

    #[track_caller]
    fn check(&self, subject: &Subject, expected: Option<Severity>) {
        assert_eq!(self.severity(subject), expected, "{:?}", subject.pod);
    }
}

#[test]
fn twelve_targets_for_each_of_four_pods_are_a_scan_by_all_four() {
    let mut team = Team::new();
    team.share_out("run", 4, 12);
    for pod in 0..4 {
        team.check(&member("run", pod), Some(Quarantine));
    }
    let evidence = &team.bench.findings.last().unwrap().evidence;
    assert!(evidence.score >= evidence.threshold);
    assert!(
        evidence.summary.as_str().contains("by 4 pods of the run"),
        "{}",
        evidence.summary
    );
    assert_eq!(evidence.summary.as_str().matches(". ").count(), 1);
    assert_eq!(evidence.examples.len(), limits::EXAMPLES_MAX);
}

#[test]
fn pods_that_scan_one_after_the_other_are_all_found_although_no_walk_knows_all_their_targets() {
    const { assert!(20 * 12 > limits::RUN_WALK_TARGETS_MAX) };
    let mut team = Team::new();
    for host in 0..20 * 12 {
        let pod = member("run", host / 12);
        team.contact(&pod, &inner(host), 22, Outcome::Refused);
    }
    for pod in 0..20 {
        team.check(&member("run", pod), Some(Quarantine));
    }
}

#[test]
fn a_scan_by_so_many_pods_at_once_that_no_walk_knows_four_targets_of_each_is_found() {
    let mut team = Team::new();
    team.share_out("run", 64, 12);
    let found = (0..64).filter(|pod| team.severity(&member("run", *pod)) == Some(Quarantine));
    assert_eq!(found.count(), limits::RUN_WALK_TARGETS_MAX / 4);
}

/// Else the scan of a sibling would hold a pod again that a human has just released.
#[test]
fn what_a_pod_did_before_it_was_released_counts_for_its_run_and_not_for_the_pod() {
    let mut team = Team::new();
    let (released, sibling) = (member("run", 0), member("run", 1));
    for n in 0..20 {
        team.contact(&released, &inner(n), 22, Outcome::Refused);
    }
    team.bench.engine.forget(&released.pod);
    for n in 20..23 {
        team.contact(&released, &inner(n), 22, Outcome::Refused);
    }
    for n in 23..38 {
        team.contact(&sibling, &inner(n), 22, Outcome::Refused);
    }
    team.check(&sibling, Some(Quarantine));
    team.check(&released, None);
    // With its fourth new target it is part of it again.
    team.contact(&released, &inner(38), 22, Outcome::Refused);
    team.check(&released, Some(Quarantine));
}

#[test]
fn a_shared_scan_of_one_target_per_minute_for_days_is_found() {
    let mut team = Team::new();
    for n in 0..48 {
        team.seconds += 7_200;
        team.contact(&member("run", n % 4), &inner(n), 22, Outcome::Unanswered);
    }
    for pod in 0..4 {
        team.check(&member("run", pod), Some(Quarantine));
    }
}

#[test]
fn the_ports_of_one_host_shared_out_among_pods_are_a_vertical_scan() {
    let mut team = Team::new();
    for port in 1..=40_u16 {
        let pod = member("run", usize::from(port % 4));
        team.contact_at_once(&pod, "10.244.3.3", port, Outcome::Refused);
    }
    team.check(&member("run", 0), Some(Quarantine));
    assert_eq!(
        team.bench.severity(Signature::VerticalScan),
        Some(Quarantine)
    );
    assert_eq!(team.bench.severity(Signature::HorizontalScan), None);
}

#[test]
fn a_sibling_that_did_next_to_nothing_is_never_named() {
    let mut team = Team::new();
    let (idle, unlucky) = (member("run", 98), member("run", 99));
    team.contact(&idle, "10.96.0.1", 22, Outcome::Answered);
    for n in 5_000..5_003 {
        team.contact(&unlucky, &inner(n), 22, Outcome::Refused);
    }
    team.share_out("run", 4, 40);
    team.check(&member("run", 0), Some(Quarantine));
    team.check(&idle, None);
    team.check(&unlucky, None);
}

#[test]
fn one_pod_that_scans_alone_does_not_draw_its_siblings_in() {
    let mut team = Team::new();
    for n in 0..300 {
        team.contact(&member("run", 0), &inner(n), 22, Outcome::Refused);
        let sibling = member("run", 1 + n % 3);
        team.contact(&sibling, &host(n), 443, Outcome::Answered);
        team.contact(&sibling, "10.96.0.9", 22, Outcome::Refused);
    }
    team.check(&member("run", 0), Some(Quarantine));
    for pod in 1..4 {
        team.check(&member("run", pod), None);
    }
}

#[test]
fn a_dead_dependency_that_all_pods_of_a_run_retry_is_one_target() {
    let mut team = Team::new();
    for _ in 0..20 {
        for pod in 0..200 {
            for port in [5_432, 6_379] {
                team.contact(&member("run", pod), "10.96.0.17", port, Outcome::Refused);
            }
            team.contact(&member("run", pod), "10.96.0.10", 53, Outcome::Unanswered);
        }
    }
    assert_eq!(team.bench.findings, vec![]);
}

#[test]
fn workers_of_which_each_meets_a_neighbour_that_is_late_are_no_scan() {
    let mut team = Team::new();
    for neighbour in 1..=3 {
        for pod in 0..200 {
            let target = inner((pod + neighbour * 7) % 200);
            let port = 29_500 + u16::try_from(neighbour).unwrap();
            team.contact(&member("run", pod), &target, port, Outcome::Refused);
        }
    }
    assert_eq!(team.bench.findings, vec![]);
}

#[test]
fn what_answered_one_pod_is_no_failure_when_it_dies_on_the_others() {
    let mut team = Team::new();
    for n in 0..60 {
        team.contact(&member("run", 0), &inner(n), 9_000, Outcome::Answered);
    }
    for n in 0..60 {
        team.contact(
            &member("run", 1 + n % 6),
            &inner(n),
            9_000,
            Outcome::Unanswered,
        );
    }
    for pod in 0..7 {
        assert_ne!(team.severity(&member("run", pod)), Some(Quarantine));
    }
}

#[test]
fn a_target_that_answers_another_pod_after_all_is_taken_back() {
    let mut team = Team::new();
    team.share_out("run", 4, 8);
    for n in 0..32 {
        team.contact(
            &member("run", (n + 1) % 4),
            &inner(n),
            22,
            Outcome::Answered,
        );
    }
    for n in 32..60 {
        team.contact(&member("run", n % 4), &inner(n), 22, Outcome::Refused);
    }
    for pod in 0..4 {
        assert_ne!(team.severity(&member("run", pod)), Some(Quarantine));
    }
}

#[test]
fn pods_of_two_runs_are_never_added_up() {
    let mut team = Team::new();
    for n in 0..48 {
        let run = if n % 2 == 0 { "red" } else { "blue" };
        team.contact(&member(run, n % 4), &inner(n), 22, Outcome::Refused);
    }
    for run in ["red", "blue"] {
        for pod in 0..4 {
            assert_ne!(team.severity(&member(run, pod)), Some(Quarantine));
        }
    }
}

#[test]
fn one_short_lived_pod_after_another_is_a_scan_and_only_those_still_there_are_named() {
    let mut team = Team::new();
    for pod in 0..4 {
        for n in 0..10 {
            team.contact(
                &member("run", pod),
                &inner(pod * 10 + n),
                22,
                Outcome::Refused,
            );
        }
        if pod < 3 {
            team.bench.engine.forget(&member("run", pod).pod);
        }
    }
    team.check(&member("run", 3), Some(Quarantine));
    for pod in 0..3 {
        assert_ne!(team.severity(&member("run", pod)), Some(Quarantine));
    }
}

#[test]
fn peer_to_peer_pods_of_one_run_are_alerts_at_most() {
    let mut team = Team::new();
    for n in 0..2_000 {
        let port = if n % 30 < 10 {
            6_346
        } else {
            u16::try_from(10_000 + n).unwrap()
        };
        team.contact(&member("run", n % 10), &host(n), port, Outcome::Unanswered);
    }
    for pod in 0..10 {
        assert_ne!(team.severity(&member("run", pod)), Some(Quarantine));
    }
}

#[test]
fn siblings_with_a_few_dead_targets_each_cannot_hide_a_shared_scan() {
    let mut team = Team::new();
    let mut noise = 1_000;
    for n in 0..60 {
        for _ in 0..10 {
            noise += 1;
            let sibling = member("run", 10 + noise % 400);
            team.contact(&sibling, &inner(noise), 22, Outcome::Refused);
        }
        team.contact(&member("run", n % 4), &inner(n), 22, Outcome::Refused);
    }
    for pod in 0..4 {
        team.check(&member("run", pod), Some(Quarantine));
    }
}

#[test]
fn runs_are_bounded_and_one_without_pods_makes_room_for_one_with() {
    let mut team = Team::new();
    for n in 0..limits::RUNS_MAX + 5 {
        let subject = member(&format!("run-{n}"), 0);
        team.contact(&subject, "10.96.0.1", 80, Outcome::Answered);
        team.bench.engine.forget(&subject.pod);
        assert!(team.bench.engine.run_count() <= limits::RUNS_MAX);
    }
    team.share_out("last", 4, 12);
    team.check(&member("last", 0), Some(Quarantine));
    let end = team.seconds + 100_000;
    team.bench.expire_pending(end);
    assert_eq!(
        team.bench.engine.run_count(),
        1,
        "the run that still has pods"
    );
}

#[test]
fn open_contacts_of_several_pods_are_judged_together_when_the_log_has_gone_on() {
    let mut team = Team::new();
    for n in 0..48 {
        let seconds = i64::try_from(n).unwrap() * 120;
        for pod in 0..4 {
            // The next record of each pod shows that its last contact is overdue.
            let target = inner(n * 4 + pod);
            let flow = flow(&target, 22, Outcome::Pending, seconds);
            team.bench.answer_to_another_pod(&flow);
            let signal = Signal::Flow(flow);
            let engine = &mut team.bench.engine;
            let found = engine.step(&by(&member("run", pod), Workload::Standard, &signal));
            team.bench.findings.extend(found);
        }
        if n == 6 {
            assert_eq!(team.bench.findings, vec![]);
        }
    }
    team.bench.expire_pending(6_000);
    for pod in 0..4 {
        team.check(&member("run", pod), Some(Quarantine));
    }
    assert!(
        team.bench
            .findings
            .iter()
            .any(|finding| finding.severity == Alert)
    );
}

#[test]
fn an_outage_in_which_all_pods_of_a_run_fail_is_no_scan_and_one_that_goes_on_for_hours_is() {
    let mut team = Team::new();
    let fail = |team: &mut Team, minutes: std::ops::Range<usize>| {
        for minute in minutes {
            for pod in (minute % 2..60).step_by(2) {
                let target = inner(minute * 60 + pod);
                team.contact_at_once(&member("run", pod), &target, 22, Outcome::Unanswered);
            }
            team.seconds += 60;
        }
    };
    for n in 5_000..5_020 {
        team.contact(&member("run", n % 60), &inner(n), 22, Outcome::Answered);
    }
    fail(&mut team, 0..10);
    assert_eq!(team.bench.findings, vec![]);
    fail(&mut team, 10..150);
    team.check(&member("run", 7), Some(Quarantine));
}
