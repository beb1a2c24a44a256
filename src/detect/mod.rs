//! Detection: pure functions of signals and event time that turn what a pod did into findings.
//!
//! Called by the operator and by `replay` alike, through [`Engine::step`]. Reading order:
//! `attributed` (what comes in), `engine` (one state per `pod`), `origin` (which log, its gaps, and
//! with `visibility` what it shows),
//! `contacts` (what is a first contact, and did it fail; with
//! `outage`), `scan`
//! with `walk`, `spread` and `tally`, `run` (the same walks over the pods of a run;
//! with `contribution`, for runs on several nodes), `traffic` with
//! `session` and `names`, `mining` with `intel`, `tunnel`, `fusion`. Nothing here may see a client,
//! a clock, a file or the environment. One pod's signals never touch another pod's state; they
//! touch that of their own run.

mod attributed;
mod contacts;
mod contribution;
mod engine;
mod fusion;
mod intel;
mod loss;
mod mining;
mod names;
mod origin;
mod outage;
mod pod;
mod recent;
mod run;
mod saved;
mod scan;
mod scope;
mod session;
mod sketch;
mod spread;
mod tally;
mod told;
mod traffic;
mod tunnel;
mod visibility;
mod walk;
mod weight;
mod wording;

pub use attributed::{Attributed, Origin, Workload};
pub use contacts::ANSWER_WAIT_US;
pub use contribution::{Contribution, SharedContact};
pub use engine::{Engine, EngineConfig, ErrorBudget, RestoreError, Saving};
pub use intel::{ParseProblem, PoolList};
pub use scope::{Scope, Scopes};
pub use sketch::HashKey;

#[cfg(test)]
mod tests;
