//! The Job of a `template` target.
//!
//! The controller creates it suspended and resumes it once the guardrails are in place. It never applies the Job again,
//! because an apply without `suspend` would resume a Job that a quarantine suspended.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::api::{RunTemplate, labels};

use super::RunOwner;

/// The Job, as JSON: a typed pod spec would drop fields that are newer than this build.
#[must_use]
pub(crate) fn job(owner: &RunOwner, template: &RunTemplate) -> Value {
    let mut pod_labels: BTreeMap<&str, &str> = template
        .pod
        .labels
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        // The schema refuses these labels. A run that was stored without the schema must not set them either.
        .filter(|(key, _)| !key.starts_with("yellowjack.dev/"))
        .collect();
    pod_labels.insert(labels::RUN, &owner.name);

    let mut spec = json!({
        "suspend": true,
        "parallelism": template.parallelism,
        "backoffLimit": template.backoff_limit,
        // A replacement waits until the old pod is gone, so that the containment of a pod that is being deleted does not
        // race with its replacement.
        "podReplacementPolicy": "Failed",
        "template": {
            "metadata": pod_metadata(&pod_labels, &template.pod.annotations),
            "spec": pod_spec(&template.pod.spec),
        },
    });
    if let (Some(completions), Some(fields)) = (template.completions, spec.as_object_mut()) {
        fields.insert("completions".to_owned(), completions.into());
    }
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": owner.metadata(),
        "spec": spec,
    })
}

fn pod_metadata(labels: &BTreeMap<&str, &str>, annotations: &BTreeMap<String, String>) -> Value {
    let mut metadata = Map::new();
    metadata.insert("labels".to_owned(), json!(labels));
    if !annotations.is_empty() {
        metadata.insert("annotations".to_owned(), json!(annotations));
    }
    Value::Object(metadata)
}

/// As written, with the restart policy that a Job requires and that is not the default of a pod spec, and without a token
/// of the API server unless the template requests one: an agent may read and use what is in its pod.
fn pod_spec(written: &Map<String, Value>) -> Map<String, Value> {
    let mut spec = written.clone();
    spec.entry("automountServiceAccountToken")
        .or_insert_with(|| false.into());
    spec.entry("restartPolicy")
        .or_insert_with(|| "Never".into());
    spec
}
