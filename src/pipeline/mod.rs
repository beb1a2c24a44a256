//! The pipeline: batches of lines in, findings out. One thread owns the engine, so that nothing on
//! the way of a flow waits for a lock but the look into the attribution index.
//!
//! A batch is acknowledged only when every finding that it or an earlier one led to is recorded:
//! after a crash the lines are read again, and no Incident is lost. Samples of node metrics come in
//! beside the batches.

pub mod contact_reports;
pub mod pod_facts;
pub mod saved_state;
pub mod step;

mod acknowledge;
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
use self::saved_state::Memory;
use acknowledge::{Unacknowledged, acknowledge, renumber, wait_for_records};
use clock_skew::wall_clock;
use deferred_lines::DeferredLines;
use log_progress::Reached;
pub use samples::SampleCounters;
pub use sources::SourceInfo;
use sources::log_times;
use step::forget_gone;

/// How often pods that fell silent are judged, and lines whose pod was not known are looked at again.
const TICK: Duration = Duration::from_millis(500);

/// How often pods that are gone are forgotten.
const SWEEP_EVERY: Duration = Duration::from_secs(30);

/// Lines by what became of them, since the start.
#[derive(Debug, Default)]
pub struct LineCounters {
    /// Decoded into a signal.
    pub signals: AtomicU64,
    /// Well-formed and on purpose no signal, by reason.
    pub skipped: Counters<SkipReason>,
    /// Well-formed and of no known shape.
    pub unknown: AtomicU64,
    /// Not readable.
    pub malformed: AtomicU64,
    /// Signals that no pod could be named for, by reason.
    pub unattributed: Counters<UnattributedReason>,
    /// Signals that were left out because more pods have state than the engine may hold.
    pub beyond_bound: AtomicU64,
    /// Records that the producers said they lost.
    pub lost: AtomicU64,
    /// Contacts that wait for an answer, and lines that cannot be judged yet, now. What came since the last look counts as waiting.
    pub contacts_waiting: AtomicU64,
    /// Samples of node metrics.
    pub samples: SampleCounters,
}

/// See the module.
pub struct Pipeline {
    /// The detectors.
    pub engine: Engine,
    /// Which pod had an address when.
    pub index: Arc<RwLock<Index>>,
    /// What the log shows of isolated pods.
    pub traffic: TrafficMonitor,
    /// Whether the sources speak.
    pub health: SignalHealth,
    /// Whether the index has the pods of one namespace alone: then a line of no known pod is nothing odd.
    pub is_namespaced: bool,
    /// The cluster's ranges, as they change.
    pub scopes: watch::Receiver<Scopes>,
    /// Pods whose state is reset.
    pub resets: ResetQueue,
    /// The sources, by index.
    pub sources: Vec<SourceInfo>,
    /// What other nodes saw of the same runs.
    pub reports: ContactReports,
    /// Where findings go.
    pub findings: mpsc::Sender<AttributedFinding>,
    /// Lines by what became of them.
    pub counters: Arc<LineCounters>,
    /// What is kept over a restart.
    pub memory: Memory,
    /// Findings that an earlier process handed over and that may not be recorded.
    pub unrecorded: Vec<AttributedFinding>,
}

/// What the pipeline keeps between batches.
#[derive(Default)]
struct Progress {
    unacknowledged: VecDeque<Unacknowledged>,
    reached: Reached,
    sampled: HashMap<usize, Instant>,
    /// When pods that are gone were forgotten last.
    swept: Option<Instant>,
    /// Lines whose pod is not known yet.
    deferred: DeferredLines,
    /// Lines of a pod of which not all is known that they are judged by.
    undecided: DeferredLines,
    decoders: decoders::Decoders,
    unconfirmed: HashMap<usize, Unconfirmed>,
    clock: clock_skew::Clock,
}

impl Progress {
    /// Keeps a batch until its findings are recorded.
    fn has_read(&mut self, batch: Unacknowledged) {
        if self.unacknowledged.len() >= limits::UNACKNOWLEDGED_BATCHES_MAX {
            // Findings wait for an API server that is away for very long. They are kept; only the
            // promise to read these lines again after a crash is given up.
            self.unacknowledged.pop_front();
        }
        self.unacknowledged.push_back(batch);
    }
}

