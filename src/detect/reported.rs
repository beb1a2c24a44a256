//! Deduplicates the findings of a pod, so that a long scan leads to a logarithmic number of findings and not to one
//! write to the API server per flow.
//!
//! A finding is reported if it is the first of its signature, if its severity rises, or if its contact count has
//! doubled. Detectors check this before they write evidence; `pod` checks it again before it returns a finding.

use serde::{Deserialize, Serialize};

use super::fusion::FAMILY_NATS_MAX;
use super::state::bounded;
use crate::model::{Severity, Signature};

/// What decides whether a finding is reported again.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ReportLevel {
    pub(super) signature: Signature,
    pub(super) severity: Severity,
    pub(super) contact_count: u64,
    pub(super) score: f64,
}

/// The last reported level of each signature. At most one entry per signature.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct ReportedFindings(
    #[serde(deserialize_with = "bounded::list::<_, _, { Signature::ALL.len() }>")] Vec<ReportLevel>,
);

impl ReportedFindings {
    /// Whether a finding of this level would be reported.
    pub(super) fn should_report(&self, level: ReportLevel) -> bool {
        let known = self
            .0
            .iter()
            .find(|known| known.signature == level.signature);
        known.is_none_or(|known| level.warrants_report_after(*known))
    }

    /// Records that a finding of this level was reported.
    pub(super) fn mark_reported(&mut self, level: ReportLevel) {
        self.0.retain(|known| known.signature != level.signature);
        self.0.push(level);
    }
}

impl ReportLevel {
    fn warrants_report_after(self, known: Self) -> bool {
        let has_doubled = self.contact_count >= known.contact_count.saturating_mul(2);
        // A sum of clipped families rises in few such steps. A walk rises by this much with every eight contacts, so
        // for walks only the doubling counts.
        let has_family_more = self.signature == Signature::Mining
            && self.score >= known.score + FAMILY_NATS_MAX / 2.0;
        self.severity > known.severity
            || (self.severity == known.severity && (has_doubled || has_family_more))
    }
}
