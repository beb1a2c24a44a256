//! Acknowledging batches of lines once what they led to is recorded. Part of the pipeline.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::{Duration, Instant};

use super::saved_state::Memory;
use crate::respond::AckGuard;
use crate::signals::source::Position;

/// A batch whose lines may be read again.
#[derive(Debug)]
pub(super) struct Unacknowledged {
    /// See [`super::saved_state::Memory::took_batch`].
    pub(super) number: u64,
    /// Whether lines of it wait, or have waited since it got its number: then the state that is written under this
    /// number may be without them.
    pub(super) has_waited: bool,
    pub(super) position: Position,
    /// Of the findings that it led to.
    pub(super) guards: Vec<Weak<AckGuard>>,
}

impl Unacknowledged {
    /// Gives the batch a new number once none of its lines waits any more: what they led to is in no state that was
    /// begun before.
    fn renumber(&mut self, memory: &mut Memory) {
        if self.has_waited && self.is_recorded() {
            self.has_waited = false;
            self.number = memory.took_batch();
        }
    }

    fn is_recorded(&self) -> bool {
        self.guards.iter().all(|guard| guard.strong_count() == 0)
    }
}

/// How long the last findings may take to be recorded when the program stops.
const FINISH_MAX: Duration = Duration::from_secs(2);
const FINISH_POLL: Duration = Duration::from_millis(5);

/// Gives the recorder a moment to write what it has, so that the last lines are not read again.
pub(super) fn wait_for_records(batches: &VecDeque<Unacknowledged>) {
    let until = Instant::now() + FINISH_MAX;
    while !batches.iter().all(Unacknowledged::is_recorded) && Instant::now() < until {
        std::thread::sleep(FINISH_POLL);
    }
}

/// Acknowledges, in order, the batches whose findings are all dealt with and that are in the saved state.
pub(super) fn acknowledge(batches: &mut VecDeque<Unacknowledged>, memory: &mut Memory) {
    while let Some(batch) = batches.front_mut() {
        batch.renumber(memory);
        if batch.number > memory.kept() || !batch.is_recorded() {
            return;
        }
        batch.position.acknowledge();
        batches.pop_front();
    }
}

/// Before the state is written for the last time: all batches whose lines wait no more belong to it.
pub(super) fn renumber(batches: &mut VecDeque<Unacknowledged>, memory: &mut Memory) {
    for batch in batches {
        batch.renumber(memory);
    }
}
