//! What became of a line that belongs to nobody: evidence against its log, or nothing of the kind. Part of the
//! pipeline.

use super::{Pipeline, Whose};
use crate::model::Signal;
use crate::observability::UnattributedReason;
use crate::signals::attribute::{Attribution, Index};
use crate::signals::health::{LineFate, Unused};

impl Whose {
    /// What became of the line; `None` while it waits.
    pub(super) const fn fate(self) -> Option<LineFate> {
        match self {
            Self::Known => Some(LineFate::Attributed),
            Self::NotKnownYet | Self::NotDecidedYet => None,
            Self::Nobodys(fate) => Some(fate),
        }
    }
}

impl Pipeline {
    /// The fate of a signal whose pod did not become known in time. Counts it.
    pub(super) fn fate_of_unknown(&self, signal: &Signal<'_>) -> LineFate {
        let index = self.index.read();
        let hint = None;
        let why = match signal
            .source()
            .map(|address| index.lookup(address, signal.time(), hint))
        {
            Some(Attribution::Unattributed(why)) => why,
            Some(Attribution::Pod(_)) | None => {
                self.counters
                    .unattributed
                    .count(UnattributedReason::UnknownAddress);
                return LineFate::Neutral;
            }
        };
        self.counters.unattributed.count(why);
        self.fate_of(&index, signal, why)
    }

    /// The fate of a signal that no pod could be named for. The kubelet's probes and answers to the outside go to pods:
    /// such a line shows that the log has the addresses of pods, so it does not count against it.
    pub(super) fn fate_of(
        &self,
        index: &Index,
        signal: &Signal<'_>,
        why: UnattributedReason,
    ) -> LineFate {
        let is_of_interest = !self.is_namespaced && index.stats().pod_count > 0;
        let goes_to_a_pod = match signal {
            Signal::Flow(flow) => {
                let to = index.lookup(flow.destination, flow.time, None);
                matches!(to, Attribution::Pod(_))
            }
            _ => false,
        };
        if !is_of_interest || goes_to_a_pod {
            return LineFate::Neutral;
        }
        LineFate::Unused(match why {
            UnattributedReason::UnknownAddress => Unused::UnknownAddress,
            UnattributedReason::HostNetwork => Unused::HostNetwork,
            UnattributedReason::BeforePod | UnattributedReason::AfterPod => Unused::OtherTime,
            UnattributedReason::UnknownName
            | UnattributedReason::Ambiguous
            | UnattributedReason::HintContradicts
            // Counted by the pipeline itself, and never the result of a lookup.
            | UnattributedReason::Ahead
            | UnattributedReason::Overflowed => Unused::Ambiguous,
        })
    }
}
