//! Detection: pure functions of signals and event time that turn what a pod did into findings.
//!
//! Called by the operator and by `replay` alike, through [`Engine::step`]. Reading order:
//! `engine` (one state per pod), `contacts` (what is a first contact, and did it fail), `scan`
//! with `walk` and `spread`, `traffic` with `session` and `names`, `mining`
//! with `intel`, `tunnel`, `fusion`. Nothing here may see a client, a clock, a
//! file or the environment, and one pod's signals never touch another pod's state.

mod contacts;
mod engine;
mod fusion;
mod intel;
mod mining;
mod names;
mod recent;
mod scan;
mod scope;
mod session;
mod spread;
mod told;
mod traffic;
mod tunnel;
mod walk;

pub use engine::{Engine, EngineConfig, ErrorBudget, Workload};
pub use intel::{ParseProblem, PoolList};
pub use scope::{Scope, Scopes};

#[cfg(test)]
mod tests;
