//! Outage: whether targets of a pod that had answered before fail now.
//!
//! A scanner's failures come beside honest work that goes on; when the network of a node is away,
//! what worked before fails too. Fed and asked by `contacts`; a failure in an outage counts against
//! a budget (see `walk`).
//!
//! A pod that has servers of its own can make them fail, so an outage is believed for five minutes
//! at most, and then no other for half an hour.

use serde::{Deserialize, Serialize};

use super::contacts::ANSWER_WAIT_US;
use super::origin::{OriginId, Read};
use super::saved;
use crate::limits;
use crate::model::EventTime;

/// Failures of known targets further apart than this are not one outage.
const TOGETHER_US: i64 = 60_000_000;

/// How long an outage is believed, and how long after its start no other is.
const BELIEVED_US: i64 = 300_000_000;
const NEXT_AFTER_US: i64 = 2_100_000_000;

/// See the module. Targets stand as half of their keyed hash.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Outage {
    /// Known targets that failed, the latest [`limits::LOST_TARGETS`].
    #[serde(deserialize_with = "saved::list::<_, _, { limits::LOST_TARGETS }>")]
    lost: Vec<(u32, EventTime)>,
    /// Known targets that wait for an answer, in logs of packets.
    #[serde(deserialize_with = "saved::list::<_, _, { limits::LOST_TARGETS }>")]
    asked: Vec<(u32, OriginId, EventTime)>,
    since: Option<EventTime>,
}

impl Outage {
    /// A known target was tried again.
    pub(super) fn asked(&mut self, id: u64, origin: OriginId, time: EventTime) {
        let id = half(id);
        let is_known = self.asked.iter().any(|(known, ..)| *known == id);
        if !is_known && self.asked.len() < limits::LOST_TARGETS {
            self.asked.push((id, origin, time));
        }
    }

    /// A known target answered again, or did not.
    pub(super) fn told(&mut self, id: u64, time: EventTime, success: bool) {
        let id = half(id);
        self.asked.retain(|(known, ..)| *known != id);
        self.lost.retain(|(known, _)| *known != id);
        if !success {
            self.lose(id, time);
        }
    }

    /// Forgets who was asked: the answers may have passed unseen.
    pub(super) fn forget_asked(&mut self) {
        self.asked.clear();
    }

    /// Time has passed: who has not answered by now does not.
    pub(super) fn pass(&mut self, read: &Read<'_>) {
        let is_overdue = |(_, origin, time): &(u32, OriginId, EventTime)| {
            read.has(*origin) && read.now.micros_since(*time).abs() >= ANSWER_WAIT_US
        };
        while let Some(position) = self.asked.iter().position(is_overdue) {
            let (id, origin, time) = self.asked.remove(position);
            if !read.is_lossy(origin, time) {
                self.lost.retain(|(known, _)| *known != id);
                self.lose(id, time);
            }
        }
    }

    fn lose(&mut self, id: u32, time: EventTime) {
        if self.lost.len() >= limits::LOST_TARGETS {
            self.lost.remove(0);
        }
        self.lost.push((id, time));
    }

    /// Whether a contact of this time that failed may have failed in an outage.
    pub(super) fn covers(&mut self, time: EventTime) -> bool {
        let is_near = |(_, lost): &(u32, EventTime)| time.micros_since(*lost).abs() <= TOGETHER_US;
        if self.lost.len() < limits::LOST_TARGETS || !self.lost.iter().all(is_near) {
            return false;
        }
        let age_us = self.since.map(|since| time.micros_since(since));
        match age_us {
            Some(age_us) if age_us < NEXT_AFTER_US => age_us < BELIEVED_US,
            _ => {
                self.since = Some(time);
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
    use super::super::origin::Origins;
    use super::*;

    fn at(seconds: i64) -> EventTime {
        EventTime::from_seconds(1_700_000_000 + seconds, 0)
    }

    fn lose(outage: &mut Outage, count: u64, seconds: i64) {
        (0..count).for_each(|id| outage.told(id << 32, at(seconds), false));
    }

    #[test]
    fn five_known_targets_that_fail_together_are_an_outage_and_four_are_not() {
        let mut outage = Outage::default();
        lose(&mut outage, 4, 0);
        lose(&mut outage, 4, 5);
        assert!(!outage.covers(at(6)));
        lose(&mut outage, 5, 10);
        assert!(outage.covers(at(11)) && outage.covers(at(60)));
        assert!(!outage.covers(at(71)), "long over");
    }

    #[test]
    fn silence_of_known_targets_is_an_outage_and_an_answer_in_time_is_not() {
        let mut outage = Outage::default();
        (0..5_u64).for_each(|id| outage.asked(id << 32, OriginId::default(), at(0)));
        let origins = Origins::default();
        let read = |second| Read::all(&origins, at(second));
        outage.pass(&read(9));
        assert!(!outage.covers(at(9)));
        outage.told(0, at(9), true);
        outage.pass(&read(10));
        assert!(!outage.covers(at(10)), "one of five answered");
        outage.asked(0, OriginId::default(), at(10));
        outage.pass(&read(20));
        assert!(outage.covers(at(20)));
    }

    #[test]
    fn a_pod_that_makes_its_own_servers_fail_for_ever_is_believed_for_five_minutes_in_35() {
        let mut outage = Outage::default();
        let mut believed_count = 0;
        for step in 0..700 {
            lose(&mut outage, 5, step * 10);
            believed_count += usize::from(outage.covers(at(step * 10)));
        }
        assert_eq!(believed_count, 4 * 30, "of 7,000 s");
    }
}
