//! The wait before the next attempt after failures in a row. Used by everything that tries again.

use std::time::Duration;

/// The wait is doubled with each failure, from `min` to `max`. Half of it is fixed and `random` decides the rest, so that
/// many clients do not try again at the same moment.
#[must_use]
pub(crate) fn backoff(min: Duration, max: Duration, failures: u32, random: u64) -> Duration {
    const STEPS: u64 = 1001;
    let doublings = failures.saturating_sub(1).min(31);
    let whole = min.saturating_mul(1 << doublings).min(max);
    let share = u32::try_from(random % STEPS).unwrap_or(0);
    whole / 2 + whole.mul_f64(f64::from(share) / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_differ() {
        let (min, max) = (Duration::from_secs(1), Duration::from_mins(5));
        let at = |failures, random| backoff(min, max, failures, random);
        assert_eq!(at(0, 1000), min);
        assert_eq!(at(1, 1000), min);
        assert_eq!(at(1, 0), Duration::from_millis(500));
        assert_eq!(at(4, 1000), Duration::from_secs(8));
        assert_eq!(at(u32::MAX, 1000), max);
    }

    #[test]
    fn every_wait_lies_between_half_and_the_whole() {
        let (min, max) = (Duration::from_secs(1), Duration::from_mins(5));
        for random in [0, 1, 500, 1000, 1001, 12_345, u64::MAX] {
            let wait = backoff(min, max, 5, random);
            assert!(
                (Duration::from_secs(8)..=Duration::from_secs(16)).contains(&wait),
                "{wait:?}"
            );
        }
    }
}
