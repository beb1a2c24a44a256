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

pub mod limits;
pub mod model;

pub mod api;

pub mod detect;
pub mod signals;

pub mod guardrails;
pub mod respond;

pub mod observability;

pub mod cluster;
pub mod controller;
pub mod notify;

pub mod report;

pub mod operator;

pub mod replay;

pub mod cli;
