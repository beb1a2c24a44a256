//! Saves the engine's state to a file beside the checkpoints, and restores it after a restart.
//!
//! Used by the pipeline's thread, which owns the engine. A pass writes the complete state in pieces of a few hundred
//! KiB while lines continue to arrive; a separate thread does what may block on the disk. The pause between two passes
//! grows with the size of the state, so that neither the pipeline nor the disk is busy with it: see `limits`.
//!
//! Consistency of state and checkpoint. A batch is acknowledged, so that its lines are not read again, only after a
//! pass that began later than the batch has been written. After a crash the state is therefore never older than the
//! checkpoint, and nothing between the two is lost. It may be newer, by the lines that arrived after that pass began
//! and by the second that a checkpoint takes. These lines are read again without being counted twice: a known target
//! stays known, time that a session covers stays covered, and a finding that was already reported is not reported
//! again. Only plain counters in evidence (queries of a domain, packets of a session) can be too high by what was read
//! twice.
//!
//! Each pass also writes the findings that were sent to the recorder and are not recorded yet. The engine's state marks
//! them as reported, so the lines alone would not produce them again. Recording a finding twice has no effect.
//!
//! If a write fails, batches are acknowledged without it. The checkpoint is then newer than the state, and a restart
//! loses the difference, as it would without this file. The failure is counted and logged.

mod file;
mod writer;

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use self::file::Frame;
use self::writer::{Job, PassEnd, StateWriter};
use crate::detect::{Engine, EngineConfig, Saving};
use crate::limits;
use crate::model::{EventTime, Finding};
use crate::observability::{Counters, StateDefect};
use crate::respond::{AckGuard, AttributedFinding};

/// Counters of the state file, since the start of the process.
#[derive(Debug, Default)]
pub(crate) struct SavedStateCounters {
    /// Passes that were written completely.
    pub written: AtomicU64,
    /// Passes that failed.
    pub failed: AtomicU64,
    /// Current size of the file, in bytes.
    pub bytes: AtomicU64,
    /// State files that could not be read and were set aside, by reason.
    pub unreadable: Counters<StateDefect>,
    /// Pods restored from a state file.
    pub restored_pods: AtomicU64,
    /// Longest time that a step of a pass blocked the pipeline, in microseconds.
    pub longest_step_us: AtomicU64,
}

/// A finding that was sent to the recorder and is not recorded yet, without its guard.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Unrecorded {
    finding: Finding,
    namespace: String,
    pod: String,
    node: Option<String>,
    ips: Vec<std::net::IpAddr>,
}

/// Content of a state file.
#[derive(Debug)]
pub(crate) struct Restored {
    /// The restored engine.
    pub engine: Engine,
    /// Wall-clock time at which the pass began.
    pub saved_at: EventTime,
    unrecorded: Vec<Unrecorded>,
    log_times: SourceTimes,
}

impl Restored {
    /// Compares the configured sources with those of the saved state. The engine refers to logs by the number of their
    /// source, so if a number now belongs to another source, everything about logs is dropped: which records they
    /// contain, and contacts that wait for an answer.
    pub(crate) fn match_sources(&mut self, names: &[String]) {
        let is_unchanged = |(name, (number, _)): (&String, &(u16, EventTime))| {
            names.get(usize::from(*number)) == Some(name)
        };
        if !self.log_times.iter().all(is_unchanged) {
            self.engine.forget_logs();
        }
    }
}

/// Restores the state that was saved in `folder`. `None` if there is none. A file that cannot be read is counted,
/// logged and set aside under another name.
#[must_use]
pub(crate) fn restore(
    folder: &Path,
    config: &EngineConfig,
    counters: &SavedStateCounters,
) -> Option<Restored> {
    let path = folder.join(file::NAME);
    match file::load(&path, config) {
        Ok(restored) => {
            if let Some(restored) = &restored {
                let pods = restored.engine.pod_count();
                counters.restored_pods.store(pods as u64, Ordering::Relaxed);
                tracing::info!(pods, saved_at = %restored.saved_at, "Restored the detection state.");
            }
            restored
        }
        Err(error) => {
            counters.unreadable.count(error.defect());
            let moved_to = file::set_aside(&path);
            tracing::error!(
                file = %path.display(),
                moved_to = moved_to.as_deref().map(|path| path.display().to_string()),
                error = crate::observability::chain(&error),
                "Unable to restore the detection state; scans in progress are counted from zero. Remedy: {}",
                error.remedy()
            );
            None
        }
    }
}

