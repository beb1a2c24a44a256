//! From Hubble Relay to a contained pod: the operator reads a real gRPC server, which is killed in
//! between.

use std::sync::Arc;

use jiff::Timestamp as Calendar;
use kube::ResourceExt;
use prost::Message;
use serde_json::json;
use yellowjack::testing::signals::decode::relay::{
    Endpoint, Flow, GetFlowsResponse, Ip, Layer4, NodeStatusEvent, Tcp, TcpFlags, Timestamp,
    node_state,
};
use yellowjack_e2e::fixture::{
    ApiFixture, Fixture, HONEST_IP, LIMIT, ROGUE_IP, SCANNED_HOSTS, VERIFICATION_SPAN,
};
use yellowjack_e2e::lines::EgressLog;
use yellowjack_e2e::{wait_for, with_namespace};

use crate::relay_server::{Relay, State};

const FORWARDED: i32 = 1;
const DROPPED: i32 = 2;
const EGRESS: i32 = 2;
const POLICY_DENIED: i32 = 133;

/// A later packet of a connection that lives: only a log with such packets can show the end of one.
fn later_packet(fixture: &ApiFixture, pod: (&str, &str), host: &str, ahead_s: i64) -> Sent {
    let later = TcpFlags {
        ack: true,
        ..TcpFlags::default()
    };
    packet_with(fixture, pod, host, ahead_s, FORWARDED, later)
}

/// A first packet of a pod, so many seconds from now, and what became of it.
fn packet(fixture: &ApiFixture, pod: (&str, &str), host: &str, ahead_s: i64, verdict: i32) -> Sent {
    let first = TcpFlags {
        syn: true,
        ..TcpFlags::default()
    };
    packet_with(fixture, pod, host, ahead_s, verdict, first)
}

fn packet_with(
    fixture: &ApiFixture,
    pod: (&str, &str),
    host: &str,
    ahead_s: i64,
    verdict: i32,
    flags: TcpFlags,
) -> Sent {
    let now = i64::try_from(Calendar::now().as_nanosecond()).unwrap_or(i64::MAX);
    let time_ns = now + ahead_s * 1_000_000_000;
    let time = Some(Timestamp::from_nanos(time_ns));
    let (name, address) = pod;
    let flow = Flow {
        time,
        verdict,
        drop_reason_desc: if verdict == DROPPED { POLICY_DENIED } else { 0 },
        ip: Some(Ip {
            source: address.to_owned(),
            destination: host.to_owned(),
        }),
        l4: Some(Layer4 {
            tcp: Some(Tcp {
                source_port: 40_000,
                destination_port: 22,
                flags: Some(flags),
            }),
            ..Layer4::default()
        }),
        source: Some(Endpoint {
            namespace: fixture.env.namespace.clone(),
            pod_name: name.to_owned(),
        }),
        traffic_direction: EGRESS,
        is_reply: (verdict == FORWARDED).then_some(false),
        ..Flow::default()
    };
    let response = GetFlowsResponse {
        flow: Some(flow),
        node_name: "default/n1".to_owned(),
        time,
        ..GetFlowsResponse::default()
    };
    (time_ns, response.encode_to_vec())
}

type Sent = (i64, Vec<u8>);

fn status(state_change: i32) -> Vec<u8> {
    let event = NodeStatusEvent {
        state_change,
        node_names: vec!["default/n1".to_owned()],
        message: String::new(),
    };
    let response = GetFlowsResponse {
        node_status: Some(event),
        ..GetFlowsResponse::default()
    };
    response.encode_to_vec()
}

async fn asked(state: &Arc<State>, count: usize) -> anyhow::Result<()> {
    wait_for("the operator to ask", LIMIT, async || {
        let asked = state.requests().len();
        (asked >= count)
            .then_some(())
            .ok_or_else(|| format!("asked {asked} times"))
    })
    .await
}

#[tokio::test]
async fn a_scan_that_relay_shows_is_contained_and_its_end_proven_over_a_break() -> anyhow::Result<()>
{
    with_namespace(async |env| {
        let mut relay = Relay::start(State::new(), None);
        relay.state.greet(status(node_state::CONNECTED));
        let source = format!("hubble-relay:{}", relay.address);
        let fixture =
            ApiFixture::start_with_log(env, EgressLog::create()?, &["--source", &source]).await?;
        asked(&relay.state, 1).await?;
        fixture.create_rogue_pod(json!({})).await?;

        let (rogue, honest) = (("rogue", ROGUE_IP), ("honest-1", HONEST_IP));
        // What passes is in the log too: one of drops alone would be good for an alert at most.
        let (time, message) = packet(&fixture, honest, "203.0.113.80", 0, FORWARDED);
        relay.state.flow(time, message);
        for host in 1..=SCANNED_HOSTS {
            let target = format!("172.20.0.{host}");
            let (time, message) = packet(&fixture, rogue, &target, 0, DROPPED);
            relay.state.flow(time, message);
            if host == SCANNED_HOSTS / 2 {
                relay.kill();
            }
        }
        relay.restart();
        let incident = fixture.until_isolated("rogue").await?;
        fixture
            .until_quarantine_label("rogue", Some(&incident.name_any()))
            .await?;
        let evidence = &incident.spec.evidence[0];
        assert_eq!(evidence.signature, "HorizontalScan");
        assert_eq!(evidence.examples[0].outcome, "Denied");
        // No target counts twice, though some were sent twice.
        assert!(
            evidence.contacts <= i64::from(SCANNED_HOSTS),
            "{evidence:?}"
        );

        asked(&relay.state, 2).await?;
        relay.state.say(status(node_state::ERROR));
        fixture
            .run_condition("honest", "SignalsFresh", "False", "NodesUnseen")
            .await
            .or_else(|_| anyhow::bail!("a node that relay does not hear is not said"))?;
        // The log goes on without the rogue: others speak, later and later.
        for second in 0..=i64::try_from(VERIFICATION_SPAN.as_secs())? {
            let (time, message) = packet(&fixture, honest, "203.0.113.80", second, FORWARDED);
            relay.state.flow(time, message);
            let (time, message) = later_packet(&fixture, honest, "203.0.113.80", second);
            relay.state.flow(time, message);
        }
        fixture
            .incident_condition("rogue", "Verified", "True", "Verified")
            .await?;
        Ok(())
    })
    .await
}
