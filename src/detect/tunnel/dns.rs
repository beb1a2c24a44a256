//! DNS tunnels: how much a pod says in the names that it asks of one registered domain.
//!
//! Called by `tunnel` per query. Constant memory and time: per domain a bitmap that estimates the
//! distinct names, and the bytes of those that set a bit. A tunnel sends new names without end,
//! long ones, at a rate; a crawler asks for a host's name once and then talks to the host.

use serde::{Deserialize, Serialize};

use super::super::saved;
use super::domain::{Parts, split};
use crate::limits;
use crate::model::{BoundedText, DnsQuery, EventTime};

/// Distinct names of one domain from which on it counts: the base at which RITA begins. Where
/// the answers hold addresses, as a crawler's do, ten times as many.
const NAMES_MIN: f64 = 100.0;
const NAMES_WITH_ADDRESS_MIN: f64 = 1_000.0;

/// Bytes per second of new names: the least rate that was detected reliably elsewhere.
const BYTES_PER_SECOND_MIN: f64 = 0.7;

/// Average bytes chosen per name. Host names are shorter; every tunnel encodes in more, as each
/// query costs a round trip.
const BYTES_PER_NAME_MIN: f64 = 16.0;

/// Without a query for so long a domain starts anew.
const BREAK_US: i64 = 3_600_000_000;

/// Bits of a bitmap. At 1,024 bits and 2,000 names 13 % are still unset.
const BITS: u32 = 1_024;
const WORDS: usize = 16;

/// Names from which on a bitmap is worth its room.
const SMALL_MAX: usize = 8;

/// Examples of names that are kept.
const EXAMPLES_MAX: usize = 3;

/// One registered domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Domain {
    key: u64,
    #[serde(deserialize_with = "saved::list::<_, _, { SMALL_MAX }>")]
    small: Vec<u32>,
    busy: Option<Box<Busy>>,
    pub(super) query_count: u64,
    with_address_count: u64,
    bytes: u64,
    pub(super) first: EventTime,
    pub(super) last: EventTime,
}

/// What is kept of a domain with more than a few names.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Busy {
    bits: [u64; WORDS],
    #[serde(deserialize_with = "saved::list::<_, _, { EXAMPLES_MAX }>")]
    examples: Vec<BoundedText>,
}

/// See the module. Empty for a pod that asks for registered domains alone.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Domains(
    #[serde(deserialize_with = "saved::list::<_, _, { limits::DNS_DOMAINS_MAX }>")] Vec<Domain>,
);

impl Domains {
    /// Takes in a query; the domain that it is about and its name, where its figures have changed.
    pub(super) fn observe<'q>(&mut self, query: &'q DnsQuery<'_>) -> Option<(&Domain, &'q str)> {
        let Parts { below, registered } = split(&query.query)?;
        let key = fold(registered);
        let known = self.0.iter().position(|domain| domain.key == key);
        let index = known.unwrap_or_else(|| {
            self.make_room();
            self.0.push(Domain::new(key, query.time));
            self.0.len() - 1
        });
        let domain = self.0.get_mut(index)?;
        domain.count(query, below).then_some((&*domain, registered))
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The domain with the fewest bytes goes: a tunnel has the most of all. One that comes in gets
    /// no credit, so a pod that asks for many domains loses only what had said little.
    fn make_room(&mut self) {
        if self.0.len() < limits::DNS_DOMAINS_MAX {
            return;
        }
        let least = self
            .0
            .iter()
            .enumerate()
            .min_by_key(|(_, domain)| (domain.bytes, domain.last));
        if let Some((index, _)) = least.map(|(index, domain)| (index, domain.bytes)) {
            self.0.swap_remove(index);
        }
    }
}

impl Domain {
    fn new(key: u64, time: EventTime) -> Self {
        Self {
            key,
            small: Vec::new(),
            busy: None,
            query_count: 0,
            with_address_count: 0,
            bytes: 0,
            first: time,
            last: time,
        }
    }

