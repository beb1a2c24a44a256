//! Hubble Relay as a source: the flows of all nodes through one gRPC stream.
//!
//! Started by `spawn`, on its own thread with its own runtime, so that it can wait and compute without affecting
//! other tasks. Each message is converted to the line that an exporter would have written
//! (`signals/decode/relay`), and lines are processed like those of files. A slow consumer makes this source
//! stop reading; then Hubble's buffers fill up, and Hubble reports what it lost.
//!
//! ```text
//! connect ─► stream ─► message ─► new or repeated? ─► line ─► Batch ─► consumer
//!    ▲                                 │                                  │
//!    └──── since, per node ◄───────────┘            checkpoint ◄── acknowledged
//! ```
//!
//! One Relay serves the whole cluster, so without it no flow is visible. Therefore an interruption, a gap and a node
//! that Relay cannot reach are reported immediately (INV-8), and reconnecting never stops.

mod config;
mod connect;
mod nodes;
mod resume;
mod saved;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use jiff::Timestamp as Calendar;
use prost::bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::limits;
use crate::model::{BoundedText, backoff, clip};
use crate::observability::chain;
use crate::signals::decode::relay::{
    self as wire, GetFlowsResponse, LostEvent, NodeStatusEvent, ServerStatusResponse, Timestamp,
    lost_source, node_state,
};
use crate::signals::health::SignalHealth;

use super::health::{Count, Health, SourceState};
use super::{Batch, BatchSender, CheckpointOnClose, Position, SourceError, SourceHandle, StartAt};

pub use config::{RelayConfig, RelayCounters, RelayPacing, RelayTarget, RelayTls};

use nodes::UnreachableNodes;
use resume::{FlowStatus, Resume};
use saved::{Saved, SavedFile};

