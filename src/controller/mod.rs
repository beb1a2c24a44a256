//! The controller: AgentRun to guardrails to status.
