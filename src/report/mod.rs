//! The report on one Incident: one story, told as text, Markdown, JSON and a page.
//!
//! Called by `cli` with what it read from the cluster. Pure: it reads nothing and decides nothing,
//! and what could not be read is said, never assumed (INV-2). Every text from the cluster is
//! cleaned once, where the story is made (INV-6); the page escapes it once more.

mod judged;
mod markdown;
mod next;
mod page;
mod policies;
mod state;
mod story;
mod targets;
mod terminal;
mod timeline;
mod unknown;

#[cfg(test)]
mod tests;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;

use crate::api::{AgentRun, Incident};
use crate::model::escape::for_terminal;

pub use markdown::markdown;
pub use page::{PageError, page};
pub use story::{
    Answer, Contact, CoursePoint, Event, EventKind, Judgement, Moment, NextStep, ObjectName, Pair,
    PodPart, Policies, PolicyPart, RestorePart, Stance, Story, TargetRow, Targets, Technique,
};
pub use terminal::{Colour, text};

/// Something that was looked for.
#[derive(Clone, Debug)]
pub enum Looked<T> {
    /// It is there.
    Found(T),
    /// It is not there.
    Gone,
    /// It could not be read, and why.
    Unread(String),
}

impl<T> Looked<T> {
    /// What was found.
    pub const fn found(&self) -> Option<&T> {
        match self {
            Self::Found(found) => Some(found),
            Self::Gone | Self::Unread(_) => None,
        }
    }
}

/// What a story is made of.
#[derive(Clone, Debug)]
pub struct Material {
    /// The Incident.
    pub incident: Incident,
    /// Its AgentRun, if its UID is still the same.
    pub run: Looked<AgentRun>,
    /// Its pod, if its UID is still the same.
    pub pod: Looked<Pod>,
    /// The network policies of its namespace.
    pub policies: Looked<Vec<NetworkPolicy>>,
    /// The time.
    pub now: jiff::Timestamp,
}

/// The story of an Incident.
#[must_use]
pub fn story(material: &Material) -> Story {
    let incident = &material.incident;
    let evidence = judged::judgements(incident);
    let answers = state::answers(incident);
    let stance = state::stance(incident);
    let policies = policies::policies(material);
    Story {
        generated: Moment::new(material.now),
        incident: state::name_of(incident),
        opened: incident
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| Moment::new(time.0)),
        headline: state::headline(incident),
        stance,
        stance_title: stance.title().to_owned(),
        summary: state::summary(incident, stance),
        answers,
        run: state::run_name(incident),
        run_note: state::run_note(material),
        pod: state::pod(material),
        timeline: timeline::timeline(incident),
        targets: targets::targets(&evidence),
        techniques: judged::techniques(incident),
        evidence,
        policies,
        restore: state::restore(incident),
        trace: state::trace(incident),
        next: next::steps(material, stance),
        unknown: unknown::sentences(material),
    }
}

/// A text from the cluster, cut, with what steers a terminal or turns text round made visible.
fn clean(text: &str) -> String {
    for_terminal(text)
}