    /// Distinct names, about.
    pub(super) fn name_count(&self) -> f64 {
        let Some(set) = self.bits_set() else {
            return f64::from(u32::try_from(self.small.len()).unwrap_or(u32::MAX));
        };
        let unset = f64::from(BITS.saturating_sub(set).max(1));
        -f64::from(BITS) * (unset / f64::from(BITS)).ln()
    }

    /// Bytes that new names carried per second.
    pub(super) fn bytes_per_second(&self) -> f64 {
        let seconds = self.last.seconds_since(self.first).max(60.0);
        self.all_bytes() / seconds
    }

    /// Nats for a tunnel: in full at the line, in proportion below it, nothing where the names are
    /// short or the rate is low.
    pub(super) fn nats(&self) -> f64 {
        let count = self.name_count();
        let has_addresses = self.with_address_count * 2 > self.query_count;
        let line = if has_addresses {
            NAMES_WITH_ADDRESS_MIN
        } else {
            NAMES_MIN
        };
        let is_long = self.bytes_per_name() >= BYTES_PER_NAME_MIN;
        if !is_long || self.bytes_per_second() < BYTES_PER_SECOND_MIN {
            return 0.0;
        }
        super::super::fusion::FAMILY_NATS_MAX * (count / line).min(1.0)
    }

    /// Bytes per distinct name. Only a name that sets a bit adds its bytes, so that a name asked
    /// twice counts once; the estimate makes up for those that found their bit set.
    fn bytes_per_name(&self) -> f64 {
        let small = u32::try_from(self.small.len()).unwrap_or(u32::MAX);
        let counted = f64::from(self.bits_set().unwrap_or(small).max(1));
        f64::from(u32::try_from(self.bytes).unwrap_or(u32::MAX)) / counted
    }

    fn bits_set(&self) -> Option<u32> {
        let busy = self.busy.as_ref()?;
        Some(busy.bits.iter().map(|word| word.count_ones()).sum())
    }

    /// Some of the names.
    pub(super) fn examples(&self) -> &[BoundedText] {
        self.busy.as_ref().map_or(&[], |busy| &busy.examples)
    }

    fn all_bytes(&self) -> f64 {
        self.bytes_per_name() * self.name_count()
    }

    /// Whether the name is new.
    fn count(&mut self, query: &DnsQuery<'_>, below: &str) -> bool {
        if query.time.micros_since(self.last) > BREAK_US {
            *self = Self::new(self.key, query.time);
        }
        self.last = self.last.max(query.time);
        self.first = self.first.min(query.time);
        self.query_count = self.query_count.saturating_add(1);
        self.with_address_count += u64::from(!query.answers.is_empty());
        let bit = u32::try_from(fold(below) >> 32).unwrap_or_default();
        if !self.mark(bit) {
            return false;
        }
        self.bytes = self.bytes.saturating_add(below.len() as u64);
        let is_long = self.bytes_per_name() >= BYTES_PER_NAME_MIN;
        if let Some(busy) = self.busy.as_mut().filter(|_| is_long)
            && busy.examples.len() < EXAMPLES_MAX
        {
            busy.examples.push(BoundedText::new(below));
        }
        true
    }

    fn mark(&mut self, hash: u32) -> bool {
        if let Some(busy) = &mut self.busy {
            return set(&mut busy.bits, hash);
        }
        if self.small.contains(&hash) {
            return false;
        }
        self.small.push(hash);
        if self.small.len() > SMALL_MAX {
            let mut bits = [0; WORDS];
            for hash in std::mem::take(&mut self.small) {
                set(&mut bits, hash);
            }
            let examples = Vec::new();
            self.busy = Some(Box::new(Busy { bits, examples }));
        }
        true
    }
}

fn set(bits: &mut [u64; WORDS], hash: u32) -> bool {
    let bit = hash % BITS;
    let Some(word) = bits.get_mut((bit / 64) as usize) else {
        return false;
    };
    let is_new = *word & (1 << (bit % 64)) == 0;
    *word |= 1 << (bit % 64);
    is_new
}

/// FNV-1a over the lower-case bytes, finished so that the upper half is mixed too.
fn fold(text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3);
    }
    (hash ^ (hash >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
}
