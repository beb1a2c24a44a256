//! Health of a source, as shown in conditions and metrics.
//!
//! Written by the reader's thread and read by any other. State changes are logged here, once each, so
//! that a missing file does not fill the log.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// The state of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// It has not read anything yet.
    Starting,
    /// It reads: a file, or at least one file of its folder, is open and none fails.
    Reading,
    /// Its file or folder does not exist. It is read once it appears.
    Missing,
    /// A file cannot be read, for this reason. Reading is retried.
    Failed(String),
    /// Standard input ended, or the source was stopped.
    Ended,
}

/// A snapshot of a source's health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceHealth {
    /// The state.
    pub state: SourceState,
    /// The wall-clock time at which the last line was read. `None` before the first one.
    pub last_line_at: Option<SystemTime>,
    /// Batches sent to the consumer.
    pub batches: u64,
    /// Bytes of lines sent to the consumer.
    pub bytes: u64,
    /// Lines that were dropped because they were too long.
    pub oversized_lines: u64,
    /// Files that replaced a rotated one.
    pub rotations: u64,
    /// Files that were truncated.
    pub truncations: u64,
    /// Files that disappeared before they were read to their end, and nodes for which a relay could
    /// not repeat the flows after an interruption: lines may be missing.
    pub gaps: u64,
    /// Times that a log of the folder was not followed because there are too many.
    pub unfollowed: u64,
    /// Checkpoints that could not be written.
    pub checkpoint_failures: u64,
    /// Bytes that were written but not read yet, as of the last read.
    pub lag_bytes: u64,
}

/// A counter of [`SourceHealth`].
#[derive(Clone, Copy, Debug)]
pub(super) enum Count {
    OversizedLines,
    Rotations,
    Truncations,
    Gaps,
    Unfollowed,
    CheckpointFailures,
}

/// The health that the threads of a source share.
#[derive(Debug)]
pub(super) struct Health {
    name: String,
    state: Mutex<SourceState>,
    last_line_at_ms: AtomicU64,
    batches: AtomicU64,
    bytes: AtomicU64,
    oversized_lines: AtomicU64,
    rotations: AtomicU64,
    truncations: AtomicU64,
    gaps: AtomicU64,
    unfollowed: AtomicU64,
    checkpoint_failures: AtomicU64,
    lag_bytes: AtomicU64,
}

impl Health {
    pub(super) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: Mutex::new(SourceState::Starting),
            last_line_at_ms: AtomicU64::new(0),
            batches: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            oversized_lines: AtomicU64::new(0),
            rotations: AtomicU64::new(0),
            truncations: AtomicU64::new(0),
            gaps: AtomicU64::new(0),
            unfollowed: AtomicU64::new(0),
            checkpoint_failures: AtomicU64::new(0),
            lag_bytes: AtomicU64::new(0),
        }
    }

    pub(super) fn snapshot(&self) -> SourceHealth {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let last_line_at_ms = get(&self.last_line_at_ms);
        SourceHealth {
            state: self.state.lock().clone(),
            last_line_at: (last_line_at_ms > 0)
                .then(|| UNIX_EPOCH + std::time::Duration::from_millis(last_line_at_ms)),
            batches: get(&self.batches),
            bytes: get(&self.bytes),
            oversized_lines: get(&self.oversized_lines),
            rotations: get(&self.rotations),
            truncations: get(&self.truncations),
            gaps: get(&self.gaps),
            unfollowed: get(&self.unfollowed),
            checkpoint_failures: get(&self.checkpoint_failures),
            lag_bytes: get(&self.lag_bytes),
        }
    }

    pub(super) fn sent(&self, bytes: usize) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now_ms = now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        self.last_line_at_ms.store(now_ms, Ordering::Relaxed);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn lag(&self, bytes: u64) {
        self.lag_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Increments a counter. The first event of a kind is logged; later ones show only in the counter.
    pub(super) fn count(&self, what: Count, times: u64) {
        let counter = match what {
            Count::OversizedLines => &self.oversized_lines,
            Count::Rotations => &self.rotations,
            Count::Truncations => &self.truncations,
            Count::Gaps => &self.gaps,
            Count::Unfollowed => &self.unfollowed,
            Count::CheckpointFailures => &self.checkpoint_failures,
        };
        if times == 0 || counter.fetch_add(times, Ordering::Relaxed) > 0 {
            return;
        }
        let source = self.name.as_str();
        match what {
            Count::Rotations | Count::Truncations => {
                tracing::info!(source, ?what, "A log was rotated for the first time.");
            }
            Count::OversizedLines => {
                tracing::error!(
                    source,
                    "A line was too long and was dropped. Further ones are only counted."
                );
            }
            Count::Gaps => {
                tracing::error!(
                    source,
                    "Lines were lost before they were read. Further gaps are only counted."
                );
            }
            Count::Unfollowed => {
                tracing::error!(source, "A folder has more logs than are followed.");
            }
            Count::CheckpointFailures => {
                tracing::error!(
                    source,
                    "Failed to write a checkpoint. After a restart, lines would be read again."
                );
            }
        }
    }

    /// Sets the state, and logs it if it has changed.
    pub(super) fn set_state(&self, state: SourceState) {
        let mut known = self.state.lock();
        if *known == state {
            return;
        }
        let source = self.name.as_str();
        match &state {
            SourceState::Starting | SourceState::Reading | SourceState::Ended => {
                tracing::info!(source, ?state, "The state of a source has changed.");
            }
            SourceState::Missing => {
                tracing::warn!(
                    source,
                    "A log does not exist. It will be read once it appears."
                );
            }
            SourceState::Failed(reason) => {
                tracing::error!(source, reason, "Failed to read a log. Retrying.");
            }
        }
        *known = state;
    }
}
