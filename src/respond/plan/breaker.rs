//! The circuit breaker: when many pods cross the threshold at once, the likely cause is a shared failure (DNS,
//! the network plug-in, a registry), and isolating all of them would cause an outage.
//!
//! Computed from the existing Incidents without own state, so a restart does not reset it.

use std::time::Duration;

use jiff::Timestamp;

/// The window in which detections are counted.
pub(super) const BREAKER_WINDOW: Duration = Duration::from_mins(5);

/// How many pods may cross the threshold within the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerLimits {
    /// The minimum, in a cluster of any size.
    pub pods_min: usize,
    /// The share of the watched pods.
    pub share: f64,
}

impl Default for BreakerLimits {
    /// max(5, 0.5 %), see docs/decisions/0005-response.md.
    fn default() -> Self {
        Self {
            pods_min: 5,
            share: 0.005,
        }
    }
}

impl BreakerLimits {
    /// The maximum number of crossings that are acted on, with this number of watched pods.
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

/// The state of the circuit breaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// Pods that crossed the threshold within the window.
    pub crossings: usize,
    /// The maximum that is acted on.
    pub crossings_max: usize,
}

impl Breaker {
    /// From the times at which pods crossed the threshold, one for each pod.
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

    /// Whether it is open: no pod is isolated automatically.
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
