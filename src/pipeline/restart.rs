//! How the logs of the saved state and those that are read now go together. Part of the pipeline.

use super::log_progress::Reached;
use super::saved_state::SourceTimes;
use super::{Pipeline, SourceInfo};
use crate::limits;
use crate::model::EventTime;

impl Pipeline {
    /// How far a source's log had come when the state was saved; once only.
    pub(super) fn restored_time(&mut self, source: usize) -> Option<EventTime> {
        let name = self.sources.get(source).map(|info| info.name.as_str())?;
        self.memory.restored_time(name)
    }

    /// After a restart: whether the log goes on where the saved state ends. If not, answers may have passed unseen, and
    /// who waited for one has not failed.
    pub(super) fn find_gap(&mut self, saved: Option<EventTime>, first: EventTime) {
        if saved.is_some_and(|saved| first.micros_since(saved) > limits::STATE_LOG_GAP_US) {
            self.engine.forget_waiting();
        }
    }
}

/// How far the log of each source has come.
pub(super) fn log_times(sources: &[SourceInfo], reached: &Reached) -> SourceTimes {
    let named = |(number, info): (usize, &SourceInfo)| {
        let time = reached.newest(number)?;
        Some((info.name.clone(), (u16::try_from(number).ok()?, time)))
    };
    sources.iter().enumerate().filter_map(named).collect()
}
