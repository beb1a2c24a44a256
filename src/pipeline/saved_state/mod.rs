//! Memory over a restart: the engine's state in a file beside the checkpoints.
//!
//! Used by the pipeline, whose thread owns the engine. A pass writes the whole state piece by piece, some hundred KiB at
//! a time, while lines go on coming in; a thread of its own does what can wait for a disk. The pause between two passes
//! grows with the size of the state, so that neither the pipeline nor the disk is kept busy: see `limits`.
//!
//! How state and checkpoint go together. A batch is acknowledged, so that its lines are not read again, only once a pass
//! that began after it has been written. After a crash the state is therefore never older than the place in the log:
//! nothing between the two is lost. It may be newer, by what came in since that pass began and by the second that a
//! checkpoint takes. Those lines are read again, and count once: a target that is known is known, time that a session
//! covered is covered, a finding that was handed over is not news. Only plain counts in evidence (queries of a domain,
//! packets of a session) can be higher by what was read twice.
//!
//! A finding that is handed over and not recorded yet is written too, at the end of each pass: the state says that it
//! was handed over, so that the lines alone would not bring it again. Recording one twice changes nothing.
//!
//! If a write fails, batches are acknowledged without it: the place in the log then is newer than the state, and what is
//! lost is memory, as without this file. It is counted and logged.

mod file;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::file::Frame;
use self::writer::{Ended, Job, StateWriter};
use crate::detect::{Engine, EngineConfig, Saving};
use crate::limits;
use crate::model::{EventTime, Finding};
use crate::observability::{Counters, StateDefect};
use crate::respond::{AckGuard, AttributedFinding};

/// What became of the state file, since the start.
#[derive(Debug, Default)]
pub struct MemoryCounters {
    /// Passes that were written to their end.
    pub written: AtomicU64,
    /// Passes that could not be written.
    pub failed: AtomicU64,
    /// Bytes of the file as it is.
    pub bytes: AtomicU64,
    /// State files that could not be read and were left aside, by reason.
    pub unreadable: Counters<StateDefect>,
    /// Pods that a state file gave back.
    pub restored_pods: AtomicU64,
    /// Microseconds that the longest step of a pass kept the pipeline.
    pub longest_step_us: AtomicU64,
}

/// A finding that is handed over and not recorded yet, without its guard.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Unrecorded {
    finding: Finding,
    namespace: String,
    pod: String,
    node: Option<String>,
    ips: Vec<std::net::IpAddr>,
}

/// What a state file held.
#[derive(Debug)]
pub struct Restored {
    /// The engine.
    pub engine: Engine,
    /// When the pass began, by the clock on the wall.
    pub saved_at: EventTime,
    unrecorded: Vec<Unrecorded>,
    log_times: SourceTimes,
}

impl Restored {
    /// The sources are these now. What a log has shown, and contacts that wait for an answer, name their log by the
    /// source's number: where that is another source's by now, they are forgotten.
    pub fn match_sources(&mut self, names: &[String]) {
        let is_there = |(name, (number, _)): (&String, &(u16, EventTime))| {
            names.get(usize::from(*number)) == Some(name)
        };
        if !self.log_times.iter().all(is_there) {
            self.engine.forget_logs();
        }
    }
}

/// The engine that goes on from what was kept in `folder`, or a new one. A state that cannot be read is counted, logged
/// and left aside under another name.
#[must_use]
pub fn restore(
    folder: &Path,
    config: &EngineConfig,
    counters: &MemoryCounters,
) -> Option<Restored> {
    let path = folder.join(file::NAME);
    match file::load(&path, config) {
        Ok(restored) => {
            if let Some(restored) = &restored {
                let pods = restored.engine.pod_count();
                counters.restored_pods.store(pods as u64, Ordering::Relaxed);
                tracing::info!(pods, saved_at = %restored.saved_at, "Detection goes on from its saved state.");
            }
            restored
        }
        Err(error) => {
            counters.unreadable.count(error.defect());
            let left_at = file::leave_aside(&path);
            tracing::error!(
                file = %path.display(),
                left_at = left_at.as_deref().map(|path| path.display().to_string()),
                error = crate::observability::chain(&error),
                "The saved detection state cannot be used: scans under way are judged from their start. To do: {}",
                error.to_do()
            );
            None
        }
    }
}

/// Keeps the state, where there is a folder for it.
#[derive(Debug, Default)]
pub struct Memory(Option<Keeper>);

#[derive(Debug)]
struct Keeper {
    writer: StateWriter,
    counters: Arc<MemoryCounters>,
    /// Batches that were taken so far, and those of which the state is written.
    taken: u64,
    kept: u64,
    has_changed: bool,
    /// Not before this is there anything to do.
    next: Instant,
    pass: Option<Pass>,
    in_flight: VecDeque<(Weak<AckGuard>, Unrecorded)>,
    /// By source, how far its log had come when the state was saved that this engine went on from.
    restored_times: SourceTimes,
}

