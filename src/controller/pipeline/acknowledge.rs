//! Acknowledging batches of lines once what they led to is recorded. Part of the pipeline.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::{Duration, Instant};

use crate::respond::Ticket;
use crate::signals::source::Position;

/// How long the last findings may take to be recorded when the program stops.
const FINISH_MAX: Duration = Duration::from_secs(2);
const FINISH_POLL: Duration = Duration::from_millis(5);

/// Gives the recorder a moment to write what it has, so that the last lines are not read again.
pub(super) fn finish(batches: &mut VecDeque<(Position, Vec<Weak<Ticket>>)>) {
    let until = Instant::now() + FINISH_MAX;
    acknowledge(batches);
    while !batches.is_empty() && Instant::now() < until {
        std::thread::sleep(FINISH_POLL);
        acknowledge(batches);
    }
}

/// Acknowledges, in order, the batches whose findings are all dealt with.
pub(super) fn acknowledge(batches: &mut VecDeque<(Position, Vec<Weak<Ticket>>)>) {
    while let Some((position, tickets)) = batches.front() {
        if tickets.iter().any(|ticket| ticket.strong_count() > 0) {
            return;
        }
        position.acknowledge();
        batches.pop_front();
    }
}
