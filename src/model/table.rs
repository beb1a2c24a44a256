//! A hash table for entries that come and go.
//!
//! `HashMap` marks the places of removed entries, and doubles once marks have used up its room while it is more than half
//! full. When that happens depends on its seed. With room for twice the entries it clears the marks in place instead
//! (hashbrown, `reserve_rehash`), so that its size follows from the number of entries alone.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::ops::{Deref, DerefMut};

/// The least number of entries from which on a table keeps room for more, and the least that it is made smaller to.
const SMALL: usize = 512;

/// How many times the room that it needs a table may have before it is made smaller.
const SPARE_MAX: usize = 8;

/// A `HashMap` of a size that, after [`Self::keep_room`], follows from the largest number of entries it has had.
#[derive(Clone, Debug)]
pub(crate) struct Table<K, V, S> {
    entries: HashMap<K, V, S>,
    /// How many entries there is room for, not counting what removed entries take away.
    room: usize,
}

impl<K, V, S: Default> Default for Table<K, V, S> {
    fn default() -> Self {
        Self {
            entries: HashMap::default(),
            room: 0,
        }
    }
}

impl<K: Hash + Eq, V, S: BuildHasher + Clone> Table<K, V, S> {
    /// An empty table.
    pub(crate) fn with_hasher(hasher: S) -> Self {
        Self {
            entries: HashMap::with_hasher(hasher),
            room: 0,
        }
    }

    /// Keeps room for twice the entries. To be called whenever entries were added or removed: it moves them only where
    /// their number has doubled, is an eighth of what it was, or marks have taken half of the room.
    pub(crate) fn keep_room(&mut self) {
        let len = self.entries.len();
        if len < SMALL && self.room == 0 {
            return;
        }
        let needed = 2 * len.max(SMALL);
        let is_too_large = self.room > SPARE_MAX * needed.next_power_of_two();
        if self.room < needed || is_too_large {
            self.room = needed.next_power_of_two();
        } else if self.entries.capacity() >= self.room / 2 {
            return;
        }
        let hasher = self.entries.hasher().clone();
        let roomy = HashMap::with_capacity_and_hasher(self.room, hasher);
        let old = std::mem::replace(&mut self.entries, roomy);
        self.entries.extend(old);
    }
}

impl<K, V, S> Deref for Table<K, V, S> {
    type Target = HashMap<K, V, S>;

    fn deref(&self) -> &Self::Target {
        &self.entries
    }
}

impl<K, V, S> DerefMut for Table<K, V, S> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.entries
    }
}

#[cfg(test)]
mod tests {
    use std::hash::RandomState;
    use std::ops::Range;

    use super::*;

    /// Entries come and go, `living` at a time.
    fn churn(table: &mut Table<u32, u32, RandomState>, living: u32, numbers: Range<u32>) {
        for n in numbers {
            table.insert(n, n);
            if let Some(gone) = n.checked_sub(living) {
                table.remove(&gone);
            }
            table.keep_room();
        }
    }

    #[test]
    fn a_table_with_entries_that_come_and_go_keeps_its_size() {
        for living in [14_400, 17_000, 28_000] {
            let mut table = Table::default();
            churn(&mut table, living, 0..30_000);
            let early = table.capacity();
            churn(&mut table, living, 30_000..500_000);
            let late = table.capacity();
            assert!(late <= early && late > early / 3, "{early} {late}");
        }
    }

    #[test]
    fn a_table_gives_back_room_after_most_entries_are_gone() {
        let mut table: Table<u32, u32, RandomState> = Table::default();
        table.extend((0..200_000).map(|n| (n, n)));
        table.keep_room();
        table.retain(|n, _| *n < 2);
        table.keep_room();
        assert!(table.capacity() < 10_000, "{}", table.capacity());
    }
}
