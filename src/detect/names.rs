//! Names: what is known of the names behind a pod's addresses, and how pool-like they sound.
//!
//! Fed with DNS answers, TLS names and the names that a log gives with a flow; asked by `mining`
//! and `tunnel` for the hosts of long sessions only. Names are the agent's to choose (INV-6), so a
//! pool-like one is weak evidence, and a plain one only weakens other evidence.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::saved;
use super::session::hash_host;
use crate::limits;
use crate::model::BoundedText;

/// What the names of an address sound like.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum NameClass {
    /// Like any other.
    Plain,
    /// One word of mining in it.
    PoolLike,
    /// Two such words, or one that is of mining only.
    Pool,
}

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Names {
    #[serde(deserialize_with = "saved::list::<_, _, { limits::NAMED_HOSTS_MAX }>")]
    known: Vec<(u32, NameClass)>,
    #[serde(deserialize_with = "saved::count::<_, { limits::NAMED_HOSTS_MAX }>")]
    next: usize,
    /// Pool-like names, for the evidence.
    #[serde(deserialize_with = "saved::list::<_, _, { limits::TELLING_NAMES_MAX }>")]
    telling: Vec<(u32, BoundedText)>,
    has_any: bool,
}

impl Names {
    /// Whether any name of the pod was ever seen: without, a missing one says nothing.
    pub(super) fn has_any(&self) -> bool {
        self.has_any
    }

    /// Whether names were seen and none was forgotten: only then does a missing one say something.
    pub(super) fn are_all_kept(&self) -> bool {
        self.has_any && self.known.len() < limits::NAMED_HOSTS_MAX
    }

    /// The log gives names, whatever they are.
    pub(super) fn seen(&mut self) {
        self.has_any = true;
    }

    /// A name belongs to an address. A plain name never takes back a telling one.
    pub(super) fn learn(&mut self, name: &str, host: IpAddr, class: NameClass) {
        self.has_any = true;
        let key = hash_host(host);
        if class > NameClass::Plain && self.telling.iter().all(|(known, _)| *known != key) {
            if self.telling.len() >= limits::TELLING_NAMES_MAX {
                self.telling.remove(0);
            }
            self.telling.push((key, BoundedText::new(name)));
        }
        if let Some((_, known)) = self.known.iter_mut().find(|(known, _)| *known == key) {
            *known = class.max(*known);
        } else if self.known.len() < limits::NAMED_HOSTS_MAX {
            self.known.push((key, class));
        } else {
            // The oldest makes room.
            self.next = (self.next + 1) % limits::NAMED_HOSTS_MAX;
            if let Some(slot) = self.known.get_mut(self.next) {
                *slot = (key, class);
            }
        }
    }

    /// Hosts whose name is known to have been seen.
    #[cfg(test)]
    pub(super) fn known_count(&self) -> usize {
        self.known.len()
    }

    /// What the names of an address sound like; `None` where none is known.
    pub(super) fn class(&self, host: IpAddr) -> Option<NameClass> {
        let key = hash_host(host);
        let known = self.known.iter().find(|(known, _)| *known == key);
        known.map(|(_, class)| *class)
    }

    /// The pool-like name of an address.
    pub(super) fn telling(&self, host: IpAddr) -> Option<&BoundedText> {
        let key = hash_host(host);
        let known = self.telling.iter().find(|(known, _)| *known == key);
        known.map(|(_, name)| name)
    }
}

/// Words that belong to mining alone.
const MINING_WORDS: [&str; 6] = [
    "stratum",
    "xmrig",
    "xmr",
    "monero",
    "cryptonight",
    "randomx",
];

/// Words that occur in pools' names and elsewhere too; with a delimiter on both sides.
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

/// Ends of words that pools are named by: "nanopool", "ethermine", "supportxmr".
const POOL_ENDINGS: [&str; 7] = [
    "pool",
    "mine",
    "mining",
    "miner",
    "miners",
    "xmr",
    "hashvault",
];

/// Words of everyday life with such an ending, and the pool of time servers.
const EVERYDAY: [&str; 16] = [
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

/// How pool-like a name sounds. Top-level domain left out. Does not allocate.
pub(super) fn classify(name: &str) -> NameClass {
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
    is(&POOL_WORDS) || (has_ending && !is(&EVERYDAY))
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
    fn pools_are_told_by_the_words_in_their_names() {
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
