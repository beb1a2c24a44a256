//! The copy of a pod that an Incident keeps before an action that destroys the pod.

use serde_json::{Value, json};

use crate::limits;

/// Replaces a value that may be a credential.
const WITHHELD: &str = "(withheld)";

/// The copy of a pod for the Incident, reduced to names and images if it is larger than [`limits::CAPTURE_BYTES_MAX`].
/// Without managed fields, and without what may be a credential: values of environment variables and of HTTP headers of
/// probes and hooks, and the words of commands after the program.
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
        containers.into_iter().flatten().for_each(withhold);
    }
    if pod.to_string().len() <= limits::CAPTURE_BYTES_MAX {
        return pod;
    }
    outline(&pod)
}

/// Withholds what may be a credential in a container, and in its probes and hooks, which are a few levels deep.
fn withhold(object: &mut Value) {
    let Some(fields) = object.as_object_mut() else {
        return;
    };
    for (name, field) in fields {
        match (name.as_str(), field) {
            ("args", Value::Array(words)) => words.iter_mut().for_each(replace),
            ("command", Value::Array(words)) => words.iter_mut().skip(1).for_each(replace),
            ("env" | "httpHeaders", Value::Array(entries)) => {
                let values = entries
                    .iter_mut()
                    .filter_map(|entry| entry.get_mut("value"));
                values.for_each(replace);
            }
            (_, inner @ Value::Object(_)) => withhold(inner),
            _ => {}
        }
    }
}

fn replace(value: &mut Value) {
    *value = json!(WITHHELD);
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
                "workingDir": argument,
                "command": ["/bin/agent", "--token=s3cret"],
                "args": ["--password", "s3cret"],
                "env": [{ "name": "TOKEN", "value": "s3cret" }],
                "livenessProbe": { "periodSeconds": 5, "httpGet": {
                    "path": "/", "httpHeaders": [{ "name": "Authorization", "value": "s3cret" }],
                } },
                "readinessProbe": { "exec": { "command": ["curl", "-H", "s3cret"] } },
                "lifecycle": { "preStop": { "exec": { "command": ["sh", "-c", "s3cret"] } } },
            }] },
        })
    }

    #[test]
    fn what_may_be_a_credential_is_withheld_and_nothing_else() {
        let kept = captured_pod(pod("/run"));
        assert!(!kept.to_string().contains("s3cret"), "{kept}");
        let container = &kept["spec"]["containers"][0];
        assert_eq!(container["env"][0]["name"], "TOKEN");
        assert_eq!(container["command"], json!(["/bin/agent", WITHHELD]));
        assert_eq!(container["args"], json!([WITHHELD, WITHHELD]));
        assert_eq!(container["workingDir"], "/run");
        let probe = &container["livenessProbe"];
        assert_eq!(probe["periodSeconds"], 5);
        assert_eq!(probe["httpGet"]["httpHeaders"][0]["name"], "Authorization");
        assert_eq!(container["readinessProbe"]["exec"]["command"][0], "curl");
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