/// Why there are no flows.
#[derive(Debug, thiserror::Error)]
enum RelayError {
    #[error("failed to read {path}")]
    ReadFile { path: PathBuf, source: io::Error },
    #[error("unable to use the certificates for the relay")]
    Tls(#[source] tonic::transport::Error),
    #[error("failed to connect to the relay")]
    Connect(#[source] tonic::transport::Error),
    #[error("failed to get an answer from the relay within {seconds} s")]
    NoAnswer { seconds: u64 },
    #[error("failed to get flows from the relay")]
    Refused(#[source] Status),
    #[error("failed to continue reading the relay's stream")]
    Broken(#[source] Status),
    #[error("failed to continue reading the relay's stream, the relay ended it")]
    Ended,
    #[error("unable to request selected fields, the relay or a node rejects the field mask")]
    MaskRefused,
    #[error("failed to send lines, the receiver was dropped")]
    ReceiverDropped,
}

/// Starts a relay. It runs until `shutdown` is cancelled or the receiver is dropped. Nodes that Relay cannot reach
/// are recorded in `signals`.
pub fn spawn(
    config: RelayConfig,
    sender: mpsc::Sender<Batch>,
    signals: SignalHealth,
    shutdown: CancellationToken,
) -> Result<SourceHandle, SourceError> {
    let (name, id) = (config.name.clone(), config.id);
    let health = Arc::new(Health::new(&name));
    let failed = |source| SourceError::Thread {
        name: name.clone(),
        source,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    let output = BatchSender {
        source: id,
        sender,
        health: Arc::clone(&health),
        shutdown,
    };
    let mut relay = Relay::new(config, output, signals);
    let counters = Arc::clone(&relay.counters);
    let run = move || {
        runtime.block_on(relay.run());
        Box::new(relay) as Box<dyn CheckpointOnClose>
    };
    let thread = std::thread::Builder::new().name(format!("source-{}", id.0));
    let reader = thread.spawn(run).map_err(failed)?;
    Ok(SourceHandle {
        name,
        health,
        relay: Some(counters),
        reader: Some(reader),
        stopped: None,
    })
}

/// The task that reads from Relay.
#[derive(Debug)]
struct Relay {
    config: RelayConfig,
    output: BatchSender,
    signals: SignalHealth,
    counters: Arc<RelayCounters>,
    resume: Resume,
    nodes: UnreachableNodes,
    /// The time from which flows are requested after a restart, in nanoseconds since the Unix epoch.
    acked: Arc<AtomicU64>,
    file: Option<SavedFile>,
    with_mask: bool,
    /// Whether anything was received on the current stream.
    has_received: bool,
    /// Lines that were not sent yet.
    lines: Vec<u8>,
    line: Vec<u8>,
    /// Something was lost. Reported before the next flow, because on its own it would count as activity of the log.
    loss: Option<Timestamp>,
}

impl Relay {
    fn new(config: RelayConfig, output: BatchSender, signals: SignalHealth) -> Self {
        let folder = config.checkpoint_dir.as_deref();
        let mut file = folder.map(|folder| SavedFile::new(folder, &config.name));
        let (since_ns, progress) = start_point(&config, file.as_mut(), &output);
        Self {
            resume: Resume::new(since_ns, progress),
            acked: Arc::new(AtomicU64::new(u64::try_from(since_ns).unwrap_or(0))),
            file,
            config,
            output,
            signals,
            counters: Arc::default(),
            nodes: UnreachableNodes::default(),
            with_mask: true,
            has_received: false,
            lines: Vec::new(),
            line: Vec::new(),
            loss: None,
        }
    }

    async fn run(&mut self) {
        let shutdown = self.output.shutdown.clone();
        let sender = self.output.sender.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sender.closed() => {}
            () = self.reconnect_forever() => {}
        }
        self.output.health.set_state(SourceState::Ended);
    }

    async fn reconnect_forever(&mut self) {
        let (first, longest) = self.config.pacing.retry;
        let mut failures = 0_u32;
        loop {
            self.has_received = false;
            let Err(error) = self.session().await;
            let text = BoundedText::new(&chain(&error));
            self.output
                .health
                .set_state(SourceState::Failed(text.as_str().to_owned()));
            if self.has_received {
                failures = 0;
            }
            failures = failures.saturating_add(1);
            let random = RandomState::new().hash_one(failures);
            tokio::time::sleep(backoff(first, longest, failures, random)).await;
            self.counters.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One connection, until it fails.
    async fn session(&mut self) -> Result<std::convert::Infallible, RelayError> {
        let (pacing, since_ns) = (self.config.pacing, self.resume.start_stream());
        let request = wire::flows_request(Timestamp::from_nanos(since_ns), self.with_mask);
        let no_answer = RelayError::NoAnswer {
            seconds: pacing.answer.as_secs(),
        };
        let call = async {
            let mut relay = connect::connect(&self.config.target, &pacing).await?;
            let stream = connect::get_flows(&mut relay, &request).await;
            Ok((relay, stream.map_err(RelayError::Refused)?))
        };
        let answer = tokio::time::timeout(pacing.answer, call).await;
        let (relay, stream) = match answer.unwrap_or(Err(no_answer)) {
            Err(RelayError::Refused(status)) if self.refuses_mask(status.message()) => {
                return Err(RelayError::MaskRefused);
            }
            answer => answer?,
        };
        self.output.health.set_state(SourceState::Reading);
        self.nodes.clear();
        let (_polling, mut statuses) = poll_node_status(relay, pacing.status, pacing.answer);
        let mut saves = tokio::time::interval(pacing.checkpoint);
        saves.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut chunks = stream.ready_chunks(limits::RELAY_CHUNK_MAX);
        loop {
            tokio::select! {
                chunk = chunks.next() => self.process_chunk(chunk.ok_or(RelayError::Ended)?).await?,
                Some(status) = statuses.recv() => {
                    self.nodes.apply_status(&status, pacing.status, Instant::now());
                }
                // Counted in the health; the next save tries again.
                _ = saves.tick() => drop(self.save(false)),
            }
            self.publish_nodes();
        }
    }

    async fn process_chunk(&mut self, chunk: Vec<Result<Bytes, Status>>) -> Result<(), RelayError> {
        self.has_received = true;
        self.resume.record_activity(now_ns());
        let mut end = Ok(());
        for message in chunk {
            end = match message {
                Ok(message) => self.process_message(&message),
                Err(status) => Err(self.stream_error(status)),
            };
            if end.is_err() {
                break;
            }
            if self.lines.len() >= limits::READ_BYTES_MAX {
                self.send_lines().await?;
            }
        }
        // Messages before the end of the stream are valid.
        self.send_lines().await?;
        end
    }

    fn process_message(&mut self, message: &[u8]) -> Result<(), RelayError> {
        let Some(response) = wire::read(message) else {
            wire::write_unreadable(message, &mut self.lines);
            return Ok(());
        };
        if let Some(event) = &response.node_status {
            return self.process_node_status(event, response.time);
        }
        if let Some(lost) = &response.lost_events {
            self.count_lost(lost);
            response.write_line(&mut self.lines);
            return Ok(());
        }
        self.process_flow(&response);
        Ok(())
    }

    fn process_flow(&mut self, response: &GetFlowsResponse) {
        let node = clip(&response.node_name, limits::NAME_BYTES_MAX);
        self.nodes.mark_reachable(node);
        self.line.clear();
        response.write_line(&mut self.line);
        if self.line.len() > limits::LINE_BYTES_MAX {
            self.output.health.count(Count::OversizedLines, 1);
            return;
        }
        let time = response.flow.as_ref().and_then(|flow| flow.time);
        if let Some(time) = time.or(response.time) {
            match self.resume.classify(node, time.as_nanos(), &self.line) {
                FlowStatus::New => {}
                FlowStatus::Repeated => {
                    self.counters.repeated.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                FlowStatus::AfterGap => self.record_gap(time),
            }
        }
        if let Some(time) = self.loss.take() {
            wire::write_loss(time, &mut self.lines);
        }
        self.lines.append(&mut self.line);
    }

    fn process_node_status(
        &mut self,
        event: &NodeStatusEvent,
        time: Option<Timestamp>,
    ) -> Result<(), RelayError> {
        if self.refuses_mask(&event.message) {
            return Err(RelayError::MaskRefused);
        }
        let time = time.unwrap_or_else(|| Timestamp::from_nanos(now_ns()));
        if self.nodes.apply_event(event, Instant::now()) {
            let count = event.node_names.len();
            let first = event.node_names.first().map(|name| BoundedText::new(name));
            let first = first.as_ref().map(BoundedText::as_str);
            let message = BoundedText::new(&event.message);
            let source = self.config.name.as_str();
            tracing::warn!(source, count, first, %message, "Hubble Relay cannot reach nodes.");
            // Answers to what their pods sent last may be missing.
            self.loss = Some(time);
        }
        if event.state_change != node_state::CONNECTED {
            for node in event.node_names.iter().take(limits::NODES_MAX) {
                let node = clip(node, limits::NAME_BYTES_MAX);
                self.resume.node_disconnected(node, time.as_nanos());
            }
        }
        Ok(())
    }

    /// Whether a server does not know a requested field. If so, the next request is for all fields.
    fn refuses_mask(&mut self, message: &str) -> bool {
        let is_about_it = message.contains("fieldmask") || message.contains("field mask");
        is_about_it && std::mem::take(&mut self.with_mask)
    }

    fn stream_error(&mut self, status: Status) -> RelayError {
        if self.refuses_mask(status.message()) {
            return RelayError::MaskRefused;
        }
        if status.code() == Code::OutOfRange {
            // Longer than the bound. The same message would be sent again on the next request.
            self.output.health.count(Count::OversizedLines, 1);
            self.resume.skip_to(now_ns());
            self.record_gap(Timestamp::from_nanos(now_ns()));
        }
        RelayError::Broken(status)
    }

    fn record_gap(&mut self, time: Timestamp) {
        self.output.health.count(Count::Gaps, 1);
        self.loss = Some(time);
    }

    fn count_lost(&self, lost: &LostEvent) {
        let counter = match lost.source {
            lost_source::PERF_EVENT_RING_BUFFER => &self.counters.lost_perf,
            lost_source::OBSERVER_EVENTS_QUEUE => &self.counters.lost_queue,
            lost_source::HUBBLE_RING_BUFFER => &self.counters.lost_ring,
            _ => &self.counters.lost_unknown,
        };
        counter.fetch_add(lost.num_events_lost, Ordering::Relaxed);
    }

    /// Sends the collected lines. Waits while the queue is full; Relay's messages then fill the window of the stream.
    async fn send_lines(&mut self) -> Result<(), RelayError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let permit = self.output.sender.reserve().await;
        let permit = permit.map_err(|_| RelayError::ReceiverDropped)?;
        let since_ns = u64::try_from(self.resume.since_ns()).unwrap_or(0);
        self.output.health.sent(self.lines.len());
        permit.send(Batch {
            source: self.output.source,
            bytes: std::mem::take(&mut self.lines),
            position: Position::new(Arc::clone(&self.acked), since_ns),
        });
        Ok(())
    }

    fn publish_nodes(&mut self) {
        if let Some(names) = self.nodes.take_change() {
            let count = u64::try_from(names.len()).unwrap_or(u64::MAX);
            self.counters.nodes_unseen.store(count, Ordering::Relaxed);
            self.signals
                .set_unreachable_nodes(self.output.source.0, names);
        }
    }

    fn save(&mut self, with_sync: bool) -> Result<(), SourceError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let since_ns = i64::try_from(self.acked.load(Ordering::Acquire)).unwrap_or(i64::MAX);
        let saved = file.save(Saved::new(since_ns, self.resume.progress()), with_sync);
        if saved.is_err() {
            self.output.health.count(Count::CheckpointFailures, 1);
        }
        saved
    }
}

impl CheckpointOnClose for Relay {
    fn close_channel(&mut self) {
        self.output.close_channel();
    }

    fn save_last(&mut self) -> Result<(), SourceError> {
        self.save(true)
    }
}

/// The time at which to start, and the progress of each node before that.
fn start_point(
    config: &RelayConfig,
    file: Option<&mut SavedFile>,
    output: &BatchSender,
) -> (i64, BTreeMap<String, i64>) {
    let unread = match config.start_at {
        StartAt::End => now_ns(),
        StartAt::Beginning => 0,
    };
    match file.map_or(Ok(None), SavedFile::load) {
        Ok(Some(saved)) => (saved.since_ns, saved.nodes),
        Ok(None) => (unread, BTreeMap::new()),
        Err(error) => {
            let (source, error) = (config.name.as_str(), chain(&error));
            tracing::error!(
                source,
                error,
                "A checkpoint is unusable. All flows that the nodes still have are read."
            );
            output.health.count(Count::Gaps, 1);
            (0, BTreeMap::new())
        }
    }
}

/// Requests the status of Relay's nodes at an interval, until the set is dropped. An older Relay, or Hubble itself,
/// may not implement the request; then only the events in the stream report nodes.
fn poll_node_status(
    mut relay: Grpc<Channel>,
    every: Duration,
    limit: Duration,
) -> (JoinSet<()>, mpsc::Receiver<ServerStatusResponse>) {
    let (sender, answers) = mpsc::channel(1);
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match connect::server_status(&mut relay, limit).await {
                Ok(status) => {
                    if sender.send(status).await.is_err() {
                        return;
                    }
                }
                Err(status) => {
                    let code = status.code();
                    tracing::debug!(?code, "Failed to get the status of the relay's nodes.");
                }
            }
        }
    });
    (tasks, answers)
}

fn now_ns() -> i64 {
    i64::try_from(Calendar::now().as_nanosecond()).unwrap_or(i64::MAX)
}
