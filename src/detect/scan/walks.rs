//! A bounded number of walks by key: by service, host or domain. Called by `pod` and `run`.

use std::net::IpAddr;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::walk::{Bursts, Member, OUTAGE_SHARE_MIN, Walk, WalkRules, reserve, short};
use super::weight::Weight;
use crate::detect::scan::contacts::{ContactVerdict, VerdictChange};
use crate::detect::state::HashKey;
use crate::detect::state::bounded::{self, Sequence};
use crate::limits;

/// Who pays for failures with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Payer {
    /// Each answer pays.
    Each,
    /// The first answer of this host or network in a walk pays: an attacker can answer itself from all addresses of a
    /// network, and make a known target new by contacts with others.
    Once(IpAddr),
}

/// A bounded set of walks.
///
/// If it is full, a new walk replaces the one with the fewest failures and inherits that number as its weight
/// (Metwally's Space-Saving). A key with more than one in [`limits::WALKS_MAX`] of all failures therefore always has
/// its walk: noise on many other ports can neither displace it nor keep it from entering. The score is never inherited.
#[derive(Clone, Debug)]
pub(super) struct Walks<K> {
    rules: WalkRules,
    /// Separate from the walks, so that a search reads little memory.
    keys: Vec<K>,
    list: Vec<Walk>,
    /// Who has paid in the walks of a key, also in those that have ended: the latest at the end.
    payers: Vec<Payers<K>>,
}

/// 16 bits of the hash of each payer that has paid in the walks of a key, the latest at the end.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Payers<K> {
    key: K,
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::WALK_PAYERS_MAX }>")]
    ids: Vec<u16>,
}

impl<K> Payers<K> {
    /// Records a payer. Returns whether it had not paid.
    fn pay(&mut self, id: u16) -> bool {
        if self.ids.contains(&id) {
            return false;
        }
        if self.ids.len() >= limits::WALK_PAYERS_MAX {
            self.ids.remove(0);
        }
        reserve(&mut self.ids, 4);
        self.ids.push(id);
        true
    }
}

impl<K: Serialize> Serialize for Walks<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Self {
            rules,
            keys,
            list,
            payers,
        } = self;
        let walks = Sequence(keys.iter().zip(list));
        (rules, walks, payers).serialize(serializer)
    }
}

impl<'de, K: Deserialize<'de>> Deserialize<'de> for Walks<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (rules, SavedWalks(walks), SavedPayers(payers)) =
            <(WalkRules, SavedWalks<K>, SavedPayers<K>)>::deserialize(deserializer)?;
        let (keys, list): (Vec<_>, Vec<Walk>) = walks.into_iter().unzip();
        if !rules.are_bounded() || list.iter().any(|walk| !walk.is_within_bounds(rules)) {
            return Err(D::Error::custom("a walk violates its bounds"));
        }
        Ok(Self {
            rules,
            keys,
            list,
            payers,
        })
    }
}

#[derive(Deserialize)]
#[serde(bound = "K: Deserialize<'de>")]
struct SavedWalks<K>(
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::WALKS_MAX }>")] Vec<(K, Walk)>,
);

#[derive(Deserialize)]
#[serde(bound = "K: Deserialize<'de>")]
struct SavedPayers<K>(
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::WALKS_MAX }>")] Vec<Payers<K>>,
);

impl<K: Ord + Copy> Walks<K> {
    /// An empty set.
    pub(super) fn new(rules: WalkRules) -> Self {
        Self {
            rules,
            keys: Vec::new(),
            list: Vec::new(),
            payers: Vec::new(),
        }
    }

    /// Whether an answer of this payer pays for failures in the walk of a key.
    fn pays(&mut self, key: K, payer: Payer) -> bool {
        let Payer::Once(network) = payer else {
            return true;
        };
        let known = self.payers.iter().position(|payers| payers.key == key);
        let mut payers = if let Some(index) = known {
            self.payers.remove(index)
        } else {
            if self.payers.len() >= limits::WALKS_MAX {
                self.payers.remove(0);
            }
            Payers {
                key,
                ids: Vec::new(),
            }
        };
        let pays = payers.pay(short(HashKey::default().host(network)));
        reserve(&mut self.payers, 3);
        self.payers.push(payers);
        pays
    }

