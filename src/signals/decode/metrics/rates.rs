//! Counters over time: rates between two readings, based on the times of the readings.
//!
//! Owned by a reader of node metrics. The number of counters is bounded; a counter that is missing from three
//! consecutive responses is dropped. A first reading, a counter that decreased (a restart, or another pod of the same
//! name), a clock that went back and a pause that is too long yield no rate, but a new start.

use std::collections::HashMap;

use super::plausible::CORES_MAX;
use crate::limits;
use crate::model::EventTime;

/// Number of responses that may lack a counter before it is dropped.
const ROUNDS_KEPT: u64 = 3;

/// Over a shorter span, the rate depends more on the times of reading than on the pod.
const SPAN_MIN_US: i64 = 1_000_000;

/// An average over a longer span hides what happened within it.
const SPAN_MAX_US: i64 = 300_000_000;

/// Key of a counter: namespace, pod, container. The last is empty for the counter of the pod itself.
type Key = (Box<str>, Box<str>, Box<str>);

#[derive(Clone, Copy, Debug)]
struct Reading {
    seconds: f64,
    time: EventTime,
    round: u64,
}

/// Usage between two readings.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rate {
    pub(super) from: EventTime,
    pub(super) time: EventTime,
    pub(super) cores: f64,
}

/// The result of a reading.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Step {
    /// Usage since the last reading.
    Rate(Rate),
    /// The same reading as before, or one that is too close to it.
    NoNews,
    /// A start: rates are available from the next reading on.
    Begun,
}

/// The last reading of each counter.
#[derive(Clone, Debug, Default)]
pub(super) struct Rates {
    readings: HashMap<Key, Reading>,
    round: u64,
    refused: u64,
    impossible: u64,
}

impl Rates {
    /// Adds a reading of a counter of CPU seconds.
    pub(super) fn step(&mut self, key: [&str; 3], seconds: f64, time: EventTime) -> Step {
        // Also true for NaN.
        if !(0.0..f64::INFINITY).contains(&seconds) {
            self.impossible += 1;
            return Step::Begun;
        }
        let Some((entry, is_new)) = self.entry(key, seconds, time) else {
            return Step::Begun;
        };
        if is_new {
            return Step::Begun;
        }
        let before = *entry;
        let span_us = time.micros_since(before.time);
        if (0..SPAN_MIN_US).contains(&span_us) && seconds >= before.seconds {
            return Step::NoNews;
        }
        (entry.seconds, entry.time) = (seconds, time);
        let cores = (seconds - before.seconds) / time.seconds_since(before.time);
        let has_grown = (SPAN_MIN_US..=SPAN_MAX_US).contains(&span_us) && seconds >= before.seconds;
        let is_possible = (0.0..=CORES_MAX).contains(&cores);
        if has_grown && !is_possible {
            self.impossible += 1;
        }
        if has_grown && is_possible {
            Step::Rate(Rate {
                from: before.time,
                time,
                cores,
            })
        } else {
            Step::Begun
        }
    }

    /// Whether this key occurs with this time for the first time.
    pub(super) fn is_new(&mut self, key: [&str; 3], time: EventTime) -> bool {
        match self.entry(key, 0.0, time) {
            Some((entry, false)) => std::mem::replace(&mut entry.time, time) != time,
            // If it does not fit, a repeated sample is better than none.
            Some((_, true)) | None => true,
        }
    }

    /// Ends a response: drops counters that were missing from too many responses.
    pub(super) fn end_round(&mut self) {
        let oldest = self.round.saturating_sub(ROUNDS_KEPT - 1);
        self.readings.retain(|_, reading| reading.round >= oldest);
        self.round += 1;
    }

    pub(super) fn len(&self) -> usize {
        self.readings.len()
    }

    /// Number of counters that did not fit since the last call.
    pub(super) fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Number of impossible counters and rates since the last call.
    pub(super) fn take_impossible(&mut self) -> u64 {
        std::mem::take(&mut self.impossible)
    }

