//! Score: findings against labels. Called by `cli::replay` when labels are given, and by tests.
//!
//! A scan counts as found when one of its subjects would have been quarantined, mining when one
//! got an alert at least: a name on a list alone never quarantines.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::labels::{LabelKind, Labels};
use super::result::{CaptureResult, Recorded, Verdict};
use crate::model::Severity;

/// The figures of a replay with labels.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Score {
    /// Benign subjects that would have been quarantined.
    pub quarantined_benign: u64,
    /// Benign subjects.
    pub subjects_benign: u64,
    /// Captures with scanning subjects: found, of.
    pub scan: (u64, u64),
    /// Captures with mining subjects: found, of.
    pub mining: (u64, u64),
    /// Per scanning subject: contacts up to its first quarantine.
    pub first_action_contacts: BTreeMap<(String, IpAddr), u64>,
}

impl Score {
    /// The median of the contacts up to the first quarantine.
    #[must_use]
    pub fn first_action_contacts_median(&self) -> Option<u64> {
        let mut counts: Vec<_> = self.first_action_contacts.values().copied().collect();
        counts.sort_unstable();
        counts.get(counts.len().checked_sub(1)? / 2).copied()
    }
}

/// Compares results with labels.
#[must_use]
pub fn score(results: &[CaptureResult], labels: &Labels) -> Score {
    let mut score = Score::default();
    for result in results {
        for (subject, found) in &result.subjects {
            let kind = labels.kind(&result.capture, *subject);
            if kind.is_some_and(LabelKind::is_benign) {
                score.subjects_benign += 1;
                let is_quarantined = found.severity() == Some(Severity::Quarantine);
                score.quarantined_benign += u64::from(is_quarantined);
            }
            if kind == Some(LabelKind::Scan) {
                let scans = found.findings.iter().filter_map(Recorded::acted);
                if let Some((_, contact_count)) = scans.min() {
                    let key = (result.capture.clone(), *subject);
                    score.first_action_contacts.insert(key, contact_count);
                }
            }
        }
        count(&mut score.scan, result, labels, LabelKind::Scan);
        count(&mut score.mining, result, labels, LabelKind::Mining);
    }
    score
}

fn count(figure: &mut (u64, u64), result: &CaptureResult, labels: &Labels, kind: LabelKind) {
    if !labels.of(&result.capture).any(|label| label.label == kind) {
        return;
    }
    let (verdict, least) = match kind {
        LabelKind::Mining => (Verdict::Mining, Severity::Alert),
        _ => (Verdict::Scan, Severity::Quarantine),
    };
    let is_found = result.subjects.iter().any(|(subject, found)| {
        labels.kind(&result.capture, *subject) == Some(kind) && found.is_found(verdict, least)
    });
    figure.0 += u64::from(is_found);
    figure.1 += 1;
}
