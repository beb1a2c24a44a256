//! Fusion of evidence: how families of evidence add up, and the thresholds of the sum.
//!
//! The signs within a family depend on each other, so only the strongest of a family counts. The log-odds of different
//! families add up. Each family is clipped, so that none of them leads to an action alone. Used by `mining` and
//! `tunnel`; scans have a bound of their own.

use crate::model::Severity;

/// The most that one family can add, in nats: a likelihood ratio of 8,100.
pub(super) const FAMILY_NATS_MAX: f64 = 9.0;

/// Threshold of a quarantine: from a prior of one miner in 10,000 pods (ln 1e-4 = -9.2) to 99.9 % (+6.9). One family
/// cannot reach it, two can.
pub(super) const QUARANTINE_NATS: f64 = 16.1;

/// Threshold of an alert: one whole family, or parts of several. From a prior of one in 10,000 it leads to even odds.
pub(super) const ALERT_NATS: f64 = FAMILY_NATS_MAX;

/// The part of a family's nats that counts.
pub(super) fn clipped(nats: f64) -> f64 {
    nats.clamp(0.0, FAMILY_NATS_MAX)
}

/// The severity that a sum of families leads to, and the threshold that it crossed.
pub(super) fn severity_for(score: f64) -> Option<(Severity, f64)> {
    if score >= QUARANTINE_NATS {
        Some((Severity::Quarantine, QUARANTINE_NATS))
    } else if score >= ALERT_NATS {
        Some((Severity::Alert, ALERT_NATS))
    } else {
        None
    }
}
