//! Spread: whether a pod's contacts on the Internet look like peer-to-peer traffic.
//!
//! Peers choose their own ports, so a peer-to-peer client meets many hosts on many ports, most of
//! them once, and one default port more often. That default port alone would look like a
//! horizontal scan. Called by `scan` when a walk has crossed its line.
//!
//! What an attacker gains by imitating it is little: for every three hosts that it probes on one
//! port it must contact another host on a port of its own, and an alert is raised all the same. A scan of
//! several ports on all hosts of a range never looks like this: its ports come back, and if there
//! are so many ports that few come back, the vertical walk per host sees them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::contacts::Target;
use super::saved;
use crate::limits;
use crate::model::Transport;

/// Contacts to ports of their own that it takes: a quarter of all that are remembered. In ten
/// minutes of Gnutella they are two thirds, in scans of up to 1,000 ports next to none.
const LONE_PORTS_MIN: usize = limits::SPREAD_MAX / 4;

/// The last first contacts of a pod on the Internet, for TCP and for UDP: half of the host's keyed
/// hash, and the port.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Spread {
    #[serde(deserialize_with = "saved::queue::<_, _, { limits::SPREAD_MAX }>")]
    tcp: VecDeque<(u32, u16)>,
    #[serde(deserialize_with = "saved::queue::<_, _, { limits::SPREAD_MAX }>")]
    udp: VecDeque<(u32, u16)>,
}

impl Spread {
    /// Remembers a first contact with a host of this keyed hash.
    pub(super) fn observe(&mut self, target: Target, host: u64) {
        let contacts = match target.transport {
            Transport::Tcp => &mut self.tcp,
            Transport::Udp => &mut self.udp,
            _ => return,
        };
        if contacts.len() >= limits::SPREAD_MAX {
            contacts.pop_front();
        }
        #[allow(clippy::cast_possible_truncation)] // the upper half
        let host = (host >> 32) as u32;
        contacts.push_back((host, target.port));
    }

    /// If the contacts around those to `port` look like peer-to-peer traffic: how many went to a
    /// port and host of their own, of how many.
    pub(super) fn peers_around(&self, transport: Transport, port: u16) -> Option<(usize, usize)> {
        let contacts = match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
            _ => return None,
        };
        let mut ports: BTreeMap<u16, usize> = BTreeMap::new();
        for (_, port) in contacts {
            *ports.entry(*port).or_default() += 1;
        }
        let is_lone = |other: &u16| *other != port && ports.get(other) == Some(&1);
        let lone = contacts.iter().filter(|(_, port)| is_lone(port));
        let lone_count = lone.map(|(host, _)| *host).collect::<BTreeSet<_>>().len();
        (lone_count >= LONE_PORTS_MIN).then_some((lone_count, contacts.len()))
    }
}
