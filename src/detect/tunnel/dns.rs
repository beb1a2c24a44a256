//! DNS tunnels: how much data a pod sends in the names that it looks up below one registered domain.
//!
//! Called by `tunnel` per query. Constant memory and time: per domain, and for all domains together, a bitmap that
//! estimates the number of distinct names, and the bytes of the names that set a bit. A tunnel sends new long names
//! continuously and at a rate; a crawler looks up the name of a host once and then connects to the host.

use serde::{Deserialize, Serialize};

use crate::detect::domain::{Parts, hash_name};
use crate::detect::fusion::FAMILY_NATS_MAX;
use crate::detect::state::bounded;
use crate::limits;
use crate::model::{BoundedText, DnsQuery, EventTime};

/// Distinct names of one domain from which on it counts fully: the threshold of RITA. If most answers contain
/// addresses, as those of a crawler do, ten times as many.
const NAMES_MIN: f64 = 100.0;
const NAMES_WITH_ADDRESS_MIN: f64 = 1_000.0;

/// Bytes per second of new names: the lowest rate that other work detected reliably.
const BYTES_PER_SECOND_MIN: f64 = 0.7;

/// Bytes per second of new names from which on their length does not matter: a hundred short names a minute. If most
/// answers contain addresses, five times as many.
const SHORT_BYTES_PER_SECOND_MIN: f64 = 20.0;
const SHORT_BYTES_PER_SECOND_WITH_ADDRESS_MIN: f64 = 100.0;

/// Distinct names of all domains together, each long and without an address in its answer, from which on they count
/// fully. The look-ups of telemetry and blocklists are fewer, or below one domain.
const ALL_NAMES_MIN: f64 = 300.0;
const ALL_BYTES_PER_SECOND_MIN: f64 = 4.0;

/// Average number of chosen bytes per name. Host names are shorter; every tunnel encodes in more bytes, because each
/// query costs a round trip.
const BYTES_PER_NAME_MIN: f64 = 16.0;

/// A domain without a query for this time is reset.
const BREAK_US: i64 = 3_600_000_000;

/// Bits of a bitmap. With 1,024 bits and 2,000 names, 13 % are still unset.
const BITS: u32 = 1_024;
const WORDS: usize = 16;

/// Maximum number of names without a bitmap.
const SMALL_MAX: usize = 8;

/// Maximum number of example names.
const EXAMPLES_MAX: usize = 3;

/// State of one registered domain.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Domain {
    key: u64,
    #[serde(deserialize_with = "bounded::list::<_, _, { SMALL_MAX }>")]
    small: Vec<u32>,
    busy: Option<Box<Busy>>,
    pub(super) query_count: u64,
    with_address_count: u64,
    bytes: u64,
    pub(super) first: EventTime,
    pub(super) last: EventTime,
}

/// State of a domain with more than a few names.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Busy {
    bits: [u64; WORDS],
    #[serde(deserialize_with = "bounded::list::<_, _, { EXAMPLES_MAX }>")]
    examples: Vec<BoundedText>,
}

/// See the module. Empty for a pod that looks up only registered domains.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Domains {
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::DNS_DOMAINS_MAX }>")]
    list: Vec<Domain>,
    /// Long names of all domains with answers that contain no address: a tunnel can spread over many domains.
    all: Option<Box<Domain>>,
}

impl Domains {
    /// Processes a query for a name with these parts. Returns the domain if its counts have changed.
    pub(super) fn observe(&mut self, query: &DnsQuery<'_>, name: Parts<'_>) -> Option<&Domain> {
        let Parts { below, registered } = name;
        let key = hash_name(registered);
        let known = self.list.iter().position(|domain| domain.key == key);
        let index = known.unwrap_or_else(|| {
            self.make_room();
            self.list.push(Domain::new(key, query.time));
            self.list.len() - 1
        });
        let domain = self.list.get_mut(index)?;
        domain.count(query, below).then_some(&*domain)
    }

