//! The content of notifications: builds texts and JSON from Incidents and runs. Pure (INV-1). Called by the tasks in
//! `deliver`, which decide when and how often each receiver gets them.
//!
//! Names, summaries and messages may contain text that an agent chose. They are cut and cleaned here again (INV-6),
//! because notifications are read in chat windows and not only in terminals.

mod alert;
mod cloud_event;
mod event;
mod ocsf;
mod text;
mod trace;
mod transition;

#[cfg(test)]
mod tests;

pub(crate) use alert::{Alert, alerts};
pub(crate) use cloud_event::{Format, cloud_event};
pub use event::events_section;
pub(crate) use event::{EventText, incident_events, run_events};
pub(crate) use trace::{Span, spans, spans_request};
pub(crate) use transition::{OccurredTransition, Transition, transitions_of};

/// The cluster that sends notifications.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The cluster's name, if one is configured.
    pub cluster: Option<String>,
}