/// Saves the state. Without a folder it does nothing, and every batch counts as saved.
#[derive(Debug, Default)]
pub(crate) struct StateSaver(Option<Saver>);

#[derive(Debug)]
struct Saver {
    writer: StateWriter,
    counters: Arc<SavedStateCounters>,
    /// Number of the last batch.
    last_batch: u64,
    /// The written state covers the batches up to this number.
    saved_batch: u64,
    has_changed: bool,
    /// Time of the next step.
    next_step_at: Instant,
    pass: Option<SavePass>,
    in_flight: VecDeque<(Weak<AckGuard>, Unrecorded)>,
    /// By source: read position of its log when the restored state was saved.
    restored_times: SourceTimes,
}

/// A pass in progress.
#[derive(Debug)]
struct SavePass {
    saving: Option<Saving>,
    /// Bytes that the writer thread has no room for yet.
    chunk: Vec<u8>,
    byte_count: u64,
    /// Number of the last batch when the pass began.
    batch: u64,
    /// Wall-clock time at which the pass began.
    began_at: EventTime,
    is_last: bool,
}

/// Number of each source and read position of its log, by name.
pub(crate) type SourceTimes = HashMap<String, (u16, EventTime)>;

/// Computes them on demand.
pub(crate) type LogTimes<'a> = &'a dyn Fn() -> SourceTimes;

impl StateSaver {
    /// Saves to this folder.
    #[must_use]
    pub(crate) fn in_folder(folder: &Path, counters: Arc<SavedStateCounters>) -> Self {
        Self(Some(Saver {
            writer: StateWriter::start(folder.join(file::NAME)),
            counters,
            last_batch: 0,
            saved_batch: 0,
            has_changed: false,
            next_step_at: Instant::now(),
            pass: None,
            in_flight: VecDeque::new(),
            restored_times: HashMap::new(),
        }))
    }

    /// Continues from a restored state, except for its engine. Returns the findings that were not recorded yet.
    pub(crate) fn resume_from(&mut self, restored: &Restored) -> Vec<AttributedFinding> {
        let Some(saver) = &mut self.0 else {
            return Vec::new();
        };
        saver.restored_times.clone_from(&restored.log_times);
        let found = restored
            .unrecorded
            .iter()
            .cloned()
            .map(AttributedFinding::from);
        found.collect()
    }

    /// Read position of a source when the restored state was saved. Returned once.
    pub(crate) fn restored_time(&mut self, source: &str) -> Option<EventTime> {
        let (_, time) = self.0.as_mut()?.restored_times.remove(source)?;
        Some(time)
    }

    /// Counts a processed batch; returns its number.
    pub(crate) fn add_batch(&mut self) -> u64 {
        self.mark_changed();
        self.0.as_mut().map_or(0, |saver| {
            saver.last_batch += 1;
            saver.last_batch
        })
    }

    /// Marks the engine's state as changed.
    pub(crate) fn mark_changed(&mut self) {
        if let Some(saver) = &mut self.0 {
            saver.has_changed = true;
        }
    }

    /// Tracks a finding that is sent to the recorder until it is recorded.
    pub(crate) fn track_finding(&mut self, found: &AttributedFinding) {
        let Some(saver) = &mut self.0 else { return };
        saver.drop_recorded();
        if saver.in_flight.len() >= limits::STATE_FINDINGS_MAX {
            saver.in_flight.pop_front();
        }
        let guard = Arc::downgrade(&found.guard);
        saver.in_flight.push_back((guard, Unrecorded::from(found)));
    }

    /// The written state covers the batches up to this number.
    #[must_use]
    pub(crate) fn saved_batch(&self) -> u64 {
        self.0.as_ref().map_or(u64::MAX, |saver| saver.saved_batch)
    }

    /// When [`StateSaver::step`] must be called again.
    #[must_use]
    pub(crate) fn next_step_at(&self) -> Option<Instant> {
        let saver = self.0.as_ref()?;
        let is_waiting =
            saver.has_changed || saver.pass.is_some() || saver.saved_batch < saver.last_batch;
        is_waiting.then_some(saver.next_step_at)
    }

    /// Writes the next part of the state, if it is due.
    pub(crate) fn step(&mut self, engine: &Engine, log_times: LogTimes<'_>) {
        if let Some(saver) = &mut self.0 {
            saver.step(engine, log_times);
        }
    }