/// A pass that is under way.
#[derive(Debug)]
struct Pass {
    saving: Option<Saving>,
    /// What the writer has no room for yet.
    chunk: Vec<u8>,
    byte_count: u64,
    /// Batches that had been taken when it began, and when that was.
    taken: u64,
    began_at: EventTime,
    is_last: bool,
}

/// The number of each source, and how far its log has come, by name.
pub type SourceTimes = HashMap<String, (u16, EventTime)>;

/// Tells them when they are asked for.
pub type LogTimes<'a> = &'a dyn Fn() -> SourceTimes;

impl Memory {
    /// Memory in a folder.
    #[must_use]
    pub fn in_folder(folder: &Path, counters: Arc<MemoryCounters>) -> Self {
        Self(Some(Keeper {
            writer: StateWriter::start(folder.join(file::NAME)),
            counters,
            taken: 0,
            kept: 0,
            has_changed: false,
            next: Instant::now(),
            pass: None,
            in_flight: VecDeque::new(),
            restored_times: HashMap::new(),
        }))
    }

    /// Takes over what a state file held besides the engine. Returns the findings that were not recorded yet.
    pub fn take_over(&mut self, restored: &Restored) -> Vec<AttributedFinding> {
        let Some(keeper) = &mut self.0 else {
            return Vec::new();
        };
        keeper.restored_times.clone_from(&restored.log_times);
        let found = restored
            .unrecorded
            .iter()
            .cloned()
            .map(AttributedFinding::from);
        found.collect()
    }

    /// How far a source's log had come when the state was saved; once only.
    pub fn restored_time(&mut self, source: &str) -> Option<EventTime> {
        let (_, time) = self.0.as_mut()?.restored_times.remove(source)?;
        Some(time)
    }

    /// A batch was taken; its number.
    pub fn took_batch(&mut self) -> u64 {
        self.changed();
        self.0.as_mut().map_or(0, |keeper| {
            keeper.taken += 1;
            keeper.taken
        })
    }

    /// The state may be another one.
    pub fn changed(&mut self) {
        if let Some(keeper) = &mut self.0 {
            keeper.has_changed = true;
        }
    }

    /// A finding is on its way to the recorder.
    pub fn handed_over(&mut self, found: &AttributedFinding) {
        let Some(keeper) = &mut self.0 else { return };
        keeper.forget_recorded();
        if keeper.in_flight.len() >= limits::STATE_FINDINGS_MAX {
            keeper.in_flight.pop_front();
        }
        let guard = Arc::downgrade(&found.guard);
        keeper.in_flight.push_back((guard, Unrecorded::from(found)));
    }

    /// Batches up to this number are in the written state.
    #[must_use]
    pub fn kept(&self) -> u64 {
        self.0.as_ref().map_or(u64::MAX, |keeper| keeper.kept)
    }

    /// When [`Memory::work`] wants to be called again.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        let keeper = self.0.as_ref()?;
        let is_waiting = keeper.has_changed || keeper.pass.is_some() || keeper.kept < keeper.taken;
        is_waiting.then_some(keeper.next)
    }

    /// Writes a part of the state, if it is time.
    pub fn work(&mut self, engine: &Engine, log_times: LogTimes<'_>) {
        if let Some(keeper) = &mut self.0 {
            keeper.work(engine, log_times);
        }
    }

    /// Writes all of it, for a restart that is due. Waits for the disk.
    pub fn finish(&mut self, engine: &Engine, log_times: LogTimes<'_>) {
        let Some(keeper) = &mut self.0 else { return };
        // A pass that is under way is given up: its pieces are older than what can be written now.
        let mut pass = keeper.new_pass(engine, true);
        while !keeper.step(&mut pass, engine, log_times, true) {}
        let until = Instant::now() + limits::STATE_LAST_WRITE_MAX;
        while keeper.kept < pass.taken && Instant::now() < until {
            keeper.take_news(limits::STATE_SLICE_PAUSE);
        }
    }
}

impl Keeper {
    fn work(&mut self, engine: &Engine, log_times: LogTimes<'_>) {
        self.take_news(Duration::ZERO);
        let start = Instant::now();
        if start < self.next {
            return;
        }
        let mut pass = match self.pass.take() {
            Some(pass) => pass,
            None if self.has_changed => self.new_pass(engine, false),
            None => return,
        };
        let is_over = self.step(&mut pass, engine, log_times, false);
        let step_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters
            .longest_step_us
            .fetch_max(step_us, Ordering::Relaxed);
        self.next = Instant::now()
            + if is_over {
                pause_after(pass.byte_count)
            } else {
                limits::STATE_SLICE_PAUSE
            };
        self.pass = (!is_over).then_some(pass);
    }

