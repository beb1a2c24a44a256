//! Malformed lines in the operator's log: one now and then. Part of the pipeline.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Pipeline, Progress};

/// How often a malformed line is shown in the log, per source.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// Bytes of a malformed line that are shown.
const SAMPLE_BYTES_MAX: usize = 200;

impl Pipeline {
    /// Shows a malformed line now and then: its author may be hostile, so escaped and cut.
    pub(super) fn sample(&self, source: usize, line: &[u8], reason: &str, progress: &mut Progress) {
        let now = Instant::now();
        let last = progress.sampled.get(&source);
        if last.is_some_and(|last| now - *last < SAMPLE_EVERY) {
            return;
        }
        progress.sampled.insert(source, now);
        let shown = line
            .get(..SAMPLE_BYTES_MAX)
            .unwrap_or(line)
            .escape_ascii()
            .to_string();
        let name = self
            .sources
            .get(source)
            .map_or("", |info| info.name.as_str());
        let total = self.counters.malformed.load(Ordering::Relaxed);
        tracing::warn!(
            source = name,
            reason,
            total,
            line = shown,
            "A line is malformed."
        );
    }
}
