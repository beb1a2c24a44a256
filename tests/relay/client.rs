//! Our side of a stream: a relay source, and what came of it. Flows of tests are known by their
//! destination port.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jiff::Timestamp as Calendar;
use prost::Message;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;
use yellowjack::testing::model::Signal;
use yellowjack::testing::signals::SignalHealth;
use yellowjack::testing::signals::decode::relay::{
    Flow, GetFlowsResponse, Ip, Layer4, LostEvent, NodeStatusEvent, Tcp, TcpFlags, Timestamp,
};
use yellowjack::testing::signals::decode::{Decoded, Format, decode};
use yellowjack::testing::signals::source::relay::{
    self, RelayConfig, RelayCounters, RelayPacing, RelayTarget, RelayTls,
};
use yellowjack::testing::signals::source::{
    self, Batch, SourceHandle, SourceHealth, SourceId, StartAt,
};

/// How long a state may take; a loaded machine is slow.
pub const LIMIT: Duration = Duration::from_mins(1);

/// A flow of a pod on this node, so many milliseconds after the test's begin.
pub fn flow(node: &str, start_ns: i64, ms: i64, port: u32) -> (i64, Vec<u8>) {
    let time_ns = start_ns + ms * 1_000_000;
    let time = Some(Timestamp::from_nanos(time_ns));
    let flow = Flow {
        time,
        verdict: 1,
        ip: Some(Ip {
            source: "10.0.1.5".into(),
            destination: "203.0.113.7".into(),
        }),
        l4: Some(Layer4 {
            tcp: Some(Tcp {
                source_port: 40_000,
                destination_port: port,
                flags: Some(TcpFlags {
                    syn: true,
                    ..TcpFlags::default()
                }),
            }),
            ..Layer4::default()
        }),
        traffic_direction: 2,
        is_reply: Some(false),
        ..Flow::default()
    };
    let response = GetFlowsResponse {
        flow: Some(flow),
        node_name: node.to_owned(),
        time,
        ..GetFlowsResponse::default()
    };
    (time_ns, response.encode_to_vec())
}

pub fn lost(source: i32, count: u64) -> Vec<u8> {
    let response = GetFlowsResponse {
        lost_events: Some(LostEvent {
            source,
            num_events_lost: count,
        }),
        time: Some(Timestamp::from_nanos(now_ns())),
        ..GetFlowsResponse::default()
    };
    response.encode_to_vec()
}

pub fn node_status(state_change: i32, nodes: &[&str], message: &str) -> Vec<u8> {
    let response = GetFlowsResponse {
        node_status: Some(NodeStatusEvent {
            state_change,
            node_names: nodes.iter().map(|node| (*node).to_owned()).collect(),
            message: message.to_owned(),
        }),
        time: Some(Timestamp::from_nanos(now_ns())),
        ..GetFlowsResponse::default()
    };
    response.encode_to_vec()
}

pub fn now_ns() -> i64 {
    i64::try_from(Calendar::now().as_nanosecond()).unwrap()
}

/// A running source.
#[derive(Debug)]
pub struct Client {
    handle: Option<SourceHandle>,
    batches: Receiver<Batch>,
    pub signals: SignalHealth,
    pub counters: Arc<RelayCounters>,
    shutdown: CancellationToken,
    /// The flows that came, by port, in their order.
    pub ports: Vec<u16>,
    /// Records that were said to be lost.
    pub lost: u64,
    pub malformed: usize,
}

impl Client {
    pub fn start(url: &str) -> Self {
        Self::with(url, None, None)
    }

    pub fn with(url: &str, tls: Option<RelayTls>, checkpoints: Option<&Path>) -> Self {
        let ms = Duration::from_millis;
        let config = RelayConfig {
            id: SourceId(0),
            name: "relay".into(),
            target: RelayTarget {
                url: url.parse().unwrap(),
                tls,
            },
            start_at: StartAt::End,
            checkpoint_dir: checkpoints.map(Path::to_owned),
            pacing: RelayPacing {
                answer: Duration::from_secs(5),
                keepalive: ms(200),
                keepalive_answer: Duration::from_secs(2),
                retry: (ms(5), ms(50)),
                status: ms(50),
                checkpoint: ms(5),
            },
        };
        Self::of(config)
    }

    pub fn of(config: RelayConfig) -> Self {
        let (sender, batches) = source::channel();
        let signals = SignalHealth::new(["relay".to_owned()]);
        let shutdown = CancellationToken::new();
        let handle = relay::spawn(config, sender, signals.clone(), shutdown.clone()).unwrap();
        Self {
            counters: handle.relay_counters().unwrap(),
            handle: Some(handle),
            batches,
            signals,
            shutdown,
            ports: Vec::new(),
            lost: 0,
            malformed: 0,
        }
    }

    pub fn health(&self) -> SourceHealth {
        self.handle.as_ref().unwrap().health()
    }

    pub fn count(&self, of: impl Fn(&RelayCounters) -> &AtomicU64) -> u64 {
        of(&self.counters).load(Ordering::Relaxed)
    }

    /// Takes what comes until this holds.
    pub async fn take_until(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let limit = tokio::time::Instant::now() + LIMIT;
        while !holds(self) {
            assert!(
                tokio::time::Instant::now() < limit,
                "not seen: {what}; {} flows, {:?}",
                self.ports.len(),
                self.health()
            );
            // Nothing comes when a counter is waited for.
            let next = tokio::time::timeout(Duration::from_millis(20), self.batches.recv());
            if let Ok(Some(batch)) = next.await {
                self.take(&batch);
            }
        }
    }

    /// Takes what comes until so many flows are there.
    pub async fn take_flows(&mut self, count: usize) {
        self.take_until(&format!("{count} flows"), |client| {
            client.ports.len() >= count
        })
        .await;
    }

    fn take(&mut self, batch: &Batch) {
        for line in batch.lines() {
            match decode(Format::Hubble, line) {
                Decoded::Signal(Signal::Flow(flow)) => self.ports.push(flow.destination_port),
                Decoded::Signal(Signal::Lost(lost)) => self.lost += lost.count,
                Decoded::Malformed(_) => self.malformed += 1,
                other => panic!("{other:?}: {}", String::from_utf8_lossy(line)),
            }
        }
        batch.position.acknowledge();
    }

    /// Batches that wait to be taken.
    pub fn waiting(&self) -> usize {
        self.batches.len()
    }

    /// Stops as the operator does: what was read is dealt with, then the place is kept.
    pub fn stop(mut self) -> Vec<u16> {
        self.shutdown.cancel();
        let mut handle = self.handle.take().unwrap();
        handle.stop().unwrap();
        while let Ok(batch) = self.batches.try_recv() {
            self.take(&batch);
        }
        handle.close().unwrap();
        std::mem::take(&mut self.ports)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}
