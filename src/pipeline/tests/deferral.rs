//! Lines that wait: for the run of their pod, and in a node agent for the addresses of the run's pods on other nodes.

use super::*;
use crate::detect::Attributed;
use crate::model::RunKey;
use crate::signals::decode::Decoder;

/// The address of a pod of the run on another node.
fn elsewhere(n: usize) -> String {
    format!("10.244.1.{}", n + 1)
}

impl World {
    /// A node agent with one pod, `p0`, whose run has pods on other nodes. These addresses of theirs are known.
    fn agent(addresses: usize, is_complete: bool) -> Self {
        let mut world = Self::new(1);
        world.enroll(1);
        world.learn(addresses, is_complete);
        world.read(0, &others(0));
        world
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

/// The pod asks its siblings on other nodes, and they refuse.
fn ask_siblings() -> Vec<String> {
    (0..60).map(|n| denied(0, &elsewhere(n), 0)).collect()
}

#[test]
fn siblings_on_other_nodes_are_no_scan_and_strangers_are_one() {
    for (known, expected) in [(60, false), (0, true)] {
        let mut world = World::agent(known, true);
        world.read(0, &ask_siblings());
        assert_eq!(world.quarantined() == ["p0"], expected, "{known} are known");
    }
}

#[test]
fn a_contact_waits_for_addresses_of_pods_that_have_just_started() {
    let mut world = World::agent(3, false);
    world.read(0, &ask_siblings());
    assert_eq!(world.quarantined(), [""; 0]);
    world.wait(1, true);
    assert_eq!(
        world.quarantined(),
        [""; 0],
        "the addresses are on their way"
    );
    // The list comes late, with a clock of its own: what it adds counts for these lines too.
    let key = RunKey::from("team/uid-run");
    let at = EventTime::from_seconds(START + 5, 0);
    let ips = (0..60).map(|n| elsewhere(n).parse().unwrap());
    let index = Arc::clone(&world.pipeline.index);
    index.write().set_siblings(&key, ips, true, at);
    world.wait(2, true);
    world.wait(20, true);
    assert_eq!(world.quarantined(), [""; 0]);
    assert!(world.progress.undecided.take().is_empty());
}

#[test]
fn a_scan_is_found_after_three_seconds_although_pods_of_the_run_have_no_address_for_hours() {
    let mut world = World::agent(3, false);
    let scan: Vec<String> = (0..60).map(|n| denied(0, &target(n), 0)).collect();
    world.read(0, &scan);
    world.wait(2, true);
    assert_eq!(world.quarantined(), [""; 0]);
    world.wait(4, true);
    assert_eq!(world.quarantined(), ["p0"]);
}

#[test]
fn a_scan_of_the_internet_waits_for_nobody() {
    let mut world = World::agent(3, false);
    let scan: Vec<String> = (0..60)
        .map(|n| denied(0, &format!("203.0.113.{}", n + 100), 0))
        .collect();
    world.read(0, &scan);
    assert_eq!(world.severity(), Some(Severity::Alert), "denied outside");
}

#[test]
fn lines_that_wait_and_do_not_fit_are_judged_by_what_is_known() {
    let mut world = World::agent(3, false);
    let max = limits::DEFERRED_LINES_MAX;
    let scan: Vec<String> = (0..max + 60).map(|n| denied(0, &target(n), 0)).collect();
    world.read(0, &scan);
    assert_eq!(world.quarantined(), ["p0"]);
}

#[test]
fn lines_of_a_pod_before_it_is_found_to_be_of_a_run_count_for_the_run() {
    for is_enrolled in [true, false] {
        let mut world = World::new(0);
        for n in 0..10 {
            let mut index = world.pipeline.index.write();
            index.apply(facts(n, &address(n)), wall_clock());
        }
        world.read(0, &others(0));
        let lines: Vec<String> = (0..120)
            .map(|n| denied(n % 10, &target(n), i64::try_from(n).unwrap()))
            .collect();
        world.read(0, &lines);
        assert_eq!(world.quarantined(), [""; 0]);
        if is_enrolled {
            world.enroll(10);
        }
        world.wait(4, true);
        assert_eq!(world.quarantined().len(), if is_enrolled { 10 } else { 0 });
        assert!(world.progress.undecided.take().is_empty());
    }
}

/// Which number a batch has tells which state has to be written before it is acknowledged.
#[test]
fn a_batch_of_which_lines_waited_is_in_no_state_that_was_begun_before_they_were_judged() {
    let folder = tempfile::tempdir().unwrap();
    let mut world = World::agent(3, false);
    world.pipeline.memory =
        crate::pipeline::saved_state::Memory::in_folder(folder.path(), Arc::default());
    world.progress.unacknowledged.clear();
    world.read(0, &[denied(0, &elsewhere(59), 0)]);
    let number = |world: &mut World| {
        acknowledge(
            &mut world.progress.unacknowledged,
            &mut world.pipeline.memory,
        );
        world.progress.unacknowledged.front().unwrap().number
    };
    assert_eq!(number(&mut world), 1);
    world.wait(1, true);
    assert_eq!(number(&mut world), 1, "it waits");
    world.wait(4, true);
    assert_eq!(number(&mut world), 2, "what it led to is in the next state");
    assert_eq!(number(&mut world), 2);
}

#[test]
fn only_a_contact_that_may_fail_with_an_address_that_nobody_has_may_be_one_with_a_sibling() {
    let world = World::agent(1, false);
    let index = world.pipeline.index.read();
    let may_be = |line: String| {
        let decoder = Decoder::new(Format::Hubble);
        let crate::signals::decode::Decoded::Signal(signal) = decoder.decode(line.as_bytes())
        else {
            panic!("{line}")
        };
        let attributed: Attributed<'_> = index
            .attribute(0, &signal, crate::signals::attribute::Named::Address)
            .unwrap();
        index.may_be_sibling(&attributed)
    };
    assert!(may_be(denied(0, &elsewhere(7), 0)));
    assert!(!may_be(denied(0, &elsewhere(0), 0)), "a sibling");
    assert!(!may_be(denied(0, &address(0), 0)), "a pod of this node");
}
