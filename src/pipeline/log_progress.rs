//! How far each log has been read, in the time of its records. Part of the pipeline.
//!
//! While lines arrive, the position is the time of the newest line. When the log is silent and the reader is at its
//! end, the position advances with the wall clock, so contacts without an answer become overdue in real time even where
//! the time stamps are old. While lines are unread or missing, the position does not advance (INV-8).

use std::collections::HashMap;
use std::time::Instant;

use crate::model::EventTime;

/// Read positions, by number of the source.
#[derive(Clone, Debug, Default)]
pub(super) struct LogProgress(HashMap<usize, Mark>);

#[derive(Clone, Copy, Debug)]
struct Mark {
    /// Time of the newest line.
    newest: EventTime,
    /// Since when the reader has been at the end of the log without a newer line.
    since: Instant,
}

impl LogProgress {
    /// Records a line of this time. Returns the time of the newest line.
    pub(super) fn advance(&mut self, source: usize, time: EventTime, now: Instant) -> EventTime {
        let first = Mark {
            newest: time,
            since: now,
        };
        let mark = self.0.entry(source).or_insert(first);
        mark.newest = mark.newest.max(time);
        mark.since = now;
        mark.newest
    }

    /// Records that the reader is not at the end of the log: the unread lines may contain answers.
    pub(super) fn hold(&mut self, source: usize, now: Instant) {
        if let Some(mark) = self.0.get_mut(&source) {
            mark.since = now;
        }
    }

    /// Time of the newest line of a source.
    pub(super) fn newest(&self, source: usize) -> Option<EventTime> {
        self.0.get(&source).map(|mark| mark.newest)
    }

    /// Time up to which a source has been read. `None` before its first line.
    pub(super) fn read_up_to(&self, source: usize, now: Instant) -> Option<EventTime> {
        let mark = self.0.get(&source)?;
        let silent = now.saturating_duration_since(mark.since);
        let silent_us = i64::try_from(silent.as_micros()).unwrap_or(i64::MAX);
        Some(mark.newest.plus_micros(silent_us))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_silent_log_advances_with_the_clock_and_one_that_lags_does_not() {
        let (mut log_progress, start) = (LogProgress::default(), Instant::now());
        let at = |second| EventTime::from_seconds(second, 0);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(log_progress.read_up_to(0, start), None);
        log_progress.advance(0, at(1_000), start);
        log_progress.advance(0, at(990), start);
        assert_eq!(log_progress.read_up_to(0, after(7)), Some(at(1_007)));
        log_progress.hold(0, after(7));
        assert_eq!(log_progress.read_up_to(0, after(7)), Some(at(1_000)));
        assert_eq!(log_progress.read_up_to(0, after(10)), Some(at(1_003)));
        log_progress.advance(0, at(1_001), after(10));
        assert_eq!(log_progress.read_up_to(0, after(10)), Some(at(1_001)));
    }
}
