//! The report on one Incident, as text, Markdown, JSON and an HTML page.
//!
//! Called by `cli` with objects that it read from the cluster. Pure: it reads nothing and decides nothing. What could not
//! be read is stated and never assumed (INV-2). Every text from the cluster is cleaned once, when the story is built
//! (INV-6); the page escapes it again.

mod caveats;
mod findings;
mod markdown;
mod next_steps;
mod page;
mod policies;
mod state;
mod story;
mod targets;
mod terminal;
mod timeline;

#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::{AgentRun, Incident};
use crate::model::escape::for_terminal;

pub(crate) use markdown::markdown;
pub use page::page;
pub(crate) use story::{Moment, Story};
pub(crate) use terminal::{Colour, text};

/// The result of reading an object.
#[derive(Clone, Debug)]
pub enum Lookup<T> {
    /// The object exists.
    Found(T),
    /// The object does not exist.
    Gone,
    /// The object could not be read, with the error.
    Unread(String),
}

impl<T> Lookup<T> {
    /// The object, if it exists.
    pub const fn found(&self) -> Option<&T> {
        match self {
            Self::Found(found) => Some(found),
            Self::Gone | Self::Unread(_) => None,
        }
    }
}

/// The objects that a report is built from.
#[derive(Clone, Debug)]
pub struct ReportInput {
    /// The Incident.
    pub incident: Incident,
    /// The AgentRun with the name in the Incident.
    pub run: Lookup<AgentRun>,
    /// The pod with the name in the Incident.
    pub pod: Lookup<Pod>,
    /// The network policies of its namespace.
    pub policies: Lookup<Vec<NetworkPolicy>>,
    /// The current time.
    pub now: jiff::Timestamp,
}

/// Builds the report on an Incident.
#[must_use]
pub fn story(input: &ReportInput) -> Story {
    let incident = &input.incident;
    let evidence = findings::findings(incident);
    let answers = state::answers(incident);
    let phase = state::phase(incident);
    let policies = policies::policies(input);
    Story {
        generated: Moment::new(input.now),
        incident: state::name_of(incident),
        opened: incident
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| Moment::new(time.0)),
        headline: state::headline(incident),
        phase,
        phase_title: phase.title().to_owned(),
        summary: state::summary(incident, phase),
        answers,
        run: state::run_name(incident),
        run_note: state::run_note(input),
        pod: state::pod(input),
        timeline: timeline::timeline(incident),
        targets: targets::targets(&evidence),
        techniques: findings::techniques(incident),
        evidence,
        policies,
        restore: state::restore(incident),
        trace: state::trace(incident),
        next: next_steps::steps(input, phase),
        caveats: caveats::sentences(input),
    }
}

/// Cuts a text from the cluster and makes terminal control and bidirectional characters visible.
fn clean(text: &str) -> String {
    for_terminal(text)
}
