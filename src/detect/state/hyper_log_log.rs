//! HyperLogLog: estimates the number of distinct hashes, in 256 bytes.
//!
//! Flajolet et al. 2007, with 256 registers, so that the standard error is 1.04 / sqrt(256) = 6.5 %. A small number of
//! hashes is stored as it is: exact, and small for a quiet pod. A hash counts once, however long ago it was added. Used
//! by `scan::distinct_targets` with keyed hashes: without the key an attacker cannot choose targets that leave the
//! registers unchanged.

use serde::{Deserialize, Serialize};

use super::bounded;

/// Number of registers, and of the bits of a hash that select one.
const REGISTERS: usize = 1 << REGISTER_BITS;
const REGISTER_BITS: u32 = 8;

/// Hashes that are stored as they are: half of the memory of the registers.
const EXACT_MAX: usize = 32;

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::detect) enum HyperLogLog {
    /// The upper half of each hash.
    Exact(#[serde(deserialize_with = "bounded::list::<_, _, { EXACT_MAX }>")] Vec<u32>),
    /// The registers: the longest run of zeros in each, plus one.
    Registers(#[serde(with = "registers")] Box<[u8; REGISTERS]>),
}

/// Registers as bytes.
mod registers {
    use serde::de::Error;
    use serde::{Deserializer, Serializer};

    use super::REGISTERS;
    use crate::detect::state::bounded::Bytes;

    pub(super) fn serialize<S: Serializer>(
        registers: &[u8; REGISTERS],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(registers)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Box<[u8; REGISTERS]>, D::Error> {
        let bytes = deserializer.deserialize_bytes(Bytes)?;
        let registers = <[u8; REGISTERS]>::try_from(bytes.as_slice());
        let registers = registers.map_err(|_| D::Error::invalid_length(bytes.len(), &Bytes))?;
        Ok(Box::new(registers))
    }
}

impl Default for HyperLogLog {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl HyperLogLog {
    /// Adds a hash. Returns whether the state changed; if not, the estimate is the same as before.
    pub(in crate::detect) fn insert(&mut self, hash: u64) -> bool {
        #[allow(clippy::cast_possible_truncation)] // the upper half
        let hash = (hash >> 32) as u32;
        match self {
            Self::Exact(hashes) if hashes.contains(&hash) => false,
            Self::Exact(hashes) if hashes.len() < EXACT_MAX => {
                hashes.push(hash);
                true
            }
            Self::Exact(hashes) => {
                let mut registers = Box::new([0_u8; REGISTERS]);
                for known in hashes.iter() {
                    raise(&mut registers, *known);
                }
                raise(&mut registers, hash);
                *self = Self::Registers(registers);
                true
            }
            Self::Registers(registers) => raise(registers, hash),
        }
    }

    /// Estimated number of distinct hashes.
    pub(in crate::detect) fn estimate(&self) -> f64 {
        let registers = match self {
            #[allow(clippy::cast_precision_loss)] // at most EXACT_MAX
            Self::Exact(hashes) => return hashes.len() as f64,
            Self::Registers(registers) => registers,
        };
        let count = 256.0_f64;
        let sum: f64 = registers
            .iter()
            .map(|rank| (-f64::from(*rank)).exp2())
            .sum();
        // The constant of the paper for 128 registers and more.
        let raw = 0.7213 / (1.0 + 1.079 / count) * count * count / sum;
        let is_empty = |rank: &&u8| **rank == 0;
        let empty: f64 = registers.iter().filter(is_empty).map(|_| 1.0).sum();
        if raw <= 2.5 * count && empty > 0.0 {
            // Few hashes: the number of empty registers gives a better estimate (linear counting).
            return count * (count / empty).ln();
        }
        raw
    }
}

fn raise(registers: &mut [u8; REGISTERS], hash: u32) -> bool {
    let index = hash >> (u32::BITS - REGISTER_BITS);
    let rest = hash << REGISTER_BITS;
    // At most 24 bits remain, so the run ends there.
    let rank = rest.leading_zeros().min(u32::BITS - REGISTER_BITS) + 1;
    let (Ok(index), Ok(rank)) = (usize::try_from(index), u8::try_from(rank)) else {
        return false;
    };
    let Some(register) = registers.get_mut(index) else {
        return false;
    };
    let is_higher = rank > *register;
    *register = rank.max(*register);
    is_higher
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::super::HashKey;
    use super::*;

    fn filled(seed: u64, count: u32) -> HyperLogLog {
        let mut sketch = HyperLogLog::default();
        for n in 0..count {
            let ip = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
            sketch.insert(HashKey::from_seed(seed).host(ip));
        }
        sketch
    }

    #[test]
    fn few_are_counted_exactly_and_none_twice() {
        for count in [0, 1, 31, 32] {
            let mut sketch = filled(1, count);
            assert!((sketch.estimate() - f64::from(count)).abs() < f64::EPSILON);
            for n in 0..count {
                let ip = IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n));
                assert!(!sketch.insert(HashKey::from_seed(1).host(ip)));
            }
        }
    }

    #[test]
    fn the_error_is_that_of_the_paper() {
        let bound = 1.04 / 16.0;
        for count in [33, 100, 250, 1_000, 10_000, 100_000] {
            let seeds = 64;
            let squares: f64 = (0..seeds)
                .map(|seed| {
                    let estimate = filled(seed, count).estimate();
                    (estimate / f64::from(count) - 1.0).powi(2)
                })
                .sum();
            let error = (squares / 64.0).sqrt();
            // Of 64 seeds: the measured deviation itself is known to some 9 %, so 3 sigma above.
            assert!(error < bound * 1.3, "{count}: {error:.3} over {bound:.3}");
        }
    }
}
