//! How long to wait after a failure: doubled with each in a row, with a random half, so that many
//! controllers do not come back to one receiver at once.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::limits;

/// The shortest wait that a receiver may ask for: one that says 0 for ever must not keep a core busy.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);

/// Time limits of a receiver; other ones in tests.
#[derive(Clone, Debug)]
pub struct Times {
    /// The first wait.
    pub retry_min: Duration,
    /// The longest wait.
    pub retry_max: Duration,
    /// How long one request may take.
    pub timeout: Duration,
    /// How often what holds is sent again.
    pub resend: Duration,
    /// How old a transition may be and still be told.
    pub age_max: jiff::SignedDuration,
}

impl Default for Times {
    fn default() -> Self {
        let (retry_min, retry_max) = limits::NOTIFY_RETRY_MS;
        Self {
            retry_min: Duration::from_millis(retry_min),
            retry_max: Duration::from_millis(retry_max),
            timeout: Duration::from_secs(limits::NOTIFY_TIMEOUT_S),
            resend: Duration::from_secs(limits::ALERT_RESEND_S),
            age_max: jiff::SignedDuration::from_secs(limits::NOTIFICATION_AGE_MAX_S),
        }
    }
}

impl Times {
    /// How long to wait after this many failures in a row, or as long as the receiver asked for.
    pub(super) fn wait(&self, failures: u32, asked_for: Option<Duration>) -> Duration {
        if let Some(asked_for) = asked_for {
            let max = Duration::from_secs(limits::RETRY_AFTER_MAX_S);
            return asked_for.clamp(RETRY_AFTER_MIN, max);
        }
        let share = RandomState::new().hash_one(failures) % 1000;
        spread(self.retry_min, self.retry_max, failures, share)
    }
}

/// Half of the whole wait, and `share` thousandths of the other half.
fn spread(min: Duration, max: Duration, failures: u32, share: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(31);
    let whole = min.saturating_mul(1 << doublings).min(max);
    let share = u32::try_from(share).unwrap_or(1000).min(1000);
    whole / 2 + whole.mul_f64(f64::from(share) / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_differ() {
        let (min, max) = (Duration::from_secs(1), Duration::from_mins(5));
        let at = |failures, share| spread(min, max, failures, share);
        assert_eq!(at(1, 1000), Duration::from_secs(1));
        assert_eq!(at(1, 0), Duration::from_millis(500));
        assert_eq!(at(4, 1000), Duration::from_secs(8));
        assert_eq!(at(u32::MAX, 1000), max);
    }

    #[test]
    fn what_a_receiver_asks_for_has_bounds() {
        let times = Times::default();
        let wait = |seconds| times.wait(1, Some(Duration::from_secs(seconds)));
        assert_eq!(wait(86_400), Duration::from_hours(1));
        assert_eq!(wait(30), Duration::from_secs(30));
        assert!(wait(0) > Duration::ZERO);
    }
}
