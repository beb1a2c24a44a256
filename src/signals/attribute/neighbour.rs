//! Who the far end of a contact is to a pod: a pod of its run, one that has just ended, or neither.
//! Called by the index when it makes the record of a signal.

use std::net::IpAddr;

use super::Index;
use crate::model::{EventTime, Neighbour, RunKey};
use crate::observability::UnattributedReason;

impl Index {
    /// Who the holder of `ip` at `time` is to a pod of `run`. A pod that ended less than
    /// [`crate::limits::POD_RETENTION_SECONDS`] before has departed, if nobody holds its address since.
    #[must_use]
    pub fn neighbour(&self, ip: IpAddr, time: EventTime, run: Option<&RunKey>) -> Neighbour {
        let ip = ip.to_canonical();
        let Some(address) = self.addresses.get(&ip) else {
            return Neighbour::Stranger;
        };
        match self.find(ip, time) {
            Ok(known) if run.is_some() && known.subject.run.as_ref() == run => Neighbour::Sibling,
            Err(UnattributedReason::HostNetwork | UnattributedReason::Ambiguous) => {
                Neighbour::Stranger
            }
            _ if address.has_departed(time) => Neighbour::Departed,
            _ => Neighbour::Stranger,
        }
    }
}
