//! A bounded map in two generations that drops the entries that were not used for longest.
//!
//! Used per pod and per run for contacts, and per pod for the domains of DNS answers. When the young generation is full it becomes the old one, and
//! the former old one is dropped; a lookup moves an entry back to the young one. Entries in use are thus kept, and an
//! attacker who fills the map with many honest contacts only causes the oldest ones to count again: a new contact is
//! never hidden.
//!
//! An entry takes 8 bytes: some bits of a keyed hash (`HashKey`) and a value. For the state of a target these are 61 bits
//! and 2 bits: two of a pod's thousand targets have the same bits once in 10^12 pods. For the domain of a host they are 32
//! bits and 29 bits: two of a pod's thousand hosts have the same bits once in 8,000 pods, and then one of them counts
//! below the other's domain.

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

/// The registered domain of a name: 28 bits of its keyed hash, and whether it is a name of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(in crate::detect) struct DomainId(u32);

impl DomainId {
    const IS_OF_CLUSTER: u32 = 8;

    /// From the keyed hash of the domain.
    #[allow(clippy::cast_possible_truncation)] // the upper half
    pub(in crate::detect) const fn of(hash: u64, is_of_cluster: bool) -> Self {
        let domain = (hash >> 32) as u32 & !(STATE_BITS as u32 | Self::IS_OF_CLUSTER);
        Self(if is_of_cluster {
            domain | Self::IS_OF_CLUSTER
        } else {
            domain
        })
    }

    /// Whether the cluster's DNS gives such names.
    pub(in crate::detect) const fn is_of_cluster(self) -> bool {
        self.0 & Self::IS_OF_CLUSTER != 0
    }
}

/// The bits of an entry that belong to its key, for states of targets and for domains of hosts.
const TARGET_BITS: u64 = !STATE_BITS;
const HOST_BITS: u64 = u64::MAX << 32;

/// States of targets. See the module.
pub(in crate::detect) type TargetCache = GenerationalCache<TARGET_BITS>;

/// Domains of hosts. See the module.
pub(in crate::detect) type DomainCache = GenerationalCache<HOST_BITS>;

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "SavedCache<KEY_BITS>")]
pub(in crate::detect) struct GenerationalCache<const KEY_BITS: u64> {
    young: Table<KEY_BITS>,
    old: Table<KEY_BITS>,
    generation_max: usize,
    /// Whether a generation was dropped since the last call of [`Self::take_has_aged`].
    #[serde(skip)]
    has_aged: bool,
}

/// The saved form of [`GenerationalCache`], before its bound is checked.
#[derive(Deserialize)]
struct SavedCache<const KEY_BITS: u64> {
    young: Table<KEY_BITS>,
    old: Table<KEY_BITS>,
    generation_max: usize,
}

impl<const KEY_BITS: u64> TryFrom<SavedCache<KEY_BITS>> for GenerationalCache<KEY_BITS> {
    type Error = &'static str;

    fn try_from(saved: SavedCache<KEY_BITS>) -> Result<Self, &'static str> {
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
            has_aged: false,
        })
    }
}

impl<const KEY_BITS: u64> GenerationalCache<KEY_BITS> {
    /// An empty map with at most twice `generation_max` entries.
    pub(in crate::detect) fn new(generation_max: usize) -> Self {
        Self {
            young: Table::default(),
            old: Table::default(),
            generation_max,
            has_aged: false,
        }
    }

    /// Whether a generation was dropped since the last call. Entries that must not be lost have to be looked up before
    /// the next one is dropped.
    pub(in crate::detect) fn take_has_aged(&mut self) -> bool {
        std::mem::take(&mut self.has_aged)
    }

    /// Tables only grow: an entry without a state represents a removed key, and hides the entry in the old generation.
    fn set(&mut self, key: u64, word: u64) {
        if self.young.replace(key, word) {
            return;
        }
        if self.young.len >= self.generation_max {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.has_aged = true;
        }
        self.young.add(word);
    }

    /// Number of entries.
    #[cfg(test)]
    pub(in crate::detect) fn len(&self) -> usize {
        self.young.len + self.old.len
    }
}

