//! The result of the attribution of a signal, and how its line counts for the health of its source. Part of the pipeline.

use crate::signals::health::LineOutcome;

/// Result of the attribution of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AttributionResult {
    /// Attributed to a pod and evaluated.
    Attributed,
    /// The pod is not known yet and may become known shortly.
    AwaitsPod,
    /// The pod is known; its run or the identity of the destination may become known shortly. Not evaluated yet.
    AwaitsContext,
    /// Not attributable to any pod.
    Unattributable(LineOutcome),
}

impl AttributionResult {
    /// How the line counts for the health of its source. `None` while it is deferred.
    pub(super) const fn fate(self) -> Option<LineOutcome> {
        match self {
            Self::Attributed => Some(LineOutcome::Attributed),
            Self::AwaitsPod | Self::AwaitsContext => None,
            Self::Unattributable(fate) => Some(fate),
        }
    }
}
