//! The signal pipeline: from batches of log lines and samples of node metrics to findings.
//!
//! Started by `operator`. One thread owns the engine, so the only lock that a signal takes is the one of the
//! attribution index. `step` attributes one signal and runs the detectors on it; `pod_facts` derives what
//! attribution needs from Kubernetes objects; `ended_pods` is the list of pods that ended, for node agents;
//! `contact_reports` exchanges contacts with the other nodes of a run;
//! `saved_state` keeps the engine's state over a restart.
//!
//! A batch is acknowledged only after every finding that resulted from it or from an earlier batch is recorded.
//! After a crash the unacknowledged lines are read again, so no Incident is lost.

pub(crate) mod contact_reports;
pub(crate) mod ended_pods;
pub(crate) mod pod_facts;
pub(crate) mod saved_state;
pub(crate) mod step;

mod acknowledge;
mod attribution_result;
mod batch;
mod clock_skew;
mod decoders;
mod deferral;
mod deferred_lines;
mod log_progress;
mod samples;
mod signal;
mod sources;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::detect::{Engine, Scopes};
use crate::limits;
use crate::model::EventTime;
use crate::observability::{Counters, UnattributedReason};
use crate::respond::{AttributedFinding, ResetQueue, TrafficMonitor};
use crate::signals::attribute::Index;
use crate::signals::decode::{SkipReason, Unconfirmed};
use crate::signals::health::SignalHealth;
use crate::signals::source::Batch;
use crate::signals::source::scrape::SampleBatch;

use self::contact_reports::ContactReports;
use self::saved_state::StateSaver;
use acknowledge::{PendingBatch, acknowledge, renumber, wait_for_records};
use clock_skew::wall_clock;
use deferred_lines::DeferredLines;
use log_progress::LogProgress;
pub(crate) use samples::SampleCounters;
pub(crate) use sources::SourceInfo;
use sources::source_times;
use step::expire_pods;

/// How often overdue contacts of silent pods are evaluated and deferred lines are retried.
const TICK_INTERVAL: Duration = Duration::from_millis(500);

/// How often the state of deleted pods is removed.
const EXPIRY_INTERVAL: Duration = Duration::from_secs(30);

/// Lines by result, since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct LineCounters {
    /// Decoded into a signal.
    pub signals: AtomicU64,
    /// Well-formed and intentionally not used, by reason.
    pub skipped: Counters<SkipReason>,
    /// Well-formed, of an unknown record type.
    pub unknown: AtomicU64,
    /// Not parsable.
    pub malformed: AtomicU64,
    /// Signals without attribution to a pod, by reason.
    pub unattributed: Counters<UnattributedReason>,
    /// Signals that were dropped because the engine already holds state for the maximum number of pods.
    pub beyond_bound: AtomicU64,
    /// Records that the producers of the logs reported as lost.
    pub lost: AtomicU64,
    /// Gauge: contacts that wait for an answer and lines that wait for context. Between two ticks, each new batch
    /// counts as one.
    pub contacts_waiting: AtomicU64,
    /// Samples of node metrics.
    pub samples: SampleCounters,
}

/// The pipeline and the parts that it shares with the rest of the program.
pub(crate) struct Pipeline {
    /// Detection engine.
    pub engine: Engine,
    /// Attribution index: which pod had an address at which time.
    pub index: Arc<RwLock<Index>>,
    /// Traffic of isolated pods in the logs.
    pub traffic: TrafficMonitor,
    /// Health of the sources.
    pub health: SignalHealth,
    /// Whether the index covers a single namespace. Lines of unknown pods are then expected and are not evidence
    /// against the log.
    pub is_namespaced: bool,
    /// Current network ranges of the cluster.
    pub scopes: watch::Receiver<Scopes>,
    /// Pods that must be reset in the engine.
    pub resets: ResetQueue,
    /// Log sources. Their position is their `SourceId`.
    pub sources: Vec<SourceInfo>,
    /// Exchange of contacts with the other nodes of a run.
    pub reports: ContactReports,
    /// Queue of the recorder.
    pub findings: mpsc::Sender<AttributedFinding>,
    /// Lines by result.
    pub counters: Arc<LineCounters>,
    /// Saves the engine's state for a restart.
    pub saver: StateSaver,
    /// Findings of the previous process that may not have been recorded.
    pub unrecorded: Vec<AttributedFinding>,
}

/// State of the pipeline between batches.
#[derive(Default)]
struct PipelineState {
    pending_batches: VecDeque<PendingBatch>,
    log_progress: LogProgress,
    malformed_logged_at: HashMap<usize, Instant>,
    /// When the state of deleted pods was last removed.
    pods_expired_at: Option<Instant>,
    /// Lines of a pod that the index does not contain yet.
    awaiting_pod: DeferredLines,
    /// Lines of a known pod, where its run or the pod at the other end is not known yet.
    awaiting_context: DeferredLines,
    decoders: decoders::Decoders,
    unconfirmed: HashMap<usize, Unconfirmed>,
    clock: clock_skew::Clock,
}

impl PipelineState {
    /// Adds a batch that waits for its findings to be recorded.
    fn add_pending(&mut self, batch: PendingBatch) {
        if self.pending_batches.len() >= limits::UNACKNOWLEDGED_BATCHES_MAX {
            // The API server has been unavailable for very long. The findings are kept; only reading the lines of
            // the oldest batch again after a crash is given up.
            self.pending_batches.pop_front();
        }
        self.pending_batches.push_back(batch);
    }
}

