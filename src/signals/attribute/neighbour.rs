//! Holders of an address beyond the present one: who the far end of a contact is to a pod (a pod of its
//! run, one that has just ended, or nobody that matters), and which holder is forgotten first.

use std::net::IpAddr;

use super::{Address, Hold, Index, Why, covers};
use crate::limits;
use crate::model::{EventTime, Neighbour, RunKey};

impl Index {
    /// Who the holder of `ip` at `time` is to a pod of `run`. A pod that ended less than
    /// [`limits::POD_RETENTION_SECONDS`] before has departed, if nobody holds its address since.
    #[must_use]
    pub fn neighbour(&self, ip: IpAddr, time: EventTime, run: Option<&RunKey>) -> Neighbour {
        let ip = ip.to_canonical();
        let Some(address) = self.addresses.get(&ip) else {
            return Neighbour::Stranger;
        };
        match self.find(ip, time) {
            Ok(known) if run.is_some() && known.subject.run.as_ref() == run => Neighbour::Sibling,
            Err(Why::HostNetwork | Why::Ambiguous) => Neighbour::Stranger,
            _ if address.has_departed(time) => Neighbour::Departed,
            _ => Neighbour::Stranger,
        }
    }
}

impl Address {
    /// Whether its last holder ended shortly before, and nobody holds it.
    fn has_departed(&self, time: EventTime) -> bool {
        let skew = limits::CLOCK_SKEW_MICROS;
        let retention = limits::POD_RETENTION_SECONDS * 1_000_000;
        let is_over = |hold: &Hold| {
            hold.until
                .is_some_and(|until| (-skew..=retention).contains(&time.micros_since(until)))
        };
        let is_open = |hold: &Hold| covers(hold.from, hold.until, time) && !is_over(hold);
        self.host.is_none() && self.holds.iter().any(is_over) && !self.holds.iter().any(is_open)
    }

    /// Drops the holder that ended first. `false` when all of them still hold the address.
    pub(super) fn evict_holder(&mut self) -> bool {
        let ends = self.holds.iter().enumerate();
        let first = ends
            .filter_map(|(i, hold)| Some((hold.until?, i)))
            .min()
            .map(|(_, i)| i);
        if let Some(i) = first {
            self.holds.remove(i);
        }
        first.is_some()
    }
}
