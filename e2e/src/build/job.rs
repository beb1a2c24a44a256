//! Jobs.

use anyhow::Context;
use k8s_openapi::api::batch::v1::Job;
use serde_json::{Value, json};

/// A Job with this pod template; `spec` has the other fields of its spec.
pub fn job(name: &str, template: &Value, spec: Value) -> anyhow::Result<Job> {
    let spec = super::with_field(spec, "template", template.clone());
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec }))
        .with_context(|| format!("failed to build the Job {name}"))
}
