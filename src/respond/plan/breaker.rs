//! The circuit breaker: when many pods cross the threshold at once, the likely cause is a shared failure (DNS,
//! the network plug-in, a registry), and isolating all of them would cause an outage.
//!
//! Each namespace has its own breaker. Its own pods count in full and those of another namespace up to a share, because a
//! tenant that lets disposable pods cross must not stop the response in the namespaces of others, while a cause that strikes
//! several namespaces still opens all breakers.
//!
//! Computed from the existing Incidents without own state, so a restart does not reset it.

use std::collections::HashMap;
use std::time::Duration;

use jiff::Timestamp;

/// The window in which detections are counted.
pub(crate) const BREAKER_WINDOW: Duration = Duration::from_mins(5);

/// How many pods may cross the threshold within the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BreakerLimits {
    /// The minimum, in a cluster of any size.
    pub pods_min: usize,
    /// The share of the watched pods.
    pub share: f64,
}

/// The share of the maximum up to which the pods of one other namespace count. Two namespaces at their share leave room for
/// the first pod of a third one.
const OTHER_NAMESPACE_SHARE: f64 = 0.4;

/// A pod that crossed the threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crossing<'n> {
    /// The pod's namespace.
    pub namespace: &'n str,
    /// When its Incident was created.
    pub time: Timestamp,
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
    pub fn crossings_max(&self, watched_pods: usize) -> usize {
        share_of(watched_pods, self.share).max(self.pods_min)
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss
)] // pod counts are far below 2^52, and the share is not negative
fn share_of(count: usize, share: f64) -> usize {
    (count as f64 * share.clamp(0.0, 1.0)).floor() as usize
}

/// The state of the circuit breaker of one namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Breaker {
    /// Pods of the namespace that crossed the threshold within the window.
    pub crossings: usize,
    /// Pods of other namespaces that did, each namespace up to its share.
    pub crossings_elsewhere: usize,
    /// The maximum of both together that is acted on.
    pub crossings_max: usize,
}

impl Breaker {
    /// The breaker of `namespace`, from the pods that crossed the threshold, each of them once.
    #[must_use]
    pub fn at<'n>(
        now: Timestamp,
        namespace: &str,
        crossed: impl Iterator<Item = Crossing<'n>>,
        watched_pods: usize,
        limits: BreakerLimits,
    ) -> Self {
        let in_window = |crossing: &Crossing<'_>| {
            now.duration_since(crossing.time).unsigned_abs() < BREAKER_WINDOW
        };
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for crossing in crossed.filter(in_window) {
            *counts.entry(crossing.namespace).or_default() += 1;
        }
        let crossings_max = limits.crossings_max(watched_pods);
        let other_max = share_of(crossings_max, OTHER_NAMESPACE_SHARE).max(1);
        Self {
            crossings: counts.remove(namespace).unwrap_or_default(),
            crossings_elsewhere: counts.into_values().map(|count| count.min(other_max)).sum(),
            crossings_max,
        }
    }

    /// Whether it is open: no pod of the namespace is isolated automatically.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.crossings + self.crossings_elsewhere > self.crossings_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker_with(crossed: &[(&str, usize)], age_s: i64, watched: usize) -> Breaker {
        let now = Timestamp::from_second(10_000).unwrap();
        let time = Timestamp::from_second(10_000 - age_s).unwrap();
        let crossed = crossed.iter().flat_map(|(namespace, count)| {
            std::iter::repeat_n(Crossing { namespace, time }, *count)
        });
        Breaker::at(now, "own", crossed, watched, BreakerLimits::default())
    }

    fn breaker(crossings: usize, age_s: i64, watched: usize) -> Breaker {
        breaker_with(&[("own", crossings)], age_s, watched)
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

    #[test]
    fn one_or_two_namespaces_with_any_number_of_crossings_do_not_stop_the_response_in_another() {
        for watched in [40, 10_000] {
            let one = breaker_with(&[("own", 1), ("a", 10_000)], 1, watched);
            let two = breaker_with(&[("own", 1), ("a", 10_000), ("b", 10_000)], 1, watched);
            assert!(!one.is_open() && !two.is_open(), "{one:?} {two:?}");
        }
    }

    #[test]
    fn a_cause_that_strikes_many_namespaces_opens_all_of_them() {
        let spread = [("own", 1), ("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)];
        assert!(breaker_with(&spread, 1, 40).is_open());
        assert!(!breaker_with(&spread[..5], 1, 40).is_open());
        // Also one that has no crossing of its own yet.
        assert!(breaker_with(&[("a", 2), ("b", 2), ("c", 2)], 1, 40).is_open());
    }
}
