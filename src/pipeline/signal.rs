//! One signal: attributed, passed to the engine, and its findings sent to the recorder. Part of the pipeline.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Instant;

use super::attribution_result::AttributionResult;
use super::deferral::awaits_context;
use super::step::{process_loss, process_signal};
use super::{Pipeline, PipelineState, source_id};
use crate::detect::{Attributed, Engine};
use crate::model::{Finding, Signal};
use crate::observability::UnattributedReason;
use crate::respond::{AckGuard, AttributedFinding};
use crate::signals::attribute::{Attribution, Index, PodFacts};
use crate::signals::decode::Tracking;
use crate::signals::health::{LineOutcome, Unused};

impl Pipeline {
    /// Processes a signal. With `may_defer`, it is not evaluated while its context may still become known.
    pub(super) fn process_signal(
        &mut self,
        source: usize,
        (signal, may_defer): (&Signal<'_>, bool),
        state: &PipelineState,
        guards: &mut Vec<Weak<AckGuard>>,
    ) -> AttributionResult {
        let id = source_id(source);
        if let Signal::Lost(lost) = signal {
            self.counters.lost.fetch_add(lost.count, Ordering::Relaxed);
            self.health.record_loss(source, Instant::now());
            let index = self.index.read();
            process_loss(&mut self.engine, &index, id, lost);
            return AttributionResult::Unattributable(LineOutcome::Neutral);
        }
        if state.clock.is_ahead(signal.time()) {
            self.counters.unattributed.count(UnattributedReason::Ahead);
            return AttributionResult::Unattributable(LineOutcome::Unused(Unused::Ahead));
        }
        let index = self.index.read();
        let scopes = &self.scopes;
        let must_wait = |attributed: &Attributed<'_>, engine: &Engine| {
            may_defer
                && awaits_context((&index, engine), attributed, &scopes.borrow(), &state.clock)
        };
        let processed = process_signal(&mut self.engine, &index, id, signal, must_wait);
        let (pod, found) = match processed {
            Ok(processed) => processed,
            Err(why) => {
                if matches!(
                    why,
                    UnattributedReason::UnknownAddress
                        | UnattributedReason::BeforePod
                        | UnattributedReason::AfterPod
                ) {
                    return AttributionResult::AwaitsPod;
                }
                let fate = self.fate_of(&index, signal, why);
                drop(index);
                self.counters.unattributed.count(why);
                return AttributionResult::Unattributable(fate);
            }
        };
        let format = self.sources.get(source).and_then(|info| info.format);
        if let Signal::Flow(flow) = signal
            && format.is_none_or(|format| format.has_start_time(flow))
        {
            self.traffic.record_flow(pod, flow);
        }
        let Some(found) = found else {
            return AttributionResult::AwaitsContext;
        };
        if found.is_empty() {
            return AttributionResult::Attributed;
        }
        // A finding about a run may name other pods than the one that completed it.
        let facts_of = |finding: Finding| {
            let facts = index.pod(&finding.subject.pod).cloned()?;
            Some((finding, facts))
        };
        let found: Vec<_> = found.into_iter().filter_map(facts_of).collect();
        drop(index);
        for (finding, facts) in found {
            self.send_finding(finding, &facts, guards);
        }
        AttributionResult::Attributed
    }

    /// Processes the contacts that, as this line proves, were dropped by a policy.
    pub(super) fn process_confirmed_drops(
        &mut self,
        source: usize,
        (signal, tracking): (&Signal<'_>, Tracking),
        state: &mut PipelineState,
        guards: &mut Vec<Weak<AckGuard>>,
    ) {
        let Signal::Flow(flow) = signal else { return };
        if state.clock.is_ahead(flow.time) {
            return;
        }
        let known = state.unconfirmed.entry(source).or_default();
        for denied in known.take(flow, tracking) {
            // There is no line to defer.
            self.process_signal(source, (&Signal::Flow(denied), false), state, guards);
        }
    }

    /// Counts a signal that was deferred for too long, and returns how its line counts for the source.
    pub(super) fn fate_of_unknown(&self, signal: &Signal<'_>) -> LineOutcome {
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
                return LineOutcome::Neutral;
            }
        };
        self.counters.unattributed.count(why);
        self.fate_of(&index, signal, why)
    }

    /// How the line of an unattributed signal counts for its source. Probes of the kubelet and answers from outside
    /// have a pod as their destination. Such a line proves that the log contains addresses of pods, so it is not
    /// evidence against the log.
    fn fate_of(&self, index: &Index, signal: &Signal<'_>, why: UnattributedReason) -> LineOutcome {
        let is_of_interest = !self.is_namespaced && index.stats().pod_count > 0;
        let goes_to_a_pod = match signal {
            Signal::Flow(flow) => {
                let to = index.lookup(flow.destination, flow.time, None);
                matches!(to, Attribution::Pod(_))
            }
            _ => false,
        };
        if !is_of_interest || goes_to_a_pod {
            return LineOutcome::Neutral;
        }
        LineOutcome::Unused(match why {
            UnattributedReason::UnknownAddress => Unused::UnknownAddress,
            UnattributedReason::HostNetwork => Unused::HostNetwork,
            UnattributedReason::BeforePod | UnattributedReason::AfterPod => Unused::OtherTime,
            UnattributedReason::UnknownName
            | UnattributedReason::Ambiguous
            | UnattributedReason::HintContradicts
            // Counted by the pipeline itself; a lookup never returns them.
            | UnattributedReason::Ahead
            | UnattributedReason::Overflowed => Unused::Ambiguous,
        })
    }

    /// Sends a finding to the recorder. Blocks while the queue is full: the sources then stop reading, and their
    /// files keep the lines.
    pub(super) fn send_finding(
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

    /// Sends a finding that has its guard already.
    pub(super) fn send(&mut self, found: AttributedFinding) {
        self.saver.track_finding(&found);
        if self.findings.blocking_send(found).is_err() {
            tracing::debug!("The recorder has stopped; the finding is repeated after a restart.");
        }
    }
}
