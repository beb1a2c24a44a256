//! Counts of distinct things within an hour, for alerts. Used by `distinct_targets` and `name_inventory`.

use serde::{Deserialize, Serialize};

use crate::detect::config::EngineConfig;
use crate::detect::reported::ReportLevel;
use crate::detect::state::HyperLogLog;
use crate::model::{EventTime, Severity, Signature};

/// A count restarts after an hour: client-side load balancing, and peers that fail, reach any number of addresses in a
/// day.
const WINDOW_US: i64 = 3_600_000_000;

/// Distinct things, by their hashes, since a time at most an hour ago.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct HourlyCount {
    sketch: HyperLogLog,
    pub(super) first: EventTime,
    pub(super) last: EventTime,
    /// All of them, distinct or not.
    pub(super) observed_count: u32,
}

impl HourlyCount {
    pub(super) fn since(time: EventTime) -> Self {
        Self {
            sketch: HyperLogLog::default(),
            first: time,
            last: time,
            observed_count: 0,
        }
    }

    /// Counts one. Returns the level of an alert if it is new and there are at least `alert_at` distinct ones.
    pub(super) fn count(
        &mut self,
        time: EventTime,
        hash: u64,
        alert_at: f64,
        config: &EngineConfig,
    ) -> Option<ReportLevel> {
        if time.micros_since(self.first) > WINDOW_US {
            *self = Self::since(time);
        }
        self.first = self.first.min(time);
        self.last = self.last.max(time);
        self.observed_count = self.observed_count.saturating_add(1);
        if !self.sketch.insert(hash) {
            return None;
        }
        let estimate = self.sketch.estimate();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a positive estimate
        let contact_count = estimate.round() as u64;
        (estimate >= alert_at).then(|| ReportLevel {
            signature: Signature::HorizontalScan,
            severity: Severity::Alert,
            contact_count,
            // A count is not a likelihood. It is scaled so that score and threshold have the ratio of count and limit.
            score: config.alert_nats * estimate / alert_at,
        })
    }
}
