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
mod attribution_result;
mod batch;
mod clock_skew;
mod decoders;
mod deferral;
mod deferred_lines;
mod lacking;
mod log_progress;
mod malformed;
mod restart;
mod samples;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::detect::{Attributed, Engine, Origin, Scopes};
use crate::limits;
use crate::model::{EventTime, Finding, Signal};
use crate::observability::{Counters, UnattributedReason};
use crate::respond::{AckGuard, AttributedFinding, ResetQueue, SourceProgress, TrafficMonitor};
use crate::signals::attribute::{Index, PodFacts};
use crate::signals::decode::{Decoder, Format, SkipReason, Tracking, Unconfirmed, sniff};
use crate::signals::health::{LineFate, SignalHealth, Unused};
use crate::signals::source::scrape::SampleBatch;
use crate::signals::source::{Batch, Position, SourceHealth, SourceState, lines};

use self::contact_reports::ContactReports;
use self::saved_state::Memory;
use acknowledge::{Unacknowledged, acknowledge, renumber, wait_for_records};
use clock_skew::wall_clock;
use deferral::is_undecided;
use deferred_lines::DeferredLines;
use log_progress::Reached;
use restart::log_times;
pub use samples::SampleCounters;
use step::{forget_gone, take_loss, take_signal};

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

/// What a source is called, and how its lines are read.
pub struct SourceInfo {
    /// Name.
    pub name: String,
    /// Format; `None` until the first line that can be told.
    pub format: Option<Format>,
    /// How its reader is.
    pub health: Box<dyn Fn() -> SourceHealth + Send>,
    /// Gaps of the reader that were taken in.
    pub gap_count: u64,
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

/// Whose a signal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// A pod's.
    Known,
    /// A pod's that may become known in a moment.
    NotKnownYet,
    /// A pod's, whose run or whose target may become known in a moment. Nothing has been judged.
    NotDecidedYet,
    /// Nobody's that could be named.
    Nobodys(LineFate),
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

    /// Notes how far a log has come.
    fn has_come(&self, source: usize, spoken: SourceProgress, progress: &mut Progress) {
        if spoken.log_time == EventTime::MIN {
            return;
        }
        // One absurd time stamp must not make everything overdue.
        let newest = spoken
            .log_time
            .min(wall_clock().plus_micros(limits::LOG_AHEAD_MAX_MICROS));
        let times = (newest, progress.reached.come(source, newest, spoken.at));
        let info = self.sources.get(source);
        let format = info.and_then(|info| info.format);
        if let Some(off) = progress.clock.news(source, format, times, spoken.at) {
            clock_skew::say(info.map_or("", |info| info.name.as_str()), off);
        }
        let log_time = newest;
        let spoken = SourceProgress { log_time, ..spoken };
        self.traffic.record_progress(source, spoken, wall_clock());
    }

    /// The decoder of a source's first file, where its beginning or the configuration tells the format.
    fn decoder_of(&mut self, source: usize, position: &Position) -> Option<Decoder> {
        let told = lines(position.header()).find_map(|line| self.format_of(source, line));
        let format = told.or(self.sources.get(source)?.format)?;
        Some(decoders::with_header(Decoder::new(format), position))
    }

    fn format_of(&mut self, source: usize, line: &[u8]) -> Option<Format> {
        let info = self.sources.get_mut(source)?;
        if info.format.is_none() {
            info.format = sniff(line);
            if let Some(format) = info.format {
                tracing::info!(
                    source = info.name,
                    format = format.name(),
                    "Format recognised."
                );
            }
        }
        info.format
    }

