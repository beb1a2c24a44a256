//! One signal: attributed, taken into the engine, and its findings sent to the recorder. Part of the pipeline.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::deferral::is_undecided;
use super::step::{take_loss, take_signal};
use super::{Pipeline, Progress, source_id};
use crate::detect::Attributed;
use crate::model::{Finding, Signal};
use crate::observability::UnattributedReason;
use crate::respond::{AckGuard, AttributedFinding};
use crate::signals::attribute::{Attribution, Index, PodFacts};
use crate::signals::decode::Tracking;
use crate::signals::health::{LineFate, Unused};

/// Whose a signal is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// A pod's.
    Known,
    /// A pod's that may become known in a moment.
    NotKnownYet,
    /// A pod's, whose run or whose target may become known in a moment. Nothing has been judged.
    NotDecidedYet,
    /// Nobody's that could be named.
    Nobodys(LineFate),
}

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
    /// Takes in a signal. With `may_wait` nothing is judged yet where something that it is judged by may become
    /// known in a moment.
    pub(super) fn signal(
        &mut self,
        source: usize,
        (signal, may_wait): (&Signal<'_>, bool),
        progress: &Progress,
        guards: &mut Vec<Weak<AckGuard>>,
    ) -> Whose {
        let id = source_id(source);
        if let Signal::Lost(lost) = signal {
            self.counters.lost.fetch_add(lost.count, Ordering::Relaxed);
            self.health.lost(source, Instant::now());
            let index = self.index.read();
            take_loss(&mut self.engine, &index, id, lost);
            return Whose::Nobodys(LineFate::Neutral);
        }
        if progress.clock.is_ahead(signal.time()) {
            self.counters.unattributed.count(UnattributedReason::Ahead);
            return Whose::Nobodys(LineFate::Unused(Unused::Ahead));
        }
        let index = self.index.read();
        let scopes = &self.scopes;
        let must_wait = |attributed: &Attributed<'_>| {
            may_wait && is_undecided(&index, attributed, &scopes.borrow(), &progress.clock)
        };
        let taken = take_signal(&mut self.engine, &index, id, signal, must_wait);
        let (pod, found) = match taken {
            Ok(taken) => taken,
            Err(why) => {
                if matches!(
                    why,
                    UnattributedReason::UnknownAddress
                        | UnattributedReason::BeforePod
                        | UnattributedReason::AfterPod
                ) {
                    return Whose::NotKnownYet;
                }
                let fate = self.fate_of(&index, signal, why);
                drop(index);
                self.counters.unattributed.count(why);
                return Whose::Nobodys(fate);
            }
        };
        let format = self.sources.get(source).and_then(|info| info.format);
        if let Signal::Flow(flow) = signal
            && format.is_none_or(|format| format.dates(flow))
        {
            self.traffic.record_flow(pod, flow);
        }
        let Some(found) = found else {
            return Whose::NotDecidedYet;
        };
        if found.is_empty() {
            return Whose::Known;
        }
        // A run's finding may be about other pods than the one that brought it about.
        let facts_of = |finding: Finding| {
            let facts = index.pod(&finding.subject.pod).cloned()?;
            Some((finding, facts))
        };
        let found: Vec<_> = found.into_iter().filter_map(facts_of).collect();
        drop(index);
        for (finding, facts) in found {
            self.hand_over(finding, &facts, guards);
        }
        Whose::Known
    }

    /// Takes the contacts that a policy dropped, as this line makes known, for what they are.
    pub(super) fn dropped(
        &mut self,
        source: usize,
        (signal, tracking): (&Signal<'_>, Tracking),
        progress: &mut Progress,
        guards: &mut Vec<Weak<AckGuard>>,
    ) {
        let Signal::Flow(flow) = signal else { return };
        if progress.clock.is_ahead(flow.time) {
            return;
        }
        let known = progress.unconfirmed.entry(source).or_default();
        for denied in known.take(flow, tracking) {
            // There is no line of it that could wait.
            self.signal(source, (&Signal::Flow(denied), false), progress, guards);
        }
    }

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
    fn fate_of(&self, index: &Index, signal: &Signal<'_>, why: UnattributedReason) -> LineFate {
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

    /// Hands a finding to the recorder. Waits while its queue is full: the sources then stop
    /// reading, and their files keep the lines.
    pub(super) fn hand_over(
        &mut self,
        finding: Finding,
        facts: &PodFacts,
        guards: &mut Vec<Weak<AckGuard>>,
    ) {
        let guard = Arc::new(AckGuard);
        guards.push(Arc::downgrade(&guard));
        let found = AttributedFinding {
            finding,
            namespace: facts.namespace.clone(),
            pod: facts.name.clone(),
            node: facts.node.clone(),
            ips: facts.ips.clone(),
            guard,
        };
        self.send(found);
    }

    pub(super) fn send(&mut self, found: AttributedFinding) {
        self.memory.handed_over(&found);
        if self.findings.blocking_send(found).is_err() {
            tracing::debug!("The recorder is gone; this finding comes again after a restart.");
        }
    }
}
