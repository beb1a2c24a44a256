//! A bounded map that forgets what was not touched for longest, in two generations.
//!
//! Used per pod for contacts and DNS answers. When the young generation is full it becomes the
//! old one and the former old one is dropped; a touch brings an entry back to the young one. So
//! what is used again is kept, and filling the map with many honest contacts only makes the
//! oldest ones count anew: it never makes a new contact invisible.

use std::collections::HashMap;
use std::hash::Hash;

/// See the module.
#[derive(Clone, Debug)]
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
    generation_max: usize,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// An empty map that holds at most twice `generation_max` entries.
    pub(super) fn new(generation_max: usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            generation_max,
        }
    }

    /// The value of a key, which is kept longer because of this look.
    pub(super) fn touch(&mut self, key: &K) -> Option<&mut V> {
        if !self.young.contains_key(key) {
            let (key, value) = self.old.remove_entry(key)?;
            self.insert(key, value);
        }
        // The key may be an old one's last: after a change of generations it is in `young`.
        self.young.get_mut(key)
    }

    /// Stores a value, in place of an earlier one of the same key.
    pub(super) fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.generation_max && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&key);
        self.young.insert(key, value);
    }

    /// Forgets a key.
    pub(super) fn remove(&mut self, key: &K) {
        self.young.remove(key);
        self.old.remove(key);
    }

    /// Entries held.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_holds_more_than_two_generations() {
        let mut recent = Recent::new(4);
        for key in 0..1_000 {
            recent.insert(key, ());
            assert!(recent.len() <= 8);
        }
    }

    #[test]
    fn what_is_touched_again_and_again_is_never_forgotten() {
        let mut recent = Recent::new(4);
        recent.insert(-1, "dead dependency");
        for key in 0..1_000 {
            recent.insert(key, "other");
            assert_eq!(
                recent.touch(&-1),
                Some(&mut "dead dependency"),
                "after {key}"
            );
        }
    }

    #[test]
    fn what_was_not_touched_for_two_generations_is_forgotten() {
        let mut recent = Recent::new(4);
        recent.insert(-1, ());
        (0..8).for_each(|key| recent.insert(key, ()));
        assert_eq!(recent.touch(&-1), None);
    }
}
