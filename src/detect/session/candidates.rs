//! Candidates: connections in a log of packets that are no sessions yet.
//!
//! Called by `session` for packets of targets without a session. Bounded; a burst of short connections cannot displace
//! a long one. This module must not know what a session means.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::PACKET_GAP_MAX_US;
use crate::detect::state::bounded::{self, Sequence};
use crate::limits;
use crate::model::EventTime;

/// Packets of one connection become a session when they cover this time and have this number: a datapath that
/// aggregates packets reports an active connection every 5 s.
const PACKETS_COVER_MIN_US: i64 = 60_000_000;
const PACKETS_MIN: u32 = 4;

/// A connection that may become a session: 32 bytes instead of a whole entry.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Candidate {
    pub(super) first: EventTime,
    pub(super) last: EventTime,
    pub(super) packet_count: u32,
}

/// The connections of a pod that may become sessions.
///
/// In a log of packets nearly every packet belongs to another connection, so the search for one, and for the one to
/// replace, must read little memory: hashes and coarse times are separate from the entries.
#[derive(Clone, Debug, Default)]
pub(super) struct Candidates {
    keys: Vec<u32>,
    /// `last` of each in units of 2^16 us, wrapped.
    coarse_times: Vec<u32>,
    list: Vec<Candidate>,
    /// A bit for each candidate that covers no time.
    points: u32,
}

impl Serialize for Candidates {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Sequence(self.keys.iter().zip(&self.list)).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Candidates {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let list = bounded::list::<_, _, { limits::SESSION_CANDIDATES_MAX }>(deserializer)?;
        let mut candidates = Self::default();
        for (key, candidate) in list {
            candidates.put(key, candidate);
        }
        Ok(candidates)
    }
}

impl Candidates {
    /// Number of candidates.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Counts a packet of a connection without a session. Returns the candidate when it has become a session.
    pub(super) fn count(&mut self, key: u32, time: EventTime) -> Option<Candidate> {
        let Some(index) = position_of(&self.keys, key) else {
            if self.list.len() >= limits::SESSION_CANDIDATES_MAX {
                self.forget_one(time);
            }
            self.add(key, time);
            return None;
        };
        let candidate = self.list.get_mut(index)?;
        if time.micros_since(candidate.last).abs() > PACKET_GAP_MAX_US {
            candidate.first = time;
            candidate.packet_count = 0;
        }
        candidate.last = candidate.last.max(time);
        candidate.packet_count = candidate.packet_count.saturating_add(1);
        let candidate = *candidate;
        let covered_us = candidate.last.micros_since(candidate.first);
        if covered_us < PACKETS_COVER_MIN_US || candidate.packet_count < PACKETS_MIN {
            self.update_index(index, candidate);
            return None;
        }
        self.remove(index);
        Some(candidate)
    }

    fn add(&mut self, key: u32, time: EventTime) {
        let candidate = Candidate {
            first: time,
            last: time,
            packet_count: 1,
        };
        self.put(key, candidate);
    }

    fn put(&mut self, key: u32, candidate: Candidate) {
        self.keys.push(key);
        self.coarse_times.push(0);
        self.list.push(candidate);
        self.update_index(self.list.len() - 1, candidate);
    }

    /// Updates the coarse time and the bit of an entry.
    fn update_index(&mut self, index: usize, candidate: Candidate) {
        if let Some(coarse_time) = self.coarse_times.get_mut(index) {
            *coarse_time = coarse(candidate.last);
        }
        let is_point = candidate.first == candidate.last;
        self.points = self.points & !(1 << index) | u32::from(is_point) << index;
    }

    /// Removes a candidate; the last one moves to its index.
    fn remove(&mut self, index: usize) {
        self.keys.swap_remove(index);
        self.coarse_times.swap_remove(index);
        self.list.swap_remove(index);
        let last = self.list.len();
        let was_point = self.points >> last & 1;
        self.points &= !(1 << last);
        if index < last {
            self.points = self.points & !(1 << index) | was_point << index;
        }
    }

