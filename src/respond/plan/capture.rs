//! The copy of a pod that an Incident keeps before an action that destroys the pod.

use serde_json::{Value, json};

use crate::limits;

/// Replaces a value that may be a credential.
const WITHHELD: &str = "(withheld)";

/// The copy of a pod for the Incident: without values of environment variables and managed fields, and
/// reduced to names and images if it is larger than [`limits::CAPTURE_BYTES_MAX`].
#[must_use]
pub(crate) fn captured_pod(mut pod: Value) -> Value {
    if let Some(metadata) = pod.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
        if let Some(annotations) = metadata
            .get_mut("annotations")
            .and_then(Value::as_object_mut)
        {
            // Contains the whole spec, with the values that are withheld below.
            annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
        }
    }
    for list in ["containers", "initContainers", "ephemeralContainers"] {
        let containers = pod
            .pointer_mut(&format!("/spec/{list}"))
            .and_then(Value::as_array_mut);
        containers
            .into_iter()
            .flatten()
            .for_each(withhold_environment);
    }
    if pod.to_string().len() <= limits::CAPTURE_BYTES_MAX {
        return pod;
    }
    outline(&pod)
}

fn withhold_environment(container: &mut Value) {
    let variables = container.get_mut("env").and_then(Value::as_array_mut);
    for variable in variables.into_iter().flatten() {
        if let Some(value) = variable.get_mut("value") {
            *value = json!(WITHHELD);
        }
    }
}

/// A text, truncated.
fn text(value: Option<&Value>) -> Option<&str> {
    value
        .and_then(Value::as_str)
        .map(|text| crate::model::clip(text, limits::NAME_BYTES_MAX))
}

/// Only names and images, each truncated, so that the size is bounded for every pod.
fn outline(pod: &Value) -> Value {
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let containers: Vec<Value> = containers
        .into_iter()
        .flatten()
        .take(64)
        .map(|c| json!({ "name": text(c.get("name")), "image": text(c.get("image")) }))
        .collect();
    json!({
        "metadata": {
            "name": text(pod.pointer("/metadata/name")),
            "namespace": text(pod.pointer("/metadata/namespace")),
            "uid": text(pod.pointer("/metadata/uid")),
        },
        "spec": { "nodeName": text(pod.pointer("/spec/nodeName")), "containers": containers },
        "status": { "phase": text(pod.pointer("/status/phase")) },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(argument: &str) -> Value {
        json!({
            "metadata": {
                "name": "p",
                "managedFields": [{}],
                "annotations": { "kubectl.kubernetes.io/last-applied-configuration": "s3cret" },
            },
            "spec": { "containers": [{
                "name": "agent",
                "image": "registry.example/agent:1",
                "args": [argument],
                "env": [{ "name": "TOKEN", "value": "s3cret" }],
            }] },
        })
    }

    #[test]
    fn values_of_environment_variables_are_withheld() {
        let kept = captured_pod(pod("run"));
        assert!(!kept.to_string().contains("s3cret"), "{kept}");
        assert_eq!(kept["spec"]["containers"][0]["env"][0]["name"], "TOKEN");
        assert_eq!(kept["spec"]["containers"][0]["args"][0], "run");
    }

    #[test]
    fn a_large_pod_is_reduced_to_names_and_images() {
        let kept = captured_pod(pod(&"x".repeat(limits::CAPTURE_BYTES_MAX)));
        assert!(kept.to_string().len() < 1024);
        assert_eq!(
            kept["spec"]["containers"][0]["image"],
            "registry.example/agent:1"
        );
    }
}
