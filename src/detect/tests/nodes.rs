//! Runs with pods on several nodes with one engine each: what the engines contribute to each other, and that each of
//! them detects what one engine over all logs would.

use std::collections::BTreeSet;

use super::*;
use crate::detect::{Contribution, HashKey};
use crate::limits;
use crate::model::RunKey;
use crate::model::Severity::Quarantine;

const PODS_PER_NODE: usize = 5;

fn run() -> RunKey {
    RunKey::from("agents/5b1f")
}

/// A pod of the run.
fn member(node: usize, pod: usize) -> Subject {
    Subject {
        pod: PodKey::from(format!("pod-{node}-{pod}").as_str()),
        run: Some(run()),
    }
}

/// The n-th private host.
fn inner(n: usize) -> String {
    format!("10.20.{}.{}", n / 250, n % 250 + 1)
}

/// One engine per node, and the findings of each.
struct Nodes {
    engines: Vec<Engine>,
    findings: Vec<Vec<Finding>>,
    /// The contribution of each engine as the others last received it.
    contributed: Vec<Contribution>,
    seconds: i64,
}

impl Nodes {
    fn new(count: usize) -> Self {
        let engine = |node: usize| {
            Engine::new(EngineConfig {
                // Every node has a secret of its own.
                hash_key: HashKey::from_seed(node as u64),
                shares_runs: true,
                ..EngineConfig::default()
            })
        };
        Self {
            engines: (0..count).map(engine).collect(),
            findings: vec![Vec::new(); count],
            contributed: vec![Contribution::default(); count],
            seconds: 0,
        }
    }

    /// One contact per second.
    fn contact(&mut self, node: usize, pod: usize, target: &str, port: u16, outcome: Outcome) {
        self.seconds += 1;
        let flow = flow(target, port, outcome, self.seconds);
        let subject = member(node, pod);
        let signal = Signal::Flow(flow);
        let found = self.engines[node].step(&by(&subject, Workload::Standard, &signal));
        self.findings[node].extend(found);
    }

    fn fail(&mut self, node: usize, pod: usize, host: usize) {
        self.contact(node, pod, &inner(host), 22, Outcome::Refused);
    }

    /// Every engine contributes, and every other one receives it.
    fn exchange(&mut self) {
        for node in 0..self.engines.len() {
            for (key, contribution) in self.engines[node].take_contributions(at(self.seconds)) {
                assert_eq!(key, run());
                self.contributed[node] = contribution;
            }
        }
        for from in 0..self.engines.len() {
            for to in 0..self.engines.len() {
                if from != to {
                    self.deliver(from, to);
                }
            }
        }
    }

    fn deliver(&mut self, from: usize, to: usize) {
        let contribution = &self.contributed[from];
        let found = self.engines[to].apply_contribution(&run(), contribution, false);
        self.findings[to].extend(found.unwrap_or_default());
    }

    /// Each pod with so many targets of its own, one pod after the other at every turn.
    fn share_out(&mut self, target_count: usize, exchanges: bool) {
        let nodes = self.engines.len();
        for n in 0..target_count {
            for pod in 0..PODS_PER_NODE {
                for node in 0..nodes {
                    let host = (n * PODS_PER_NODE + pod) * nodes + node;
                    self.fail(node, pod, host);
                }
            }
            if exchanges {
                self.exchange();
            }
        }
    }

    fn quarantined(&self, node: usize) -> BTreeSet<PodKey> {
        let findings = self.findings[node].iter();
        let severe = findings.filter(|finding| finding.severity == Quarantine);
        severe.map(|finding| finding.subject.pod.clone()).collect()
    }

    fn scores(&self) -> Vec<f64> {
        let engines = self.engines.iter();
        engines.map(|engine| engine.run_nats(&run())).collect()
    }
}

#[test]
fn a_scan_by_twenty_pods_on_four_nodes_is_found_by_each_node_for_its_own_pods() {
    let mut nodes = Nodes::new(4);
    nodes.share_out(12, true);
    for node in 0..4 {
        let own: BTreeSet<_> = (0..PODS_PER_NODE).map(|n| member(node, n).pod).collect();
        assert_eq!(nodes.quarantined(node), own);
    }
}

#[test]
fn without_contributions_no_node_sees_enough_of_such_a_scan() {
    let mut nodes = Nodes::new(20);
    // One pod per node, so that no sum of one node is enough either.
    for n in 0..12 {
        for node in 0..20 {
            nodes.fail(node, 0, n * 20 + node);
        }
    }
    assert!((0..20).all(|node| nodes.quarantined(node).is_empty()));
    nodes.exchange();
    assert!((0..20).all(|node| nodes.quarantined(node).len() == 1));
}

