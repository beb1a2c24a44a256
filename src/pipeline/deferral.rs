//! Lines that wait: for their pod to become known, or for what they are judged by besides, the pod's run and who
//! its target is. Part of the pipeline.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::clock_skew::Clock;
use super::deferred_lines::Deferred;
use super::signal::Whose;
use super::{Pipeline, Progress, wall_clock};
use crate::detect::{Attributed, Scope, Scopes};
use crate::limits;
use crate::model::Signal;
use crate::observability::UnattributedReason;
use crate::signals::attribute::Index;
use crate::signals::decode::Decoded;
use crate::signals::health::{LineTally, Unused};

/// How long a line waits for its pod to become known. A pod's address reaches us a second or two after
/// its first packet, on a busy cluster somewhat later.
const DEFER_MAX: Duration = Duration::from_secs(10);

/// Whether the run of the pod, or who its target is, may become known in a moment. No pod is on the Internet
/// or has the address of a node, so contacts there are judged at once.
pub(super) fn is_undecided(
    index: &Index,
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
    index.may_be_sibling(attributed)
        && matches!(
            scopes.classify(flow.destination),
            Scope::Cluster | Scope::Private
        )
}

impl Pipeline {
    /// Keeps a line whose pod is not known yet. Those that give way to it count as lines of no known pod.
    pub(super) fn defer(&self, deferred: Deferred, progress: &mut Progress, tally: &mut LineTally) {
        let dropped = progress.deferred.push(deferred).len() as u64;
        if dropped > 0 {
            let unattributed = &self.counters.unattributed;
            unattributed.add(UnattributedReason::Overflowed, dropped);
            tally.add_unused(Unused::UnknownAddress, dropped);
        }
    }

    /// Keeps a line that cannot be judged yet. Those that give way to it are judged by what is known.
    pub(super) fn wait_for_more(
        &mut self,
        line: Deferred,
        progress: &mut Progress,
        tallies: &mut HashMap<usize, LineTally>,
    ) {
        for oldest in progress.undecided.push(line) {
            self.look_again(oldest, None, progress, tallies);
        }
    }

    /// Looks again at lines that wait, as of `now`. Without it none waits any longer.
    pub(super) fn retry_deferred(&mut self, now: Option<Instant>, progress: &mut Progress) {
        progress.clock.set(wall_clock());
        let mut tallies: HashMap<usize, LineTally> = HashMap::new();
        let undecided = progress.undecided.take();
        for line in undecided.into_iter().chain(progress.deferred.take()) {
            self.look_again(line, now, progress, &mut tallies);
        }
        self.settle_tallies(tallies);
    }

    /// What became of lines that waited.
    pub(super) fn settle_tallies(&self, tallies: HashMap<usize, LineTally>) {
        for (source, tally) in tallies {
            self.health.settled(source, &tally, Instant::now());
        }
    }

    fn look_again(
        &mut self,
        line: Deferred,
        now: Option<Instant>,
        progress: &mut Progress,
        tallies: &mut HashMap<usize, LineTally>,
    ) {
        let mut guards = Vec::new();
        let Decoded::Signal(signal) = line.decoder.decode(&line.line) else {
            return;
        };
        let waited = now.map_or(Duration::MAX, |now| {
            now.saturating_duration_since(line.since)
        });
        let may_wait = waited < limits::SIBLING_WAIT;
        let subject = self.signal(line.source, (&signal, may_wait), progress, &mut guards);
        if let Some(last) = progress.unacknowledged.back_mut() {
            last.guards.append(&mut guards);
        }
        let is_over = waited > DEFER_MAX;
        let tally = tallies.entry(line.source).or_default();
        match subject {
            Whose::NotDecidedYet => self.wait_for_more(line, progress, tallies),
            Whose::NotKnownYet if is_over => tally.add(self.fate_of_unknown(&signal), &line.line),
            Whose::NotKnownYet => self.defer(line, progress, tally),
            subject => {
                if let Some(fate) = subject.fate() {
                    tally.add(fate, &line.line);
                }
            }
        }
    }
}
