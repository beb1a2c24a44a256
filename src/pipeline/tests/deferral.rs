//! Tests of deferred lines: they wait for the run of their pod, and in a node agent for the addresses of the run's pods
//! on other nodes.

use super::*;
use crate::detect::Attributed;
use crate::model::RunKey;
use crate::signals::decode::Decoder;

/// Address of a pod of the run on another node.
fn elsewhere(n: usize) -> String {
    format!("10.244.1.{}", n + 1)
}

impl Fixture {
    /// A node agent with one pod, `p0`, of a run with pods on other nodes. This many of their addresses are known.
    fn agent(addresses: usize, is_complete: bool) -> Self {
        let mut fixture = Self::new(1);
        fixture.enroll(1);
        fixture.learn(addresses, is_complete);
        fixture.read(0, &others(0));
        fixture
    }

    fn learn(&mut self, addresses: usize, is_complete: bool) {
        let mut index = self.pipeline.index.write();
        let ips = (0..addresses).map(|n| elsewhere(n).parse().unwrap());
        index.set_siblings(
            &RunKey::from("team/uid-run"),
            ips,
            is_complete,
            wall_clock(),
        );
    }
}

/// The pod contacts its siblings on other nodes, and they refuse the connections.
fn contact_siblings() -> Vec<String> {
    (0..60).map(|n| denied(0, &elsewhere(n), 0)).collect()
}

#[test]
fn siblings_on_other_nodes_are_no_scan_and_strangers_are_one() {
    for (known, expected) in [(60, false), (0, true)] {
        let mut fixture = Fixture::agent(known, true);
        fixture.read(0, &contact_siblings());
        assert_eq!(
            fixture.quarantined() == ["p0"],
            expected,
            "{known} are known"
        );
    }
}

#[test]
fn a_contact_waits_for_addresses_of_pods_that_have_just_started() {
    let mut fixture = Fixture::agent(3, false);
    fixture.read(0, &contact_siblings());
    assert_eq!(fixture.quarantined(), [""; 0]);
    fixture.wait(1, true);
    assert_eq!(
        fixture.quarantined(),
        [""; 0],
        "the addresses may still arrive"
    );
    // The list arrives late and from another clock; its addresses also count for the deferred lines.
    let key = RunKey::from("team/uid-run");
    let at = EventTime::from_seconds(START + 5, 0);
    let ips = (0..60).map(|n| elsewhere(n).parse().unwrap());
    let index = Arc::clone(&fixture.pipeline.index);
    index.write().set_siblings(&key, ips, true, at);
    fixture.wait(2, true);
    fixture.wait(20, true);
    assert_eq!(fixture.quarantined(), [""; 0]);
    assert!(fixture.state.awaiting_context.take().is_empty());
}

#[test]
fn a_scan_is_found_after_three_seconds_although_pods_of_the_run_have_no_address_for_hours() {
    let mut fixture = Fixture::agent(3, false);
    let scan: Vec<String> = (0..60).map(|n| denied(0, &target(n), 0)).collect();
    fixture.read(0, &scan);
    fixture.wait(2, true);
    assert_eq!(fixture.quarantined(), [""; 0]);
    fixture.wait(4, true);
    assert_eq!(fixture.quarantined(), ["p0"]);
}

/// A node agent with one pod that contacts 60 addresses inside the cluster, all of which refuse, while the published list
/// of pods that ended has this many of them, and then all of them.
fn contact_ended_pods(known_first: usize, is_published: bool, known_later: usize) -> Fixture {
    let mut fixture = Fixture::agent(0, true);
    let learn = |fixture: &Fixture, count: usize| {
        let ended = (0..count).map(|n| {
            (
                elsewhere(n).parse().unwrap(),
                EventTime::from_seconds(START, 0),
            )
        });
        let mut index = fixture.pipeline.index.write();
        index.set_ended_elsewhere(is_published.then_some(ended));
    };
    learn(&fixture, known_first);
    fixture.read(0, &contact_siblings());
    fixture.wait(1, true);
    learn(&fixture, known_later);
    fixture.wait(2, true);
    fixture.wait(5, true);
    fixture
}

#[test]
fn a_client_of_pods_that_ended_on_other_nodes_is_no_scanner_also_when_the_list_arrives_late() {
    for known_first in [60, 0] {
        let mut fixture = contact_ended_pods(known_first, true, 60);
        assert_eq!(fixture.quarantined(), [""; 0], "{known_first}");
    }
}

