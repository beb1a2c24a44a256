//! Overlap of processor evidence with a session, and the weight of its duration.
//!
//! Used by `compute` and `gpu`, so that both weight time in the same way.

use crate::detect::session::Session;
use crate::model::EventTime;

/// Evidence counts from the first duration on, and fully from the second on: shorter tests, installations and single
/// steps look the same.
const SHORT_US: i64 = 300_000_000;
const LONG_US: i64 = 600_000_000;

/// The time that a span and the session have in common, in microseconds.
pub(super) fn shared_us(start: EventTime, last: EventTime, session: &Session) -> i64 {
    let (from, until) = (start.max(session.first), last.min(session.last));
    until.micros_since(from).max(0)
}

/// The share of its nats that evidence of this duration adds, from 0 to 1.
#[allow(clippy::cast_precision_loss)] // both are below 2^53
pub(super) fn duration_share(span_us: i64) -> f64 {
    (span_us.clamp(SHORT_US, LONG_US) - SHORT_US) as f64 / (LONG_US - SHORT_US) as f64
}