    /// Writes the complete state before the process ends. Blocks on the disk.
    pub(crate) fn finish(&mut self, engine: &Engine, log_times: LogTimes<'_>) {
        let Some(saver) = &mut self.0 else { return };
        // A pass in progress is abandoned: what it wrote is older than the current state.
        let mut pass = saver.begin_pass(engine, true);
        while !saver.write_slice(&mut pass, engine, log_times, true) {}
        let until = Instant::now() + limits::STATE_LAST_WRITE_MAX;
        while saver.saved_batch < pass.batch && Instant::now() < until {
            saver.collect_results(limits::STATE_SLICE_PAUSE);
        }
    }
}

impl Saver {
    fn step(&mut self, engine: &Engine, log_times: LogTimes<'_>) {
        self.collect_results(Duration::ZERO);
        let start = Instant::now();
        if start < self.next_step_at {
            return;
        }
        let mut pass = match self.pass.take() {
            Some(pass) => pass,
            None if self.has_changed => self.begin_pass(engine, false),
            None => return,
        };
        let is_over = self.write_slice(&mut pass, engine, log_times, false);
        let step_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters
            .longest_step_us
            .fetch_max(step_us, Ordering::Relaxed);
        self.next_step_at = Instant::now()
            + if is_over {
                pause_after(pass.byte_count)
            } else {
                limits::STATE_SLICE_PAUSE
            };
        self.pass = (!is_over).then_some(pass);
    }

    fn begin_pass(&mut self, engine: &Engine, is_last: bool) -> SavePass {
        self.has_changed = false;
        self.pass = None;
        SavePass {
            saving: Some(engine.saving()),
            chunk: file::begin(),
            byte_count: 0,
            batch: self.last_batch,
            began_at: super::wall_clock(),
            is_last,
        }
    }

    /// Writes one slice. Returns whether the pass has ended.
    fn write_slice(
        &mut self,
        pass: &mut SavePass,
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
                    // No valid state causes this. The piece is left out.
                    Err(error) => {
                        tracing::error!(%error, "Failed to serialize a part of the detection state; it is not saved.");
                    }
                }
            }
            if pass.saving.is_none() {
                self.put_trailer(pass, log_times);
            }
        }
        let is_complete = pass.saving.is_none();
        let is_over_size = pass.byte_count + pass.chunk.len() as u64 > limits::STATE_BYTES_MAX;
        let chunk = Job::Chunk(std::mem::take(&mut pass.chunk));
        let is_first = pass.byte_count == 0;
        match self.writer.send_chunk(chunk, is_first, waits) {
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
        self.writer.end(PassEnd {
            batch: pass.batch,
            is_last: pass.is_last,
            is_over_size,
        });
        true
    }

    /// Appends what follows the engine: unrecorded findings, and the read positions of the logs.
    fn put_trailer(&mut self, pass: &mut SavePass, log_times: LogTimes<'_>) {
        self.drop_recorded();
        let unrecorded = self.in_flight.iter().map(|(_, found)| found);
        for bytes in unrecorded.filter_map(|found| postcard::to_allocvec(found).ok()) {
            Frame::Unrecorded(&bytes).put(&mut pass.chunk);
        }
        if let Ok(bytes) = postcard::to_allocvec(&(pass.began_at, log_times())) {
            Frame::LogTimes(&bytes).put(&mut pass.chunk);
        }
    }

    fn drop_recorded(&mut self) {
        self.in_flight.retain(|(guard, _)| guard.strong_count() > 0);
    }

    /// Collects results from the writer thread. Waits up to `wait` for the first.
    fn collect_results(&mut self, wait: Duration) {
        while let Some(result) = self.writer.next_result(wait) {
            self.saved_batch = self.saved_batch.max(result.batch);
            match result.written {
                Ok(byte_count) => {
                    self.counters.written.fetch_add(1, Ordering::Relaxed);
                    self.counters.bytes.store(byte_count, Ordering::Relaxed);
                }
                Err(error) => {
                    let count = self.counters.failed.fetch_add(1, Ordering::Relaxed);
                    if count.is_power_of_two() || count == 0 {
                        tracing::error!(
                            error,
                            "Failed to save the detection state; after a restart, scans in progress would be \
                             counted from zero. Check the free space and the permissions of --checkpoint-dir."
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

/// Pause after a pass of this many bytes.
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
