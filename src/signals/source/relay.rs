//! Hubble Relay as a source: the flows of all nodes through one gRPC stream.
//!
//! `spawn` starts it, on a thread of its own with a runtime of its own, so that it may wait and work
//! without a look at others. Each message becomes the line that an exporter would have written
//! (`signals/decode/relay`), and lines go the way of those of files. When the consumer is slow we
//! stop reading; then Hubble's buffers fill, and it says what it lost.
//!
//! ```text
//! connect ─► stream ─► message ─► judged: new? ─► line ─► Batch ─► consumer
//!    ▲                                │                              │
//!    └──── since, per node ◄──────────┘        checkpoint ◄── acknowledged
//! ```
//!
//! Relay is one for the whole cluster: without it nothing is seen. So a break, a gap and a node that
//! Relay does not hear are told at once (INV-8), and it is called again for ever.

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
use super::{Batch, Keeper, Outlet, Position, SourceError, SourceHandle, StartAt};

pub use config::{RelayConfig, RelayCounters, RelayPacing, RelayTarget};
pub use connect::RelayTls;

use nodes::Nodes;
use resume::{Judged, Resume};
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
    #[error("failed to get an answer of the relay within {seconds} s")]
    NoAnswer { seconds: u64 },
    #[error("failed to get flows of the relay")]
    Refused(#[source] Status),
    #[error("failed to read the relay's stream on")]
    Broken(#[source] Status),
    #[error("failed to read the relay's stream on, it was ended")]
    Ended,
    #[error("unable to ask for single fields, the relay or a node refuses that")]
    MaskRefused,
    #[error("failed to hand lines over, nobody wants them any more")]
    NobodyListens,
}

/// Starts a relay. It runs until `shutdown` is cancelled or the receiver is gone; `signals` hears of
/// the nodes that it does not hear.
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
    let outlet = Outlet {
        source: id,
        sender,
        health: Arc::clone(&health),
        shutdown,
    };
    let mut relay = Relay::new(config, outlet, signals);
    let counters = Arc::clone(&relay.counters);
    let run = move || {
        runtime.block_on(relay.run());
        Box::new(relay) as Box<dyn Keeper>
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

/// See the module.
#[derive(Debug)]
struct Relay {
    config: RelayConfig,
    outlet: Outlet,
    signals: SignalHealth,
    counters: Arc<RelayCounters>,
    resume: Resume,
    nodes: Nodes,
    /// From when on flows are wanted after a restart, in nanoseconds.
    acked: Arc<AtomicU64>,
    file: Option<SavedFile>,
    with_mask: bool,
    /// Whether the stream said anything.
    has_spoken: bool,
    /// Lines that were not handed over yet.
    lines: Vec<u8>,
    line: Vec<u8>,
    /// Something was lost; told with the next flow, so that it does not pass for a sign of life.
    loss: Option<Timestamp>,
}

impl Relay {
    fn new(config: RelayConfig, outlet: Outlet, signals: SignalHealth) -> Self {
        let folder = config.checkpoint_dir.as_deref();
        let mut file = folder.map(|folder| SavedFile::new(folder, &config.name));
        let (since_ns, marks) = begin(&config, file.as_mut(), &outlet);
        Self {
            resume: Resume::new(since_ns, marks),
            acked: Arc::new(AtomicU64::new(u64::try_from(since_ns).unwrap_or(0))),
            file,
            config,
            outlet,
            signals,
            counters: Arc::default(),
            nodes: Nodes::default(),
            with_mask: true,
            has_spoken: false,
            lines: Vec::new(),
            line: Vec::new(),
            loss: None,
        }
    }

    async fn run(&mut self) {
        let shutdown = self.outlet.shutdown.clone();
        let sender = self.outlet.sender.clone();
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = sender.closed() => {}
            () = self.call_for_ever() => {}
        }
        self.outlet.health.set_state(SourceState::Ended);
    }

    async fn call_for_ever(&mut self) {
        let (first, longest) = self.config.pacing.retry;
        let mut failures = 0_u32;
        loop {
            self.has_spoken = false;
            let Err(error) = self.session().await;
            let text = BoundedText::new(&chain(&error));
            self.outlet
                .health
                .set_state(SourceState::Failed(text.as_str().to_owned()));
            if self.has_spoken {
                failures = 0;
            }
            failures = failures.saturating_add(1);
            let random = RandomState::new().hash_one(failures);
            tokio::time::sleep(backoff(first, longest, failures, random)).await;
            self.counters.reconnects.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One connection, until it breaks.
    async fn session(&mut self) -> Result<std::convert::Infallible, RelayError> {
        let (pacing, since_ns) = (self.config.pacing, self.resume.begin());
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
        self.outlet.health.set_state(SourceState::Reading);
        self.nodes.clear();
        let (_asking, mut answers) = ask_after_nodes(relay, pacing.status, pacing.answer);
        let mut saves = tokio::time::interval(pacing.checkpoint);
        saves.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut chunks = stream.ready_chunks(limits::RELAY_CHUNK_MAX);
        loop {
            tokio::select! {
                chunk = chunks.next() => self.take_chunk(chunk.ok_or(RelayError::Ended)?).await?,
                Some(status) = answers.recv() => {
                    self.nodes.answered(&status, pacing.status, Instant::now());
                }
                // Counted in the health, and tried again with the next one.
                _ = saves.tick() => drop(self.save(false)),
            }
            self.tell_nodes();
        }
    }

    async fn take_chunk(&mut self, chunk: Vec<Result<Bytes, Status>>) -> Result<(), RelayError> {
        self.has_spoken = true;
        self.resume.alive(now_ns());
        let mut end = Ok(());
        for message in chunk {
            end = match message {
                Ok(message) => self.take(&message),
                Err(status) => Err(self.broken(status)),
            };
            if end.is_err() {
                break;
            }
            if self.lines.len() >= limits::READ_BYTES_MAX {
                self.hand_over().await?;
            }
        }
        // What came before the end counts.
        self.hand_over().await?;
        end
    }

    fn take(&mut self, message: &[u8]) -> Result<(), RelayError> {
        let Some(response) = wire::read(message) else {
            wire::write_unreadable(message, &mut self.lines);
            return Ok(());
        };
        if let Some(event) = &response.node_status {
            return self.take_status(event, response.time);
        }
        if let Some(lost) = &response.lost_events {
            self.count_lost(lost);
            response.write_line(&mut self.lines);
            return Ok(());
        }
        self.take_flow(&response);
        Ok(())
    }

    fn take_flow(&mut self, response: &GetFlowsResponse) {
        let node = clip(&response.node_name, limits::NAME_BYTES_MAX);
        self.nodes.heard(node);
        self.line.clear();
        response.write_line(&mut self.line);
        if self.line.len() > limits::LINE_BYTES_MAX {
            self.outlet.health.count(Count::OversizedLines, 1);
            return;
        }
        let time = response.flow.as_ref().and_then(|flow| flow.time);
        if let Some(time) = time.or(response.time) {
            match self.resume.judge(node, time.as_nanos(), &self.line) {
                Judged::New => {}
                Judged::Repeated => {
                    self.counters.repeated.fetch_add(1, Ordering::Relaxed);
                    return;
                }
                Judged::AfterGap => self.gap(time),
            }
        }
        if let Some(time) = self.loss.take() {
            wire::write_loss(time, &mut self.lines);
        }
        self.lines.append(&mut self.line);
    }

    fn take_status(
        &mut self,
        event: &NodeStatusEvent,
        time: Option<Timestamp>,
    ) -> Result<(), RelayError> {
        if self.refuses_mask(&event.message) {
            return Err(RelayError::MaskRefused);
        }
        let time = time.unwrap_or_else(|| Timestamp::from_nanos(now_ns()));
        if self.nodes.told(event, Instant::now()) {
            let count = event.node_names.len();
            let first = event.node_names.first().map(|name| BoundedText::new(name));
            let first = first.as_ref().map(BoundedText::as_str);
            let message = BoundedText::new(&event.message);
            let source = self.config.name.as_str();
            tracing::warn!(source, count, first, %message, "The relay does not hear nodes.");
            // Answers to what their pods sent last may be missing.
            self.loss = Some(time);
        }
        if event.state_change != node_state::CONNECTED {
            for node in event.node_names.iter().take(limits::NODES_MAX) {
                let node = clip(node, limits::NAME_BYTES_MAX);
                self.resume.node_breaks(node, time.as_nanos());
            }
        }
        Ok(())
    }

    /// Whether a server does not know a field that we asked for. It is asked for all of them then.
    fn refuses_mask(&mut self, message: &str) -> bool {
        let is_about_it = message.contains("fieldmask") || message.contains("field mask");
        is_about_it && std::mem::take(&mut self.with_mask)
    }

    fn broken(&mut self, status: Status) -> RelayError {
        if self.refuses_mask(status.message()) {
            return RelayError::MaskRefused;
        }
        if status.code() == Code::OutOfRange {
            // Longer than we take. It would come again if we asked for it again.
            self.outlet.health.count(Count::OversizedLines, 1);
            self.resume.skip_to(now_ns());
            self.gap(Timestamp::from_nanos(now_ns()));
        }
        RelayError::Broken(status)
    }

    fn gap(&mut self, time: Timestamp) {
        self.outlet.health.count(Count::Gaps, 1);
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

    /// Waits while the queue is full: what Relay sends meanwhile fills the window of the stream.
    async fn hand_over(&mut self) -> Result<(), RelayError> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let permit = self.outlet.sender.reserve().await;
        let permit = permit.map_err(|_| RelayError::NobodyListens)?;
        let since_ns = u64::try_from(self.resume.since_ns()).unwrap_or(0);
        self.outlet.health.sent(self.lines.len());
        permit.send(Batch {
            source: self.outlet.source,
            bytes: std::mem::take(&mut self.lines),
            position: Position::new(Arc::clone(&self.acked), since_ns),
        });
        Ok(())
    }

    fn tell_nodes(&mut self) {
        if let Some(names) = self.nodes.take_change() {
            let count = u64::try_from(names.len()).unwrap_or(u64::MAX);
            self.counters.nodes_unseen.store(count, Ordering::Relaxed);
            self.signals.unseen(self.outlet.source.0, names);
        }
    }

    fn save(&mut self, with_sync: bool) -> Result<(), SourceError> {
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let since_ns = i64::try_from(self.acked.load(Ordering::Acquire)).unwrap_or(i64::MAX);
        let saved = file.save(Saved::new(since_ns, self.resume.marks()), with_sync);
        if saved.is_err() {
            self.outlet.health.count(Count::CheckpointFailures, 1);
        }
        saved
    }
}

impl Keeper for Relay {
    fn hang_up(&mut self) {
        self.outlet.hang_up();
    }

    fn save_last(&mut self) -> Result<(), SourceError> {
        self.save(true)
    }
}

/// Where to begin, and how far each node came before.
fn begin(
    config: &RelayConfig,
    file: Option<&mut SavedFile>,
    outlet: &Outlet,
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
                "A checkpoint is unusable; all that the nodes still have is read."
            );
            outlet.health.count(Count::Gaps, 1);
            (0, BTreeMap::new())
        }
    }
}

/// Asks Relay after its nodes now and then, until the set is dropped. An older one, or Hubble itself,
/// may not know the question; then the stream alone tells.
fn ask_after_nodes(
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
                    tracing::debug!(?code, "The relay does not say how its nodes are.");
                }
            }
        }
    });
    (tasks, answers)
}

fn now_ns() -> i64 {
    i64::try_from(Calendar::now().as_nanosecond()).unwrap_or(i64::MAX)
}
