//! Event time: the time in a log.
//!
//! The pure core uses it instead of a clock. A pure module must never read the wall clock; the shells convert times at the
//! boundary. Therefore a replay produces the same result as the operator (INV-9).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;

/// Microseconds since the Unix epoch, as the log recorded them.
///
/// Arithmetic saturates, so that a hostile or broken timestamp causes no overflow.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(from = "i64")]
pub struct EventTime(i64);

impl EventTime {
    /// The earliest time; means "never" in `last seen` fields.
    pub const MIN: Self = Self(i64::MIN);

    /// From microseconds since the Unix epoch.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        Self(micros)
    }

    /// From whole seconds and microseconds within the second.
    #[must_use]
    pub const fn from_seconds(seconds: i64, micros: i64) -> Self {
        Self(seconds.saturating_mul(1_000_000).saturating_add(micros))
    }

    /// From seconds with a fraction, as in Zeek logs. `None` for NaN, infinity and values beyond the range.
    #[must_use]
    #[allow(clippy::cast_possible_truncation)] // checked against the range first
    pub fn from_seconds_f64(seconds: f64) -> Option<Self> {
        let micros = (seconds * 1e6).round();
        // 9.2e18 is just inside i64; the year 294,000 is late enough.
        (micros.is_finite() && micros.abs() < 9.2e18).then_some(Self(micros as i64))
    }

    /// Microseconds since the Unix epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// Microseconds from `earlier` to `self`. Negative if `self` is earlier.
    #[must_use]
    pub const fn micros_since(self, earlier: Self) -> i64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Seconds from `earlier` to `self`.
    #[must_use]
    #[allow(clippy::cast_precision_loss)] // seconds with microseconds fit well within f64
    pub fn seconds_since(self, earlier: Self) -> f64 {
        self.micros_since(earlier) as f64 / 1e6
    }

    /// `self` plus this number of microseconds.
    #[must_use]
    pub const fn plus_micros(self, micros: i64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// As a calendar time, if it is within the supported years.
    #[must_use]
    pub fn to_timestamp(self) -> Option<jiff::Timestamp> {
        jiff::Timestamp::from_microsecond(self.0).ok()
    }
}

/// Saved times are untrusted input: a time beyond the range of a log is clamped, so that no sum or difference of times
/// overflows.
impl From<i64> for EventTime {
    fn from(micros: i64) -> Self {
        let latest = 2 * limits::EVENT_SECONDS_MAX * 1_000_000;
        match micros {
            i64::MIN => Self::MIN,
            micros => Self(micros.clamp(-86_400_000_000, latest)),
        }
    }
}

impl From<jiff::Timestamp> for EventTime {
    fn from(timestamp: jiff::Timestamp) -> Self {
        Self(timestamp.as_microsecond())
    }
}

/// RFC 3339 in UTC. Times beyond the calendar are printed as microseconds.
impl fmt::Display for EventTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_timestamp() {
            Some(timestamp) => timestamp.fmt(f),
            None => write!(f, "{}us", self.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_times_saturate_instead_of_wrapping() {
        assert_eq!(
            EventTime::MIN.micros_since(EventTime::from_micros(1)),
            i64::MIN
        );
        assert_eq!(EventTime::from_seconds_f64(f64::NAN), None);
        assert_eq!(EventTime::from_seconds_f64(1e300), None);
    }

    #[test]
    fn a_zeek_time_keeps_its_microseconds() {
        let time = EventTime::from_seconds_f64(1_700_828_217.314_165).unwrap();
        assert_eq!(time.as_micros(), 1_700_828_217_314_165);
        assert_eq!(time.to_string(), "2023-11-24T12:16:57.314165Z");
    }
}
