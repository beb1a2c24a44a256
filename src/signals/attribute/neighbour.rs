//! The relation of the target of a contact to a pod: a pod of the same run, a pod that has just ended, or neither.
//! Used by the index when it builds the record of a signal.

use std::net::IpAddr;

use super::Index;
use crate::model::{EventTime, Neighbour, RunKey};
use crate::observability::UnattributedReason;

impl Index {
    /// The relation of the holder of `ip` at `time` to a pod of `run`. A pod that ended less than
    /// [`crate::limits::POD_RETENTION_SECONDS`] before has departed, unless another pod has held its address since.
    #[must_use]
    pub fn neighbour(&self, ip: IpAddr, time: EventTime, run: Option<&RunKey>) -> Neighbour {
        let ip = ip.to_canonical();
        let found = self.find(ip, time);
        match found {
            Ok(known) if run.is_some() && known.subject.run.as_ref() == run => {
                return Neighbour::Sibling;
            }
            Err(UnattributedReason::HostNetwork | UnattributedReason::Ambiguous) => {
                return Neighbour::Stranger;
            }
            _ => {}
        }
        let elsewhere = match run {
            Some(run) if found.is_err() => self.siblings.neighbour(run, ip, time),
            _ => Neighbour::Stranger,
        };
        let address = self.addresses.get(&ip);
        let has_departed = address.is_some_and(|address| address.has_departed(time));
        if elsewhere == Neighbour::Stranger && has_departed {
            return Neighbour::Departed;
        }
        elsewhere
    }
}
