//! Peer-to-peer profile: whether a pod's contacts on the Internet look like peer-to-peer traffic.
//!
//! Peers choose their own ports, so a peer-to-peer client contacts many hosts on many ports, most of them once, and one
//! default port more often. The default port alone would look like a horizontal scan. Called by `pod` and `run` when a
//! walk has crossed its threshold.
//!
//! An attacker gains little by imitating it: for every three hosts that it probes on one port it must contact another
//! host on a port of its own, and an alert is raised in any case. A scan of several ports on all hosts of a range never
//! looks like this: its ports repeat, and if there are so many ports that few of them repeat, the vertical walk of each
//! host detects it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::detect::scan::contacts::Target;
use crate::detect::state::bounded;
use crate::limits;
use crate::model::Transport;

/// Contacts with a port of their own that peer-to-peer traffic has at least: a quarter of all stored contacts. In ten
/// minutes of Gnutella they are two thirds, in scans of up to 1,000 ports almost none.
const OWN_PORTS_MIN: usize = limits::SPREAD_MAX / 4;

/// Of the stored contacts, the most that one of several scanned ports has, and the number of such ports: a scanner that
/// changes its ports and its hosts before a walk of either grows has some 23 on each.
const PORT_SHARE_MAX: usize = limits::SPREAD_MAX / 4;
const PORTS_MIN: usize = 4;

/// The latest first contacts of a pod on the Internet, for TCP and for UDP: half of the keyed hash of the host, and the
/// port.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct PeerToPeerProfile {
    #[serde(deserialize_with = "bounded::queue::<_, _, { limits::SPREAD_MAX }>")]
    tcp: VecDeque<(u32, u16)>,
    #[serde(deserialize_with = "bounded::queue::<_, _, { limits::SPREAD_MAX }>")]
    udp: VecDeque<(u32, u16)>,
}

impl PeerToPeerProfile {
    /// Stores a first contact with a host of this keyed hash.
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

    /// Whether the port is one of several that come back, each with a small share: a scan of many ports in random order, or
    /// of a few ports of a few hosts, then of others. A peer has a port of its own, and a port with a larger share a walk.
    pub(super) fn is_one_of_many_ports(&self, transport: Transport, port: u16) -> bool {
        let contacts = match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
            _ => return false,
        };
        let count = contacts.iter().filter(|(_, other)| *other == port).count();
        if !(2..=PORT_SHARE_MAX).contains(&count) {
            return false;
        }
        let ports: BTreeSet<u16> = contacts.iter().map(|(_, port)| *port).collect();
        ports.len() >= PORTS_MIN
    }

    /// If the contacts with other ports than `port` look like peer-to-peer traffic: the number of those with a port and
    /// host of their own, and the number of all stored contacts.
    pub(super) fn peer_to_peer_counts(
        &self,
        transport: Transport,
        port: u16,
    ) -> Option<(usize, usize)> {
        let contacts = match transport {
            Transport::Tcp => &self.tcp,
            Transport::Udp => &self.udp,
            _ => return None,
        };
        let mut ports: BTreeMap<u16, usize> = BTreeMap::new();
        for (_, port) in contacts {
            *ports.entry(*port).or_default() += 1;
        }
        let has_own_port = |other: &u16| *other != port && ports.get(other) == Some(&1);
        let alone = contacts.iter().filter(|(_, port)| has_own_port(port));
        let alone_count = alone.map(|(host, _)| *host).collect::<BTreeSet<_>>().len();
        (alone_count >= OWN_PORTS_MIN).then_some((alone_count, contacts.len()))
    }
}