impl TargetCache {
    /// The state of a key. The lookup moves the entry to the young generation.
    pub(in crate::detect) fn touch(&mut self, key: u64) -> Option<TargetState> {
        if let Some(word) = self.young.get(key) {
            return state_of(word);
        }
        let state = state_of(self.old.get(key)?)?;
        self.insert(key, state);
        Some(state)
    }

    /// Stores the state of a key, in place of an earlier one.
    pub(in crate::detect) fn insert(&mut self, key: u64, state: TargetState) {
        self.set(key, encode(key, Some(state)));
    }

    /// Removes a key.
    pub(in crate::detect) fn remove(&mut self, key: u64) {
        if self.young.get(key).is_some() || self.old.get(key).is_some() {
            self.set(key, encode(key, None));
        }
    }
}

impl DomainCache {
    /// The domain of a host. The lookup moves the entry to the young generation.
    #[allow(clippy::cast_possible_truncation)] // the lower half
    pub(in crate::detect) fn touch(&mut self, host: u64) -> Option<DomainId> {
        let word = if let Some(word) = self.young.get(host) {
            word
        } else {
            let word = self.old.get(host)?;
            self.set(host, word);
            word
        };
        Some(DomainId(word as u32 & !(STATE_BITS as u32)))
    }

    /// Stores the domain of a host, in place of an earlier one.
    pub(in crate::detect) fn insert(&mut self, host: u64, domain: DomainId) {
        self.set(host, (host & HOST_BITS) | u64::from(domain.0) | USED);
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
struct Table<const KEY_BITS: u64> {
    /// Zero slots or a power of two. Zero is an empty slot.
    slots: Vec<u64>,
    len: usize,
}

impl<const KEY_BITS: u64> Table<KEY_BITS> {
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
                .is_none_or(|word| *word == 0 || (*word ^ key) & KEY_BITS == 0)
        })
    }

    fn clear(&mut self) {
        self.slots.fill(0);
        self.len = 0;
    }
}

/// Saves the words in sequence. Their slots are not saved.
impl<const KEY_BITS: u64> Serialize for Table<KEY_BITS> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.to_bytes())
    }
}

impl<'de, const KEY_BITS: u64> Deserialize<'de> for Table<KEY_BITS> {
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
        let mut recent = TargetCache::new(4);
        for n in 0..1_000 {
            recent.insert(key(n), TargetState::Good);
            assert!(recent.len() <= 8);
        }
    }

    #[test]
    fn it_gives_back_what_was_put_in_last() {
        let mut recent = TargetCache::new(384);
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
        let mut recent = TargetCache::new(4);
        recent.insert(key(0), TargetState::Failed);
        for n in 1..1_000 {
            recent.insert(key(n), TargetState::Good);
            assert_eq!(recent.touch(key(0)), Some(TargetState::Failed), "after {n}");
        }
    }

    #[test]
    fn what_was_not_touched_for_two_generations_is_forgotten() {
        let mut recent = TargetCache::new(4);
        recent.insert(key(0), TargetState::Good);
        (1..9).for_each(|n| recent.insert(key(n), TargetState::Good));
        assert_eq!(recent.touch(key(0)), None);
    }

    #[test]
    fn a_host_has_the_domain_that_was_stored_last() {
        let mut domains = DomainCache::new(384);
        for n in 0..700 {
            domains.insert(key(n), DomainId::of(key(n + 1), false));
            domains.insert(key(n), DomainId::of(key(n + 2), true));
            assert_eq!(domains.touch(key(n)), Some(DomainId::of(key(n + 2), true)));
            assert_eq!(domains.touch(key(1_000_000 + n)), None);
        }
        assert_eq!(domains.touch(key(400)), Some(DomainId::of(key(402), true)));
    }

    #[test]
    fn what_was_removed_stays_away_and_can_come_back() {
        let mut recent = TargetCache::new(4);
        (0..6).for_each(|n| recent.insert(key(n), TargetState::Good));
        for n in [0, 5] {
            recent.remove(key(n));
            assert_eq!(recent.touch(key(n)), None);
            recent.insert(key(n), TargetState::Open);
            assert_eq!(recent.touch(key(n)), Some(TargetState::Open));
        }
    }
}
