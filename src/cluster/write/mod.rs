//! Every write to the API server (INV-4): with a field manager, a time limit, a counted outcome, and
//! where it acts, only while this process is the leader.

mod events;
mod field_manager;
mod rate_limiter;
mod writer;

pub(crate) use events::{EventNote, Events};
pub(crate) use field_manager::FieldManager;
pub(crate) use rate_limiter::RateLimiter;
pub(crate) use writer::{Conflicts, Writer};
