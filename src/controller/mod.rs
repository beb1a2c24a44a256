//! The controller: AgentRun to guardrails to status.

pub mod feed;
pub mod pipeline;
