//! Response: from a finding to an Incident, and from an Incident to actions.
//!
//! `record` writes findings into Incidents. `responder` takes a `snapshot`, gets the next step from the
//! pure `plan`, and lets `execute` carry it out. `verify` shows whether the traffic stopped. Incident
//! before action, action before status (INV-5).

pub mod plan;
pub mod verify;

mod execute;
mod in_flight;
mod queue;
mod record;
mod reset_queue;
mod responder;
mod snapshot;

pub use execute::owner_control;
pub use queue::IncidentQueue;
pub use record::{AckGuard, AttributedFinding, Recorder, mode_of};
pub use reset_queue::ResetQueue;
pub use responder::{RespondError, Responder, ResponderParts};
pub use snapshot::ResponderSettings;
pub use verify::{SourceProgress, TrafficMonitor, TrafficObserver};
