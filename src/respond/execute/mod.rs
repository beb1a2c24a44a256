//! Carries out the steps of a plan.

mod executor;
mod owner;
mod suspend;
mod throttle;

pub use owner::lever_of;

pub(super) use executor::Outcome;
