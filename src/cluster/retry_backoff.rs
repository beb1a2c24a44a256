//! Exponential backoff per object, from 1 s to [`limits::RETRY_WAIT_MAX_S`].
//!
//! Used by the reconcilers in `controller` and `respond`.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::time::Duration;

use parking_lot::Mutex;

use crate::limits;
use crate::model::backoff;

/// Wait after the first failure.
const MIN: Duration = Duration::from_secs(1);

/// Consecutive failures per object. Bounded by the failing objects that the API server holds.
pub(crate) struct RetryBackoff<K> {
    failures: Mutex<HashMap<K, u32>>,
    random: RandomState,
}

impl<K> Default for RetryBackoff<K> {
    fn default() -> Self {
        Self {
            failures: Mutex::default(),
            random: RandomState::new(),
        }
    }
}

impl<K: Eq + Hash + Clone> RetryBackoff<K> {
    /// Records another failure; returns the wait before the next attempt.
    pub(crate) fn record_failure(&self, object: &K) -> Duration {
        let mut failures = self.failures.lock();
        let count = failures.entry(object.clone()).or_insert(0);
        *count = count.saturating_add(1);
        let attempt = *count;
        drop(failures);
        let random = self.random.hash_one((object, attempt));
        backoff(
            MIN,
            Duration::from_secs(limits::RETRY_WAIT_MAX_S),
            attempt,
            random,
        )
    }

    /// Resets the count of an object that succeeded or was deleted.
    pub(crate) fn clear(&self, object: &K) {
        self.failures.lock().remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_start_over_after_success() {
        let backoff = RetryBackoff::default();
        let mut last_whole = 1;
        for attempt in 0..200u32 {
            let whole = 1_u64.checked_shl(attempt).unwrap_or(300).min(300);
            let wait = backoff.record_failure(&"run");
            assert!(
                wait >= Duration::from_secs(whole) / 2,
                "{attempt}: {wait:?}"
            );
            assert!(wait <= Duration::from_secs(whole), "{attempt}: {wait:?}");
            last_whole = whole;
        }
        assert_eq!(last_whole, limits::RETRY_WAIT_MAX_S);
        backoff.clear(&"run");
        assert!(backoff.record_failure(&"run") <= Duration::from_secs(1));
    }
}