impl Pipeline {
    /// Runs until every source has ended, or until `stop`; what was read by then is processed first.
    /// Blocks, so it needs a thread of its own.
    pub(crate) fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut samples: mpsc::Receiver<SampleBatch>,
        runtime: &Handle,
        stop: &CancellationToken,
    ) {
        self.resets.open();
        let mut state = PipelineState::default();
        for found in std::mem::take(&mut self.unrecorded) {
            self.send(found);
        }
        let mut next_tick = Instant::now() + TICK_INTERVAL;
        // Either channel may close before the other, for example at the end of standard input.
        let (mut has_batches, mut has_samples) = (true, true);
        while has_batches || has_samples {
            let next = self
                .saver
                .next_step_at()
                .map_or(next_tick, |next| next.min(next_tick));
            let wait = next.saturating_duration_since(Instant::now());
            let next = runtime.block_on(async {
                tokio::select! {
                    biased;
                    batch = samples.recv(), if has_samples => Event::Samples(batch),
                    batch = batches.recv(), if has_batches => Event::Batch(batch),
                    () = stop.cancelled() => Event::Stop,
                    () = tokio::time::sleep(wait) => Event::Tick,
                }
            });
            match next {
                Event::Batch(Some(batch)) => self.process_batch(&batch, &mut state),
                Event::Samples(Some(batch)) => self.process_samples(batch, &mut state),
                Event::Batch(None) => has_batches = false,
                Event::Samples(None) => has_samples = false,
                Event::Stop => break,
                Event::Tick => {}
            }
            if Instant::now() >= next_tick {
                self.tick(Instant::now(), batches.is_empty(), &mut state);
                let waiting =
                    self.engine.waiting_contact_count() + state.awaiting_context.line_count();
                let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
                self.counters
                    .contacts_waiting
                    .store(waiting, Ordering::Relaxed);
                next_tick = Instant::now() + TICK_INTERVAL;
            }
            let (sources, log_progress) = (&self.sources, &state.log_progress);
            self.saver
                .step(&self.engine, &|| source_times(sources, log_progress));
            acknowledge(&mut state.pending_batches, &mut self.saver);
        }
        self.retry_deferred_lines(None, &mut state);
        wait_for_records(&state.pending_batches);
        renumber(&mut state.pending_batches, &mut self.saver);
        let (sources, log_progress) = (&self.sources, &state.log_progress);
        self.saver
            .finish(&self.engine, &|| source_times(sources, log_progress));
        acknowledge(&mut state.pending_batches, &mut self.saver);
        self.resets.close();
    }

    /// Evaluates overdue contacts, each up to the time that its source has been read. `is_idle`: no batch is queued.
    fn tick(&mut self, now: Instant, is_idle: bool, state: &mut PipelineState) {
        self.apply_updates();
        self.expire_pods(state, now);
        let beyond = self.engine.refused_signal_count();
        let before = self.counters.beyond_bound.swap(beyond, Ordering::Relaxed);
        if before == 0 && beyond > 0 {
            tracing::error!(
                dropped = beyond,
                "The detection engine holds state for the maximum number of pods; signals of further pods are dropped."
            );
        }
        self.retry_deferred_lines(Some(now), state);
        for source in 0..self.sources.len() {
            if !self.check_reader(source, state) || !is_idle {
                state.log_progress.hold(source, now);
            }
        }
        let mut guards = Vec::new();
        let log_progress = &state.log_progress;
        let mut findings = self
            .engine
            .expire_pending(|id| log_progress.read_up_to(usize::from(id), now));
        {
            let read =
                (0..self.sources.len()).filter_map(|source| log_progress.read_up_to(source, now));
            let read_up_to = read.min().unwrap_or(EventTime::MIN);
            let index = self.index.read();
            findings.extend(self.reports.exchange(&mut self.engine, &index, read_up_to));
        }
        for finding in findings {
            let index = self.index.read();
            let facts = index.pod(&finding.subject.pod).cloned();
            drop(index);
            if let Some(facts) = facts {
                self.send_finding(finding, &facts, &mut guards);
            }
        }
        if let Some(last) = state.pending_batches.back_mut() {
            last.guards.append(&mut guards);
        }
        self.report_lacking();
    }

    /// Every [`EXPIRY_INTERVAL`], removes pods that ended before the oldest line that may still arrive.
    fn expire_pods(&mut self, state: &mut PipelineState, now: Instant) {
        let since = *state.pods_expired_at.get_or_insert(now);
        if now.saturating_duration_since(since) < EXPIRY_INTERVAL {
            return;
        }
        state.pods_expired_at = Some(now);
        let mut index = self.index.write();
        expire_pods(&mut self.engine, &mut index, wall_clock());
    }

    /// Applies changed network ranges and requested pod resets.
    fn apply_updates(&mut self) {
        if self.scopes.has_changed().unwrap_or(false) {
            let scopes = self.scopes.borrow_and_update().clone();
            self.engine.set_scopes(scopes);
        }
        for pod in self.resets.take() {
            self.engine.forget(&pod);
            self.saver.mark_changed();
        }
    }
}

/// What the pipeline reacts to.
enum Event {
    Batch(Option<Batch>),
    Samples(Option<SampleBatch>),
    Tick,
    Stop,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Number of a source in the engine. There are fewer than a hundred sources.
fn source_id(source: usize) -> u16 {
    u16::try_from(source).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