#[test]
fn a_contribution_counts_once_however_often_and_in_whatever_order_it_comes() {
    let orders = [[1, 2, 3], [3, 2, 1], [2, 3, 1]];
    let mut scores = BTreeSet::new();
    for order in orders {
        let mut nodes = Nodes::new(4);
        nodes.share_out(5, false);
        for node in 0..4 {
            let changed = nodes.engines[node].take_contributions(at(nodes.seconds));
            nodes.contributed[node] = changed.into_iter().next().unwrap().1;
        }
        for _ in 0..3 {
            for from in order {
                nodes.deliver(from, 0);
            }
        }
        scores.insert(format!("{:.6}", nodes.scores()[0]));
    }
    // 100 failures of 0.588 nats each, whatever the order.
    assert_eq!(scores, BTreeSet::from(["58.778666".to_owned()]));
}

#[test]
fn all_nodes_have_the_score_that_one_engine_over_all_logs_has() {
    let mut nodes = Nodes::new(4);
    nodes.share_out(6, true);
    let mut one = Nodes::new(1);
    for host in 0..120 {
        let found = {
            one.seconds += 1;
            let flow = flow(&inner(host), 22, Outcome::Refused, one.seconds);
            let subject = member(host % 4, host / 4 % PODS_PER_NODE);
            one.engines[0].step(&by(&subject, Workload::Standard, &Signal::Flow(flow)))
        };
        one.findings[0].extend(found);
    }
    let expected = one.scores()[0];
    for score in nodes.scores() {
        assert!((score - expected).abs() < 1e-9, "{score}, not {expected}");
    }
}

#[test]
fn pods_with_too_few_failures_to_count_contribute_nothing() {
    let mut nodes = Nodes::new(4);
    nodes.share_out(3, true);
    assert!(nodes.contributed.iter().all(Contribution::is_empty));
    assert!(nodes.scores().iter().all(|score| *score < 1e-9));
}

#[test]
fn honest_pods_that_are_answered_contribute_nothing() {
    let mut nodes = Nodes::new(4);
    for host in 0..200 {
        let outcome = if host % 4 == 0 {
            Outcome::Refused
        } else {
            Outcome::Answered
        };
        nodes.contact(
            host / 4 % 4,
            host % 3,
            &inner(host / 3 * 7 + host),
            443,
            outcome,
        );
        nodes.exchange();
        assert!(
            nodes.contributed.iter().all(|c| c.failed.is_empty()),
            "{host}"
        );
    }
}

#[test]
fn answers_on_other_nodes_pay_for_failures_once_those_are_contributed() {
    let mut nodes = Nodes::new(2);
    nodes.contact(1, 0, &inner(900), 22, Outcome::Answered);
    for host in 0..20 {
        nodes.fail(0, host % 2, host);
    }
    nodes.exchange();
    let before = nodes.scores();
    for host in 0..3 {
        nodes.contact(1, 0, &inner(500 + host), 22, Outcome::Answered);
    }
    nodes.exchange();
    let after = nodes.scores();
    assert_eq!(
        nodes.contributed[1].answered.len(),
        3,
        "not the one from before"
    );
    for (before, after) in before.into_iter().zip(after) {
        let paid = before - after;
        assert!((paid - 3.0 * 5.0_f64.ln()).abs() < 1e-9, "{paid}");
    }
}

#[test]
fn a_target_that_answered_another_node_before_is_taken_back() {
    let mut nodes = Nodes::new(2);
    for host in 0..6 {
        nodes.contact(1, 0, &inner(host), 22, Outcome::Answered);
    }
    for host in 0..6 {
        nodes.fail(0, 0, host);
    }
    // The failures go one way, the answers the other, and the failures are taken back.
    (0..3).for_each(|_| nodes.exchange());
    assert!(nodes.contributed[0].failed.is_empty());
    assert!(nodes.scores().iter().all(|score| *score < 1e-9));
}

#[test]
fn one_dead_target_that_all_nodes_try_is_one_failure() {
    let mut nodes = Nodes::new(4);
    for host in 0..6 {
        for node in 0..4 {
            nodes.fail(node, 0, host);
        }
    }
    nodes.exchange();
    for score in nodes.scores() {
        assert!((score - 6.0 * 1.8_f64.ln()).abs() < 1e-9, "{score}");
    }
}

