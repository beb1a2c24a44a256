//! Deferral of lines: until their pod becomes known, or until the context is known that they are evaluated with, that
//! is the pod's run and whether the destination is a pod of the same run or one that has just ended. Part of the pipeline.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::attribution_result::AttributionResult;
use super::clock_skew::Clock;
use super::deferred_lines::DeferredLine;
use super::{Pipeline, PipelineState, wall_clock};
use crate::detect::{Attributed, Engine, Scope, Scopes};
use crate::limits;
use crate::model::Signal;
use crate::observability::UnattributedReason;
use crate::signals::attribute::Index;
use crate::signals::decode::Decoded;
use crate::signals::health::{LineTally, Unused};

/// How long a line waits for its pod to become known. The watch delivers a pod's address one or two seconds after
/// the pod's first packet, and somewhat later on a busy cluster.
const DEFER_MAX: Duration = Duration::from_secs(10);

/// Whether the pod's run, or the identity of the destination, may become known shortly. Destinations on the Internet
/// and addresses of nodes are never pods, so contacts with them are evaluated immediately.
pub(super) fn awaits_context(
    (index, engine): (&Index, &Engine),
    attributed: &Attributed<'_>,
    scopes: &Scopes,
    clock: &Clock,
) -> bool {
    if clock
        .wall()
        .is_some_and(|wall| index.may_get_run(attributed, wall))
    {
        return true;
    }
    let Signal::Flow(flow) = attributed.signal else {
        return false;
    };
    let is_suspect =
        || engine.highest_walk_nats(&attributed.subject.pod) >= limits::ENDED_WAIT_NATS;
    (index.may_be_sibling(attributed) || index.may_have_ended(attributed) && is_suspect())
        && matches!(
            scopes.classify(flow.destination),
            Scope::Cluster | Scope::Private
        )
}

impl Pipeline {
    /// Defers a line of a pod that is not known yet. Lines that are evicted for it count as lines of an unknown
    /// address.
    pub(super) fn defer(
        &self,
        deferred: DeferredLine,
        state: &mut PipelineState,
        tally: &mut LineTally,
    ) {
        let dropped = state.awaiting_pod.push(deferred).len() as u64;
        if dropped > 0 {
            let unattributed = &self.counters.unattributed;
            unattributed.add(UnattributedReason::Overflowed, dropped);
            tally.add_unused(Unused::UnknownAddress, dropped);
        }
    }

    /// Defers a line until its context is known. Lines that are evicted for it are evaluated with what is known.
    pub(super) fn defer_for_context(
        &mut self,
        line: DeferredLine,
        state: &mut PipelineState,
        tallies: &mut HashMap<usize, LineTally>,
    ) {
        for oldest in state.awaiting_context.push(line) {
            self.retry_line(oldest, None, state, tallies);
        }
    }

    /// Retries all deferred lines, as of `now`. `None` evaluates all of them with what is known.
    pub(super) fn retry_deferred_lines(&mut self, now: Option<Instant>, state: &mut PipelineState) {
        state.clock.set(wall_clock());
        let mut tallies: HashMap<usize, LineTally> = HashMap::new();
        let awaiting_context = state.awaiting_context.take();
        for line in awaiting_context
            .into_iter()
            .chain(state.awaiting_pod.take())
        {
            self.retry_line(line, now, state, &mut tallies);
        }
        self.report_tallies(tallies);
    }

    /// Reports the results of deferred lines to the health of their sources.
    pub(super) fn report_tallies(&self, tallies: HashMap<usize, LineTally>) {
        for (source, tally) in tallies {
            self.health.settled(source, &tally, Instant::now());
        }
    }

    fn retry_line(
        &mut self,
        line: DeferredLine,
        now: Option<Instant>,
        state: &mut PipelineState,
        tallies: &mut HashMap<usize, LineTally>,
    ) {
        let mut guards = Vec::new();
        let Decoded::Signal(signal) = line.decoder.decode(&line.line) else {
            return;
        };
        let waited = now.map_or(Duration::MAX, |now| {
            now.saturating_duration_since(line.since)
        });
        let may_defer = waited < limits::SIBLING_WAIT;
        let result = self.process_signal(line.source, (&signal, may_defer), state, &mut guards);
        if let Some(last) = state.pending_batches.back_mut() {
            last.guards.append(&mut guards);
        }
        let is_overdue = waited > DEFER_MAX;
        let tally = tallies.entry(line.source).or_default();
        match result {
            AttributionResult::AwaitsContext => self.defer_for_context(line, state, tallies),
            AttributionResult::AwaitsPod if is_overdue => {
                tally.add(self.fate_of_unknown(&signal), &line.line);
            }
            AttributionResult::AwaitsPod => self.defer(line, state, tally),
            result => {
                if let Some(fate) = result.fate() {
                    tally.add(fate, &line.line);
                }
            }
        }
    }
}
