//! Timeline: the number of connections that a subject began, over time, in bounded memory.
//!
//! Filled by `result` for every flow, read by the reports. A bounded number of buckets covers any period: when
//! an event is outside of it, pairs of buckets are merged.

use crate::limits;
use crate::model::EventTime;

/// One second: a log that is shorter than that has one bucket.
const WIDTH_MIN_US: i64 = 1_000_000;

/// Connections per bucket. Buckets start at multiples of their width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timeline {
    width_us: i64,
    /// The number of the first bucket, counted from the epoch.
    base: i64,
    counts: Vec<u32>,
}

impl Default for Timeline {
    fn default() -> Self {
        Self {
            width_us: WIDTH_MIN_US,
            base: 0,
            counts: Vec::new(),
        }
    }
}

impl Timeline {
    /// Counts one connection.
    pub fn count(&mut self, time: EventTime) {
        if self.counts.is_empty() {
            self.base = self.bucket(time);
        }
        // Each doubling halves the number of buckets, so that 64 of them cover every time.
        for _ in 0..i64::BITS {
            if self.fits(time) {
                break;
            }
            self.double();
        }
        let bucket = self.bucket(time);
        if bucket < self.base {
            let missing_count = usize::try_from(self.base - bucket).unwrap_or(0);
            self.counts
                .splice(0..0, std::iter::repeat_n(0, missing_count));
            self.base = bucket;
        }
        let index = usize::try_from(bucket - self.base).unwrap_or(0);
        if index >= self.counts.len() {
            self.counts.resize(index + 1, 0);
        }
        if let Some(count) = self.counts.get_mut(index) {
            *count = count.saturating_add(1);
        }
    }

    /// Connections per bucket, from the first to the last one.
    #[must_use]
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// How long one bucket is.
    #[must_use]
    pub const fn width_us(&self) -> i64 {
        self.width_us
    }

    /// When the first bucket begins.
    #[must_use]
    pub const fn start(&self) -> EventTime {
        EventTime::from_micros(self.base.saturating_mul(self.width_us))
    }

    /// The bucket that holds this time, if one does.
    #[must_use]
    pub fn position(&self, time: EventTime) -> Option<usize> {
        let index = usize::try_from(self.bucket(time).saturating_sub(self.base)).ok()?;
        (index < self.counts.len()).then_some(index)
    }

    const fn bucket(&self, time: EventTime) -> i64 {
        time.as_micros().div_euclid(self.width_us)
    }

    fn fits(&self, time: EventTime) -> bool {
        let bucket = self.bucket(time);
        let end = self.base.saturating_add_unsigned(self.counts.len() as u64);
        let span = bucket
            .saturating_add(1)
            .max(end)
            .saturating_sub(bucket.min(self.base));
        usize::try_from(span).is_ok_and(|span| span <= limits::TIMELINE_BUCKETS_MAX)
    }

    fn double(&mut self) {
        let base = self.base.div_euclid(2);
        let mut counts: Vec<u32> = Vec::new();
        for (offset, count) in (0_i64..).zip(&self.counts) {
            let index = (self.base + offset).div_euclid(2) - base;
            let index = usize::try_from(index).unwrap_or(0);
            if index >= counts.len() {
                counts.resize(index + 1, 0);
            }
            if let Some(sum) = counts.get_mut(index) {
                *sum = sum.saturating_add(*count);
            }
        }
        self.width_us = self.width_us.saturating_mul(2);
        self.base = base;
        self.counts = counts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seconds: &[i64]) -> Timeline {
        let mut timeline = Timeline::default();
        for second in seconds {
            timeline.count(EventTime::from_seconds(*second, 0));
        }
        timeline
    }

    #[test]
    fn three_days_fit_and_nothing_is_lost() {
        let days: Vec<_> = (0..3 * 86_400).step_by(34).collect();
        let timeline = of(&days);
        assert!(timeline.counts().len() <= limits::TIMELINE_BUCKETS_MAX);
        assert_eq!(timeline.counts().iter().sum::<u32>() as usize, days.len());
        assert!(timeline.width_us() < 8 * 3_600_000_000);
    }

    #[test]
    fn the_order_of_the_log_does_not_matter() {
        let (forth, back) = (of(&[100, 150, 170, 420]), of(&[420, 170, 150, 100]));
        assert_eq!(forth, back);
        assert_eq!(forth.position(EventTime::from_seconds(100, 0)), Some(0));
        assert_eq!(forth.position(EventTime::from_seconds(4_200, 0)), None);
    }

    #[test]
    fn absurd_times_do_no_harm() {
        let mut timeline = of(&[1_700_000_000]);
        for micros in [i64::MIN, i64::MAX, 0] {
            timeline.count(EventTime::from_micros(micros));
        }
        assert!(timeline.counts().len() <= limits::TIMELINE_BUCKETS_MAX);
        assert_eq!(timeline.counts().iter().sum::<u32>(), 4);
    }
}
