//! How long a run that failed waits: 1 s, doubled with each failure in a row, at most
//! [`limits::RETRY_WAIT_MAX_S`], spread by a random half so that many runs do not come at once.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::limits;

/// Failures in a row by object. Holds the objects that fail, which the API server holds too.
pub struct Attempts<K> {
    failures: Mutex<HashMap<K, u32>>,
    random: RandomState,
}

impl<K> Default for Attempts<K> {
    fn default() -> Self {
        Self {
            failures: Mutex::default(),
            random: RandomState::new(),
        }
    }
}

impl<K: Eq + Hash + Clone> Attempts<K> {
    /// The object failed once more; how long to wait.
    pub fn failed(&self, object: &K) -> Duration {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let count = failures.entry(object.clone()).or_insert(0);
        let attempt = *count;
        *count = count.saturating_add(1);
        drop(failures);
        let seconds = 1_u64
            .checked_shl(attempt)
            .unwrap_or(limits::RETRY_WAIT_MAX_S)
            .min(limits::RETRY_WAIT_MAX_S);
        let whole = Duration::from_secs(seconds);
        let share = self.random.hash_one((object, attempt)) % 1000;
        whole / 2 + whole.mul_f64(f64::from(u32::try_from(share).unwrap_or(0)) / 2000.0)
    }

    /// The object is well, or gone.
    pub fn clear(&self, object: &K) {
        self.failures
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(object);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound_and_start_anew_after_success() {
        let attempts = Attempts::default();
        let mut last_whole = 1;
        for attempt in 0..200u32 {
            let whole = 1_u64.checked_shl(attempt).unwrap_or(300).min(300);
            let wait = attempts.failed(&"run");
            assert!(
                wait >= Duration::from_secs(whole) / 2,
                "{attempt}: {wait:?}"
            );
            assert!(wait <= Duration::from_secs(whole), "{attempt}: {wait:?}");
            last_whole = whole;
        }
        assert_eq!(last_whole, limits::RETRY_WAIT_MAX_S);
        attempts.clear(&"run");
        assert!(attempts.failed(&"run") <= Duration::from_secs(1));
    }
}