#[test]
fn after_a_restart_nothing_is_lost_or_counted_twice() {
    let mut nodes = Nodes::new(4);
    nodes.share_out(6, true);
    let before = nodes.scores();
    let own = nodes.contributed[0].clone();
    let fresh = Nodes::new(1).engines.remove(0);
    nodes.engines[0] = fresh;
    assert_eq!(
        nodes.engines[0].apply_contribution(&run(), &own, true),
        None,
        "no pod yet"
    );
    // A line is read again.
    let now = std::mem::take(&mut nodes.seconds);
    nodes.fail(0, 0, 0);
    nodes.seconds = now;
    nodes.engines[0]
        .apply_contribution(&run(), &own, true)
        .unwrap();
    (1..4).for_each(|from| nodes.deliver(from, 0));
    let again = nodes.engines[0].take_contributions(at(nodes.seconds));
    assert_eq!(again, [(run(), own)]);
    nodes.exchange();
    for (before, after) in before.into_iter().zip(nodes.scores()) {
        assert!((before - after).abs() < 1e-9, "{before}, then {after}");
    }
}

#[test]
fn an_engine_that_is_restored_from_its_saved_state_goes_on_with_what_others_contributed() {
    let mut nodes = Nodes::new(4);
    nodes.share_out(2, true);
    nodes.share_out(4, true);
    let before = nodes.scores();
    let own = nodes.contributed[0].clone();
    let mut restored = Nodes::new(1).engines.remove(0);
    let (mut saving, mut piece) = (nodes.engines[0].saving(), Vec::new());
    while nodes.engines[0].save_next(&mut saving, &mut piece).unwrap() {
        restored.restore(&piece).unwrap();
    }
    nodes.engines[0] = restored;
    let again = nodes.engines[0].take_contributions(at(nodes.seconds));
    assert_eq!(again, [(run(), own.clone())]);
    nodes.engines[0]
        .apply_contribution(&run(), &own, true)
        .unwrap();
    nodes.exchange();
    for (before, after) in before.into_iter().zip(nodes.scores()) {
        assert!((before - after).abs() < 1e-9, "{before}, then {after}");
    }
}

#[test]
fn ports_of_one_host_that_pods_on_four_nodes_try_are_a_vertical_scan() {
    let mut nodes = Nodes::new(4);
    for port in 1..=60_u16 {
        let node = usize::from(port % 4);
        nodes.contact(node, 0, "10.20.0.9", port, Outcome::Refused);
    }
    nodes.exchange();
    for node in 0..4 {
        let finding = nodes.findings[node].last().unwrap();
        assert_eq!(finding.signature, Signature::VerticalScan);
        let summary = finding.evidence.summary.as_str();
        assert!(
            summary.contains("ports of the private host 10.20.0.9"),
            "{summary}"
        );
        let hosts = finding
            .evidence
            .examples
            .iter()
            .map(|example| example.destination);
        assert!(hosts.clone().count() > 0);
        assert!(hosts.into_iter().all(|host| !host.is_unspecified()));
    }
}

#[test]
fn one_busy_pod_leaves_room_for_the_others_and_all_stay_within_their_bounds() {
    let mut nodes = Nodes::new(2);
    for host in 0..2_000 {
        nodes.fail(0, 0, host);
    }
    for pod in 1..=20 {
        for n in 0..4 {
            nodes.fail(0, pod, 3_000 + pod * 10 + n);
        }
    }
    nodes.exchange();
    let failed = &nodes.contributed[0].failed;
    assert_eq!(failed.len(), limits::CONTRIBUTION_FAILED_MAX);
    for pod in 1..=20 {
        let of_pod = failed.iter().filter(|(key, _)| *key == member(0, pod).pod);
        assert_eq!(of_pod.count(), 4, "pod {pod}");
    }
    for host in 0..1_000 {
        nodes.contact(0, 0, &inner(10_000 + host), 22, Outcome::Answered);
    }
    nodes.exchange();
    assert!(nodes.contributed[0].answered.len() <= limits::CONTRIBUTION_ANSWERED_MAX);
}

#[test]
fn a_contribution_is_taken_back_when_it_is_old() {
    let mut nodes = Nodes::new(2);
    (0..10).for_each(|host| nodes.fail(0, 0, host));
    nodes.exchange();
    assert_eq!(nodes.contributed[0].failed.len(), 10);
    nodes.seconds += limits::CONTRIBUTION_KEPT_US / 1_000_000;
    nodes.exchange();
    assert!(nodes.contributed[0].is_empty());
}

#[test]
fn an_engine_that_shares_no_runs_contributes_nothing() {
    let mut bench = Bench::new();
    for host in 0..60 {
        let flow = flow(&inner(host), 22, Outcome::Refused, 1);
        bench
            .engine
            .step(&by(&member(0, 0), Workload::Standard, &Signal::Flow(flow)));
    }
    assert!(bench.engine.take_contributions(at(2)).is_empty());
}

