//! Names: the known names of a pod's targets, and whether they look like names of mining pools.
//!
//! Fed with DNS answers, TLS server names and the names in flow records; read by `mining` and `tunnel` for the hosts of
//! long sessions. An agent can choose names (INV-6), so a pool-like name is weak evidence, and a plain one only weakens
//! other evidence.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::hash_host;
use crate::detect::state::bounded;
use crate::limits;
use crate::model::BoundedText;

/// Class of the names of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(in crate::detect) enum NameClass {
    /// No word of mining.
    Plain,
    /// One word of mining.
    PoolLike,
    /// Two such words, or one that only mining uses.
    Pool,
}

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(in crate::detect) struct Names {
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::NAMED_HOSTS_MAX }>")]
    known: Vec<(u32, NameClass)>,
    #[serde(deserialize_with = "bounded::count::<_, { limits::NAMED_HOSTS_MAX }>")]
    next: usize,
    /// Pool-like names, for the evidence.
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::POOL_LIKE_NAMES_MAX }>")]
    pool_like: Vec<(u32, BoundedText)>,
    has_any: bool,
}

impl Names {
    /// Whether any name was ever seen. Without one, a missing name is no evidence.
    pub(in crate::detect) fn has_any(&self) -> bool {
        self.has_any
    }

    /// Whether names were seen and none was discarded. Only then is a missing name evidence.
    pub(in crate::detect) fn are_all_kept(&self) -> bool {
        self.has_any && self.known.len() < limits::NAMED_HOSTS_MAX
    }

    /// Records that the log contains names.
    pub(in crate::detect) fn record_name_seen(&mut self) {
        self.has_any = true;
    }

    /// Stores the name of an address. A plain name never replaces a pool-like one.
    pub(in crate::detect) fn learn(&mut self, name: &str, host: IpAddr, class: NameClass) {
        self.has_any = true;
        let key = hash_host(host);
        if class > NameClass::Plain && self.pool_like.iter().all(|(known, _)| *known != key) {
            if self.pool_like.len() >= limits::POOL_LIKE_NAMES_MAX {
                self.pool_like.remove(0);
            }
            self.pool_like.push((key, BoundedText::new(name)));
        }
        if let Some((_, known)) = self.known.iter_mut().find(|(known, _)| *known == key) {
            *known = class.max(*known);
        } else if self.known.len() < limits::NAMED_HOSTS_MAX {
            self.known.push((key, class));
        } else {
            // Replaces the oldest entry.
            self.next = (self.next + 1) % limits::NAMED_HOSTS_MAX;
            if let Some(slot) = self.known.get_mut(self.next) {
                *slot = (key, class);
            }
        }
    }

    /// Number of hosts with a known name.
    #[cfg(test)]
    pub(in crate::detect) fn known_count(&self) -> usize {
        self.known.len()
    }

    /// Class of the names of an address; `None` if no name is known.
    pub(in crate::detect) fn class(&self, host: IpAddr) -> Option<NameClass> {
        let key = hash_host(host);
        let known = self.known.iter().find(|(known, _)| *known == key);
        known.map(|(_, class)| *class)
    }

    /// The pool-like name of an address, if there is one.
    pub(in crate::detect) fn pool_like_name(&self, host: IpAddr) -> Option<&BoundedText> {
        let key = hash_host(host);
        let known = self.pool_like.iter().find(|(known, _)| *known == key);
        known.map(|(_, name)| name)
    }
}

/// Words that only mining uses.
const MINING_WORDS: [&str; 6] = [
    "stratum",
    "xmrig",
    "xmr",
    "monero",
    "cryptonight",
    "randomx",
];

/// Words that occur in names of pools and elsewhere; with a delimiter on both sides.
const POOL_WORDS: [&str; 16] = [
    "pool",
    "pools",
    "mine",
    "mining",
    "miner",
    "miners",
    "btc",
    "eth",
    "etc",
    "rvn",
    "zec",
    "ltc",
    "kas",
    "hashrate",
    "zephyr",
    "ravencoin",
];

/// Endings of words in names of pools: "nanopool", "ethermine", "supportxmr".
const POOL_ENDINGS: [&str; 7] = [
    "pool",
    "mine",
    "mining",
    "miner",
    "miners",
    "xmr",
    "hashvault",
];

/// Ordinary words with such an ending, and the pool of time servers.
const ORDINARY_WORDS: [&str; 16] = [
    "examine",
    "determine",
    "predetermine",
    "jasmine",
    "famine",
    "carmine",
    "undermine",
    "amine",
    "dopamine",
    "histamine",
    "ketamine",
    "whirlpool",
    "liverpool",
    "carpool",
    "blackpool",
    "threadpool",
];

/// The class of a name, without its top-level domain. Does not allocate.
pub(in crate::detect) fn classify(name: &str) -> NameClass {
    let name = name.trim_end_matches('.');
    let name = name
        .get(..name.len().min(limits::NAME_BYTES_MAX))
        .unwrap_or_default();
    let Some((labels, _top)) = name.rsplit_once('.') else {
        return NameClass::Plain;
    };
    if labels.len() >= 8 && ends_with(labels, "pool.ntp") {
        return NameClass::Plain;
    }
    let mut count = 0;
    for word in labels.split(['.', '-', '_']) {
        if MINING_WORDS.iter().any(|w| word.eq_ignore_ascii_case(w)) {
            count += 2;
        } else if is_pool_word(word) {
            count += 1;
        }
    }
    match count {
        0 => NameClass::Plain,
        1 => NameClass::PoolLike,
        _ => NameClass::Pool,
    }
}

fn is_pool_word(word: &str) -> bool {
    let is = |list: &[&str]| list.iter().any(|known| word.eq_ignore_ascii_case(known));
    let has_ending = POOL_ENDINGS.iter().any(|ending| ends_with(word, ending));
    is(&POOL_WORDS) || (has_ending && !is(&ORDINARY_WORDS))
}

fn ends_with(text: &str, ending: &str) -> bool {
    let start = text.len().checked_sub(ending.len());
    let tail = start.and_then(|start| text.get(start..));
    tail.is_some_and(|tail| tail.eq_ignore_ascii_case(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_are_recognized_by_the_words_in_their_names() {
        for (name, expected) in [
            ("xmr-eu1.nanopool.org", NameClass::Pool),
            ("stratum.example.net", NameClass::Pool),
            ("eth.pool.example.net.", NameClass::Pool),
            ("ws027.authedmine.com", NameClass::PoolLike),
            ("POOL.Example.net", NameClass::PoolLike),
        ] {
            assert_eq!(classify(name), expected, "{name}");
        }
    }

    #[test]
    fn everyday_names_are_plain() {
        for name in [
            "api.wandb.ai",
            "0.pool.ntp.org",
            "examine.com",
            "determined.ai",
            "poolside.ai",
            "minecraft.net",
            "ws.slack.com",
            "mine",
            "",
            "..",
            "jasmine.example",
            "eu-west-1.aws.com",
            "\u{1f600}.example.net",
            "carpool.example.org",
            "something.eth",
        ] {
            assert_eq!(classify(name), NameClass::Plain, "{name}");
        }
    }
}
