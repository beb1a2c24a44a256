//! AgentRuns and their targets.

use anyhow::Context;
use serde_json::{Value, json};
use yellowjack::testing::api::AgentRun;

use super::pod::PLACEHOLDER_IMAGE;
use super::with_field;

/// An AgentRun with this target; `spec` has the other fields of its spec.
pub fn agent_run(name: &str, target: Value, spec: Value) -> anyhow::Result<AgentRun> {
    serde_json::from_value(json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "AgentRun",
        "metadata": { "name": name },
        "spec": with_field(spec, "target", target),
    }))
    .with_context(|| format!("failed to build the AgentRun {name}"))
}

/// A target that selects pods by their label `app`.
#[must_use]
pub fn pods_with_app(app: &str) -> Value {
    json!({ "selector": { "matchLabels": { "app": app } } })
}

/// A target that refers to a Job, which need not exist.
#[must_use]
pub fn job_target(name: &str) -> Value {
    json!({ "ref": { "apiVersion": "batch/v1", "kind": "Job", "name": name } })
}

/// A target from which the controller creates a Job itself.
#[must_use]
pub fn template_target() -> Value {
    json!({ "template": { "pod": { "spec": {
        "containers": [{ "name": "agent", "image": PLACEHOLDER_IMAGE }],
    }}}})
}