    /// Removes one candidate: first one without recent packets, then the youngest. The connections of a burst replace
    /// each other and leave a long one alone.
    fn forget_one(&mut self, now: EventTime) {
        let covered_us = |index: usize| {
            let candidate = self.list.get(index);
            candidate.map_or(0, |c| c.last.micros_since(c.first))
        };
        let is_silent = |index: &usize| {
            let candidate = self.list.get(*index);
            candidate.is_some_and(|c| now.micros_since(c.last).abs() > PACKET_GAP_MAX_US)
        };
        // If even the coarse times are near each other, the exact ones are.
        let (now_coarse, gap) = (coarse(now), COARSE_GAP_MAX);
        let is_near = |time: u32| now_coarse.wrapping_sub(time).wrapping_add(gap) <= 2 * gap;
        let times = self.coarse_times.iter().enumerate();
        let silent = times
            .filter(|(_, time)| !is_near(**time))
            .map(|(index, _)| index)
            .filter(is_silent)
            .min_by_key(|index| covered_us(*index));
        let least = silent.or_else(|| match self.points {
            0 => (0..self.list.len()).min_by_key(|index| covered_us(*index)),
            points => usize::try_from(points.trailing_zeros()).ok(),
        });
        if let Some(index) = least.filter(|index| *index < self.list.len()) {
            self.remove(index);
        }
    }
}

/// The position of a key. Compares eight at a time, because nearly all are other keys.
pub(super) fn position_of(keys: &[u32], key: u32) -> Option<usize> {
    let (chunks, rest) = keys.as_chunks::<8>();
    let is_in = |chunk: &[u32; 8]| {
        let hits = chunk.iter().map(|known| u32::from(*known == key));
        hits.sum::<u32>() > 0
    };
    let (start, candidates) = match chunks.iter().position(is_in) {
        Some(nth) => (8 * nth, chunks.get(nth)?.as_slice()),
        None => (keys.len() - rest.len(), rest),
    };
    let within = candidates.iter().position(|known| *known == key)?;
    Some(start + within)
}

/// A distance of coarse times that is certainly not above [`PACKET_GAP_MAX_US`].
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // 2,287
const COARSE_GAP_MAX: u32 = (PACKET_GAP_MAX_US >> COARSE_BITS) as u32 - 1;

const COARSE_BITS: u32 = 16;

/// Wraps after nine years: then an old time counts as recent, and its entry is stored longer.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // wraps
fn coarse(time: EventTime) -> u32 {
    (time.micros_since(EventTime::from_micros(0)) >> COARSE_BITS) as u32
}

const _: () = assert!(limits::SESSION_CANDIDATES_MAX <= 32, "a bit for each");

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> EventTime {
        EventTime::from_seconds(1_700_000_000 + seconds, 0)
    }

    #[test]
    fn the_first_position_of_a_key_is_found_in_a_list_of_any_length() {
        for length in 0..40 {
            let keys: Vec<u32> = (0..length).map(|n| n / 2).collect();
            for key in 0..21 {
                let expected = keys.iter().position(|known| *known == key);
                assert_eq!(position_of(&keys, key), expected, "{key} of {length}");
            }
        }
    }

    #[test]
    fn a_connection_becomes_a_session_after_a_minute_whatever_comes_between() {
        let mut candidates = Candidates::default();
        let mut found = None;
        for second in 0..=60 {
            for n in 0..100 {
                assert!(
                    candidates
                        .count(1_000 + 100 * second + n, at(second.into()))
                        .is_none()
                );
                assert!(candidates.len() <= limits::SESSION_CANDIDATES_MAX);
            }
            if second % 15 == 0 {
                found = candidates.count(1, at(second.into()));
            }
            if second == 0 {
                // A second packet, from which on it covers some time.
                candidates.count(1, at(0).plus_micros(1));
            }
        }
        assert_eq!(
            found.map(|c| c.last.micros_since(c.first)),
            Some(60_000_000)
        );
    }

    #[test]
    fn one_that_fell_silent_makes_room_before_one_that_is_new() {
        let mut candidates = Candidates::default();
        let count = u32::try_from(limits::SESSION_CANDIDATES_MAX).unwrap();
        for key in 0..count {
            // The fifth covers ten seconds and then falls silent; the others go on.
            let (first, last) = if key == 5 { (0, 10) } else { (155, 156) };
            candidates.count(key, at(first));
            candidates.count(key, at(last));
        }
        candidates.count(99, at(161));
        assert!(!candidates.keys.contains(&5));
        assert_eq!(candidates.len(), limits::SESSION_CANDIDATES_MAX);
        // Now none is silent, so the youngest goes.
        candidates.count(100, at(162));
        assert!(!candidates.keys.contains(&99));
        assert!(candidates.keys.contains(&100));
    }
}
