//! The detection state that is kept over a restart: read before the sources start, and what it says of itself.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, PoisonError};

use super::Operator;
use crate::api::{Incident, IncidentCondition};
use crate::cli::sources::SourceArg;
use crate::controller::memory::{Memory, REASONS, Restored, restore};
use crate::detect::Engine;
use crate::limits;
use crate::model::{EventTime, PodKey};
use crate::observability::{Metric, Reading};
use crate::respond::Found;

impl Operator {
    /// An engine that goes on where the last one ended, as far as that is known; what keeps it; and the findings that
    /// may not be recorded yet.
    pub(super) fn remember(&self) -> (Engine, Memory, Vec<Found>) {
        let fresh = || Engine::new(self.config.engine.clone());
        let Some(folder) = &self.config.checkpoint_dir else {
            return (fresh(), Memory::default(), Vec::new());
        };
        let restored = restore(folder, &self.config.engine, &self.memory);
        let mut memory = Memory::in_folder(folder, Arc::clone(&self.memory));
        let Some(mut restored) = restored else {
            return (fresh(), memory, Vec::new());
        };
        let names: Vec<String> = self.config.sources.iter().map(SourceArg::name).collect();
        restored.match_sources(&names);
        self.forget_what_ended(&mut restored);
        let unrecorded = memory.take_over(&restored);
        (restored.engine, memory, unrecorded)
    }

    /// Pods that are gone, and pods that a human released, since the state was saved.
    fn forget_what_ended(&self, restored: &mut Restored) {
        // The API cuts its times to whole seconds.
        let since = restored.saved_at.plus_micros(-limits::CLOCK_SKEW_MICROS);
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        restored.engine.retain(|pod| index.pod(pod).is_some());
        drop(index);
        let is_closed = |incident: &Incident| closed_at(incident) >= Some(since);
        for incident in self.stores.incidents.state_filter(is_closed) {
            let pod = PodKey::from(incident.spec.subject.uid.as_str());
            restored.engine.forget(&pod);
        }
    }

    /// What became of the state file; nothing where none is kept.
    pub(super) fn memory_readings(&self) -> Vec<Reading> {
        if self.config.checkpoint_dir.is_none() {
            return Vec::new();
        }
        let memory = &self.memory;
        let mut readings = vec![
            Reading::labelled(Metric::StateWrites, "written", memory.written.load(Relaxed)),
            Reading::labelled(Metric::StateWrites, "failed", memory.failed.load(Relaxed)),
            Reading::plain(Metric::StateBytes, memory.bytes.load(Relaxed)),
            Reading::plain(
                Metric::StateRestoredPods,
                memory.restored_pods.load(Relaxed),
            ),
            Reading::plain(
                Metric::StateLongestStep,
                memory.longest_step_us.load(Relaxed),
            ),
        ];
        for (reason, count) in REASONS.iter().zip(&memory.unreadable) {
            let count = count.load(Relaxed);
            readings.push(Reading::labelled(Metric::StateUnreadable, reason, count));
        }
        readings
    }
}

/// When an Incident was closed, if it is.
fn closed_at(incident: &Incident) -> Option<EventTime> {
    let conditions = &incident.status.as_ref()?.conditions;
    let closed = IncidentCondition::Closed.name();
    let condition = conditions
        .iter()
        .find(|condition| condition.type_ == closed && condition.status == "True")?;
    Some(EventTime::from(condition.last_transition_time.0))
}
