//! The circuit breaker: when very many pods cross the line at once, something else broke (DNS, the
//! network plug-in, a registry), and quarantining them all would be the outage.
//!
//! Stateless: computed from the Incidents that exist, so that a restart does not reset it.

use std::time::Duration;

use jiff::Timestamp;

/// The window in which crossings are counted.
pub const BREAKER_WINDOW: Duration = Duration::from_mins(5);

/// How many pods may cross within the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerLimits {
    /// At least this many, however small the cluster.
    pub pods_min: usize,
    /// Otherwise this share of the pods that are watched now.
    pub share: f64,
}

impl Default for BreakerLimits {
    /// max(5, 0.5 %): a judgement, see docs/decisions/0005-response.md.
    fn default() -> Self {
        Self {
            pods_min: 5,
            share: 0.005,
        }
    }
}

impl BreakerLimits {
    /// The most crossings that are acted on, with so many pods watched.
    #[must_use]
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss
    )] // pod counts are far below 2^52, and the share is not negative
    pub fn crossings_max(&self, watched_pods: usize) -> usize {
        let share = (watched_pods as f64 * self.share.clamp(0.0, 1.0)).floor() as usize;
        share.max(self.pods_min)
    }
}

/// The breaker at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// Pods that crossed within the window.
    pub crossings: usize,
    /// The most that are acted on.
    pub crossings_max: usize,
}

impl Breaker {
    /// From the times at which pods crossed the line, one per pod.
    #[must_use]
    pub fn at(
        now: Timestamp,
        crossed: impl Iterator<Item = Timestamp>,
        watched_pods: usize,
        limits: BreakerLimits,
    ) -> Self {
        let in_window =
            |time: &Timestamp| now.duration_since(*time).unsigned_abs() < BREAKER_WINDOW;
        Self {
            crossings: crossed.filter(in_window).count(),
            crossings_max: limits.crossings_max(watched_pods),
        }
    }

    /// Whether it is open, that is: nothing is quarantined automatically.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.crossings > self.crossings_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker(crossings: i64, age_s: i64, watched: usize) -> Breaker {
        let now = Timestamp::from_second(10_000).unwrap();
        let times = (0..crossings).map(|_| Timestamp::from_second(10_000 - age_s).unwrap());
        Breaker::at(now, times, watched, BreakerLimits::default())
    }

    #[test]
    fn five_pods_at_once_are_acted_on_and_six_are_not_in_a_small_cluster() {
        assert!(!breaker(5, 1, 40).is_open());
        assert!(breaker(6, 1, 40).is_open());
    }

    #[test]
    fn a_large_cluster_may_have_half_a_percent() {
        assert!(!breaker(50, 1, 10_000).is_open());
        assert!(breaker(51, 1, 10_000).is_open());
    }

    #[test]
    fn it_resets_when_the_crossings_leave_the_window() {
        assert!(breaker(6, 299, 40).is_open());
        assert!(!breaker(6, 300, 40).is_open());
    }
}
