//! Response: from a finding to an Incident, and from an Incident to what is done about it.
//!
//! `plan` is pure and decides; the rest carries out and writes down. Incident before action, action
//! before status (INV-5).

pub mod plan;

mod evidence;
mod execute;
mod hold;
mod isolating;
mod observer;
mod owner;
mod pacing;
mod record;
mod resize;
mod responder;
mod view;
mod witness;

pub use isolating::Isolating;
pub use observer::Observer;
pub use owner::lever_of;
pub use pacing::Pacer;
pub use record::{Found, RecordCounters, Recorder, Ticket, mode_of};
pub use responder::{Forgotten, RespondError, Responder, ResponderSettings};
pub use witness::{STALE, Spoken, Witness};
