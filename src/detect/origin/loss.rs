//! Loss: a span of event time in which records of a log may be missing.
//!
//! Stored by `origin` per log. In such a span a missing answer is no evidence (INV-8).

use serde::{Deserialize, Serialize};

use crate::detect::config::ANSWER_WAIT_US;
use crate::model::EventTime;

/// A report of lost records covers the time from so long before it, because a missing answer may be among the lost
/// records, to so long after it.
const LOSS_AFTER_US: i64 = 30_000_000;
const LOSS_BEFORE_US: i64 = ANSWER_WAIT_US;

/// A span of event time in which records may be missing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(in crate::detect) struct LossSpan {
    from: EventTime,
    until: EventTime,
}

impl Default for LossSpan {
    fn default() -> Self {
        Self {
            from: EventTime::MIN,
            until: EventTime::MIN,
        }
    }
}

impl LossSpan {
    /// Whether records of this time may be missing.
    pub(in crate::detect) fn covers(self, time: EventTime) -> bool {
        (self.from..=self.until).contains(&time) && self.until > EventTime::MIN
    }

    /// Adds a loss. Losses that follow each other closely become one span; a later one replaces it.
    pub(in crate::detect) fn extend(&mut self, time: EventTime) {
        let (from, until) = (
            time.plus_micros(-LOSS_BEFORE_US),
            time.plus_micros(LOSS_AFTER_US),
        );
        let touches = from <= self.until && until >= self.from;
        if self.until > EventTime::MIN && touches {
            self.from = self.from.min(from);
            self.until = self.until.max(until);
        } else {
            *self = Self { from, until };
        }
    }
}
