//! How far each log has been read, in the log's own time. Part of the pipeline.
//!
//! A log that is written goes on with its lines. One that fell silent goes on with the clock, if the
//! reader stands at its end: then what waits for an answer waits in real time, also where the time
//! stamps are old. While lines are on the way or missing, its time stands still (INV-8).

use std::collections::HashMap;
use std::time::Instant;

use crate::model::EventTime;

/// See the module. By the index of the source.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached(HashMap<usize, Mark>);

#[derive(Clone, Copy, Debug)]
struct Mark {
    /// The newest line, in the log's time.
    newest: EventTime,
    /// Since when nothing newer came and the reader stood at the end.
    since: Instant,
}

impl Reached {
    /// A line of this time came. Returns the newest so far.
    pub(super) fn come(&mut self, source: usize, time: EventTime, now: Instant) -> EventTime {
        let first = Mark {
            newest: time,
            since: now,
        };
        let mark = self.0.entry(source).or_insert(first);
        mark.newest = mark.newest.max(time);
        mark.since = now;
        mark.newest
    }

    /// The reader does not stand at the end: what it has not read may be answers.
    pub(super) fn lags(&mut self, source: usize, now: Instant) {
        if let Some(mark) = self.0.get_mut(&source) {
            mark.since = now;
        }
    }

    /// The newest line of a source.
    pub(super) fn newest(&self, source: usize) -> Option<EventTime> {
        self.0.get(&source).map(|mark| mark.newest)
    }

    /// How far the source has been read.
    pub(super) fn of(&self, source: usize, now: Instant) -> Option<EventTime> {
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
    fn a_silent_log_goes_on_with_the_clock_and_one_that_lags_does_not() {
        let (mut reached, start) = (Reached::default(), Instant::now());
        let at = |second| EventTime::from_seconds(second, 0);
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(reached.of(0, start), None);
        reached.come(0, at(1_000), start);
        reached.come(0, at(990), start);
        assert_eq!(reached.of(0, after(7)), Some(at(1_007)));
        reached.lags(0, after(7));
        assert_eq!(reached.of(0, after(7)), Some(at(1_000)));
        assert_eq!(reached.of(0, after(10)), Some(at(1_003)));
        reached.come(0, at(1_001), after(10));
        assert_eq!(reached.of(0, after(10)), Some(at(1_001)));
    }
}
