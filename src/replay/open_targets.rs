//! The targets of a subject for which the log shows no outcome. Used by `result`.
//!
//! A subject with connections that have no outcome in the log is neither clean nor suspicious, but unknown. Only
//! the last outcome of a target counts, so that the first packet of a connection that ends later leaves
//! nothing open.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::limits;
use crate::model::{Flow, Transport};

/// What one failed first contact adds to a walk: ln(0.9 / 0.5), see `detect::scan::walk`.
pub(super) const FAILURE_NATS: f64 = 0.588;

/// The targets of one subject without an outcome, at most [`limits::OPEN_TARGETS_MAX`].
#[derive(Clone, Debug, Default)]
pub(super) struct OpenTargets(BTreeSet<(IpAddr, u16, Transport)>);

impl OpenTargets {
    pub(super) fn observe(&mut self, flow: &Flow<'_>) {
        let target = (flow.destination, flow.destination_port, flow.transport);
        if flow.outcome.success().is_some() {
            self.0.remove(&target);
        } else if flow.outcome.is_attempt() && self.0.len() < limits::OPEN_TARGETS_MAX {
            self.0.insert(target);
        }
    }

    /// Their number.
    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    /// Whether a walk with this score would have crossed its threshold if all of them had failed.
    pub(super) fn could_cross(&self, nats: f64, threshold_nats: f64) -> bool {
        let open_count = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        open_count > 0 && f64::from(open_count).mul_add(FAILURE_NATS, nats) >= threshold_nats
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventTime, Outcome};

    fn flow(host: u8, outcome: Outcome) -> Flow<'static> {
        Flow {
            time: EventTime::from_seconds(1_700_000_000, 0),
            source: IpAddr::from([10, 0, 0, 1]),
            source_port: 40_000,
            destination: IpAddr::from([10, 0, 1, host]),
            destination_port: 22,
            transport: Transport::Tcp,
            outcome,
            forwarded: true,
            volume: None,
            destination_name: None,
            pod: None,
            is_inferred: false,
            node: None,
        }
    }

    #[test]
    fn the_last_outcome_of_a_target_counts() {
        let mut open = OpenTargets::default();
        for host in 0..40 {
            open.observe(&flow(host, Outcome::Unseen));
        }
        assert!(open.could_cross(0.0, 20.0));
        for host in 0..40 {
            open.observe(&flow(host, Outcome::Answered));
            open.observe(&flow(host, Outcome::NotAnAttempt));
        }
        assert_eq!(open.count(), 0);
        assert!(!open.could_cross(19.9, 20.0));
        for host in 0..200 {
            open.observe(&flow(host, Outcome::Pending));
        }
        assert_eq!(open.count(), limits::OPEN_TARGETS_MAX);
    }
}