#[test]
fn the_same_target_has_another_hash_in_another_run() {
    let hash_of = |run: &str| {
        let mut engine = Nodes::new(1).engines.remove(0);
        let subject = Subject {
            run: Some(RunKey::from(run)),
            ..pod("p")
        };
        for host in 0..4 {
            let flow = flow(&inner(host), 22, Outcome::Refused, 1);
            engine.step(&by(&subject, Workload::Standard, &Signal::Flow(flow)));
        }
        let (_, contribution) = engine.take_contributions(at(2)).remove(0);
        contribution.failed[0].1.target
    };
    assert_eq!(hash_of("a/1"), hash_of("a/1"));
    assert_ne!(hash_of("a/1"), hash_of("a/2"));
}

/// A contact that a policy dropped, on a node with a log that may have shown no allowed flows.
fn denied(host: usize, second: i64) -> Flow<'static> {
    Flow {
        forwarded: false,
        ..flow(&inner(host), 22, Outcome::Denied, second)
    }
}

#[test]
fn denials_on_another_node_lead_to_no_quarantine_unless_its_log_shows_allowed_flows() {
    for shows_allowed in [false, true] {
        let mut nodes = Nodes::new(2);
        for host in 0..80 {
            let subject = member(host % 2, host / 2 % PODS_PER_NODE);
            if shows_allowed {
                let passed = Flow {
                    source: "10.244.0.99".parse().unwrap(),
                    ..flow("203.0.113.200", 443, Outcome::Answered, 1)
                };
                nodes.engines[host % 2].observe_unattributed(LOG, &Signal::Flow(passed));
            }
            let signal = Signal::Flow(denied(host, 2));
            nodes.engines[host % 2].step(&by(&subject, Workload::Standard, &signal));
        }
        nodes.seconds = 3;
        nodes.exchange();
        let counts: Vec<_> = (0..2).map(|node| nodes.quarantined(node).len()).collect();
        let expected = if shows_allowed { 5 } else { 0 };
        assert_eq!(
            counts, [expected; 2],
            "allowed flows shown: {shows_allowed}"
        );
        assert!(
            (0..2).all(|node| !nodes.findings[node].is_empty()),
            "an alert"
        );
    }
}

#[test]
fn contacts_that_may_have_been_answered_on_another_node_pay_for_failures() {
    let mut nodes = Nodes::new(2);
    nodes.contact(1, 0, &inner(900), 443, Outcome::Unseen);
    for host in 0..20 {
        nodes.fail(0, host % 2, host);
    }
    nodes.exchange();
    let before = nodes.scores();
    for host in 0..3 {
        // The log of a node like this has first packets alone.
        nodes.contact(1, 0, &inner(500 + host), 22, Outcome::Unseen);
    }
    nodes.exchange();
    let after = nodes.scores();
    for (before, after) in before.into_iter().zip(after) {
        assert!(after < before, "{before}, then {after}");
    }
}

#[test]
fn what_looks_like_a_servers_answer_is_no_port_that_was_tried_elsewhere_either() {
    let vertical = |source_port: u16| {
        let mut nodes = Nodes::new(2);
        for n in 0..80_u16 {
            let node = usize::from(n % 2);
            let flow = Flow {
                transport: Transport::Udp,
                source_port,
                ..flow("10.20.0.9", 40_000 + n, Outcome::Refused, i64::from(n))
            };
            let signal = Signal::Flow(flow);
            nodes.engines[node].step(&by(&member(node, 0), Workload::Standard, &signal));
        }
        nodes.seconds = 100;
        nodes.exchange();
        let findings = nodes.findings.iter().flatten();
        findings
            .filter(|f| f.signature == Signature::VerticalScan)
            .count()
    };
    assert_eq!(vertical(4_242), 0, "a service's port to a client's");
    assert!(vertical(50_000) > 0);
}

#[test]
fn what_a_pod_did_before_it_was_released_is_contributed_no_more_and_that_of_one_that_is_gone_is() {
    for is_released in [true, false] {
        let mut nodes = Nodes::new(2);
        for host in 0..10 {
            nodes.fail(0, host % 2, host);
        }
        nodes.exchange();
        assert_eq!(nodes.contributed[0].failed.len(), 10);
        let engine = &mut nodes.engines[0];
        if is_released {
            engine.forget(&member(0, 0).pod);
        } else {
            engine.retain(|pod| *pod != member(0, 0).pod);
        }
        nodes.fail(0, 1, 10);
        nodes.exchange();
        let of_first = nodes.contributed[0].failed.iter();
        let of_first = of_first.filter(|(pod, _)| *pod == member(0, 0).pod);
        assert_eq!(of_first.count(), if is_released { 0 } else { 5 });
    }
}