#[test]
fn a_scan_is_found_where_no_pod_ended_or_no_list_is_published() {
    for (is_published, known_later) in [(true, 0), (false, 60)] {
        let mut fixture = contact_ended_pods(0, is_published, known_later);
        assert_eq!(fixture.quarantined(), ["p0"], "{is_published}");
    }
}

#[test]
fn only_a_pod_with_contacts_that_fail_waits_for_the_list_of_pods_that_ended() {
    let mut fixture = Fixture::agent(0, true);
    let none = Some(std::iter::empty());
    fixture.pipeline.index.write().set_ended_elsewhere(none);
    fixture.read(0, &contact_siblings()[..3]);
    assert_eq!(fixture.state.awaiting_context.line_count(), 0);
    fixture.read(0, &contact_siblings()[3..10]);
    assert_eq!(fixture.state.awaiting_context.line_count(), 7);
}

#[test]
fn a_scan_of_the_internet_is_not_deferred() {
    let mut fixture = Fixture::agent(3, false);
    let scan: Vec<String> = (0..60)
        .map(|n| denied(0, &format!("203.0.113.{}", n + 100), 0))
        .collect();
    fixture.read(0, &scan);
    assert_eq!(fixture.severity(), Some(Severity::Alert), "denied outside");
}

#[test]
fn deferred_lines_that_do_not_fit_are_evaluated_with_what_is_known() {
    let mut fixture = Fixture::agent(3, false);
    let max = limits::DEFERRED_LINES_MAX;
    let scan: Vec<String> = (0..max + 60).map(|n| denied(0, &target(n), 0)).collect();
    fixture.read(0, &scan);
    assert_eq!(fixture.quarantined(), ["p0"]);
}

#[test]
fn lines_of_a_pod_from_before_it_is_assigned_to_a_run_count_for_the_run() {
    for is_enrolled in [true, false] {
        let mut fixture = Fixture::new(0);
        for n in 0..10 {
            let mut index = fixture.pipeline.index.write();
            index.apply(facts(n, &address(n)), wall_clock());
        }
        fixture.read(0, &others(0));
        let lines: Vec<String> = (0..120)
            .map(|n| denied(n % 10, &target(n), i64::try_from(n).unwrap()))
            .collect();
        fixture.read(0, &lines);
        assert_eq!(fixture.quarantined(), [""; 0]);
        if is_enrolled {
            fixture.enroll(10);
        }
        fixture.wait(4, true);
        assert_eq!(
            fixture.quarantined().len(),
            if is_enrolled { 10 } else { 0 }
        );
        assert!(fixture.state.awaiting_context.take().is_empty());
    }
}

/// The number of a batch determines which save must be complete before the batch is acknowledged.
#[test]
fn a_batch_with_deferred_lines_is_not_covered_by_a_save_that_began_before_they_were_evaluated() {
    let folder = tempfile::tempdir().unwrap();
    let mut fixture = Fixture::agent(3, false);
    fixture.pipeline.saver =
        crate::pipeline::saved_state::StateSaver::in_folder(folder.path(), Arc::default());
    fixture.state.pending_batches.clear();
    fixture.read(0, &[denied(0, &elsewhere(59), 0)]);
    let number = |fixture: &mut Fixture| {
        acknowledge(
            &mut fixture.state.pending_batches,
            &mut fixture.pipeline.saver,
        );
        fixture.state.pending_batches.front().unwrap().number
    };
    assert_eq!(number(&mut fixture), 1);
    fixture.wait(1, true);
    assert_eq!(number(&mut fixture), 1, "a line is deferred");
    fixture.wait(4, true);
    assert_eq!(number(&mut fixture), 2, "the next save covers its effects");
    assert_eq!(number(&mut fixture), 2);
}

#[test]
fn only_a_failed_contact_with_an_address_of_no_known_pod_may_be_one_with_a_sibling() {
    let fixture = Fixture::agent(1, false);
    let index = fixture.pipeline.index.read();
    let may_be = |line: String| {
        let decoder = Decoder::new(Format::Hubble);
        let crate::signals::decode::Decoded::Signal(signal) = decoder.decode(line.as_bytes())
        else {
            panic!("{line}")
        };
        let attributed: Attributed<'_> = index
            .attribute(
                0,
                &signal,
                crate::signals::attribute::PodLocator::SignalSource,
            )
            .unwrap();
        index.may_be_sibling(&attributed)
    };
    assert!(may_be(denied(0, &elsewhere(7), 0)));
    assert!(!may_be(denied(0, &elsewhere(0), 0)), "a sibling");
    assert!(!may_be(denied(0, &address(0), 0)), "a pod of this node");
}
