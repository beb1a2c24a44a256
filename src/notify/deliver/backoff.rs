//! How long to wait after a failure: doubled with each failure in a row, with a random half, so that several
//! controllers do not retry at the same moment.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::limits;
use crate::model::backoff;

/// The shortest wait that a receiver may request, so that one that always requests 0 cannot keep a core busy.
const RETRY_AFTER_MIN: Duration = Duration::from_millis(100);

/// Timeouts and intervals of a receiver. Tests shorten them.
#[derive(Clone, Debug)]
pub(crate) struct Timeouts {
    /// The first wait after a failure.
    pub retry_min: Duration,
    /// The longest wait after a failure.
    pub retry_max: Duration,
    /// How long one request may take.
    pub request: Duration,
    /// How often current alerts are sent again.
    pub resend: Duration,
    /// The age at which a transition is not delivered any more.
    pub age_max: jiff::SignedDuration,
}

impl Default for Timeouts {
    fn default() -> Self {
        let (retry_min, retry_max) = limits::NOTIFY_RETRY_MS;
        Self {
            retry_min: Duration::from_millis(retry_min),
            retry_max: Duration::from_millis(retry_max),
            request: Duration::from_secs(limits::NOTIFY_TIMEOUT_S),
            resend: Duration::from_secs(limits::ALERT_RESEND_S),
            age_max: jiff::SignedDuration::from_secs(limits::NOTIFICATION_AGE_MAX_S),
        }
    }
}

impl Timeouts {
    /// How long to wait after this many failures in a row, or as long as the receiver requested.
    pub(super) fn backoff(&self, failures: u32, retry_after: Option<Duration>) -> Duration {
        if let Some(retry_after) = retry_after {
            let max = Duration::from_secs(limits::RETRY_AFTER_MAX_S);
            return retry_after.clamp(RETRY_AFTER_MIN, max);
        }
        let random = RandomState::new().hash_one(failures);
        backoff(self.retry_min, self.retry_max, failures, random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wait_that_a_receiver_requests_has_bounds() {
        let timeouts = Timeouts::default();
        let wait = |seconds| timeouts.backoff(1, Some(Duration::from_secs(seconds)));
        assert_eq!(wait(86_400), Duration::from_hours(1));
        assert_eq!(wait(30), Duration::from_secs(30));
        assert!(wait(0) > Duration::ZERO);
    }
}