    fn new_pass(&mut self, engine: &Engine, is_last: bool) -> Pass {
        self.has_changed = false;
        self.pass = None;
        Pass {
            saving: Some(engine.saving()),
            chunk: file::begin(),
            byte_count: 0,
            taken: self.taken,
            began_at: super::wall_clock(),
            is_last,
        }
    }

    /// Writes one slice; says whether the pass is over.
    fn step(
        &mut self,
        pass: &mut Pass,
        engine: &Engine,
        log_times: LogTimes<'_>,
        waits: bool,
    ) -> bool {
        if let Some(saving) = &mut pass.saving {
            let mut piece = Vec::new();
            while pass.chunk.len() < limits::STATE_SLICE_BYTES {
                match engine.save_next(saving, &mut piece) {
                    Ok(true) => Frame::Engine(&piece).put(&mut pass.chunk),
                    Ok(false) => {
                        pass.saving = None;
                        break;
                    }
                    // Nothing of the state can bring this about; if it does, the piece is left out.
                    Err(error) => tracing::error!(%error, "A piece of the state is not saved."),
                }
            }
            if pass.saving.is_none() {
                self.put_rest(pass, log_times);
            }
        }
        let is_complete = pass.saving.is_none();
        let is_over_size = pass.byte_count + pass.chunk.len() as u64 > limits::STATE_BYTES_MAX;
        let chunk = Job::Chunk(std::mem::take(&mut pass.chunk));
        let is_first = pass.byte_count == 0;
        match self.writer.hand_over(chunk, is_first, waits) {
            Ok(length) => pass.byte_count += length,
            Err(Job::Chunk(chunk)) => {
                pass.chunk = chunk;
                return false;
            }
            Err(_) => return true,
        }
        if !is_complete && !is_over_size {
            return false;
        }
        self.writer.end(Ended {
            taken: pass.taken,
            is_last: pass.is_last,
            is_over_size,
        });
        true
    }

    /// What comes after the engine: findings on their way, and how far the logs have come.
    fn put_rest(&mut self, pass: &mut Pass, log_times: LogTimes<'_>) {
        self.forget_recorded();
        let unrecorded = self.in_flight.iter().map(|(_, found)| found);
        for bytes in unrecorded.filter_map(|found| postcard::to_allocvec(found).ok()) {
            Frame::Unrecorded(&bytes).put(&mut pass.chunk);
        }
        if let Ok(bytes) = postcard::to_allocvec(&(pass.began_at, log_times())) {
            Frame::LogTimes(&bytes).put(&mut pass.chunk);
        }
    }

    fn forget_recorded(&mut self) {
        self.in_flight.retain(|(guard, _)| guard.strong_count() > 0);
    }

    /// What the writer says that it has done.
    fn take_news(&mut self, wait: Duration) {
        while let Some(news) = self.writer.news(wait) {
            self.kept = self.kept.max(news.taken);
            match news.result {
                Ok(byte_count) => {
                    self.counters.written.fetch_add(1, Ordering::Relaxed);
                    self.counters.bytes.store(byte_count, Ordering::Relaxed);
                }
                Err(error) => {
                    let count = self.counters.failed.fetch_add(1, Ordering::Relaxed);
                    if count.is_power_of_two() || count == 0 {
                        tracing::error!(
                            error,
                            "The detection state is not saved; a restart would judge scans under way from their \
                             start. Look for room and rights in the folder of --checkpoint-dir."
                        );
                    }
                }
            }
            if wait > Duration::ZERO {
                return;
            }
        }
    }
}

/// How long to wait after a pass of so many bytes.
fn pause_after(byte_count: u64) -> Duration {
    let by_size = Duration::from_millis(byte_count * 1_000 / limits::STATE_BYTES_PER_SECOND);
    by_size.max(limits::STATE_PAUSE_MIN)
}

impl From<&AttributedFinding> for Unrecorded {
    fn from(found: &AttributedFinding) -> Self {
        Self {
            finding: found.finding.clone(),
            namespace: found.namespace.clone(),
            pod: found.pod.clone(),
            node: found.node.clone(),
            ips: found.ips.clone(),
        }
    }
}

impl From<Unrecorded> for AttributedFinding {
    fn from(kept: Unrecorded) -> Self {
        let Unrecorded {
            finding,
            namespace,
            pod,
            node,
            ips,
        } = kept;
        Self {
            finding,
            namespace,
            pod,
            node,
            ips,
            guard: Arc::new(AckGuard),
        }
    }
}

#[cfg(test)]
mod tests;