    /// The last reading of a key, and whether it was just added.
    fn entry(
        &mut self,
        key: [&str; 3],
        seconds: f64,
        time: EventTime,
    ) -> Option<(&mut Reading, bool)> {
        let key = key.map(Box::from).into();
        let is_new = !self.readings.contains_key(&key);
        if is_new && self.readings.len() >= limits::COUNTERS_MAX {
            self.refused += 1;
            return None;
        }
        let round = self.round;
        let entry = self.readings.entry(key).or_insert(Reading {
            seconds,
            time,
            round,
        });
        entry.round = round;
        Some((entry, is_new))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: [&str; 3] = ["ns", "pod", ""];

    fn at(second: i64) -> EventTime {
        EventTime::from_seconds(second, 0)
    }

    fn cores(step: Step) -> Option<f64> {
        match step {
            Step::Rate(rate) => Some(rate.cores),
            _ => None,
        }
    }

    #[test]
    fn a_rate_is_reckoned_on_the_times_of_the_readings() {
        let mut rates = Rates::default();
        assert_eq!(rates.step(KEY, 10.0, at(100)), Step::Begun);
        let expected = Rate {
            from: at(100),
            time: at(120),
            cores: 0.5,
        };
        assert_eq!(rates.step(KEY, 20.0, at(120)), Step::Rate(expected));
    }

    #[test]
    fn a_reading_that_repeats_is_no_new_data_and_no_idle_time() {
        let mut rates = Rates::default();
        rates.step(KEY, 10.0, at(100));
        assert_eq!(rates.step(KEY, 10.0, at(100)), Step::NoNews);
        assert_eq!(cores(rates.step(KEY, 20.0, at(120))), Some(0.5));
    }

    #[test]
    fn a_counter_that_decreased_starts_again() {
        let mut rates = Rates::default();
        rates.step(KEY, 1_000.0, at(100));
        assert_eq!(rates.step(KEY, 1.0, at(115)), Step::Begun);
        assert_eq!(cores(rates.step(KEY, 16.0, at(130))), Some(1.0));
        // Another pod of the same name, in the same instant.
        assert_eq!(rates.step(KEY, 0.0, at(130)), Step::Begun);
        assert_eq!(cores(rates.step(KEY, 5.0, at(140))), Some(0.5));
    }

    #[test]
    fn a_clock_that_went_back_starts_again() {
        let mut rates = Rates::default();
        rates.step(KEY, 10.0, at(1_000));
        assert_eq!(rates.step(KEY, 20.0, at(500)), Step::Begun);
        assert_eq!(cores(rates.step(KEY, 30.0, at(510))), Some(1.0));
    }

    #[test]
    fn a_pause_that_is_too_long_gives_no_average() {
        let mut rates = Rates::default();
        rates.step(KEY, 10.0, at(0));
        assert_eq!(rates.step(KEY, 400.0, at(301)), Step::Begun);
    }

    #[test]
    fn nonsense_gives_no_rate() {
        let mut rates = Rates::default();
        rates.step(KEY, 10.0, at(0));
        for (second, seconds) in [(10, f64::NAN), (20, f64::INFINITY), (30, -1.0), (40, 1e300)] {
            assert_eq!(cores(rates.step(KEY, seconds, at(second))), None);
        }
        assert_eq!((rates.take_impossible(), rates.take_impossible()), (4, 0));
    }

    #[test]
    fn counters_that_are_no_longer_named_are_forgotten() {
        let mut rates = Rates::default();
        rates.step(KEY, 10.0, at(0));
        for _ in 0..ROUNDS_KEPT {
            rates.end_round();
        }
        assert_eq!(rates.len(), 1);
        rates.end_round();
        assert_eq!(rates.len(), 0);
    }

    #[test]
    fn counters_beyond_the_bound_are_refused_and_counted() {
        let mut rates = Rates::default();
        for i in 0..=limits::COUNTERS_MAX {
            rates.step(["ns", &i.to_string(), ""], 1.0, at(0));
        }
        assert_eq!(
            (rates.len(), rates.take_refused()),
            (limits::COUNTERS_MAX, 1)
        );
        // Those that are there go on.
        assert_eq!(cores(rates.step(["ns", "0", ""], 11.0, at(10))), Some(1.0));
    }
}
