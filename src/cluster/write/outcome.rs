//! How many writes ended with which outcome. Counted by `writer`, shown as metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// How a write ended, as counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The API server accepted it.
    Accepted,
    /// The API server answered with an error.
    Rejected,
    /// No answer within the time limit.
    TimedOut,
    /// Not sent: this process does not lead.
    NotLeader,
}

/// Writes by outcome, since the start.
#[derive(Debug, Default)]
pub struct WriteCounters {
    accepted: AtomicU64,
    rejected: AtomicU64,
    timed_out: AtomicU64,
    not_leader: AtomicU64,
}

impl WriteCounters {
    /// Writes that ended so.
    #[must_use]
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counter(outcome).load(Ordering::Relaxed)
    }

    pub(super) const fn counter(&self, outcome: Outcome) -> &AtomicU64 {
        match outcome {
            Outcome::Accepted => &self.accepted,
            Outcome::Rejected => &self.rejected,
            Outcome::TimedOut => &self.timed_out,
            Outcome::NotLeader => &self.not_leader,
        }
    }
}
