//! What the index knows of one address: who held it, and when. Called by the index alone.

use std::sync::Arc;

use super::{Known, covers};
use crate::limits;
use crate::model::EventTime;

/// A span of time in which a pod has an address. Open while `until` is `None`.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    /// Shared with the pod's entry, so that a look-up needs no second map.
    pub(super) known: Arc<Known>,
    pub(super) from: EventTime,
    pub(super) until: Option<EventTime>,
}

/// The span in which an address was a node's, over all hostNetwork pods that showed it. One span,
/// not one per pod: a node runs any number of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct HostSpan {
    pub(super) from: EventTime,
    pub(super) until: Option<EventTime>,
    pub(super) live_count: usize,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Address {
    pub(super) holds: Vec<Hold>,
    pub(super) host: Option<HostSpan>,
    /// A holder did not fit, so that the one that is left may not be the only one.
    pub(super) is_contested: bool,
}

impl Address {
    pub(super) fn add_host(&mut self, from: EventTime) {
        let host = self.host.get_or_insert(HostSpan {
            from,
            until: None,
            live_count: 0,
        });
        // A gap between two hostNetwork pods is no gap for the node.
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

    /// Whether its last holder ended shortly before, and no pod holds it now.
    pub(super) fn has_departed(&self, time: EventTime) -> bool {
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
