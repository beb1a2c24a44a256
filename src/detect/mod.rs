//! Detection: pure functions of signals and event time that turn the activity of pods into findings.
//!
//! The operator and `replay` both call it through [`Engine::step`]. Reading order: `attributed` (the input), `engine`
//! (one state per `pod`), `origin` (the logs, their gaps, and what they can show), `contacts` (which flows are first
//! contacts, and whether they failed), `scan` (failed contacts of a pod or of a run), `traffic` with `session`,
//! `mining` and `tunnel` (long connections and names), `fusion` (how evidence adds up), `reported` (which findings are
//! new). `state` contains the data structures of bounded size.
//!
//! Nothing here uses a client, a clock, a file or the environment. The signals of a pod never change the state of
//! another pod; they change that of its own run.

mod attributed;
mod config;
mod context;
mod detection;
mod domain;
mod engine;
mod fusion;
mod mining;
mod origin;
mod pod;
mod pool_list;
mod reported;
mod scan;
mod scope;
mod session;
mod state;
mod traffic;
mod tunnel;

pub use attributed::{Attributed, Origin, Workload};
pub use config::EngineConfig;
pub(crate) use config::{ANSWER_WAIT_US, ErrorBudget};
pub use engine::Engine;
pub(crate) use engine::{RestoreError, Saving};
pub(crate) use pool_list::ParseProblem;
pub use pool_list::PoolList;
pub(crate) use scan::{Contribution, SharedContact};
pub(crate) use scope::Scope;
pub use scope::Scopes;
pub(crate) use state::HashKey;

#[cfg(test)]
mod tests;
