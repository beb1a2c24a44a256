//! A detection: the result of a detector before deduplication. `pod` decides whether it becomes a finding.
//!
//! Created by the detectors.

use crate::model::{Evidence, Severity, Signature};

/// The result of a detector about one pod.
#[derive(Clone, Debug)]
pub(super) struct Detection {
    pub(super) signature: Signature,
    pub(super) severity: Severity,
    pub(super) evidence: Evidence,
}
