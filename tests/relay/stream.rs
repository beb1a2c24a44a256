//! Streams that go on over everything that ends one: each flow counts once, and what is lost is
//! said.

use std::time::{Duration, Instant};

use yellowjack::testing::signals::SignalsVerdict;
use yellowjack::testing::signals::decode::relay::{ServerStatusResponse, lost_source, node_state};

use crate::client::{Client, flow, lost, node_status, now_ns};
use crate::proxy::Wire;
use crate::server::{Relay, State};

fn url(relay: &Relay) -> String {
    format!("http://{}", relay.address)
}

/// Flows of one node with these ports, a millisecond apart by their port.
fn push(relay: &Relay, node: &str, start_ns: i64, ports: std::ops::Range<u32>) {
    for port in ports {
        let (time, message) = flow(node, start_ns, i64::from(port), port);
        relay.state.flow(time, message);
    }
}

fn each_once(client: &Client, ports: std::ops::Range<u16>) {
    let mut found = client.ports.clone();
    found.sort_unstable();
    assert_eq!(found, ports.collect::<Vec<_>>());
}

#[tokio::test]
async fn a_relay_is_asked_for_what_the_decoder_needs_and_follows() {
    let relay = Relay::start(State::new(), None);
    let before = now_ns();
    push(&relay, "c/a", before - 60_000_000_000, 1..10);
    let mut client = Client::start(&url(&relay));
    client
        .take_until("the request", |_| !relay.state.requests().is_empty())
        .await;
    push(&relay, "c/a", now_ns(), 10..20);
    client.take_flows(10).await;
    each_once(&client, 10..20);
    let request = &relay.state.requests()[0];
    assert!(request.follow && request.since.unwrap().as_nanos() >= before);
    let mask = request.field_mask.as_ref().unwrap();
    assert!(mask.paths.iter().any(|path| path == "is_reply"));
    assert_eq!(request.blacklist.len(), 2);
    assert_eq!(client.health().gaps, 0);
}

#[tokio::test]
async fn a_relay_that_is_killed_loses_nothing_and_repeats_nothing() {
    let mut relay = Relay::start(State::new(), None);
    let mut client = Client::start(&url(&relay));
    let start = now_ns();
    let nodes = ["c/a", "c/b", "c/c"];
    for round in 0..5_u32 {
        let first = 1 + round * 300;
        for (nth, node) in (0..).zip(nodes) {
            push(&relay, node, start, first + nth * 50..first + nth * 50 + 50);
        }
        // In the middle of what was sent so far, at another place each time.
        client.take_flows(round as usize * 300 + 40).await;
        relay.kill();
        for (nth, node) in (3..).zip(nodes) {
            push(&relay, node, start, first + nth * 50..first + nth * 50 + 50);
        }
        relay.restart();
    }
    client.take_flows(1500).await;
    // Whatever would come twice comes before this.
    push(&relay, "c/a", start, 1501..1502);
    client
        .take_until("the last flow", |client| client.ports.contains(&1501))
        .await;
    each_once(&client, 1..1502);
    assert!(client.count(|of| &of.reconnects) >= 5);
    assert_eq!((client.health().gaps, client.lost), (0, 0));
}

#[tokio::test]
async fn a_node_that_relay_calls_again_repeats_its_flows_and_they_count_once() {
    let relay = Relay::start(State::new(), None);
    relay
        .state
        .greet(node_status(node_state::CONNECTED, &["c/a"], ""));
    let mut client = Client::start(&url(&relay));
    let start = now_ns();
    push(&relay, "c/a", start, 1..101);
    client.take_flows(100).await;
    let broken = node_status(node_state::ERROR, &["c/a"], "connection refused");
    relay.state.say(broken);
    client
        .take_until("the node is missed", |client| {
            client.count(|of| &of.nodes_unseen) == 1
        })
        .await;
    // Relay asks the node again as we asked it.
    push(&relay, "c/a", start, 1..151);
    client.take_flows(150).await;
    each_once(&client, 1..151);
    assert_eq!(client.count(|of| &of.repeated), 100);
    client
        .take_until("the node is heard again", |client| {
            client.count(|of| &of.nodes_unseen) == 0
        })
        .await;
    // Answers may have been missed while it was away.
    assert_eq!(client.lost, 1);
    assert_eq!(client.health().gaps, 0);
}

#[tokio::test]
async fn flows_that_the_nodes_no_longer_have_are_a_gap_and_said_to_be_lost() {
    let mut relay = Relay::start(State::new(), None);
    let mut client = Client::start(&url(&relay));
    let start = now_ns();
    push(&relay, "c/a", start, 1..11);
    push(&relay, "c/b", start, 11..21);
    client.take_flows(20).await;
    relay.kill();
    relay.state.forget_flows();
    push(&relay, "c/b", start, 20..21);
    push(&relay, "c/a", start, 30..40);
    push(&relay, "c/b", start, 40..50);
    relay.restart();
    client.take_flows(40).await;
    // Only of the node that does not have its last flow any more.
    assert_eq!((client.health().gaps, client.lost), (1, 1));
}

