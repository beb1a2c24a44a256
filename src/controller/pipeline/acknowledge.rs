//! Acknowledging batches of lines once what they led to is recorded. Part of the pipeline.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::{Duration, Instant};

use crate::respond::AckGuard;
use crate::signals::source::Position;

/// A batch whose lines may be read again.
#[derive(Debug)]
pub(super) struct Unacknowledged {
    /// See [`crate::controller::memory::Memory::took_batch`].
    pub(super) number: u64,
    pub(super) position: Position,
    /// Of the findings that it led to.
    pub(super) guards: Vec<Weak<AckGuard>>,
}

impl Unacknowledged {
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

/// Acknowledges, in order, the batches whose findings are all dealt with and that are in the saved state, which holds
/// those up to the number `kept`.
pub(super) fn acknowledge(batches: &mut VecDeque<Unacknowledged>, kept: u64) {
    while let Some(batch) = batches.front() {
        if batch.number > kept || !batch.is_recorded() {
            return;
        }
        batch.position.acknowledge();
        batches.pop_front();
    }
}