impl Pipeline {
    /// Works until every source is gone, or until `stop` and what was read by then is dealt with.
    /// Blocks: call it on a thread of its own.
    pub fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut samples: mpsc::Receiver<SampleBatch>,
        runtime: &Handle,
        stop: &CancellationToken,
    ) {
        self.resets.open();
        let mut progress = Progress::default();
        for found in std::mem::take(&mut self.unrecorded) {
            self.send(found);
        }
        let mut next_tick = Instant::now() + TICK;
        // Either may come to its end before the other, as standard input does.
        let (mut has_batches, mut has_samples) = (true, true);
        while has_batches || has_samples {
            let next = self
                .memory
                .next()
                .map_or(next_tick, |next| next.min(next_tick));
            let wait = next.saturating_duration_since(Instant::now());
            let next = runtime.block_on(async {
                tokio::select! {
                    biased;
                    batch = samples.recv(), if has_samples => Next::Samples(batch),
                    batch = batches.recv(), if has_batches => Next::Batch(batch),
                    () = stop.cancelled() => Next::Stop,
                    () = tokio::time::sleep(wait) => Next::Tick,
                }
            });
            match next {
                Next::Batch(Some(batch)) => self.take(&batch, &mut progress),
                Next::Samples(Some(batch)) => self.take_samples(batch, &mut progress),
                Next::Batch(None) => has_batches = false,
                Next::Samples(None) => has_samples = false,
                Next::Stop => break,
                Next::Tick => {}
            }
            if Instant::now() >= next_tick {
                self.tick(Instant::now(), batches.is_empty(), &mut progress);
                let waiting = self.engine.waiting_contact_count() + progress.undecided.line_count();
                let waiting = u64::try_from(waiting).unwrap_or(u64::MAX);
                self.counters
                    .contacts_waiting
                    .store(waiting, Ordering::Relaxed);
                next_tick = Instant::now() + TICK;
            }
            let (sources, reached) = (&self.sources, &progress.reached);
            self.memory
                .work(&self.engine, &|| log_times(sources, reached));
            acknowledge(&mut progress.unacknowledged, &mut self.memory);
        }
        self.retry_deferred(None, &mut progress);
        wait_for_records(&progress.unacknowledged);
        renumber(&mut progress.unacknowledged, &mut self.memory);
        let (sources, reached) = (&self.sources, &progress.reached);
        self.memory
            .finish(&self.engine, &|| log_times(sources, reached));
        acknowledge(&mut progress.unacknowledged, &mut self.memory);
        self.resets.close();
    }

    /// Judges pods that fell silent, each up to the time that its source has reached. `is_idle`: no
    /// batch waits.
    fn tick(&mut self, now: Instant, is_idle: bool, progress: &mut Progress) {
        self.start_anew();
        self.forget_gone(progress, now);
        let beyond = self.engine.refused_signal_count();
        let said_before = self.counters.beyond_bound.swap(beyond, Ordering::Relaxed);
        if said_before == 0 && beyond > 0 {
            tracing::error!("More pods have state than the engine may hold; some are not watched.");
        }
        self.retry_deferred(Some(now), progress);
        for source in 0..self.sources.len() {
            if !self.look_at_reader(source, progress) || !is_idle {
                progress.reached.lags(source, now);
            }
        }
        let mut guards = Vec::new();
        let reached = &progress.reached;
        let mut findings = self.engine.settle(|id| reached.of(usize::from(id), now));
        {
            let read = (0..self.sources.len()).filter_map(|source| reached.of(source, now));
            let read_up_to = read.min().unwrap_or(EventTime::MIN);
            let index = self.index.read();
            findings.extend(self.reports.exchange(&mut self.engine, &index, read_up_to));
        }
        for finding in findings {
            let index = self.index.read();
            let facts = index.pod(&finding.subject.pod).cloned();
            drop(index);
            if let Some(facts) = facts {
                self.hand_over(finding, &facts, &mut guards);
            }
        }
        if let Some(last) = progress.unacknowledged.back_mut() {
            last.guards.append(&mut guards);
        }
        self.say_lacking();
    }

    /// Drops what the index and the engine know of pods that ended longer ago than lines can be late.
    fn forget_gone(&mut self, progress: &mut Progress, now: Instant) {
        let since = *progress.swept.get_or_insert(now);
        if now.saturating_duration_since(since) < SWEEP_EVERY {
            return;
        }
        progress.swept = Some(now);
        let mut index = self.index.write();
        forget_gone(&mut self.engine, &mut index, wall_clock());
    }

    /// Takes in what changed outside.
    fn start_anew(&mut self) {
        if self.scopes.has_changed().unwrap_or(false) {
            let scopes = self.scopes.borrow_and_update().clone();
            self.engine.set_scopes(scopes);
        }
        for pod in self.resets.take() {
            self.engine.forget(&pod);
            self.memory.changed();
        }
    }
}

/// What the pipeline does next.
enum Next {
    Batch(Option<Batch>),
    Samples(Option<SampleBatch>),
    Tick,
    Stop,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The number of a source in the engine. There are fewer than a hundred of them.
fn source_id(source: usize) -> u16 {
    u16::try_from(source).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
