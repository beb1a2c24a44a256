//! A bounded map in two generations that drops the entries that were not used for longest.
//!
//! Used per pod and per run for contacts and DNS answers. When the young generation is full it becomes the old one, and
//! the former old one is dropped; a lookup moves an entry back to the young one. Entries in use are thus kept, and an
//! attacker who fills the map with many honest contacts only causes the oldest ones to count again: a new contact is
//! never hidden.
//!
//! Keys are keyed hashes (`HashKey`), of which 61 bits are stored beside the state, 8 bytes per entry in total. Two of
//! a pod's thousand targets have the same bits once in 10^12 pods.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::bounded::Bytes;
use crate::limits;

/// The state of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::detect) enum TargetState {
    /// Tried, without an answer so far.
    Open = 1,
    /// Tried without success.
    Failed = 2,
    /// Known to be reachable, or known from DNS.
    Good = 3,
}

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "SavedCache")]
pub(in crate::detect) struct GenerationalCache {
    young: Table,
    old: Table,
    generation_max: usize,
}

/// The saved form of [`GenerationalCache`], before its bound is checked.
#[derive(Deserialize)]
struct SavedCache {
    young: Table,
    old: Table,
    generation_max: usize,
}

impl TryFrom<SavedCache> for GenerationalCache {
    type Error = &'static str;

    fn try_from(saved: SavedCache) -> Result<Self, &'static str> {
        let SavedCache {
            young,
            old,
            generation_max,
        } = saved;
        let is_known = [
            limits::CONTACTS_GENERATION_MAX,
            limits::DNS_GENERATION_MAX,
            limits::RUN_CONTACTS_GENERATION_MAX,
        ]
        .contains(&generation_max);
        if !is_known || young.len.max(old.len) > generation_max {
            return Err("a cache of contacts is larger than its bound");
        }
        Ok(Self {
            young,
            old,
            generation_max,
        })
    }
}

impl GenerationalCache {
    /// An empty map with at most twice `generation_max` entries.
    pub(in crate::detect) fn new(generation_max: usize) -> Self {
        Self {
            young: Table::default(),
            old: Table::default(),
            generation_max,
        }
    }

    /// The state of a key. The lookup moves the entry to the young generation.
    pub(in crate::detect) fn touch(&mut self, key: u64) -> Option<TargetState> {
        if let Some(word) = self.young.get(key) {
            return state_of(word);
        }
        let state = state_of(self.old.get(key)?)?;
        self.set(key, Some(state));
        Some(state)
    }

    /// Stores the state of a key, in place of an earlier one.
    pub(in crate::detect) fn insert(&mut self, key: u64, state: TargetState) {
        self.set(key, Some(state));
    }

    /// Removes a key.
    pub(in crate::detect) fn remove(&mut self, key: u64) {
        if self.young.get(key).is_some() || self.old.get(key).is_some() {
            self.set(key, None);
        }
    }

    /// Tables only grow: an entry without a state represents a removed key, and hides the entry in the old generation.
    fn set(&mut self, key: u64, state: Option<TargetState>) {
        let word = encode(key, state);
        if self.young.replace(key, word) {
            return;
        }
        if self.young.len >= self.generation_max {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.add(word);
    }

    /// Number of entries.
    #[cfg(test)]
    pub(in crate::detect) fn len(&self) -> usize {
        self.young.len + self.old.len
    }
}

/// The bit that distinguishes an entry from an empty slot.
const USED: u64 = 4;
/// The bits that do not belong to the key.
const STATE_BITS: u64 = 7;

fn encode(key: u64, state: Option<TargetState>) -> u64 {
    (key & !STATE_BITS) | USED | state.map_or(0, |state| state as u64)
}

fn state_of(word: u64) -> Option<TargetState> {
    match word & 3 {
        1 => Some(TargetState::Open),
        2 => Some(TargetState::Failed),
        3 => Some(TargetState::Good),
        _ => None,
    }
}

/// A hash table with linear probing, without removal.
#[derive(Clone, Debug, Default)]
struct Table {
    /// Zero slots or a power of two. Zero is an empty slot.
    slots: Vec<u64>,
    len: usize,
}

impl Table {
    fn get(&self, key: u64) -> Option<u64> {
        let slot = self.slot(key)?;
        self.slots.get(slot).copied().filter(|word| *word != 0)
    }

