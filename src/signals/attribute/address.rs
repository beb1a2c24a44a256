//! The holders of one address over time. Used only by the index.

use std::sync::Arc;

use super::{KnownPod, covers};
use crate::limits;
use crate::model::EventTime;

/// A span of time during which a pod has an address. Open while `until` is `None`.
#[derive(Clone, Debug)]
pub(super) struct AddressTenure {
    /// Shared with the pod's entry, so that a lookup needs no second map access.
    pub(super) known: Arc<KnownPod>,
    pub(super) from: EventTime,
    pub(super) until: Option<EventTime>,
}

/// The span during which an address belonged to a node, over all hostNetwork pods that had it. One span,
/// not one per pod, because the number of such pods on a node is not bounded.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostSpan {
    pub(super) from: EventTime,
    pub(super) until: Option<EventTime>,
    pub(super) live_count: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Address {
    pub(super) tenures: Vec<AddressTenure>,
    pub(super) host: Option<HostSpan>,
    /// A holder did not fit, so a single remaining holder may not be the only one.
    pub(super) is_ambiguous: bool,
}

impl Address {
    pub(super) fn add_host(&mut self, from: EventTime) {
        let host = self.host.get_or_insert(HostSpan {
            from,
            until: None,
            live_count: 0,
        });
        // A gap between two hostNetwork pods does not mean that the node lost the address.
        host.from = host.from.min(from);
        host.until = None;
        host.live_count += 1;
    }

    pub(super) fn remove_host(&mut self, at: EventTime) {
        if let Some(host) = &mut self.host {
            host.live_count = host.live_count.saturating_sub(1);
            if host.live_count == 0 {
                host.until = Some(at);
            }
        }
    }

    /// Whether its last holder ended shortly before `time` and no pod holds it at `time`.
    pub(super) fn has_departed(&self, time: EventTime) -> bool {
        let skew = limits::CLOCK_SKEW_MICROS;
        let retention = limits::POD_RETENTION_SECONDS * 1_000_000;
        let is_over = |tenure: &AddressTenure| {
            tenure
                .until
                .is_some_and(|until| (-skew..=retention).contains(&time.micros_since(until)))
        };
        let is_open =
            |tenure: &AddressTenure| covers(tenure.from, tenure.until, time) && !is_over(tenure);
        self.host.is_none() && self.tenures.iter().any(is_over) && !self.tenures.iter().any(is_open)
    }

    /// Drops the holder that ended first. Returns `false` when all of them still hold the address.
    pub(super) fn evict_holder(&mut self) -> bool {
        let ends = self.tenures.iter().enumerate();
        let first = ends
            .filter_map(|(i, tenure)| Some((tenure.until?, i)))
            .min()
            .map(|(_, i)| i);
        if let Some(i) = first {
            self.tenures.remove(i);
        }
        first.is_some()
    }
}
