//! Clock skew between a log and this machine. Lines with a wrong time would be attributed to the wrong pod. Part of
//! the pipeline.
//!
//! Lines from the future are not attributed: the pod that will have the address is not known yet, and the current one
//! may be another. A clock that is behind cannot be distinguished from a log that is delivered late, so this is only
//! logged.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::limits;
use crate::model::EventTime;
use crate::signals::decode::Format;

/// Minimum interval between two log messages about one source.
const REPORT_INTERVAL: Duration = Duration::from_mins(1);

/// Wall-clock time of the last batch, and when skew was last logged, by source.
#[derive(Debug, Default)]
pub(super) struct Clock {
    wall: Option<EventTime>,
    logged_at: HashMap<usize, Instant>,
}

/// Skew of a log's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClockSkew {
    /// The newest line is this many seconds in the future.
    Ahead(i64),
    /// The newest line is this many seconds old, in a format that is written without delay.
    Behind(i64),
}

impl Clock {
    /// Sets the wall-clock time at which a batch was read.
    pub(super) const fn set(&mut self, wall: EventTime) {
        self.wall = Some(wall);
    }

    /// Wall-clock time of the last batch. `None` before the first.
    pub(super) const fn wall(&self) -> Option<EventTime> {
        self.wall
    }

    /// Whether a line of this time is from the future, beyond the tolerated skew.
    pub(super) fn is_ahead(&self, time: EventTime) -> bool {
        self.wall
            .is_some_and(|wall| time.micros_since(wall) > limits::LOG_AHEAD_MAX_MICROS)
    }

    /// The skew to log for a source, given the newest line of this batch and of all batches. `None` without skew, or
    /// within [`REPORT_INTERVAL`] of the last message.
    pub(super) fn skew_to_report(
        &mut self,
        source: usize,
        format: Option<Format>,
        (newest, newest_ever): (EventTime, EventTime),
        now: Instant,
    ) -> Option<ClockSkew> {
        let wall = self.wall?;
        let skew = if self.is_ahead(newest) {
            ClockSkew::Ahead(newest.micros_since(wall) / 1_000_000)
        } else {
            let age = wall.micros_since(newest_ever);
            // These formats aggregate minutes and write them afterwards.
            let is_prompt = !matches!(format, Some(Format::Vpc | Format::Calico));
            if !is_prompt || age <= limits::LOG_AHEAD_MAX_MICROS {
                return None;
            }
            ClockSkew::Behind(age / 1_000_000)
        };
        let last = self.logged_at.get(&source);
        if last.is_some_and(|last| now - *last < REPORT_INTERVAL) {
            return None;
        }
        self.logged_at.insert(source, now);
        Some(skew)
    }
}

pub(super) fn wall_clock() -> EventTime {
    EventTime::from(Timestamp::now())
}

/// Logs the skew of a source.
pub(super) fn log_skew(source: &str, skew: ClockSkew) {
    match skew {
        ClockSkew::Ahead(seconds) => tracing::error!(
            source,
            seconds,
            "The clock of a log is ahead; its lines are not attributed to any pod until the clock is corrected."
        ),
        ClockSkew::Behind(seconds) => tracing::warn!(
            source,
            seconds,
            "The newest line of a log is old; its clock is behind, or the log is delivered late."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> EventTime {
        EventTime::from_seconds(second, 0)
    }

    fn clock(wall_s: i64) -> Clock {
        let mut clock = Clock::default();
        clock.set(at(wall_s));
        clock
    }

    #[test]
    fn a_line_from_the_future_is_not_attributed_and_one_that_is_slightly_ahead_is() {
        let clock = clock(1_000);
        assert!(clock.is_ahead(at(1_300)));
        assert!(!clock.is_ahead(at(1_100)));
        assert!(!clock.is_ahead(at(700)));
        assert!(!Clock::default().is_ahead(at(700)));
    }

    #[test]
    fn skew_is_reported_once_a_minute_for_each_source() {
        let (mut clock, now) = (clock(1_000), Instant::now());
        let ahead = (at(1_300), at(1_300));
        let mut skew_to_report =
            |source, at| clock.skew_to_report(source, Some(Format::Ulogd), ahead, at);
        assert_eq!(skew_to_report(0, now), Some(ClockSkew::Ahead(300)));
        assert_eq!(skew_to_report(0, now + REPORT_INTERVAL / 2), None);
        assert_eq!(
            skew_to_report(1, now + REPORT_INTERVAL / 2),
            Some(ClockSkew::Ahead(300))
        );
        assert_eq!(
            skew_to_report(0, now + REPORT_INTERVAL),
            Some(ClockSkew::Ahead(300))
        );
    }

    #[test]
    fn an_old_line_in_a_log_that_has_newer_ones_is_not_skew() {
        let (mut clock, now) = (clock(1_000), Instant::now());
        let mut skew_to_report = |format, newest_ever| {
            clock.skew_to_report(0, Some(format), (at(600), newest_ever), now)
        };
        assert_eq!(skew_to_report(Format::Ulogd, at(990)), None);
        assert_eq!(skew_to_report(Format::Vpc, at(700)), None);
        assert_eq!(
            skew_to_report(Format::Ulogd, at(700)),
            Some(ClockSkew::Behind(300))
        );
    }
}
