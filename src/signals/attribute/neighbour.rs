//! The relation of the target of a contact to a pod: a pod of the same run, a pod that is terminating or has just ended,
//! or neither. Used by the index when it builds the record of a signal.

use std::net::IpAddr;

use super::Index;
use super::ended_elsewhere::is_departure;
use crate::model::{EventTime, Neighbour, RunKey};
use crate::observability::UnattributedReason;

impl Index {
    /// The relation of the holder of `ip` at `time` to a pod of `run`. A pod that ended, or began to terminate,
    /// less than [`crate::limits::POD_RETENTION_SECONDS`] before has departed, unless another pod has held its address
    /// since.
    #[must_use]
    pub fn neighbour(&self, ip: IpAddr, time: EventTime, run: Option<&RunKey>) -> Neighbour {
        let ip = ip.to_canonical();
        let found = self.find(ip, time);
        match found {
            Ok(known) if run.is_some() && known.subject.run.as_ref() == run => {
                return Neighbour::Sibling;
            }
            Ok(known)
                if known
                    .facts
                    .terminating_since
                    .is_some_and(|since| is_departure(since, time)) =>
            {
                return Neighbour::Departed;
            }
            Err(UnattributedReason::HostNetwork | UnattributedReason::Ambiguous) => {
                return Neighbour::Stranger;
            }
            _ => {}
        }
        if found.is_err() {
            let elsewhere = run.map_or(Neighbour::Stranger, |run| {
                self.siblings.neighbour(run, ip, time)
            });
            if elsewhere != Neighbour::Stranger {
                return elsewhere;
            }
            if self.ended_elsewhere.has_departed(ip, time) {
                return Neighbour::Departed;
            }
        }
        match self.addresses.get(&ip) {
            Some(address) if address.has_departed(time) => Neighbour::Departed,
            _ => Neighbour::Stranger,
        }
    }
}
