//! Relays that answer nonsense, too much or nothing, and a consumer that is slow.

use std::time::Duration;

use tokio::net::TcpListener;
use tonic::Status;
use yellowjack::testing::limits;
use yellowjack::testing::signals::decode::relay::node_state;
use yellowjack::testing::signals::source::relay::{RelayConfig, RelayPacing, RelayTarget};
use yellowjack::testing::signals::source::{SourceId, SourceState, StartAt};

use crate::client::{Client, flow, node_status, now_ns};
use crate::server::{Relay, State};

fn url(relay: &Relay) -> String {
    format!("http://{}", relay.address)
}

async fn connected(client: &mut Client, relay: &Relay) {
    client
        .take_until("the request", |_| !relay.state.requests().is_empty())
        .await;
}

fn push(relay: &Relay, port: u32) {
    let (time, message) = flow("c/a", now_ns(), 0, port);
    relay.state.flow(time, message);
}

#[tokio::test]
async fn garbage_is_a_malformed_line_and_the_stream_goes_on() {
    let relay = Relay::start(State::new(), None);
    let mut client = Client::start(&url(&relay));
    connected(&mut client, &relay).await;
    push(&relay, 1);
    relay.state.say(b"\xff\xff\xff\xff".to_vec());
    relay.state.say(b"\x0a\x7f".to_vec());
    push(&relay, 2);
    client.take_flows(2).await;
    assert_eq!(
        (client.malformed, client.ports.as_slice()),
        (2, &[1, 2][..])
    );
    assert_eq!(client.count(|of| &of.reconnects), 0);
}

#[tokio::test]
async fn a_message_beyond_the_bound_is_counted_and_what_follows_it_is_read() {
    let relay = Relay::start(State::new(), None);
    let mut client = Client::start(&url(&relay));
    connected(&mut client, &relay).await;
    push(&relay, 1);
    client.take_flows(1).await;
    // Kept by its node: it would be sent again to who asks for it again.
    let time = now_ns();
    relay
        .state
        .flow(time, vec![0; limits::RELAY_MESSAGE_BYTES_MAX + 1]);
    client
        .take_until("it is refused", |client| {
            client.health().oversized_lines == 1
        })
        .await;
    client
        .take_until("a new request", |_| relay.state.requests().len() >= 2)
        .await;
    push(&relay, 2);
    client.take_flows(2).await;
    assert_eq!(client.ports, [1, 2]);
    assert_eq!(
        (client.health().oversized_lines, client.health().gaps),
        (1, 1)
    );
    assert_eq!(client.lost, 1);
}

#[tokio::test]
async fn a_flow_that_makes_too_long_a_line_is_dropped_and_counted() {
    let relay = Relay::start(State::new(), None);
    let mut client = Client::start(&url(&relay));
    connected(&mut client, &relay).await;
    let mut response =
        yellowjack::testing::signals::decode::relay::read(&flow("c/a", now_ns(), 0, 1).1).unwrap();
    let names = &mut response.flow.as_mut().unwrap().destination_names;
    names.push("x".repeat(limits::LINE_BYTES_MAX));
    relay.state.say(prost::Message::encode_to_vec(&response));
    push(&relay, 2);
    client.take_flows(1).await;
    assert_eq!(client.ports, [2]);
    assert_eq!(client.health().oversized_lines, 1);
}

#[tokio::test]
async fn a_slow_consumer_holds_the_relay_back_and_loses_nothing() {
    const COUNT: u32 = 60_000;
    let relay = Relay::start(State::new(), None);
    let mut client = Client::start(&url(&relay));
    connected(&mut client, &relay).await;
    let start = now_ns();
    for port in 1..=COUNT {
        let (time, mut message) = flow("c/a", start, i64::from(port), port);
        // A field that nobody reads, as long as labels are.
        message.extend_from_slice(b"\xba\x3e\xc8\x01");
        message.extend_from_slice(&[b'x'; 200]);
        relay.state.flow(time, message);
    }
    // Nothing is taken: the queue fills, then the window, then the relay waits.
    wait_until(&client, &relay).await;
    assert!(
        relay.state.sent() < COUNT as usize,
        "{}",
        relay.state.sent()
    );
    client.take_flows(COUNT as usize).await;
    let mut ports = client.ports.clone();
    ports.sort_unstable();
    assert!(ports.iter().copied().eq(1..=u16::try_from(COUNT).unwrap()));
}

/// Waits until the queue is full and nothing more goes out.
async fn wait_until(client: &Client, relay: &Relay) {
    let limit = tokio::time::Instant::now() + crate::client::LIMIT;
    let mut before = (0, 0);
    loop {
        let now = (client.waiting(), relay.state.sent());
        if now == before && now.0 == limits::BATCH_QUEUE_MAX {
            return;
        }
        assert!(tokio::time::Instant::now() < limit, "{now:?}");
        before = now;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_and_can_be_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let held = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    let mut client = Client::of(RelayConfig {
        id: SourceId(0),
        name: "relay".into(),
        target: RelayTarget {
            url: format!("http://{address}").parse().unwrap(),
            tls: None,
        },
        start_at: StartAt::End,
        checkpoint_dir: None,
        pacing: RelayPacing {
            answer: Duration::from_millis(100),
            retry: (Duration::from_millis(5), Duration::from_millis(20)),
            ..RelayPacing::default()
        },
    });
    client
        .take_until("it is called again", |client| {
            client.count(|of| &of.reconnects) >= 3
        })
        .await;
    let state = client.health().state;
    assert!(
        matches!(&state, SourceState::Failed(why) if why.contains("answer")),
        "{state:?}"
    );
    assert!(client.stop().is_empty());
    held.abort();
}

#[tokio::test]
async fn a_server_without_masks_is_asked_without_one() {
    let relay = Relay::start(State::new(), None);
    relay.state.refuse_masks();
    let mut client = Client::start(&url(&relay));
    client
        .take_until("a second request", |_| relay.state.requests().len() >= 2)
        .await;
    push(&relay, 1);
    client.take_flows(1).await;
    assert_eq!(relay.state.requests()[1].field_mask, None);
}

#[tokio::test]
async fn a_node_without_masks_makes_relay_be_asked_without_one() {
    let relay = Relay::start(State::new(), None);
    let mut client = Client::start(&url(&relay));
    connected(&mut client, &relay).await;
    let refusal = "rpc error: code = Unknown desc = invalid fieldmask";
    relay
        .state
        .say(node_status(node_state::ERROR, &["c/old"], refusal));
    client
        .take_until("a second request", |_| relay.state.requests().len() >= 2)
        .await;
    assert_eq!(relay.state.requests()[1].field_mask, None);
}

#[tokio::test]
async fn a_stream_that_is_ended_is_taken_up_again_and_hostile_words_are_cleaned() {
    let relay = Relay::start(State::new(), None);
    let mut client = Client::start(&url(&relay));
    connected(&mut client, &relay).await;
    push(&relay, 1);
    client.take_flows(1).await;
    let words = "\u{1b}[2J\u{202e}".repeat(10_000);
    relay
        .state
        .fail(Status::unavailable(words.get(..4_000).unwrap_or("")));
    let mut said = String::new();
    client
        .take_until("why it ended, or a new stream", |client| {
            if let SourceState::Failed(why) = client.health().state {
                said = why;
            }
            relay.state.requests().len() >= 2
        })
        .await;
    push(&relay, 2);
    client.take_flows(2).await;
    assert_eq!(client.ports, [1, 2]);
    assert!(said.len() <= limits::NAME_BYTES_MAX);
    assert!(!said.contains('\u{1b}') && !said.contains('\u{202e}'));
}
