//! Throttle: reduces the CPU of a running pod without a restart, and can restore it exactly.
//!
//! Only existing CPU limits are lowered: Kubernetes does not allow to remove a limit that was added.
//! The QoS class and the memory of a pod never change.

use serde_json::{Value, json};

use crate::api::{ObjectTarget, RestoreEntry};
use crate::guardrails::quantity::Amount;
use crate::limits;
use crate::model::clip;

/// The CPU limit of a throttled container: enough for probes and heartbeats, too little to mine.
pub(crate) const CPU_LIMIT: &str = "100m";

/// The CPU request of a throttled container in a Burstable pod. Less than the limit, because with equal
/// values the class could change to Guaranteed.
pub(crate) const CPU_REQUEST: &str = "50m";

/// Whether the CPU of a pod can be reduced.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum CpuReduction {
    /// Yes: the current and the reduced resources of each container.
    Possible(Vec<RestoreEntry>),
    /// No, and why.
    Refused(String),
}

/// How the CPU of this pod can be reduced. `pod` is the complete object from the API server.
#[must_use]
pub(crate) fn cpu_reduction(pod: &Value) -> CpuReduction {
    let class = pod.pointer("/status/qosClass").and_then(Value::as_str);
    let is_guaranteed = match class {
        Some("Guaranteed") => true,
        Some("Burstable") => false,
        _ => {
            let why = "the QoS class of the pod is BestEffort, and a limit would change it";
            return CpuReduction::Refused(why.to_owned());
        }
    };
    let text = |field: &str| {
        pod.pointer(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let target = ObjectTarget::pod(text("/metadata/name"), text("/metadata/uid"));
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let (mut entries, mut refused) = (Vec::new(), Vec::new());
    for (place, container) in containers.into_iter().flatten().enumerate() {
        match lowered(container, is_guaranteed) {
            Ok((before, set)) => entries.push(RestoreEntry {
                target: target.clone(),
                field: format!("/spec/containers/{place}/resources"),
                original_value: Some(before),
                applied_value: set,
            }),
            Err(why) => {
                let name = container.get("name").and_then(Value::as_str);
                let name = clip(name.unwrap_or_default(), limits::NAME_BYTES_MAX);
                refused.push(format!("container {name} {why}"));
            }
        }
    }
    if entries.len() > limits::THROTTLED_CONTAINERS_MAX {
        let most = limits::THROTTLED_CONTAINERS_MAX;
        return CpuReduction::Refused(format!(
            "the pod has more than {most} containers with a limit"
        ));
    }
    if entries.is_empty() {
        return CpuReduction::Refused(refused.join("; "));
    }
    CpuReduction::Possible(entries)
}

/// The resources of a container, current and with reduced CPU.
fn lowered(container: &Value, is_guaranteed: bool) -> Result<(Value, Value), &'static str> {
    let before = container.get("resources").cloned().unwrap_or_default();
    let amount = |field: &str| {
        before
            .pointer(field)
            .and_then(Value::as_str)
            .and_then(Amount::parse)
    };
    let Some(limit) = amount("/limits/cpu") else {
        return Err("has no CPU limit, and a limit that is added cannot be removed again");
    };
    let most = Amount::parse(CPU_LIMIT);
    if Some(limit) <= most {
        return Err("already has a CPU limit as low as a throttled container");
    }
    let policies = container.get("resizePolicy").and_then(Value::as_array);
    let restarts = policies.into_iter().flatten().any(|policy| {
        policy.get("resourceName") == Some(&json!("cpu"))
            && policy.get("restartPolicy") == Some(&json!("RestartContainer"))
    });
    if restarts {
        return Err("would be restarted by a resize");
    }
    let mut set = before.clone();
    let request = amount("/requests/cpu");
    if let Some(cpu) = set.pointer_mut("/limits/cpu") {
        *cpu = json!(CPU_LIMIT);
    }
    if let Some(cpu) = set.pointer_mut("/requests/cpu") {
        if is_guaranteed {
            *cpu = json!(CPU_LIMIT);
        } else if request >= most {
            *cpu = json!(CPU_REQUEST);
        }
    }
    Ok((before, set))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(class: &str, containers: &Value) -> Value {
        json!({
            "metadata": { "name": "p", "uid": "u" },
            "spec": { "containers": containers },
            "status": { "qosClass": class },
        })
    }

    fn container(requests: &Value, limits: &Value) -> Value {
        json!({ "name": "agent", "resources": { "requests": requests, "limits": limits } })
    }

    fn reduced(pod: &Value) -> Vec<RestoreEntry> {
        match cpu_reduction(pod) {
            CpuReduction::Possible(entries) => entries,
            CpuReduction::Refused(why) => panic!("{why}"),
        }
    }

    fn refused(pod: &Value) -> String {
        match cpu_reduction(pod) {
            CpuReduction::Possible(entries) => panic!("{entries:?}"),
            CpuReduction::Refused(why) => why,
        }
    }

    #[test]
    fn request_and_limit_of_a_guaranteed_pod_are_lowered_together_and_its_memory_is_kept() {
        let whole = json!({ "cpu": "2", "memory": "1Gi" });
        let entries = reduced(&pod("Guaranteed", &json!([container(&whole, &whole)])));
        let less = json!({ "cpu": "100m", "memory": "1Gi" });
        assert_eq!(
            entries[0].applied_value,
            json!({ "requests": less, "limits": less })
        );
        assert_eq!(
            entries[0].original_value,
            Some(json!({ "requests": whole, "limits": whole }))
        );
        assert_eq!(entries[0].field, "/spec/containers/0/resources");
    }

    #[test]
    fn a_burstable_pod_stays_burstable() {
        let limits = json!({ "cpu": "2" });
        for (request, left) in [("2", "50m"), ("1", "50m"), ("100m", "50m"), ("20m", "20m")] {
            let requests = json!({ "cpu": request });
            let entries = reduced(&pod("Burstable", &json!([container(&requests, &limits)])));
            assert_eq!(
                entries[0].applied_value["requests"]["cpu"], left,
                "{request}"
            );
            assert_eq!(entries[0].applied_value["limits"]["cpu"], "100m");
        }
    }

    #[test]
    fn only_containers_with_a_limit_to_lower_are_throttled() {
        let limited = container(&json!({ "cpu": "1" }), &json!({ "cpu": "2" }));
        let free = container(&json!({ "cpu": "1" }), &json!({}));
        let entries = reduced(&pod("Burstable", &json!([free, limited])));
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].field, "/spec/containers/1/resources");
        assert!(refused(&pod("Burstable", &json!([free]))).contains("has no CPU limit"));
    }

    #[test]
    fn what_cannot_be_undone_or_would_restart_is_refused() {
        assert!(refused(&pod("BestEffort", &json!([]))).contains("BestEffort"));
        let small = json!({ "cpu": "0.1" });
        let why = refused(&pod("Guaranteed", &json!([container(&small, &small)])));
        assert!(why.contains("already has a CPU limit"), "{why}");
        let mut restarting = container(&json!({ "cpu": "2" }), &json!({ "cpu": "2" }));
        restarting["resizePolicy"] =
            json!([{ "resourceName": "cpu", "restartPolicy": "RestartContainer" }]);
        let why = refused(&pod("Guaranteed", &json!([restarting])));
        assert!(why.contains("restarted"), "{why}");
    }
}
