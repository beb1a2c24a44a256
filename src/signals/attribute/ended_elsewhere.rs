//! Pods of any run or none that ended, or are terminating, on other nodes. A node agent watches only the pods of its own
//! node and learns these addresses from the list that the controller publishes (`pipeline/ended_pods`).
//!
//! Part of the index, which uses it when it knows no holder of an address. The controller's index contains every pod,
//! so nothing is stored here.

use std::collections::HashMap;
use std::net::IpAddr;

use foldhash::fast::RandomState;

use super::Index;
use crate::detect::Attributed;
use crate::limits;
use crate::model::{EventTime, Neighbour, Signal};

/// The published list: addresses, and since when their pods are ending.
#[derive(Clone, Debug, Default)]
pub(super) struct EndedElsewhere {
    addresses: HashMap<IpAddr, EventTime, RandomState>,
    /// Whether a list has been published.
    is_published: bool,
}

impl EndedElsewhere {
    /// Whether the pod that had `ip` was ending or had ended at `time`.
    pub(super) fn has_departed(&self, ip: IpAddr, time: EventTime) -> bool {
        self.addresses
            .get(&ip)
            .is_some_and(|since| is_departure(*since, time))
    }
}

/// Whether a pod that has been ending since `since` counts as departed at `time`.
pub(super) fn is_departure(since: EventTime, time: EventTime) -> bool {
    let range = -limits::CLOCK_SKEW_MICROS..=limits::POD_RETENTION_SECONDS * 1_000_000;
    range.contains(&time.micros_since(since))
}

impl Index {
    /// Replaces the list of addresses of pods that ended or are terminating, each with the time at which that began.
    /// `None` if no list is published.
    pub fn set_ended_elsewhere(
        &mut self,
        ended: Option<impl IntoIterator<Item = (IpAddr, EventTime)>>,
    ) {
        self.ended_elsewhere.is_published = ended.is_some();
        let ended = ended.into_iter().flatten();
        self.ended_elsewhere.addresses = ended
            .take(limits::ENDED_PODS_MAX)
            .map(|(ip, since)| (ip.to_canonical(), since))
            .collect();
    }

    /// Whether the target of a contact may turn out to be a pod that has just ended on another node.
    #[must_use]
    pub fn may_have_ended(&self, attributed: &Attributed<'_>) -> bool {
        self.ended_elsewhere.is_published && self.is_failure_at_unknown_address(attributed)
    }

    /// Whether a contact failed, or may still fail, and neither a pod nor a node is known to have its target's address.
    pub(super) fn is_failure_at_unknown_address(&self, attributed: &Attributed<'_>) -> bool {
        let Signal::Flow(flow) = attributed.signal else {
            return false;
        };
        let target = flow.destination.to_canonical();
        attributed.neighbour == Neighbour::Stranger
            && flow.outcome.may_fail()
            && !self.addresses.contains_key(&target)
            && !self.nodes.contains(&target)
    }
}
