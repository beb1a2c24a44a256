//! The sources as the pipeline sees them: formats, how far their logs have come, and what their readers and logs lack.
//! Part of the pipeline.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::log_progress::Reached;
use super::saved_state::SourceTimes;
use super::{Pipeline, Progress, clock_skew, decoders, source_id, wall_clock};
use crate::detect::Origin;
use crate::limits;
use crate::model::EventTime;
use crate::respond::SourceProgress;
use crate::signals::decode::{Decoder, Format, sniff};
use crate::signals::health::Lacking;
use crate::signals::source::{Position, SourceHealth, SourceState, lines};

/// How often a malformed line is shown in the log, per source.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// Bytes of a malformed line that are shown.
const SAMPLE_BYTES_MAX: usize = 200;

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

impl Pipeline {
    /// The decoder of a source's first file, where its beginning or the configuration tells the format.
    pub(super) fn decoder_of(&mut self, source: usize, position: &Position) -> Option<Decoder> {
        let told = lines(position.header()).find_map(|line| self.format_of(source, line));
        let format = told.or(self.sources.get(source)?.format)?;
        Some(decoders::with_header(Decoder::new(format), position))
    }

    pub(super) fn format_of(&mut self, source: usize, line: &[u8]) -> Option<Format> {
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

    /// Notes how far a log has come.
    pub(super) fn has_come(&self, source: usize, spoken: SourceProgress, progress: &mut Progress) {
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

    /// Takes in what the reader of a source has lost and what it does not hear. Returns whether it has
    /// read all that is there.
    pub(super) fn look_at_reader(&mut self, source: usize, progress: &Progress) -> bool {
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

    /// Says it, also where nothing is lacking any more.
    pub(super) fn say_lacking(&self) {
        let mut by_source = vec![Vec::new(); self.sources.len()];
        for (source, node, lack) in self.engine.lacking() {
            if let Some(lacking) = by_source.get_mut(usize::from(source)) {
                lacking.push(Lacking {
                    node: node.map(ToOwned::to_owned),
                    what: lack.to_string(),
                });
            }
        }
        for (source, lacking) in by_source.into_iter().enumerate() {
            self.health.lacks(source, lacking);
        }
    }

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

    /// How far a source's log had come when the state was saved; once only.
    pub(super) fn restored_time(&mut self, source: usize) -> Option<EventTime> {
        let name = self.sources.get(source).map(|info| info.name.as_str())?;
        self.memory.restored_time(name)
    }

    /// After a restart: whether the log goes on where the saved state ends. If not, answers may have passed unseen, and
    /// who waited for one has not failed.
    pub(super) fn find_gap(&mut self, saved: Option<EventTime>, first: EventTime) {
        if saved.is_some_and(|saved| first.micros_since(saved) > limits::STATE_LOG_GAP_US) {
            self.engine.forget_waiting();
        }
    }
}

/// How far the log of each source has come.
pub(super) fn log_times(sources: &[SourceInfo], reached: &Reached) -> SourceTimes {
    let named = |(number, info): (usize, &SourceInfo)| {
        let time = reached.newest(number)?;
        Some((info.name.clone(), (u16::try_from(number).ok()?, time)))
    };
    sources.iter().enumerate().filter_map(named).collect()
}
