//! State of the sources: format, read position, losses of the reader, and evidence that the log does not contain. Part
//! of the pipeline.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::log_progress::LogProgress;
use super::saved_state::SourceTimes;
use super::{Pipeline, PipelineState, clock_skew, decoders, source_id, wall_clock};
use crate::detect::Origin;
use crate::limits;
use crate::model::EventTime;
use crate::respond::SourceProgress;
use crate::signals::decode::{Decoder, Format, sniff};
use crate::signals::health::Lacking;
use crate::signals::source::{Position, SourceHealth, SourceState, lines};

/// Minimum interval between two log messages about malformed lines of one source.
const MALFORMED_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Number of bytes of a malformed line in a log message.
const MALFORMED_SHOWN_BYTES_MAX: usize = 200;

/// A log source: its name, format and reader.
pub(crate) struct SourceInfo {
    /// Name in logs, metrics and conditions.
    pub name: String,
    /// Format. `None` until a line identifies it.
    pub format: Option<Format>,
    /// Returns the current health of the reader.
    pub health: Box<dyn Fn() -> SourceHealth + Send>,
    /// Gaps of the reader that the engine has been informed of.
    pub gap_count: u64,
}

impl Pipeline {
    /// Decoder of the first file of a source, if the file's header or the configuration determines the format.
    pub(super) fn decoder_of(&mut self, source: usize, position: &Position) -> Option<Decoder> {
        let detected = lines(position.header()).find_map(|line| self.format_of(source, line));
        let format = detected.or(self.sources.get(source)?.format)?;
        Some(decoders::with_header(Decoder::new(format), position))
    }

    /// Format of a source; detects it from this line if it is not known.
    pub(super) fn format_of(&mut self, source: usize, line: &[u8]) -> Option<Format> {
        let info = self.sources.get_mut(source)?;
        if info.format.is_none() {
            info.format = sniff(line);
            if let Some(format) = info.format {
                tracing::info!(
                    source = info.name,
                    format = format.name(),
                    "Detected the format of a source."
                );
            }
        }
        info.format
    }

    /// Records how far a log has been read, and logs clock skew.
    pub(super) fn record_progress(
        &self,
        source: usize,
        progress: SourceProgress,
        state: &mut PipelineState,
    ) {
        if progress.log_time == EventTime::MIN {
            return;
        }
        // A single absurd time stamp must not make every contact overdue.
        let newest = progress
            .log_time
            .min(wall_clock().plus_micros(limits::LOG_AHEAD_MAX_MICROS));
        let times = (
            newest,
            state.log_progress.advance(source, newest, progress.at),
        );
        let info = self.sources.get(source);
        let format = info.and_then(|info| info.format);
        if let Some(skew) = state
            .clock
            .skew_to_report(source, format, times, progress.at)
        {
            clock_skew::log_skew(info.map_or("", |info| info.name.as_str()), skew);
        }
        let log_time = newest;
        let progress = SourceProgress {
            log_time,
            ..progress
        };
        self.traffic.record_progress(source, progress, wall_clock());
    }

    /// Passes lost lines and unreachable nodes of a source to the engine. Returns whether the reader is at the end of
    /// the log.
    pub(super) fn check_reader(&mut self, source: usize, state: &PipelineState) -> bool {
        let Some(info) = self.sources.get_mut(source) else {
            return false;
        };
        let health = (info.health)();
        let gap_count = health.gaps.saturating_sub(info.gap_count);
        info.gap_count = health.gaps;
        if let Some(newest) = state.log_progress.newest(source) {
            let id = source_id(source);
            let whole_source = Origin {
                source: id,
                node: None,
            };
            self.engine.record_loss(whole_source, newest, gap_count);
            for node in self.health.unreachable_nodes(source) {
                let node = Some(node.as_str());
                self.engine
                    .record_loss(Origin { source: id, node }, newest, 1);
            }
        }
        let is_reading = matches!(health.state, SourceState::Reading | SourceState::Ended);
        is_reading && health.lag_bytes == 0
    }

    /// Passes the evidence that each log lacks from the engine to the health of the sources. An empty list clears it.
    pub(super) fn report_lacking(&self) {
        let mut by_source = vec![Vec::new(); self.sources.len()];
        for (source, node, lack) in self.engine.visibility_gaps() {
            if let Some(lacking) = by_source.get_mut(usize::from(source)) {
                lacking.push(Lacking {
                    node: node.map(ToOwned::to_owned),
                    what: lack.to_string(),
                });
            }
        }
        for (source, lacking) in by_source.into_iter().enumerate() {
            self.health.set_lacking(source, lacking);
        }
    }

    /// Logs a malformed line at most once per [`MALFORMED_LOG_INTERVAL`]. It may come from an attacker, so it is
    /// escaped and truncated.
    pub(super) fn log_malformed(
        &self,
        source: usize,
        line: &[u8],
        reason: &str,
        state: &mut PipelineState,
    ) {
        let now = Instant::now();
        let last = state.malformed_logged_at.get(&source);
        if last.is_some_and(|last| now - *last < MALFORMED_LOG_INTERVAL) {
            return;
        }
        state.malformed_logged_at.insert(source, now);
        let shown = line
            .get(..MALFORMED_SHOWN_BYTES_MAX)
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
            "Ignored a malformed line."
        );
    }

    /// Time of the newest line of a source when the restored state was saved. Returned once.
    pub(super) fn restored_time(&mut self, source: usize) -> Option<EventTime> {
        let name = self.sources.get(source).map(|info| info.name.as_str())?;
        self.saver.restored_time(name)
    }

    /// After a restart, checks whether the log continues where the saved state ends. If it does not, answers may have
    /// been missed, so contacts that waited for one are dropped and do not count as failed.
    pub(super) fn drop_waiting_after_gap(&mut self, saved: Option<EventTime>, first: EventTime) {
        if saved.is_some_and(|saved| first.micros_since(saved) > limits::STATE_LOG_GAP_US) {
            self.engine.forget_waiting();
        }
    }
}

/// Number of each source and time of its newest line, by name.
pub(super) fn source_times(sources: &[SourceInfo], log_progress: &LogProgress) -> SourceTimes {
    let named = |(number, info): (usize, &SourceInfo)| {
        let time = log_progress.newest(number)?;
        Some((info.name.clone(), (u16::try_from(number).ok()?, time)))
    };
    sources.iter().enumerate().filter_map(named).collect()
}
