//! Fusion: how families of evidence add up, and the lines that the sum has to cross.
//!
//! A family's own signs go together, so within a family the strongest counts; across families the
//! log-odds add. Each family is clipped, so that none acts alone. Used by `mining` and `tunnel`;
//! scans have a bound of their own.

use crate::model::Severity;

/// What one family can add at most, in nats: a likelihood ratio of 8,100.
pub(super) const FAMILY_NATS_MAX: f64 = 9.0;

/// What a quarantine takes: from one miner in 10,000 pods (ln 1e-4 = -9.2) to 99.9 % (+6.9).
/// One family cannot get there, two can.
pub(super) const QUARANTINE_NATS: f64 = 16.1;

/// What an alert takes: one whole family, or parts of several. From one in 10,000 it makes an
/// even bet, which is worth a look.
pub(super) const ALERT_NATS: f64 = FAMILY_NATS_MAX;

/// A family's share of the sum.
pub(super) fn clipped(nats: f64) -> f64 {
    nats.clamp(0.0, FAMILY_NATS_MAX)
}

/// What a sum of families leads to, with the line that it crossed.
pub(super) fn ruling(score: f64) -> Option<(Severity, f64)> {
    if score >= QUARANTINE_NATS {
        Some((Severity::Quarantine, QUARANTINE_NATS))
    } else if score >= ALERT_NATS {
        Some((Severity::Alert, ALERT_NATS))
    } else {
        None
    }
}
