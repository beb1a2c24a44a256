//! The clock of a log beside the clock on the wall: a log whose clock is wrong names the wrong pod.
//!
//! Part of the pipeline. What is ahead is given to nobody: the pod that will have an address is not
//! known yet, and the one that has it now may be another. What is behind cannot be told from a log
//! that is read late, so it is only said.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::limits;
use crate::model::EventTime;
use crate::signals::decode::Format;

/// How often it is said, per source.
const SAID_EVERY: Duration = Duration::from_mins(1);

/// The clock on the wall when a batch came, and when something was last said about it.
#[derive(Debug, Default)]
pub(super) struct Clock {
    wall: Option<EventTime>,
    said: HashMap<usize, Instant>,
}

/// What is wrong with a log's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Off {
    /// The newest line is from the future, by so many seconds.
    Ahead(i64),
    /// The newest line is so many seconds old, in a log whose lines come as things happen.
    Behind(i64),
}

impl Clock {
    /// A batch came.
    pub(super) const fn set(&mut self, wall: EventTime) {
        self.wall = Some(wall);
    }

    /// The clock on the wall, as it was when something was read last.
    pub(super) const fn wall(&self) -> Option<EventTime> {
        self.wall
    }

    /// Whether a line of this time is from the future.
    pub(super) fn is_ahead(&self, time: EventTime) -> bool {
        self.wall
            .is_some_and(|wall| time.micros_since(wall) > limits::LOG_AHEAD_MAX_MICROS)
    }

    /// What to say about a source, given the newest line of this batch and of all.
    pub(super) fn news(
        &mut self,
        source: usize,
        format: Option<Format>,
        (newest, newest_ever): (EventTime, EventTime),
        now: Instant,
    ) -> Option<Off> {
        let wall = self.wall?;
        let off = if self.is_ahead(newest) {
            Off::Ahead(newest.micros_since(wall) / 1_000_000)
        } else {
            let age = wall.micros_since(newest_ever);
            // Windows of minutes are told when they have ended.
            let is_prompt = !matches!(format, Some(Format::Vpc | Format::Calico));
            if !is_prompt || age <= limits::LOG_AHEAD_MAX_MICROS {
                return None;
            }
            Off::Behind(age / 1_000_000)
        };
        let last = self.said.get(&source);
        if last.is_some_and(|last| now - *last < SAID_EVERY) {
            return None;
        }
        self.said.insert(source, now);
        Some(off)
    }
}

pub(super) fn wall_clock() -> EventTime {
    EventTime::from(Timestamp::now())
}

/// Says it.
pub(super) fn say(source: &str, off: Off) {
    match off {
        Off::Ahead(seconds) => tracing::error!(
            source,
            seconds,
            "The clock of a log is ahead: its lines are given to no pod until it is set right."
        ),
        Off::Behind(seconds) => tracing::warn!(
            source,
            seconds,
            "The newest line of a log is old: its clock is behind, or it is read late."
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
    fn a_line_from_the_future_is_nobodys_and_one_that_is_little_ahead_is_not() {
        let clock = clock(1_000);
        assert!(clock.is_ahead(at(1_300)));
        assert!(!clock.is_ahead(at(1_100)));
        assert!(!clock.is_ahead(at(700)));
        assert!(!Clock::default().is_ahead(at(700)));
    }

    #[test]
    fn a_clock_that_is_off_is_said_once_a_minute_for_each_source() {
        let (mut clock, now) = (clock(1_000), Instant::now());
        let ahead = (at(1_300), at(1_300));
        let mut news = |source, at| clock.news(source, Some(Format::Ulogd), ahead, at);
        assert_eq!(news(0, now), Some(Off::Ahead(300)));
        assert_eq!(news(0, now + SAID_EVERY / 2), None);
        assert_eq!(news(1, now + SAID_EVERY / 2), Some(Off::Ahead(300)));
        assert_eq!(news(0, now + SAID_EVERY), Some(Off::Ahead(300)));
    }

    #[test]
    fn an_old_line_in_a_log_that_has_newer_ones_is_no_news() {
        let (mut clock, now) = (clock(1_000), Instant::now());
        let mut news =
            |format, newest_ever| clock.news(0, Some(format), (at(600), newest_ever), now);
        assert_eq!(news(Format::Ulogd, at(990)), None);
        assert_eq!(news(Format::Vpc, at(700)), None);
        assert_eq!(news(Format::Ulogd, at(700)), Some(Off::Behind(300)));
    }
}
