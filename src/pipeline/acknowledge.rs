//! Acknowledges batches of lines after their findings are recorded and their effects are in the saved state. Part of
//! the pipeline.

use std::collections::VecDeque;
use std::sync::Weak;
use std::time::{Duration, Instant};

use super::saved_state::StateSaver;
use crate::respond::AckGuard;
use crate::signals::source::Position;

/// A processed batch that is not acknowledged yet. After a crash its lines are read again.
#[derive(Debug)]
pub(super) struct PendingBatch {
    /// From [`super::saved_state::StateSaver::add_batch`].
    pub(super) number: u64,
    /// Whether lines of the batch are deferred, or were deferred after the batch got its number. The state that is
    /// saved under this number may lack their effects.
    pub(super) had_deferred_lines: bool,
    pub(super) position: Position,
    /// Guards of the findings that resulted from the batch, and of its deferred lines.
    pub(super) guards: Vec<Weak<AckGuard>>,
}

impl PendingBatch {
    /// Gives the batch a new number once none of its lines is deferred any longer, because no save that began earlier
    /// covers their effects.
    fn renumber(&mut self, saver: &mut StateSaver) {
        if self.had_deferred_lines && self.is_recorded() {
            self.had_deferred_lines = false;
            self.number = saver.add_batch();
        }
    }

    fn is_recorded(&self) -> bool {
        self.guards.iter().all(|guard| guard.strong_count() == 0)
    }
}

/// How long the recorder may take to write the last findings at shutdown.
const FINISH_MAX: Duration = Duration::from_secs(2);
const FINISH_POLL: Duration = Duration::from_millis(5);

/// Waits up to [`FINISH_MAX`] for the recorder, so that the last lines are not read again after the restart.
pub(super) fn wait_for_records(batches: &VecDeque<PendingBatch>) {
    let until = Instant::now() + FINISH_MAX;
    while !batches.iter().all(PendingBatch::is_recorded) && Instant::now() < until {
        std::thread::sleep(FINISH_POLL);
    }
}

/// Acknowledges, in order, the batches that the saved state covers and that have all findings recorded.
pub(super) fn acknowledge(batches: &mut VecDeque<PendingBatch>, saver: &mut StateSaver) {
    while let Some(batch) = batches.front_mut() {
        batch.renumber(saver);
        if batch.number > saver.saved_batch() || !batch.is_recorded() {
            return;
        }
        batch.position.acknowledge();
        batches.pop_front();
    }
}

/// Before the last save: renumbers all batches without deferred lines, so that this save covers them.
pub(super) fn renumber(batches: &mut VecDeque<PendingBatch>, saver: &mut StateSaver) {
    for batch in batches {
        batch.renumber(saver);
    }
}
