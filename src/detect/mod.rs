//! Detection: pure functions of signals and event time that turn what a pod did into findings.
//!
//! Called by the operator and by `replay` alike, through [`Engine::step`]. Reading order:
//! `engine` (one state per pod), `contacts` (what is a first contact, and did it fail), `scan`
//! with `walk` and `spread`, `mining` with `intel`. Nothing here may see a client, a clock, a
//! file or the environment, and one pod's signals never touch another pod's state.

mod contacts;
mod engine;
mod intel;
mod mining;
mod recent;
mod scan;
mod scope;
mod spread;
mod told;
mod walk;

pub use engine::{Engine, EngineConfig, ErrorBudget, Workload};
pub use intel::{ParseProblem, PoolList};
pub use scope::{Scope, Scopes};

#[cfg(test)]
mod tests;
