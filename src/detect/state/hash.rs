//! Keyed hashes of targets and of map keys.
//!
//! Called for every flow, so it must be fast: two or three 64 x 64 bit multiplications, folded. The adversary chooses
//! the hashed addresses, but sees neither the key nor any hash, so it cannot choose collisions. With a fixed key a
//! replay is repeatable (INV-9). This is no cryptographic hash, and hashes must never be shown to a user.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The secret hash key of one engine.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HashKey {
    first: u64,
    second: u64,
    third: u64,
    last: u64,
}

impl HashKey {
    /// A key from a seed. The operator uses a random seed; `replay` and tests use zero, so that results are repeatable.
    #[must_use]
    pub const fn from_seed(seed: u64) -> Self {
        Self {
            first: split_mix(seed, 1),
            second: split_mix(seed, 2),
            third: split_mix(seed, 3),
            last: split_mix(seed, 4),
        }
    }

    /// Hash of an address alone.
    pub(in crate::detect) fn host(self, ip: IpAddr) -> u64 {
        self.target(ip, u64::MAX)
    }

    /// Hash of a 64-bit word.
    pub(in crate::detect) fn word(self, word: u64) -> u64 {
        fold(fold(word ^ self.first, self.second) ^ self.third, self.last)
    }

    /// Hash of an address and of a word that distinguishes its services.
    pub(in crate::detect) fn target(self, ip: IpAddr, service: u64) -> u64 {
        let bits = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        #[allow(clippy::cast_possible_truncation)] // the two halves
        let (high, low) = ((bits >> 64) as u64, bits as u64);
        let address = fold(high ^ self.first, low ^ self.second);
        fold(address ^ self.third, service ^ self.last)
    }
}

impl Default for HashKey {
    fn default() -> Self {
        Self::from_seed(0)
    }
}

/// Does not print the key.
impl std::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HashKey")
    }
}

/// Creates the hashers of a map with text keys: three times as fast as the standard one.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::detect) struct KeyedState(pub(in crate::detect) HashKey);

impl BuildHasher for KeyedState {
    type Hasher = KeyedHasher;

    fn build_hasher(&self) -> KeyedHasher {
        KeyedHasher {
            key: self.0,
            state: self.0.third,
        }
    }
}

/// See [`KeyedState`].
#[derive(Clone, Copy, Debug)]
pub(in crate::detect) struct KeyedHasher {
    key: HashKey,
    state: u64,
}

impl Hasher for KeyedHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.write_u64(u64::from_le_bytes(*word));
        }
        if !rest.is_empty() {
            let mut word = [0_u8; 8];
            word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
            self.write_u64(u64::from_le_bytes(word));
        }
        // Distinguishes zeros at the end from no bytes.
        self.state ^= bytes.len() as u64;
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(u64::from(byte));
    }

    fn write_u64(&mut self, word: u64) {
        self.state = fold(self.state ^ word, self.key.first);
    }

    fn finish(&self) -> u64 {
        fold(self.state ^ self.key.second, self.key.last)
    }
}

/// The XOR of the halves of the 128-bit product of two words.
#[allow(clippy::cast_possible_truncation)] // the two halves
const fn fold(a: u64, b: u64) -> u64 {
    let product = (a as u128) * (b as u128);
    (product as u64) ^ ((product >> 64) as u64)
}

/// The n-th word of the SplitMix64 stream of a seed; odd, so that it is never zero.
const fn split_mix(seed: u64, n: u64) -> u64 {
    let mut word = seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (word ^ (word >> 31)) | 1
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::net::Ipv4Addr;

    use super::*;

    fn ip(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n))
    }

    #[test]
    fn neighbouring_targets_do_not_collide_even_in_16_bits_of_the_hash_more_than_chance_would() {
        let key = HashKey::from_seed(7);
        let hashes: BTreeSet<u64> = (0..4_096)
            .map(|n| key.target(ip(n % 64), u64::from(n / 64)) >> 40)
            .collect();
        assert!(hashes.len() >= 4_094, "{} of 4,096", hashes.len());
    }

    #[test]
    fn another_seed_gives_other_hashes_and_the_same_seed_the_same() {
        let hash = |seed: u64| HashKey::from_seed(seed).host(ip(1));
        assert_eq!(hash(1), hash(1));
        assert_ne!(hash(1), hash(2));
    }

    #[test]
    fn a_text_and_its_beginning_have_different_hashes() {
        let hash = |text: &str| KeyedState::default().hash_one(text);
        let texts = ["", "\0", "\0\0", "pod", "pod\0", "pod-1234", "pod-12345"];
        let hashes: BTreeSet<u64> = texts.into_iter().map(hash).collect();
        assert_eq!(hashes.len(), texts.len());
    }
}
