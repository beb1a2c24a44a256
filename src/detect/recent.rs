//! A bounded map that forgets what was not touched for longest, in two generations.
//!
//! Used per pod and per run for contacts and DNS answers. When the young generation is full it
//! becomes the old one and the former old one is dropped; a touch brings an entry back to the
//! young one. So what is used again is kept, and filling the map with many honest contacts only
//! makes the oldest ones count anew: it never makes a new contact invisible.
//!
//! Keys are keyed hashes (`sketch::HashKey`), of which 61 bits are kept beside the mark, 8 bytes
//! per entry in all. Two of a pod's thousand targets share them once in 10^12 pods.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::saved::Bytes;
use crate::limits;

/// What is remembered about a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    /// Tried, no answer yet.
    Open = 1,
    /// Tried in vain.
    Failed = 2,
    /// Known to be good.
    Good = 3,
}

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "SavedRecent")]
pub(super) struct Recent {
    young: Table,
    old: Table,
    generation_max: usize,
}

/// See [`Recent`], before its bound was checked.
#[derive(Deserialize)]
struct SavedRecent {
    young: Table,
    old: Table,
    generation_max: usize,
}

impl TryFrom<SavedRecent> for Recent {
    type Error = &'static str;

    fn try_from(saved: SavedRecent) -> Result<Self, &'static str> {
        let SavedRecent {
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
            return Err("a memory of contacts is larger than its bound");
        }
        Ok(Self {
            young,
            old,
            generation_max,
        })
    }
}

impl Recent {
    /// An empty map that holds at most twice `generation_max` entries.
    pub(super) fn new(generation_max: usize) -> Self {
        Self {
            young: Table::default(),
            old: Table::default(),
            generation_max,
        }
    }

    /// The mark of a key, which is kept longer because of this look.
    pub(super) fn touch(&mut self, key: u64) -> Option<Mark> {
        if let Some(word) = self.young.get(key) {
            return mark_of(word);
        }
        let mark = mark_of(self.old.get(key)?)?;
        self.set(key, Some(mark));
        Some(mark)
    }

    /// Stores a mark, in place of an earlier one of the same key.
    pub(super) fn insert(&mut self, key: u64, mark: Mark) {
        self.set(key, Some(mark));
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, key: u64) {
        if self.young.get(key).is_some() || self.old.get(key).is_some() {
            self.set(key, None);
        }
    }

    /// Nothing is ever taken out of a table: a key without a mark stands for one that was
    /// forgotten, and hides what the old generation says about it.
    fn set(&mut self, key: u64, mark: Option<Mark>) {
        let word = word_of(key, mark);
        if self.young.replace(key, word) {
            return;
        }
        if self.young.len >= self.generation_max {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
        }
        self.young.add(word);
    }

    /// Entries held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len + self.old.len
    }
}

/// The bit that tells an entry from an empty slot.
const USED: u64 = 4;
/// The bits that are not the key's.
const MARK_BITS: u64 = 7;

fn word_of(key: u64, mark: Option<Mark>) -> u64 {
    (key & !MARK_BITS) | USED | mark.map_or(0, |mark| mark as u64)
}

fn mark_of(word: u64) -> Option<Mark> {
    match word & 3 {
        1 => Some(Mark::Open),
        2 => Some(Mark::Failed),
        3 => Some(Mark::Good),
        _ => None,
    }
}

/// A hash table with linear probing, to which entries are only added.
#[derive(Clone, Debug, Default)]
struct Table {
    /// A power of two of them, or none. Zero is an empty slot.
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

    /// Adds a word whose key is not there yet.
    fn add(&mut self, word: u64) {
        // At most three quarters are used, so that a search for what is not there ends soon.
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

    /// The words that are used, as bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let words = self.slots.iter().filter(|word| **word != 0);
        words.flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Where a key is, or would be.
    fn slot(&self, key: u64) -> Option<usize> {
        let mask = self.slots.len().checked_sub(1)?;
        #[allow(clippy::cast_possible_truncation)] // the mask takes the lowest bits anyway
        let start = (key >> 32) as usize & mask;
        // At least a quarter of the slots is empty, so the search ends before it comes round.
        (start..=start + mask).map(|at| at & mask).find(|at| {
            self.slots
                .get(*at)
                .is_none_or(|word| *word == 0 || (*word ^ key) & !MARK_BITS == 0)
        })
    }

    fn clear(&mut self) {
        self.slots.fill(0);
        self.len = 0;
    }
}

/// Words go one after the other: where in the table they were says nothing.
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
                    "an entry of a table is empty or there twice",
                ));
            }
            table.add(word);
        }
        Ok(table)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sketch::HashKey;
    use super::*;

    fn key(n: u64) -> u64 {
        HashKey::default().target(std::net::Ipv4Addr::LOCALHOST.into(), n)
    }

    #[test]
    fn it_never_holds_more_than_two_generations() {
        let mut recent = Recent::new(4);
        for n in 0..1_000 {
            recent.insert(key(n), Mark::Good);
            assert!(recent.len() <= 8);
        }
    }

    #[test]
    fn it_gives_back_what_was_put_in_last() {
        let mut recent = Recent::new(384);
        for (n, mark) in (0..700).zip([Mark::Open, Mark::Failed, Mark::Good].into_iter().cycle()) {
            recent.insert(key(n), Mark::Open);
            recent.insert(key(n), mark);
            assert_eq!(recent.touch(key(n)), Some(mark));
            assert_eq!(recent.touch(key(1_000_000 + n)), None);
        }
    }

    #[test]
    fn what_is_touched_again_and_again_is_never_forgotten() {
        let mut recent = Recent::new(4);
        recent.insert(key(0), Mark::Failed);
        for n in 1..1_000 {
            recent.insert(key(n), Mark::Good);
            assert_eq!(recent.touch(key(0)), Some(Mark::Failed), "after {n}");
        }
    }

    #[test]
    fn what_was_not_touched_for_two_generations_is_forgotten() {
        let mut recent = Recent::new(4);
        recent.insert(key(0), Mark::Good);
        (1..9).for_each(|n| recent.insert(key(n), Mark::Good));
        assert_eq!(recent.touch(key(0)), None);
    }

    #[test]
    fn what_was_removed_stays_away_and_can_come_back() {
        let mut recent = Recent::new(4);
        (0..6).for_each(|n| recent.insert(key(n), Mark::Good));
        for n in [0, 5] {
            recent.remove(key(n));
            assert_eq!(recent.touch(key(n)), None);
            recent.insert(key(n), Mark::Open);
            assert_eq!(recent.touch(key(n)), Some(Mark::Open));
        }
    }
}
