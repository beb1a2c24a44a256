//! Yellowjack keeps AI-agent runs on Kubernetes inside their limits.
//!
//! The way of a flow, which is also the reading order of the modules:
//!
//! ```text
//! log ─► decode ─► attribute ─► detect ─► finding ─► Incident ─► respond ─► verify ─► status
//! ```
//!
//! `model`, `detect`, `signals::decode`, `guardrails` and `respond::plan` are pure: no client, no
//! clock, no file, no environment. `docs/architecture.md` lists the invariants.

#![warn(unreachable_pub)]

mod limits;
mod model;

// kube's derive gives each kind the visibility of its spec, and types of a spec must be as visible as it is.
#[allow(unreachable_pub)]
mod api;

mod detect;
mod signals;

mod guardrails;
mod respond;

mod observability;

mod cluster;

mod pipeline;

mod controller;
mod notify;

mod report;

mod operator;

mod replay;

mod cli;

pub mod testing;

pub use cli::run;
