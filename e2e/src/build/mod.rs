//! Builders of the objects that tests, demo and benchmarks create. They build only: no client, no waiting.
//! `fixture` creates the objects and waits for their states.

mod incident;
mod job;
mod pod;
mod policy;
mod run;

pub use incident::disposition;
pub use job::job;
pub use pod::{PLACEHOLDER_IMAGE, pod, pod_on_node, pod_template};
pub use policy::{allow_all_egress, guardrail_policy, network_policy};
pub use run::{agent_run, job_target, pods_with_app, template_target};

use serde_json::Value;

/// The object with one more field.
#[must_use]
pub fn with_field(mut object: Value, field: &str, value: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(field.to_owned(), value);
    }
    object
}