    /// Counts a query among those of all domains. Returns the counts if they have changed.
    pub(super) fn observe_all(&mut self, query: &DnsQuery<'_>, name: Parts<'_>) -> Option<&Domain> {
        let below = name.below;
        #[allow(clippy::cast_precision_loss)] // at most 253
        let is_long = below.len() as f64 >= BYTES_PER_NAME_MIN;
        if !is_long || !query.answers.is_empty() {
            return None;
        }
        let all = self
            .all
            .get_or_insert_with(|| Box::new(Domain::new(0, query.time)));
        all.count(query, below).then_some(&**all)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    /// Removes the domain with the fewest bytes: a tunnel has the most. A new domain starts at zero, so a pod that
    /// looks up many domains loses only those with little data.
    fn make_room(&mut self) {
        if self.list.len() < limits::DNS_DOMAINS_MAX {
            return;
        }
        let least = self
            .list
            .iter()
            .enumerate()
            .min_by_key(|(_, domain)| (domain.bytes, domain.last));
        if let Some((index, _)) = least.map(|(index, domain)| (index, domain.bytes)) {
            self.list.swap_remove(index);
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

    /// Estimated number of distinct names.
    pub(super) fn name_count(&self) -> f64 {
        let Some(set) = self.bits_set() else {
            return f64::from(u32::try_from(self.small.len()).unwrap_or(u32::MAX));
        };
        let unset = f64::from(BITS.saturating_sub(set).max(1));
        -f64::from(BITS) * (unset / f64::from(BITS)).ln()
    }

    /// Bytes per second in new names.
    pub(super) fn bytes_per_second(&self) -> f64 {
        let seconds = self.last.seconds_since(self.first).max(60.0);
        self.all_bytes() / seconds
    }

    /// The nats for a tunnel: all of them from the threshold on, in proportion below it, none if the names are short or
    /// the rate is low.
    pub(super) fn nats(&self) -> f64 {
        let count = self.name_count();
        let has_addresses = self.with_address_count * 2 > self.query_count;
        let threshold = if has_addresses {
            NAMES_WITH_ADDRESS_MIN
        } else {
            NAMES_MIN
        };
        let bytes_per_second = self.bytes_per_second();
        let short_min = if has_addresses {
            SHORT_BYTES_PER_SECOND_WITH_ADDRESS_MIN
        } else {
            SHORT_BYTES_PER_SECOND_MIN
        };
        let is_long = self.bytes_per_name() >= BYTES_PER_NAME_MIN;
        if bytes_per_second < BYTES_PER_SECOND_MIN || !is_long && bytes_per_second < short_min {
            return 0.0;
        }
        FAMILY_NATS_MAX * (count / threshold).min(1.0)
    }

    /// The same for the names of all domains together.
    pub(super) fn nats_of_all(&self) -> f64 {
        if self.bytes_per_second() < ALL_BYTES_PER_SECOND_MIN {
            return 0.0;
        }
        FAMILY_NATS_MAX * (self.name_count() / ALL_NAMES_MIN).min(1.0)
    }

    /// Bytes per distinct name. Only a name that sets a bit adds its bytes, so that a name that is looked up twice
    /// counts once; the estimate of the number compensates for names that found their bit set already.
    fn bytes_per_name(&self) -> f64 {
        let small = u32::try_from(self.small.len()).unwrap_or(u32::MAX);
        let counted = f64::from(self.bits_set().unwrap_or(small).max(1));
        f64::from(u32::try_from(self.bytes).unwrap_or(u32::MAX)) / counted
    }

    fn bits_set(&self) -> Option<u32> {
        let busy = self.busy.as_ref()?;
        Some(busy.bits.iter().map(|word| word.count_ones()).sum())
    }

    /// Examples of the names.
    pub(super) fn examples(&self) -> &[BoundedText] {
        self.busy.as_ref().map_or(&[], |busy| &busy.examples)
    }

    fn all_bytes(&self) -> f64 {
        self.bytes_per_name() * self.name_count()
    }

    /// Counts a query. Returns whether the name is new.
    fn count(&mut self, query: &DnsQuery<'_>, below: &str) -> bool {
        if query.time.micros_since(self.last) > BREAK_US {
            *self = Self::new(self.key, query.time);
        }
        self.last = self.last.max(query.time);
        self.first = self.first.min(query.time);
        self.query_count = self.query_count.saturating_add(1);
        self.with_address_count += u64::from(!query.answers.is_empty());
        let bit = u32::try_from(hash_name(below) >> 32).unwrap_or_default();
        if !self.insert(bit) {
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

    fn insert(&mut self, hash: u32) -> bool {
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