#[tokio::test]
async fn a_restart_goes_on_where_the_last_one_ended() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start(State::new(), None);
    let start = || Client::with(&url(&relay), None, Some(folder.path()));
    let mut client = start();
    let begin = now_ns();
    push(&relay, "c/a", begin, 1..101);
    client.take_flows(100).await;
    assert_eq!(client.stop().len(), 100);
    push(&relay, "c/a", begin, 101..201);
    let mut client = start();
    client
        .take_until("what came meanwhile", |client| {
            (101..201).all(|port| client.ports.contains(&port))
        })
        .await;
    assert_eq!((client.health().gaps, client.lost), (0, 0));
    client.stop();

    relay.state.forget_flows();
    push(&relay, "c/a", begin, 201..202);
    let mut client = start();
    client.take_flows(1).await;
    assert_eq!((client.health().gaps, client.lost), (1, 1));
}

#[tokio::test]
async fn a_checkpoint_that_is_damaged_is_a_gap_and_everything_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let relay = Relay::start(State::new(), None);
    push(&relay, "c/a", now_ns() - 3_600_000_000_000, 1..11);
    Client::with(&url(&relay), None, Some(folder.path())).stop();
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap();
    std::fs::write(file.unwrap().path(), "{").unwrap();
    let mut client = Client::with(&url(&relay), None, Some(folder.path()));
    client.take_flows(10).await;
    assert_eq!(client.health().gaps, 1);
}

#[tokio::test]
async fn what_hubble_lost_is_counted_by_where_it_was_lost() {
    let relay = Relay::start(State::new(), None);
    let mut client = Client::start(&url(&relay));
    client
        .take_until("the request", |_| !relay.state.requests().is_empty())
        .await;
    for (source, count) in [
        (lost_source::PERF_EVENT_RING_BUFFER, 1),
        (lost_source::OBSERVER_EVENTS_QUEUE, 20),
        (lost_source::HUBBLE_RING_BUFFER, 300),
        (lost_source::UNKNOWN, 4_000),
        (99, 50_000),
    ] {
        relay.state.say(lost(source, count));
    }
    client
        .take_until("all losses", |client| client.lost == 54_321)
        .await;
    assert_eq!(client.count(|of| &of.lost_perf), 1);
    assert_eq!(client.count(|of| &of.lost_queue), 20);
    assert_eq!(client.count(|of| &of.lost_ring), 300);
    assert_eq!(client.count(|of| &of.lost_unknown), 54_000);
}

#[tokio::test]
async fn nodes_that_relay_does_not_hear_are_named_until_it_does() {
    let relay = Relay::start(State::new(), None);
    relay
        .state
        .greet(node_status(node_state::UNAVAILABLE, &["c/dark"], ""));
    relay.state.set_status(ServerStatusResponse {
        num_unavailable_nodes: Some(2),
        unavailable_nodes: vec!["c/dark".into(), "c/asked".into()],
        ..ServerStatusResponse::default()
    });
    let mut client = Client::start(&url(&relay));
    client
        .take_until("two nodes", |client| {
            client.count(|of| &of.nodes_unseen) == 2
        })
        .await;
    assert!(client.signals.is_unreachable(0, "dark") && client.signals.is_unreachable(0, "asked"));
    let now = Instant::now();
    client.signals.record_activity(0, now);
    let verdict = client.signals.verdict(now, Duration::from_mins(1));
    assert!(
        matches!(&verdict, SignalsVerdict::NodesUnseen { nodes, .. } if nodes == &["asked", "dark"])
    );
    relay.state.set_status(ServerStatusResponse {
        num_unavailable_nodes: Some(0),
        ..ServerStatusResponse::default()
    });
    client
        .take_until("no node", |client| client.count(|of| &of.nodes_unseen) == 0)
        .await;
    assert!(!client.signals.is_unreachable(0, "dark"));
}

#[tokio::test]
async fn a_connection_that_silently_went_dead_is_given_up_and_the_flows_come_by_another() {
    let relay = Relay::start(State::new(), None);
    let wire = Wire::to(relay.address).await;
    let mut client = Client::start(&format!("http://{}", wire.address));
    let start = now_ns();
    push(&relay, "c/a", start, 1..11);
    client.take_flows(10).await;
    wire.goes_dead();
    push(&relay, "c/a", start, 11..21);
    client.take_flows(20).await;
    each_once(&client, 1..21);
    assert!(client.count(|of| &of.reconnects) >= 1);
}
