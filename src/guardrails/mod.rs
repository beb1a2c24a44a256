//! Guardrails: AgentRun and policy to Kubernetes objects. Pure.
