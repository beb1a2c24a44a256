//! Networks of which web servers answer the pod: whether all of a network fails now.
//!
//! A service with hundreds of addresses, an object store or a CDN, gives a client other ones with each DNS answer. When a
//! firewall drops it, each attempt fails at an address that is new to the pod, so nothing in a log without names resembles
//! an outage of known targets (see `outage`). What remains is the network: the addresses of one service are in a few /16
//! or /32, which answered before and have stopped. Called by `contacts`; the failures count less in a walk (see `walks`).
//!
//! A pod may have such a network by contacts with servers of others there. So its failures still count, alerts count all
//! of them, and an answer ends the rule: whoever scans hosts of which some answer has no use of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use super::verdict::Target;
use crate::detect::state::{HashKey, bounded};
use crate::limits;

/// Answers of distinct targets, less the failures below, from which on a network is known to answer.
const ANSWERS_MIN: u8 = 5;

/// Answers that one failure takes away from a network that is not known yet: as in a walk, where an answer weighs 2.7
/// failures, a network in which half of the targets fail never becomes known.
const ANSWERS_PER_FAILURE: u8 = 2;

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct AnsweringNetworks {
    /// The latest at the end.
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::ANSWERING_NETWORKS_MAX }>")]
    list: Vec<Network>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Network {
    /// Half of its keyed hash.
    id: u32,
    answers: u8,
    /// Whether a target has failed since it was known to answer, and none has answered.
    is_failing: bool,
}

impl AnsweringNetworks {
    /// A target answered for the first time.
    pub(super) fn answered(&mut self, target: Target, key: HashKey) {
        let id = network(target.host, key);
        let known = self.take(id).filter(|network| !network.is_failing);
        let answers = known.map_or(0, |network| network.answers);
        if self.list.len() >= limits::ANSWERING_NETWORKS_MAX {
            self.list.remove(0);
        }
        self.list.push(Network {
            id,
            answers: answers.saturating_add(1).min(ANSWERS_MIN),
            is_failing: false,
        });
    }

    /// A target failed for the first time. Returns whether its network had answered and has stopped.
    pub(super) fn failed(&mut self, target: Target, key: HashKey) -> bool {
        let Some(mut network) = self.take(network(target.host, key)) else {
            return false;
        };
        network.is_failing |= network.answers >= ANSWERS_MIN;
        if !network.is_failing {
            network.answers = network.answers.saturating_sub(ANSWERS_PER_FAILURE);
        }
        self.list.push(network);
        network.is_failing
    }

    fn take(&mut self, id: u32) -> Option<Network> {
        let position = self.list.iter().position(|known| known.id == id)?;
        Some(self.list.remove(position))
    }
}

/// Hash of the network of a host: a /16 of IPv4, a /32 of IPv6. Providers receive and announce blocks of about these
/// sizes.
#[allow(clippy::cast_possible_truncation)] // the upper half
fn network(host: IpAddr, key: HashKey) -> u32 {
    let network = match host {
        IpAddr::V4(v4) => Ipv4Addr::from_bits(v4.to_bits() & !0xffff).into(),
        IpAddr::V6(v6) => Ipv6Addr::from_bits(v6.to_bits() & !(u128::MAX >> 32)).into(),
    };
    (key.host(network) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Transport;

    fn target(net: u8, host: u8) -> Target {
        Target {
            host: IpAddr::from([203, net, 0, host]),
            transport: Transport::Tcp,
            port: 443,
        }
    }

    fn answer(networks: &mut AnsweringNetworks, hosts: std::ops::Range<u8>) {
        hosts.for_each(|host| networks.answered(target(0, host), HashKey::default()));
    }

    fn failed(networks: &mut AnsweringNetworks, net: u8, host: u8) -> bool {
        networks.failed(target(net, host), HashKey::default())
    }

    #[test]
    fn a_network_that_answered_five_times_and_stopped_is_out_and_others_are_not() {
        let mut networks = AnsweringNetworks::default();
        answer(&mut networks, 0..5);
        assert!((10..200).all(|host| failed(&mut networks, 0, host)));
        assert!(!failed(&mut networks, 1, 1), "another network");
    }

    #[test]
    fn a_network_that_answered_four_times_is_not_known() {
        let mut networks = AnsweringNetworks::default();
        answer(&mut networks, 0..4);
        assert!(!failed(&mut networks, 0, 10));
        answer(&mut networks, 5..7);
        assert!(!failed(&mut networks, 0, 11), "a failure took two away");
    }

    #[test]
    fn one_answer_ends_it() {
        let mut networks = AnsweringNetworks::default();
        answer(&mut networks, 0..5);
        assert!(failed(&mut networks, 0, 10));
        answer(&mut networks, 5..6);
        assert!((11..100).all(|host| !failed(&mut networks, 0, host)));
    }

    #[test]
    fn only_the_latest_networks_are_kept() {
        let mut networks = AnsweringNetworks::default();
        answer(&mut networks, 0..5);
        for net in 1..=u8::try_from(limits::ANSWERING_NETWORKS_MAX).unwrap() {
            networks.answered(target(net, 1), HashKey::default());
        }
        assert_eq!(networks.list.len(), limits::ANSWERING_NETWORKS_MAX);
        assert!(!failed(&mut networks, 0, 10));
    }
}