    /// Counts a failed contact of a member. Returns the walk unless the target had counted before.
    pub(super) fn fail(
        &mut self,
        key: K,
        contact: &ContactVerdict,
        weight: Weight,
        member: Member,
    ) -> Option<&mut Walk> {
        let rules = self.rules;
        let walk = self.walk_for(key, contact)?;
        if walk.position(contact).is_some() {
            return None;
        }
        let is_shared = rules.member_min > 1;
        if walk.targets.len() >= rules.targets_max && is_shared {
            walk.make_room_for(member, rules)?;
        }
        if walk.targets.len() < rules.targets_max {
            reserve(&mut walk.targets, 4);
            walk.targets.push(short(contact.id));
            if is_shared {
                reserve(&mut walk.members, 4);
                walk.members.push(member);
            }
        }
        let mut failures = 1.0;
        if is_shared {
            failures = walk.failures_added(rules, member);
        }
        let mut alert_failures = failures;
        if rules.bursts == Bursts::InOutage && contact.is_in_outage {
            let share = walk.use_burst(contact.time, failures * weight.quarantine);
            if is_shared {
                alert_failures *= share;
                failures *= share;
            } else {
                failures *= share.max(OUTAGE_SHARE_MIN);
            }
        }
        // For the Internet's web servers in a log without names only, which no walk of a run counts.
        if contact.is_network_out && weight.fades {
            failures = failures.min(OUTAGE_SHARE_MIN);
        }
        walk.fail(contact, (failures, alert_failures), weight);
        Some(walk)
    }

    /// Counts an answer. A target that had counted as a failure of this weight is removed. Without a walk there is no
    /// sum to reduce: earlier successes are no credit.
    pub(super) fn answer(
        &mut self,
        key: K,
        contact: &ContactVerdict,
        (weight, payer): (Weight, Payer),
    ) {
        let rules = self.rules;
        let Some(index) = self.keys.iter().position(|known| *known == key) else {
            return;
        };
        let pays = self.pays(key, payer);
        let Some(walk) = self.list.get_mut(index) else {
            return;
        };
        let removed = if let Some(position) = walk.position(contact) {
            walk.remove_failure(rules, position)
        } else if contact.change == VerdictChange::Recovered
            && walk.targets.len() >= rules.targets_max
        {
            walk.failures.remove_failure();
            1.0
        } else {
            0.0
        };
        walk.answer(removed, (weight, pays), contact.change);
        if walk.alert_score_nats <= 0.0 && walk.score_nats <= 0.0 {
            self.keys.swap_remove(index);
            self.list.swap_remove(index);
        }
    }

    /// Whether there is a walk for this key.
    pub(super) fn has(&self, key: K) -> bool {
        self.keys.contains(&key)
    }

    /// The highest score of all walks, in nats; 0 without any.
    pub(super) fn highest_nats(&self) -> f64 {
        self.list
            .iter()
            .map(|walk| walk.score_nats)
            .fold(0.0, f64::max)
    }

    /// The members with any failure, repeated for each failure.
    pub(super) fn members_with_failures(&self) -> impl Iterator<Item = Member> + '_ {
        self.list
            .iter()
            .flat_map(|walk| walk.members.iter().copied())
    }

    fn walk_for(&mut self, key: K, contact: &ContactVerdict) -> Option<&mut Walk> {
        let known = self.keys.iter().position(|known| *known == key);
        let index = if let Some(index) = known {
            index
        } else {
            let inherited = self.make_room();
            reserve(&mut self.keys, 3);
            reserve(&mut self.list, 3);
            self.keys.push(key);
            self.list.push(Walk::new(contact, inherited));
            self.list.len() - 1
        };
        self.list.get_mut(index)
    }

    /// Makes room for one walk. Returns the weight that it inherits.
    fn make_room(&mut self) -> u32 {
        if self.list.len() < limits::WALKS_MAX {
            return 0;
        }
        let ranked = self.keys.iter().zip(&self.list).enumerate();
        let least = ranked.min_by_key(|(_, (key, walk))| (walk.weight, walk.last, **key));
        let Some((index, weight)) = least.map(|(index, (_, walk))| (index, walk.weight)) else {
            return 0;
        };
        self.keys.swap_remove(index);
        self.list.swap_remove(index);
        weight
    }
}
