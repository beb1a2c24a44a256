//! What people are told, as data: Incidents and runs in, texts and JSON out. Pure (INV-1); called by
//! the tasks beside it, which decide when, to whom and how often.
//!
//! Names, summaries and messages may hold what an agent chose. They are cut and cleaned here once
//! more (INV-6), because the readers are chat windows and not only terminals.

mod alert;
mod cloud_event;
mod event;
mod ocsf;
mod text;
mod trace;
mod transition;

#[cfg(test)]
mod tests;

pub use alert::{Alert, alert, alerts};
pub use cloud_event::{Format, cloud_event};
pub use event::{EventReason, EventText, events_section, incident_events, run_events};
pub use trace::{Span, spans, spans_request, trace_id};
pub use transition::{Passed, Transition, level_of, passed, told_name, was_told};

/// Where notifications come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    /// The cluster's name, where it was given one.
    pub cluster: Option<String>,
}
