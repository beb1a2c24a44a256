//! Restores the detection state that was saved before a restart, before the sources start.

use std::sync::Arc;

use super::parts::Operator;
use crate::api::{Incident, IncidentCondition};
use crate::detect::Engine;
use crate::limits;
use crate::model::{EventTime, PodKey};
use crate::pipeline::saved_state::{Restored, StateSaver, restore};
use crate::respond::AttributedFinding;

/// The engine with its saved state as far as there is one, the part that saves it, and the findings
/// that may not be recorded yet.
pub(super) fn restored_engine(operator: &Operator) -> (Engine, StateSaver, Vec<AttributedFinding>) {
    let config = &operator.config;
    let fresh = || Engine::new(config.engine.clone());
    let Some(folder) = &config.checkpoint_dir else {
        return (fresh(), StateSaver::default(), Vec::new());
    };
    let restored = restore(folder, &config.engine, &operator.saved_state);
    let mut saver = StateSaver::in_folder(folder, Arc::clone(&operator.saved_state));
    let Some(mut restored) = restored else {
        return (fresh(), saver, Vec::new());
    };
    let names: Vec<String> = config
        .sources
        .iter()
        .map(super::config::LogSource::name)
        .collect();
    restored.match_sources(&names);
    drop_ended_pods(operator, &mut restored);
    let unrecorded = saver.resume_from(&restored);
    (restored.engine, saver, unrecorded)
}

/// Drops the state of pods that were deleted, or released by a human, after the state was saved.
fn drop_ended_pods(operator: &Operator, restored: &mut Restored) {
    // The API truncates its times to whole seconds.
    let since = restored.saved_at.plus_micros(-limits::CLOCK_SKEW_MICROS);
    let index = operator.index.read();
    restored.engine.retain(|pod| index.pod(pod).is_some());
    drop(index);
    let is_closed = |incident: &Incident| closed_at(incident) >= Some(since);
    for incident in operator.stores.incidents.state_filter(is_closed) {
        let pod = PodKey::from(incident.spec.subject.uid.as_str());
        restored.engine.forget(&pod);
    }
}

/// When an Incident was closed. `None` while it is open.
fn closed_at(incident: &Incident) -> Option<EventTime> {
    let condition = incident.condition(IncidentCondition::Closed)?;
    if incident.is_open() {
        return None;
    }
    Some(EventTime::from(condition.last_transition_time.0))
}
