//! Response: from a finding to an Incident, and from an Incident to what is done about it.
//!
//! `plan` is pure and decides; the rest carries out and writes down. Incident before action, action
//! before status (INV-5).

pub mod plan;

mod execute;
mod in_flight;
mod record;
mod reset_queue;
mod responder;
mod snapshot;
pub mod verify;

pub use execute::lever_of;
pub use in_flight::Isolating;
pub use record::{Found, RecordCounters, Recorder, Ticket, mode_of};
pub use reset_queue::Forgotten;
pub use responder::{RespondError, Responder, ResponderSettings};
pub use verify::{Observer, STALE, Spoken, Witness};