    /// Takes in a signal. With `may_wait` nothing is judged yet where something that it is judged by may become
    /// known in a moment.
    fn signal(
        &mut self,
        source: usize,
        (signal, may_wait): (&Signal<'_>, bool),
        progress: &Progress,
        guards: &mut Vec<Weak<AckGuard>>,
    ) -> Whose {
        let id = source_id(source);
        if let Signal::Lost(lost) = signal {
            self.counters.lost.fetch_add(lost.count, Ordering::Relaxed);
            self.health.lost(source, Instant::now());
            let index = self.index.read();
            take_loss(&mut self.engine, &index, id, lost);
            return Whose::Nobodys(LineFate::Neutral);
        }
        if progress.clock.is_ahead(signal.time()) {
            self.counters.unattributed.count(UnattributedReason::Ahead);
            return Whose::Nobodys(LineFate::Unused(Unused::Ahead));
        }
        let index = self.index.read();
        let scopes = &self.scopes;
        let must_wait = |attributed: &Attributed<'_>| {
            may_wait && is_undecided(&index, attributed, &scopes.borrow(), &progress.clock)
        };
        let taken = take_signal(&mut self.engine, &index, id, signal, must_wait);
        let (pod, found) = match taken {
            Ok(taken) => taken,
            Err(why) => {
                if matches!(
                    why,
                    UnattributedReason::UnknownAddress
                        | UnattributedReason::BeforePod
                        | UnattributedReason::AfterPod
                ) {
                    return Whose::NotKnownYet;
                }
                let fate = self.fate_of(&index, signal, why);
                drop(index);
                self.counters.unattributed.count(why);
                return Whose::Nobodys(fate);
            }
        };
        let format = self.sources.get(source).and_then(|info| info.format);
        if let Signal::Flow(flow) = signal
            && format.is_none_or(|format| format.dates(flow))
        {
            self.traffic.record_flow(pod, flow);
        }
        let Some(found) = found else {
            return Whose::NotDecidedYet;
        };
        if found.is_empty() {
            return Whose::Known;
        }
        // A run's finding may be about other pods than the one that brought it about.
        let facts_of = |finding: Finding| {
            let facts = index.pod(&finding.subject.pod).cloned()?;
            Some((finding, facts))
        };
        let found: Vec<_> = found.into_iter().filter_map(facts_of).collect();
        drop(index);
        for (finding, facts) in found {
            self.hand_over(finding, &facts, guards);
        }
        Whose::Known
    }

    /// Takes the contacts that a policy dropped, as this line makes known, for what they are.
    fn dropped(
        &mut self,
        source: usize,
        (signal, tracking): (&Signal<'_>, Tracking),
        progress: &mut Progress,
        guards: &mut Vec<Weak<AckGuard>>,
    ) {
        let Signal::Flow(flow) = signal else { return };
        if progress.clock.is_ahead(flow.time) {
            return;
        }
        let known = progress.unconfirmed.entry(source).or_default();
        for denied in known.take(flow, tracking) {
            // There is no line of it that could wait.
            self.signal(source, (&Signal::Flow(denied), false), progress, guards);
        }
    }

    /// Hands a finding to the recorder. Waits while its queue is full: the sources then stop
    /// reading, and their files keep the lines.
    fn hand_over(&mut self, finding: Finding, facts: &PodFacts, guards: &mut Vec<Weak<AckGuard>>) {
        let guard = Arc::new(AckGuard);
        guards.push(Arc::downgrade(&guard));
        let found = AttributedFinding {
            finding,
            namespace: facts.namespace.clone(),
            pod: facts.name.clone(),
            node: facts.node.clone(),
            ips: facts.ips.clone(),
            guard,
        };
        self.send(found);
    }

    fn send(&mut self, found: AttributedFinding) {
        self.memory.handed_over(&found);
        if self.findings.blocking_send(found).is_err() {
            tracing::debug!("The recorder is gone; this finding comes again after a restart.");
        }
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

    /// Takes in what the reader of a source has lost and what it does not hear. Returns whether it has
    /// read all that is there.
    fn look_at_reader(&mut self, source: usize, progress: &Progress) -> bool {
        let Some(info) = self.sources.get_mut(source) else {
            return false;
        };
        let health = (info.health)();
        let gap_count = health.gaps.saturating_sub(info.gap_count);
        info.gap_count = health.gaps;
        if let Some(newest) = progress.reached.newest(source) {
            let id = source_id(source);
            let whole = Origin {
                source: id,
                node: None,
            };
            self.engine.lost(whole, newest, gap_count);
            for node in self.health.unseen_nodes(source) {
                let node = Some(node.as_str());
                self.engine.lost(Origin { source: id, node }, newest, 1);
            }
        }
        let reads = matches!(health.state, SourceState::Reading | SourceState::Ended);
        reads && health.lag_bytes == 0
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
