//! Which pod the index returns for an address and a time, and when it must return none.

use super::*;
use crate::model::{DnsQuery, Flow, LostEvents, Neighbour, Outcome, Signal, Transport};

const SKEW_S: i64 = limits::CLOCK_SKEW_MICROS / 1_000_000;

fn t(seconds: i64) -> EventTime {
    EventTime::from_seconds(1_700_000_000 + seconds, 0)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn pod(name: &str, ips: &[&str], since: i64) -> PodFacts {
    PodFacts {
        key: format!("uid-{name}").as_str().into(),
        namespace: "team-a".to_owned(),
        name: name.to_owned(),
        ips: ips.iter().map(|text| ip(text)).collect(),
        host_network: false,
        node: Some("node-1".to_owned()),
        since: t(since),
        ended_at: None,
        terminating_since: None,
        workload: None,
    }
}

fn member_of(run: &str) -> Membership {
    Membership {
        run: Some(RunKey::from(run)),
        workload: Workload::Standard,
    }
}

fn index(pods: &[PodFacts]) -> Index {
    let mut index = Index::new();
    for facts in pods {
        index.apply(facts.clone(), facts.since);
    }
    index
}

/// Name of the pod, or of the reason.
fn who(index: &Index, address: &str, seconds: i64) -> String {
    match index.lookup(ip(address), t(seconds), None) {
        Attribution::Pod(facts) => facts.name.clone(),
        Attribution::Unattributed(why) => <&str>::from(why).to_owned(),
    }
}

fn hinted(index: &Index, address: &str, seconds: i64, namespace: &str, name: &str) -> String {
    let hint = PodHint {
        namespace: namespace.into(),
        name: name.into(),
    };
    match index.lookup(ip(address), t(seconds), Some(&hint)) {
        Attribution::Pod(facts) => facts.name.clone(),
        Attribution::Unattributed(why) => <&str>::from(why).to_owned(),
    }
}

#[test]
fn a_pod_is_found_by_each_of_its_addresses_from_its_start_on() {
    let index = index(&[pod("a", &["10.0.0.1", "fd00::1"], 100)]);
    assert_eq!(who(&index, "10.0.0.1", 100), "a");
    assert_eq!(who(&index, "fd00::1", 5_000), "a");
    assert_eq!(who(&index, "10.0.0.1", 100 - SKEW_S), "a");
    assert_eq!(who(&index, "10.0.0.1", 99 - SKEW_S), "before_pod");
    assert_eq!(who(&index, "10.0.0.2", 100), "unknown_address");
}

#[test]
fn a_mapped_address_is_the_same_as_the_plain_one() {
    let index = index(&[
        pod("a", &["::ffff:10.0.0.1"], 100),
        pod("b", &["10.0.0.2"], 100),
    ]);
    assert_eq!(who(&index, "10.0.0.1", 100), "a");
    assert_eq!(who(&index, "::ffff:10.0.0.2", 100), "b");
}

#[test]
fn a_late_line_still_finds_its_deleted_pod_until_it_is_forgotten() {
    let mut index = index(&[pod("a", &["10.0.0.1"], 0)]);
    index.delete(&"uid-a".into(), t(100));
    index.expire(t(100 + limits::POD_RETENTION_SECONDS));
    assert_eq!(who(&index, "10.0.0.1", 99), "a");
    assert_eq!(who(&index, "10.0.0.1", 100 + SKEW_S), "a");
    assert_eq!(who(&index, "10.0.0.1", 101 + SKEW_S), "after_pod");
    index.expire(t(101 + limits::POD_RETENTION_SECONDS));
    assert_eq!(who(&index, "10.0.0.1", 99), "unknown_address");
    assert_eq!(index.stats(), IndexStats::default());
}

#[test]
fn an_honest_pod_with_the_rogues_old_address_is_never_blamed_and_the_rogue_never_excused() {
    let mut index = index(&[pod("rogue", &["10.0.0.1"], 0)]);
    index.delete(&"uid-rogue".into(), t(100));
    index.apply(pod("honest", &["10.0.0.1"], 110), t(111));
    for seconds in 0..=100 {
        assert_eq!(who(&index, "10.0.0.1", seconds), "rogue", "at {seconds}");
    }
    // A rogue with processes that outlive its object is not excused at the cost of the next one.
    for seconds in 101 + SKEW_S..110 - SKEW_S {
        assert_eq!(
            who(&index, "10.0.0.1", seconds),
            "after_pod",
            "at {seconds}"
        );
    }
    for seconds in 110..300 {
        assert_eq!(who(&index, "10.0.0.1", seconds), "honest", "at {seconds}");
    }
}

#[test]
fn no_pod_is_identified_for_the_time_in_which_two_pods_can_have_had_the_address() {
    let mut index = index(&[pod("rogue", &["10.0.0.1"], 0)]);
    index.delete(&"uid-rogue".into(), t(100));
    index.apply(pod("honest", &["10.0.0.1"], 101), t(101));
    assert_eq!(who(&index, "10.0.0.1", 98), "rogue");
    for seconds in 101 - SKEW_S..=100 + SKEW_S {
        assert_eq!(
            who(&index, "10.0.0.1", seconds),
            "ambiguous",
            "at {seconds}"
        );
    }
    assert_eq!(who(&index, "10.0.0.1", 103), "honest");
}

#[test]
fn no_pod_is_identified_while_the_deletion_of_the_former_holder_is_not_known_yet() {
    let mut index = index(&[
        pod("rogue", &["10.0.0.1"], 0),
        pod("honest", &["10.0.0.1"], 110),
    ]);
    assert_eq!(who(&index, "10.0.0.1", 120), "ambiguous");
    assert_eq!(who(&index, "10.0.0.1", 50), "rogue");
    index.delete(&"uid-rogue".into(), t(112));
    assert_eq!(who(&index, "10.0.0.1", 111), "ambiguous");
    assert_eq!(who(&index, "10.0.0.1", 120), "honest");
}

#[test]
fn addresses_that_go_round_quickly_name_the_right_pod_by_time() {
    let mut index = Index::new();
    for i in 0..10 {
        index.apply(pod(&format!("p{i}"), &["10.0.0.1"], i * 60), t(i * 60));
        index.delete(&format!("uid-p{i}").as_str().into(), t(i * 60 + 50));
    }
    for i in 0..10 {
        assert_eq!(who(&index, "10.0.0.1", i * 60 + 25), format!("p{i}"));
        assert_eq!(who(&index, "10.0.0.1", i * 60 + 55), "after_pod");
    }
}

#[test]
fn a_host_network_pod_is_never_named_and_neither_is_another_pod_at_the_nodes_address() {
    let mut host = pod("proxy", &["192.168.0.1"], 0);
    host.host_network = true;
    let mut other = pod("agent", &["192.168.0.1"], 0);
    other.host_network = true;
    let mut index = index(&[host, other]);
    assert_eq!(who(&index, "192.168.0.1", 10), "host_network");
    index.delete(&"uid-proxy".into(), t(20));
    assert_eq!(who(&index, "192.168.0.1", 30), "host_network");
    index.delete(&"uid-agent".into(), t(40));
    // On a flat network the address of a node that left goes to a pod.
    index.apply(pod("later", &["192.168.0.1"], 100), t(100));
    assert_eq!(who(&index, "192.168.0.1", 35), "host_network");
    assert_eq!(who(&index, "192.168.0.1", 120), "later");
}

#[test]
fn many_host_network_pods_on_one_node_take_no_more_room_than_one() {
    let mut index = Index::new();
    for i in 0..limits::ADDRESS_HOLDERS_MAX * 4 {
        let mut host = pod(&format!("h{i}"), &["192.168.0.1"], 0);
        host.host_network = true;
        index.apply(host, t(0));
    }
    assert_eq!(who(&index, "192.168.0.1", 10), "host_network");
    assert_eq!(index.stats().refused, 0);
}

#[test]
fn the_address_of_a_node_is_never_attributed() {
    let mut index = index(&[pod("a", &["10.0.0.1"], 0)]);
    index.set_nodes([], [ip("::ffff:10.0.0.1")]);
    assert_eq!(who(&index, "10.0.0.1", 10), "host_network");
    index.set_nodes([], [ip("10.0.0.9")]);
    assert_eq!(who(&index, "10.0.0.1", 10), "a");
}

#[test]
fn a_new_address_of_a_pod_counts_from_when_it_was_seen_and_the_old_one_ends() {
    let mut index = index(&[pod("a", &["10.0.0.1"], 0)]);
    index.apply(pod("a", &["10.0.0.2"], 0), t(50));
    assert_eq!(who(&index, "10.0.0.1", 20), "a");
    assert_eq!(who(&index, "10.0.0.1", 60), "after_pod");
    assert_eq!(who(&index, "10.0.0.2", 20), "before_pod");
    assert_eq!(who(&index, "10.0.0.2", 60), "a");
    index.apply(pod("a", &["10.0.0.1"], 0), t(100));
    assert_eq!(who(&index, "10.0.0.1", 110), "a");
    assert_eq!(who(&index, "10.0.0.2", 110), "after_pod");
}

#[test]
fn a_pod_without_an_address_gets_its_first_one_from_its_start_on() {
    let mut index = index(&[pod("a", &[], 0)]);
    index.apply(pod("a", &["10.0.0.1"], 30), t(35));
    assert_eq!(who(&index, "10.0.0.1", 30), "a");
    assert_eq!(who(&index, "10.0.0.1", 20), "before_pod");
}

#[test]
fn a_pod_that_finished_frees_its_address_though_its_object_stays() {
    let mut finished = pod("job", &["10.0.0.1"], 0);
    finished.ended_at = Some(t(100));
    let mut index = index(&[pod("job", &["10.0.0.1"], 0)]);
    index.apply(finished.clone(), t(130));
    index.apply(pod("next", &["10.0.0.1"], 110), t(111));
    assert_eq!(who(&index, "10.0.0.1", 90), "job");
    assert_eq!(who(&index, "10.0.0.1", 120), "next");
    // Its later updates and its deletion change nothing about that.
    index.apply(finished.clone(), t(140));
    index.delete(&finished.key, t(200));
    assert_eq!(who(&index, "10.0.0.1", 150), "next");
    // A relist brings it again long after; it stays forgotten.
    index.expire(t(2_000));
    index.apply(finished, t(2_001));
    assert_eq!(who(&index, "10.0.0.1", 150), "next");
    assert_eq!(index.stats().pod_count, 1);
}

#[test]
fn a_log_that_names_another_pod_takes_the_answer_away() {
    let index = index(&[pod("a", &["10.0.0.1"], 0)]);
    assert_eq!(hinted(&index, "10.0.0.1", 10, "team-a", "a"), "a");
    assert_eq!(hinted(&index, "10.0.0.1", 10, "team-a", ""), "a");
    assert_eq!(
        hinted(&index, "10.0.0.1", 10, "team-a", "b"),
        "hint_contradicts"
    );
    assert_eq!(
        hinted(&index, "10.0.0.1", 10, "team-b", "a"),
        "hint_contradicts"
    );
}

#[test]
fn a_log_that_names_a_pod_cannot_settle_what_is_ambiguous_or_unknown() {
    let index = index(&[pod("a", &["10.0.0.1"], 0), pod("b", &["10.0.0.1"], 0)]);
    assert_eq!(hinted(&index, "10.0.0.1", 10, "team-a", "a"), "ambiguous");
    assert_eq!(
        hinted(&index, "10.0.0.2", 10, "team-a", "a"),
        "unknown_address"
    );
}

#[test]
fn a_new_list_ends_the_pods_that_are_not_in_it() {
    let mut index = index(&[pod("a", &["10.0.0.1"], 0), pod("b", &["10.0.0.2"], 0)]);
    index.reset(
        [pod("b", &["10.0.0.2"], 0), pod("c", &["10.0.0.3"], 90)].into_iter(),
        t(100),
    );
    assert_eq!(who(&index, "10.0.0.1", 50), "a");
    assert_eq!(who(&index, "10.0.0.1", 150), "after_pod");
    assert_eq!(who(&index, "10.0.0.2", 150), "b");
    assert_eq!(who(&index, "10.0.0.3", 150), "c");
}

#[test]
fn the_facts_of_the_last_update_are_given() {
    let mut index = index(&[pod("a", &["10.0.0.1"], 0)]);
    let mut changed = pod("a", &["10.0.0.1"], 0);
    changed.workload = Some("Job b".into());
    index.apply(changed, t(10));
    assert_eq!(
        index.pod(&"uid-a".into()).unwrap().workload.as_deref(),
        Some("Job b")
    );
    assert_eq!(who(&index, "10.0.0.1", 5), "a");
}

#[test]
fn an_address_that_goes_round_too_often_forgets_its_oldest_holders_and_counts_them() {
    let mut index = Index::new();
    let count = i64::try_from(limits::ADDRESS_HOLDERS_MAX).unwrap() + 3;
    for i in 0..count {
        index.apply(pod(&format!("p{i}"), &["10.0.0.1"], i * 20), t(i * 20));
        index.delete(&format!("uid-p{i}").as_str().into(), t(i * 20 + 10));
    }
    assert_eq!(index.stats().evicted_holders, 3);
    assert_eq!(who(&index, "10.0.0.1", 5), "before_pod");
    assert_eq!(who(&index, "10.0.0.1", 3 * 20 + 5), "p3");
    assert_eq!(
        who(&index, "10.0.0.1", (count - 1) * 20 + 5),
        format!("p{}", count - 1)
    );
}

#[test]
fn an_address_with_more_holders_than_can_be_kept_stays_ambiguous_even_when_one_is_left() {
    let mut index = Index::new();
    for i in 0..=limits::ADDRESS_HOLDERS_MAX {
        index.apply(pod(&format!("p{i}"), &["10.0.0.1"], 0), t(0));
    }
    for i in 1..limits::ADDRESS_HOLDERS_MAX {
        index.delete(&format!("uid-p{i}").as_str().into(), t(10));
    }
    assert_eq!(index.stats().refused, 1);
    assert_eq!(who(&index, "10.0.0.1", 50), "ambiguous");
}

#[test]
fn a_pod_cannot_claim_any_number_of_addresses() {
    let many: Vec<String> = (0..100).map(|i| format!("10.0.1.{i}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let mut index = index(&[pod("a", &many, 0)]);
    assert_eq!(index.stats().address_count, limits::POD_ADDRESSES_MAX);
    for i in 0..100 {
        index.apply(pod("a", &[&format!("10.0.2.{i}")], 0), t(10 + i));
    }
    assert!(index.pods[&"uid-a".into()].held.len() <= limits::POD_HELD_ADDRESSES_MAX);
}

#[test]
fn absurd_times_identify_no_pod_and_break_nothing() {
    let mut index = index(&[pod("a", &["10.0.0.1"], 0)]);
    index.delete(&"uid-a".into(), t(10));
    let far = EventTime::from_micros(i64::MAX);
    let unattributed = |why| Attribution::Unattributed(why);
    assert_eq!(
        index.lookup(ip("10.0.0.1"), EventTime::MIN, None),
        unattributed(UnattributedReason::BeforePod)
    );
    assert_eq!(
        index.lookup(ip("10.0.0.1"), far, None),
        unattributed(UnattributedReason::AfterPod)
    );
    index.expire(EventTime::MIN);
    assert_eq!(who(&index, "10.0.0.1", 5), "a");
}

#[test]
fn a_pod_of_the_same_run_is_a_sibling_and_any_other_living_one_a_stranger() {
    let mut index = index(&[pod("a", &["10.0.0.1"], 0), pod("b", &["10.0.0.2"], 0)]);
    let run = RunKey::from("team-a/a");
    index.enroll(&"uid-a".into(), Some(member_of("team-a/a")));
    let of = |address, run| index.neighbour(ip(address), t(50), run);
    assert_eq!(of("10.0.0.1", Some(&run)), Neighbour::Sibling);
    assert_eq!(of("10.0.0.2", Some(&run)), Neighbour::Stranger);
    assert_eq!(of("10.0.0.1", None), Neighbour::Stranger);
    assert_eq!(of("10.0.0.9", Some(&run)), Neighbour::Stranger);
}

#[test]
fn a_pod_that_ended_has_departed_until_its_address_is_given_out_again_or_forgotten() {
    let mut index = index(&[pod("a", &["10.0.0.1"], 0)]);
    let seen = |index: &Index, seconds| index.neighbour(ip("10.0.0.1"), t(seconds), None);
    index.delete(&"uid-a".into(), t(100));
    assert_eq!(seen(&index, 50), Neighbour::Stranger, "it still lived");
    assert_eq!(seen(&index, 130), Neighbour::Departed);
    assert_eq!(seen(&index, 100 + 601), Neighbour::Stranger);
    index.apply(pod("b", &["10.0.0.1"], 200), t(200));
    assert_eq!(seen(&index, 190), Neighbour::Departed);
    assert_eq!(
        seen(&index, 210),
        Neighbour::Stranger,
        "a pod has the address again"
    );
}

#[test]
fn a_pod_departs_when_its_deletion_is_requested_and_for_ten_minutes_at_most() {
    let terminating = PodFacts {
        terminating_since: Some(t(100)),
        ..pod("a", &["10.0.0.1"], 0)
    };
    let index = index(&[terminating]);
    let seen = |seconds| index.neighbour(ip("10.0.0.1"), t(seconds), None);
    assert_eq!(seen(50), Neighbour::Stranger, "it still listened");
    assert_eq!(seen(130), Neighbour::Departed);
    let late = seen(100 + limits::POD_RETENTION_SECONDS + 1);
    assert_eq!(late, Neighbour::Stranger, "a finalizer keeps it");
}

#[test]
fn a_pod_that_ended_on_another_node_has_departed_unless_a_pod_of_this_node_has_the_address() {
    let mut index = index(&[pod("here", &["10.0.0.2"], 0)]);
    let ended = ["10.0.0.1", "10.0.0.2"].map(|text| (ip(text), t(100)));
    let seen = |index: &Index, address, seconds| index.neighbour(ip(address), t(seconds), None);
    assert_eq!(seen(&index, "10.0.0.1", 130), Neighbour::Stranger);
    index.set_ended_elsewhere(Some(ended));
    assert_eq!(seen(&index, "10.0.0.1", 130), Neighbour::Departed);
    assert_eq!(seen(&index, "10.0.0.1", 50), Neighbour::Stranger);
    assert_eq!(seen(&index, "10.0.0.1", 701), Neighbour::Stranger);
    assert_eq!(seen(&index, "10.0.0.2", 130), Neighbour::Stranger);
    index.set_ended_elsewhere(None::<[(IpAddr, EventTime); 0]>);
    assert_eq!(seen(&index, "10.0.0.1", 130), Neighbour::Stranger);
}

/// The run and the workload that the engine receives with a flow from this address.
fn run_and_workload(
    index: &Index,
    address: &str,
    seconds: i64,
) -> Option<(Option<String>, Workload)> {
    let signal = Signal::Flow(Flow {
        time: t(seconds),
        source: ip(address),
        source_port: 40_000,
        destination: ip("198.51.100.1"),
        destination_port: 443,
        transport: Transport::Tcp,
        outcome: Outcome::Refused,
        forwarded: true,
        volume: None,
        destination_name: None,
        pod: None,
        is_inferred: false,
        node: Some("named".into()),
    });
    let attributed = index.attribute(3, &signal, PodLocator::SignalSource).ok()?;
    assert_eq!(attributed.origin.source, 3);
    let run = attributed.subject.run.as_ref();
    Some((run.map(ToString::to_string), attributed.workload))
}

#[test]
fn a_pod_has_the_run_that_it_was_enrolled_in_before_or_after_it_got_its_address() {
    let mut index = Index::new();
    index.enroll(&"uid-a".into(), Some(member_of("team-a/1")));
    index.apply(pod("a", &["10.0.0.1"], 0), t(0));
    index.apply(pod("b", &["10.0.0.2"], 0), t(0));
    let run = |name: &str| Some((Some(name.to_owned()), Workload::Standard));
    assert_eq!(run_and_workload(&index, "10.0.0.1", 10), run("team-a/1"));
    assert_eq!(
        run_and_workload(&index, "10.0.0.2", 10),
        Some((None, Workload::Standard))
    );
    let crawler = Membership {
        workload: Workload::Crawler,
        ..member_of("team-a/2")
    };
    index.enroll(&"uid-b".into(), Some(crawler));
    let expected = Some((Some("team-a/2".to_owned()), Workload::Crawler));
    assert_eq!(run_and_workload(&index, "10.0.0.2", 10), expected);
    // A repeated watch event of the pod changes neither.
    index.apply(pod("b", &["10.0.0.2"], 0), t(20));
    assert_eq!(run_and_workload(&index, "10.0.0.2", 30), expected);
    index.enroll(&"uid-b".into(), None);
    assert_eq!(
        run_and_workload(&index, "10.0.0.2", 30),
        Some((None, Workload::Standard))
    );
}

#[test]
fn a_pod_keeps_its_run_after_it_ended_until_it_is_forgotten() {
    let mut index = index(&[pod("a", &["10.0.0.1"], 0)]);
    index.enroll(&"uid-a".into(), Some(member_of("team-a/1")));
    index.delete(&"uid-a".into(), t(100));
    index.enroll(&"uid-a".into(), None);
    let expected = Some((Some("team-a/1".to_owned()), Workload::Standard));
    assert_eq!(run_and_workload(&index, "10.0.0.1", 99), expected);
    index.expire(t(100 + limits::POD_RETENTION_SECONDS + 1));
    assert_eq!(index.membership(&"uid-a".into()), None);
    // One that never had an address leaves nothing behind either.
    index.enroll(&"uid-c".into(), Some(member_of("team-a/1")));
    index.delete(&"uid-c".into(), t(100));
    assert_eq!(index.membership(&"uid-c".into()), None);
}

#[test]
fn a_record_is_of_the_pods_node_and_a_loss_of_the_node_that_it_names_if_pods_are_there() {
    let mut index = index(&[pod("a", &["10.0.0.1"], 0)]);
    let on_node = PodFacts {
        node: Some("n1".into()),
        ..pod("b", &["10.0.0.2"], 0)
    };
    index.apply(on_node, t(0));
    let node_of = |address: &str| {
        let signal = Signal::Dns(DnsQuery {
            time: t(1),
            source: ip(address),
            query: "a.example".into(),
            answers: vec![],
            nonexistent: None,
        });
        let attributed = index
            .attribute(0, &signal, PodLocator::SignalSource)
            .unwrap();
        attributed.origin.node.map(str::to_owned)
    };
    assert_eq!(node_of("10.0.0.1").as_deref(), Some("node-1"));
    assert_eq!(node_of("10.0.0.2").as_deref(), Some("n1"));
    let lost_on = |node: &str| {
        let lost = LostEvents {
            time: t(1),
            count: 1,
            node: Some(node.into()),
        };
        let origin = index.origin_of_loss(7, &lost);
        origin.node.map(str::to_owned)
    };
    assert_eq!(lost_on("n1").as_deref(), Some("n1"));
    assert_eq!(lost_on("n1.example.net"), None, "it may be any node");
}

#[test]
fn pods_that_come_and_go_leave_nothing_behind_whoever_else_runs() {
    let mut index = Index::new();
    let mut most = 0;
    for n in 0..100_000_i64 {
        let name = format!("p{n}");
        let at = t(n * 36 / 1_000);
        let address = format!("10.0.{}.{}", (n / 250) % 250, n % 250);
        index.enroll(
            &format!("uid-{name}").as_str().into(),
            Some(member_of("team-a/1")),
        );
        index.apply(pod(&name, &[&address], n * 36 / 1_000), at);
        index.delete(&format!("uid-{name}").as_str().into(), at);
        most = most.max(index.stats().pod_count);
    }
    assert!(most < 17_000, "the pods of ten minutes, not {most}");
    index.expire(t(3_600 + limits::POD_RETENTION_SECONDS + 1));
    assert_eq!(index.stats().pod_count, 0);
    assert_eq!(index.stats().address_count, 0);
    assert_eq!(index.member_count(), 0);
}

#[test]
fn pods_of_a_run_on_other_nodes_are_siblings_while_they_are_in_its_list_and_have_departed_after_that()
 {
    let mut index = index(&[pod("a", &["10.0.0.1"], 0)]);
    let run = RunKey::from("run");
    let list = |texts: &[&str]| texts.iter().map(|text| ip(text)).collect::<Vec<_>>();
    let who = |index: &Index, address: &str, seconds, run: &str| {
        index.neighbour(ip(address), t(seconds), Some(&RunKey::from(run)))
    };
    index.set_siblings(&run, list(&["10.0.1.1", "::ffff:10.0.1.2"]), true, t(100));
    for address in ["10.0.1.1", "10.0.1.2", "::ffff:10.0.1.1"] {
        let at = |seconds| who(&index, address, seconds, "run");
        assert_eq!(at(5), Neighbour::Sibling, "a log may be read late");
        assert_eq!(at(9_000), Neighbour::Sibling);
        assert_eq!(who(&index, address, 200, "other"), Neighbour::Stranger);
        let no_run = index.neighbour(ip(address), t(200), None);
        assert_eq!(no_run, Neighbour::Stranger);
    }
    // Another one comes, and one goes.
    index.set_siblings(&run, list(&["10.0.1.2", "10.0.1.3"]), true, t(200));
    let at = |address, seconds| who(&index, address, seconds, "run");
    assert_eq!(at("10.0.1.3", 100), Neighbour::Stranger);
    assert_eq!(at("10.0.1.3", 190), Neighbour::Sibling, "the list was late");
    assert_eq!(at("10.0.1.1", 199), Neighbour::Sibling);
    assert_eq!(at("10.0.1.1", 300), Neighbour::Departed);
    let late = 200 + limits::POD_RETENTION_SECONDS;
    assert_eq!(at("10.0.1.1", late + 1), Neighbour::Stranger);
    index.expire(t(late + 1));
    let at = |address, seconds| who(&index, address, seconds, "run");
    assert_eq!(at("10.0.1.1", 199), Neighbour::Stranger, "it is forgotten");
    assert_eq!(at("10.0.1.2", late), Neighbour::Sibling);
    // The run has no pods here any more.
    index.set_siblings(&run, [], true, t(late));
    index.expire(t(2 * late));
    assert!(!index.has_siblings(&run));
}

#[test]
fn a_node_and_a_pod_of_another_run_on_this_node_are_no_siblings_whatever_a_list_contains() {
    let mut index = index(&[pod("a", &["10.0.0.1"], 0)]);
    index.set_nodes(["node-1"], [ip("192.0.2.1")]);
    index.enroll(&"uid-a".into(), Some(member_of("other")));
    let run = RunKey::from("run");
    index.set_siblings(&run, [ip("10.0.0.1"), ip("192.0.2.1")], true, t(0));
    for address in ["10.0.0.1", "192.0.2.1"] {
        let neighbour = index.neighbour(ip(address), t(50), Some(&run));
        assert_eq!(neighbour, Neighbour::Stranger);
    }
}
