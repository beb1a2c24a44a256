//! Loss: spans of event time in which records of a log may be missing.
//!
//! Kept by `origin` per log. In such a span the silence of a pod's targets says nothing (INV-8).

use serde::{Deserialize, Serialize};

use crate::model::EventTime;

/// How long a node's silence is not believed after it said that it lost records, and how long
/// before that already: an answer that is missing may have been among them.
const LOSS_AFTER_US: i64 = 30_000_000;
const LOSS_BEFORE_US: i64 = super::contacts::ANSWER_WAIT_US;

/// A span of event time in which records may be missing.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Loss {
    from: EventTime,
    until: EventTime,
}

impl Default for Loss {
    fn default() -> Self {
        Self {
            from: EventTime::MIN,
            until: EventTime::MIN,
        }
    }
}

impl Loss {
    /// Whether records of this time may be missing.
    pub(super) fn covers(self, time: EventTime) -> bool {
        (self.from..=self.until).contains(&time) && self.until > EventTime::MIN
    }

    /// Losses that follow each other closely become one span; a later one starts anew.
    pub(super) fn extend(&mut self, time: EventTime) {
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
