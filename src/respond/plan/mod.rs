//! The plan: from a snapshot of an Incident and its surroundings to the next step.
//!
//! Pure: `respond::responder` passes in everything, including the time, and executes the step. Each call
//! decides from the observed state (labels of pods, state of the owner, what the log showed), never
//! from the steps that were ordered before. So after a crash between two steps, at most one step is
//! repeated.

mod breaker;
mod capture;
pub(crate) mod cilium;
mod escalation;
mod next_step;
mod release;
mod simulation;
mod snapshot;
mod status;
mod step;
pub(crate) mod suspension;
pub(crate) mod throttle;

pub(crate) use breaker::BREAKER_WINDOW;
pub use breaker::{Breaker, BreakerLimits, Crossing};
pub(crate) use capture::captured_pod;
pub(crate) use next_step::plan;
pub(crate) use simulation::Simulation;
pub(crate) use snapshot::{
    Bounds, Deny, Identities, OtherIncident, OwnerControl, PodIdentity, PodView, Quarantines,
    SHORTENED_GRACE_S, Snapshot,
};
pub(crate) use status::{isolated_at, push_action, push_restore_entry};
pub(crate) use step::{ConditionUpdate, Plan, Step};
pub(crate) use throttle::CpuReduction;

#[cfg(test)]
mod tests;