    fn replace(&mut self, key: u64, word: u64) -> bool {
        let slot = self.slot(key).and_then(|slot| self.slots.get_mut(slot));
        match slot.filter(|known| **known != 0) {
            Some(known) => {
                *known = word;
                true
            }
            None => false,
        }
    }

    /// Adds a word with a key that is not in the table.
    fn add(&mut self, word: u64) {
        // At most three quarters are used, so that the search for a missing key is short.
        if (self.len + 1) * 4 > self.slots.len() * 3 {
            let bigger = vec![0; (self.slots.len() * 2).max(limits::TABLE_SLOTS_MIN)];
            for known in std::mem::replace(&mut self.slots, bigger) {
                self.put(known);
            }
        }
        self.put(word);
        self.len += 1;
    }

    fn put(&mut self, word: u64) {
        let slot = self.slot(word).and_then(|slot| self.slots.get_mut(slot));
        if let Some(slot) = slot.filter(|_| word != 0) {
            *slot = word;
        }
    }

    /// The used words, as bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let words = self.slots.iter().filter(|word| **word != 0);
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    /// The slot of a key, or the empty slot for it.
    fn slot(&self, key: u64) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        #[allow(clippy::cast_possible_truncation)] // the mask takes the lowest bits anyway
        let start = (key >> 32) as usize & mask;
        // At least a quarter of the slots is empty, so the search ends before it wraps around completely.
        (start..=start + mask).map(|at| at & mask).find(|at| {
            self.slots
                .get(*at)
                .is_none_or(|word| *word == 0 || (*word ^ key) & !STATE_BITS == 0)
        })
    }

    fn clear(&mut self) {
        self.slots.fill(0);
        self.len = 0;
    }
}

/// Saves the words in sequence. Their slots are not saved.
impl Serialize for Table {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de> Deserialize<'de> for Table {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = deserializer.deserialize_bytes(Bytes)?;
        let (words, rest) = bytes.as_chunks::<8>();
        if !rest.is_empty() || words.len() > limits::RUN_CONTACTS_GENERATION_MAX {
            return Err(D::Error::invalid_length(bytes.len(), &Bytes));
        }
        let mut table = Self::default();
        for word in words {
            let word = u64::from_le_bytes(*word);
            if word & USED == 0 || table.get(word).is_some() {
                return Err(D::Error::custom(
                    "an entry of a table is empty or duplicated",
                ));
            }
            table.add(word);
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::state::HashKey;

    fn key(n: u64) -> u64 {
        HashKey::default().target(std::net::Ipv4Addr::LOCALHOST.into(), n)
    }

    #[test]
    fn it_never_holds_more_than_two_generations() {
        let mut recent = GenerationalCache::new(4);
        for n in 0..1_000 {
            recent.insert(key(n), TargetState::Good);
            assert!(recent.len() <= 8);
        }
    }

    #[test]
    fn it_gives_back_what_was_put_in_last() {
        let mut recent = GenerationalCache::new(384);
        for (n, state) in (0..700).zip(
            [TargetState::Open, TargetState::Failed, TargetState::Good]
                .into_iter()
                .cycle(),
        ) {
            recent.insert(key(n), TargetState::Open);
            recent.insert(key(n), state);
            assert_eq!(recent.touch(key(n)), Some(state));
            assert_eq!(recent.touch(key(1_000_000 + n)), None);
        }
    }

    #[test]
    fn what_is_touched_again_and_again_is_never_forgotten() {
        let mut recent = GenerationalCache::new(4);
        recent.insert(key(0), TargetState::Failed);
        for n in 1..1_000 {
            recent.insert(key(n), TargetState::Good);
            assert_eq!(recent.touch(key(0)), Some(TargetState::Failed), "after {n}");
        }
    }

    #[test]
    fn what_was_not_touched_for_two_generations_is_forgotten() {
        let mut recent = GenerationalCache::new(4);
        recent.insert(key(0), TargetState::Good);
        (1..9).for_each(|n| recent.insert(key(n), TargetState::Good));
        assert_eq!(recent.touch(key(0)), None);
    }

    #[test]
    fn what_was_removed_stays_away_and_can_come_back() {
        let mut recent = GenerationalCache::new(4);
        (0..6).for_each(|n| recent.insert(key(n), TargetState::Good));
        for n in [0, 5] {
            recent.remove(key(n));
            assert_eq!(recent.touch(key(n)), None);
            recent.insert(key(n), TargetState::Open);
            assert_eq!(recent.touch(key(n)), Some(TargetState::Open));
        }
    }
}
