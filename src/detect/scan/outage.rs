//! Outage: whether targets of a pod that had answered before are failing now.
//!
//! The failures of a scanner occur beside other contacts that still succeed; if the network of a node fails, targets
//! that had answered before fail as well. Called by `contacts`; a failure in an outage counts against a budget (see
//! `walk`).
//!
//! A pod that controls servers can make them fail, so an outage is assumed for five minutes and 100 new targets at most,
//! and no other one within the next half hour.

use serde::{Deserialize, Serialize};

use crate::detect::config::ANSWER_WAIT_US;
use crate::detect::origin::{OriginId, ReadProgress};
use crate::detect::state::bounded;
use crate::limits;
use crate::model::EventTime;

/// Failures of known targets that are further apart than this do not form one outage.
const TOGETHER_US: i64 = 60_000_000;

/// How long an outage is assumed, and how long after its start no other one is.
const BELIEVED_US: i64 = 300_000_000;
const NEXT_AFTER_US: i64 = 2_100_000_000;

/// New targets that may fail in one outage. The simulated honest pods reach 60: a client with a stale list.
const COVERED_MAX: u32 = 100;

/// See the module. Targets are stored as half of their keyed hash.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::detect) struct Outage {
    /// Known targets that failed, at most the latest [`limits::LOST_TARGETS`].
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::LOST_TARGETS }>")]
    failed: Vec<(u32, EventTime)>,
    /// Known targets that were tried again and have not answered yet, in logs of packets.
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::LOST_TARGETS }>")]
    retrying: Vec<(u32, OriginId, EventTime)>,
    since: Option<EventTime>,
    /// New targets that failed in it.
    covered_count: u32,
}

impl Outage {
    /// A known target was tried again and has not answered yet.
    pub(in crate::detect) fn retry_started(&mut self, id: u64, origin: OriginId, time: EventTime) {
        let id = half(id);
        let is_known = self.retrying.iter().any(|(known, ..)| *known == id);
        if !is_known && self.retrying.len() < limits::LOST_TARGETS {
            self.retrying.push((id, origin, time));
        }
    }

    /// A retry of a known target was answered, or failed.
    pub(in crate::detect) fn retry_finished(&mut self, id: u64, time: EventTime, success: bool) {
        let id = half(id);
        self.retrying.retain(|(known, ..)| *known != id);
        self.failed.retain(|(known, _)| *known != id);
        if !success {
            self.record_failure(id, time);
        }
    }

    /// Discards the retries without an answer, because part of the log was not read.
    pub(in crate::detect) fn discard_retries(&mut self) {
        self.retrying.clear();
    }

    /// Advances to the time up to which the logs were read: retries without an answer for too long have failed.
    pub(in crate::detect) fn advance_to(&mut self, read: &ReadProgress<'_>) {
        let is_overdue = |(_, origin, time): &(u32, OriginId, EventTime)| {
            read.has(*origin) && read.now.micros_since(*time).abs() >= ANSWER_WAIT_US
        };
        while let Some(position) = self.retrying.iter().position(is_overdue) {
            let (id, origin, time) = self.retrying.remove(position);
            if !read.is_lossy(origin, time) {
                self.failed.retain(|(known, _)| *known != id);
                self.record_failure(id, time);
            }
        }
    }

    fn record_failure(&mut self, id: u32, time: EventTime) {
        if self.failed.len() >= limits::LOST_TARGETS {
            self.failed.remove(0);
        }
        self.failed.push((id, time));
    }

    /// Whether a failed contact with a new target may have failed because of an outage at this time.
    pub(in crate::detect) fn covers(&mut self, time: EventTime) -> bool {
        let is_near =
            |(_, failed): &(u32, EventTime)| time.micros_since(*failed).abs() <= TOGETHER_US;
        if self.failed.len() < limits::LOST_TARGETS || !self.failed.iter().all(is_near) {
            return false;
        }
        let age_us = self.since.map(|since| time.micros_since(since));
        match age_us {
            Some(age_us) if age_us < NEXT_AFTER_US => {
                self.covered_count = self.covered_count.saturating_add(1);
                age_us < BELIEVED_US && self.covered_count <= COVERED_MAX
            }
            _ => {
                self.since = Some(time);
                self.covered_count = 1;
                true
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation)] // the upper half
fn half(id: u64) -> u32 {
    (id >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::origin::Origins;

    fn at(seconds: i64) -> EventTime {
        EventTime::from_seconds(1_700_000_000 + seconds, 0)
    }

    fn record_failure(outage: &mut Outage, count: u64, seconds: i64) {
        (0..count).for_each(|id| outage.retry_finished(id << 32, at(seconds), false));
    }

    #[test]
    fn five_known_targets_that_fail_together_are_an_outage_and_four_are_not() {
        let mut outage = Outage::default();
        record_failure(&mut outage, 4, 0);
        record_failure(&mut outage, 4, 5);
        assert!(!outage.covers(at(6)));
        record_failure(&mut outage, 5, 10);
        assert!(outage.covers(at(11)) && outage.covers(at(60)));
        assert!(!outage.covers(at(71)), "long over");
    }

    #[test]
    fn silence_of_known_targets_is_an_outage_and_an_answer_in_time_is_not() {
        let mut outage = Outage::default();
        (0..5_u64).for_each(|id| outage.retry_started(id << 32, OriginId::default(), at(0)));
        let origins = Origins::default();
        let read = |second| ReadProgress::all(&origins, at(second));
        outage.advance_to(&read(9));
        assert!(!outage.covers(at(9)));
        outage.retry_finished(0, at(9), true);
        outage.advance_to(&read(10));
        assert!(!outage.covers(at(10)), "one of five answered");
        outage.retry_started(0, OriginId::default(), at(10));
        outage.advance_to(&read(20));
        assert!(outage.covers(at(20)));
    }

    #[test]
    fn more_than_a_hundred_new_targets_are_no_outage() {
        let mut outage = Outage::default();
        record_failure(&mut outage, 5, 0);
        let covered = (0..300).filter(|_| outage.covers(at(1))).count();
        assert_eq!(covered, 100);
    }

    #[test]
    fn a_pod_that_makes_its_own_servers_fail_for_ever_is_believed_for_five_minutes_in_35() {
        let mut outage = Outage::default();
        let mut believed_count = 0;
        for step in 0..700 {
            record_failure(&mut outage, 5, step * 10);
            believed_count += usize::from(outage.covers(at(step * 10)));
        }
        assert_eq!(believed_count, 4 * 30, "of 7,000 s");
    }
}
