//! Response: from a finding to an Incident, and from an Incident to actions.
//!
//! `record` writes findings into Incidents. `responder` takes a `snapshot`, gets the next step from the
//! pure `plan`, and lets `execute` carry it out. `verify` shows whether the traffic stopped. Incident
//! before action, action before status (INV-5).

pub(crate) mod plan;
pub(crate) mod verify;

mod deletions;
mod execute;
mod identities;
mod in_flight;
mod lost;
mod queue;
pub(crate) mod record;
mod reset_queue;
mod responder;
mod snapshot;

pub(crate) use execute::owner_control;
pub(crate) use queue::IncidentQueue;
pub(crate) use record::{AckGuard, AttributedFinding, Recorder, mode_of};
pub(crate) use reset_queue::ResetQueue;
pub(crate) use responder::{RespondError, Responder, ResponderParts};
pub(crate) use snapshot::{ResponderSettings, RunSettings};
pub(crate) use verify::{SourceProgress, TrafficMonitor, TrafficObserver};
