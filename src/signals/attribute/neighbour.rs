//! Who the far end of a contact is to a pod: a pod of its run, one that has just ended, or neither.
//! Called by the index when it makes the record of a signal.

use std::net::IpAddr;

use super::Index;
use crate::model::{EventTime, Neighbour, RunKey};
use crate::observability::UnattributedReason;

impl Index {
    /// Who the holder of `ip` at `time` is to a pod of `run`. A pod that ended less than
    /// [`crate::limits::POD_RETENTION_SECONDS`] before has departed, if no pod holds its address since.
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
