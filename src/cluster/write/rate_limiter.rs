//! A rate limiter for writes: a burst of quarantines must not become a burst of API requests.
//!
//! A token bucket with time as a parameter; the caller waits for the returned delay.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Limits the actions per second, with a burst of the actions of one second.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    per_second: f64,
    /// When the next action may begin, if each takes `1 / per_second`.
    next: Mutex<Option<Instant>>,
}

impl RateLimiter {
    /// A limiter for this many actions per second.
    #[must_use]
    pub(crate) fn new(per_second: f64) -> Self {
        Self {
            per_second: per_second.max(0.1),
            next: Mutex::new(None),
        }
    }

    /// Reserves one slot; returns how long to wait for it.
    pub(crate) fn reserve(&self, now: Instant) -> Duration {
        let slot = Duration::from_secs_f64(1.0 / self.per_second);
        // The slots of one second may be used at once.
        let burst = Duration::from_secs(1).saturating_sub(slot);
        let mut next = self.next.lock();
        let earliest = now.checked_sub(burst).unwrap_or(now);
        let turn = next.map_or(earliest, |turn| turn.max(earliest));
        *next = Some(turn + slot);
        turn.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_begins_at_once_and_then_five_actions_a_second() {
        let (limiter, start) = (RateLimiter::new(5.0), Instant::now());
        let waits: Vec<u128> = (0..8).map(|_| limiter.reserve(start).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 200, 400, 600]);
    }

    #[test]
    fn a_burst_is_possible_again_after_a_pause() {
        let (limiter, start) = (RateLimiter::new(5.0), Instant::now());
        for _ in 0..5 {
            limiter.reserve(start);
        }
        let later = start + Duration::from_secs(10);
        assert_eq!(limiter.reserve(later), Duration::ZERO);
    }
}
