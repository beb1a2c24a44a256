//! Random numbers from a seed: the same seed gives the same simulation on every machine.
//!
//! SplitMix64 (Steele, Lea, Flood 2014), which needs no dependency and passes the usual tests.
//! Used by everything in the simulator; nothing here may read a clock or the system's entropy.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// One stream of random numbers.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The stream of these numbers; streams of different numbers are unrelated.
    pub fn of(parts: &[u64]) -> Self {
        let mut state = GOLDEN;
        for part in parts {
            state = mix(state ^ part.wrapping_mul(GOLDEN)).wrapping_add(GOLDEN);
        }
        Self(state)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// From 0 to below 1.
    #[allow(clippy::cast_precision_loss)] // 53 bits are what an f64 holds
    pub fn unit(&mut self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From `low` to below `high`.
    pub fn real(&mut self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// From `low` to below `high`; `low` where the range is empty.
    pub fn between(&mut self, low: i64, high: i64) -> i64 {
        let span = high.saturating_sub(low).max(1).unsigned_abs();
        low.saturating_add_unsigned(self.bits() % span)
    }

    /// A number of things, both ends included.
    pub fn count(&mut self, low: usize, high: usize) -> usize {
        let span = high.saturating_sub(low).saturating_add(1).max(1);
        let span = u64::try_from(span).unwrap_or(u64::MAX);
        low.saturating_add(usize::try_from(self.bits() % span).unwrap_or_default())
    }

    /// The time to the next event of a Poisson process with this mean time between two.
    #[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // times of a week
    pub fn gap(&mut self, mean: i64) -> i64 {
        let gap = -(1.0 - self.unit()).ln() * mean as f64;
        (gap as i64).max(1)
    }

    pub fn pick<'a, T>(&mut self, choices: &'a [T]) -> Option<&'a T> {
        let last = choices.len().checked_sub(1)?;
        choices.get(self.count(0, last))
    }

    /// An address of the Internet.
    pub fn v4(&mut self) -> IpAddr {
        loop {
            let [_, b, c, d, first, ..] = self.bits().to_be_bytes();
            let address = Ipv4Addr::new(first % 223 + 1, b, c, d);
            // 100/8 and 192/8 as a whole: cheaper than naming the reserved parts of them.
            let is_other = matches!(
                first % 223 + 1,
                10 | 100 | 127 | 169 | 172 | 192 | 198 | 203
            );
            if !is_other {
                return IpAddr::V4(address);
            }
        }
    }

    /// A global IPv6 address.
    pub fn v6(&mut self) -> IpAddr {
        let low = u128::from(self.bits()) | (u128::from(self.bits() & 0xffff_ffff) << 64);
        IpAddr::V6(Ipv6Addr::from_bits((0x2600_1900 << 96) | low))
    }
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}
