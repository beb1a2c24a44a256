//! Throttle: CPU taken from a running pod without a restart, and given back exactly.
//!
//! Only what can be undone: a limit that a container has is lowered. One that is added could not be
//! taken away again, and QoS class and memory never change.

use serde_json::{Value, json};

use super::{Plan, Situation, Step, has_settled};
use crate::api::{ActionKind, ObjectTarget, RestoreEntry};
use crate::guardrails::quantity::Amount;
use crate::limits;
use crate::model::clip;

/// What a throttled container may use: enough for probes and heartbeats, too little to mine.
pub const CPU_LIMIT: &str = "100m";

/// What it then asks for where its pod's class is Burstable. Less than the limit, or the class would
/// change to Guaranteed.
pub const CPU_REQUEST: &str = "50m";

/// What can be taken from a pod.
#[derive(Clone, Debug, PartialEq)]
pub enum Cpu {
    /// The resources of these containers, as they are and as they would be.
    Take(Vec<RestoreEntry>),
    /// Nothing, because of this.
    Refused(String),
}

/// What can be taken from this pod, whole as the API server has it.
#[must_use]
pub fn cpu_of(pod: &Value) -> Cpu {
    let class = pod.pointer("/status/qosClass").and_then(Value::as_str);
    let is_guaranteed = match class {
        Some("Guaranteed") => true,
        Some("Burstable") => false,
        _ => {
            let why = "the pod's QoS class is BestEffort, which a limit would change";
            return Cpu::Refused(why.to_owned());
        }
    };
    let text = |field: &str| {
        pod.pointer(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let target = ObjectTarget {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: text("/metadata/name").to_owned(),
        uid: text("/metadata/uid").to_owned(),
    };
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array);
    let (mut entries, mut refused) = (Vec::new(), Vec::new());
    for (place, container) in containers.into_iter().flatten().enumerate() {
        match lowered(container, is_guaranteed) {
            Ok((before, set)) => entries.push(RestoreEntry {
                target: target.clone(),
                field: format!("/spec/containers/{place}/resources"),
                before: Some(before),
                set,
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
        return Cpu::Refused(format!(
            "the pod has more than {most} containers with a limit"
        ));
    }
    if entries.is_empty() {
        return Cpu::Refused(refused.join("; "));
    }
    Cpu::Take(entries)
}

/// The container's resources as they are and with less CPU.
fn lowered(container: &Value, is_guaranteed: bool) -> Result<(Value, Value), &'static str> {
    let before = container.get("resources").cloned().unwrap_or_default();
    let amount = |field: &str| {
        before
            .pointer(field)
            .and_then(Value::as_str)
            .and_then(Amount::parse)
    };
    let Some(limit) = amount("/limits/cpu") else {
        return Err("has no CPU limit, and one that is added could not be taken away again");
    };
    let most = Amount::parse(CPU_LIMIT);
    if Some(limit) <= most {
        return Err("may use no more CPU than a throttled one already");
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

/// The next step towards a throttled pod; none once it is, or cannot be and that is said. Only the
/// Incident's own pod, whatever the scope: each pod that does wrong has an Incident of its own.
pub(super) fn next(situation: &Situation<'_>) -> Option<Plan> {
    let incident = situation.incident;
    let subject = &incident.spec.subject;
    let pod = situation.pods.iter().find(|pod| pod.uid == subject.uid)?;
    if has_settled(incident, ActionKind::Throttle, &pod.uid) {
        return None;
    }
    let restore = incident.status.as_ref().map_or(&[][..], |s| &s.restore);
    let is_saved = |entry: &&RestoreEntry| entry.target.uid == pod.uid;
    let saved: Vec<RestoreEntry> = restore.iter().filter(is_saved).cloned().collect();
    let step = match &situation.cpu {
        None => Step::LookAtCpu(pod.clone()),
        Some(Cpu::Take(entries)) => match entries.iter().find(|entry| !saved.contains(entry)) {
            Some(entry) => Step::Save(entry.clone()),
            None => Step::Throttle(pod.clone(), saved),
        },
        // Done before a crash, which kept it out of the record: once more, for the record.
        Some(Cpu::Refused(_)) if !saved.is_empty() => Step::Throttle(pod.clone(), saved),
        Some(Cpu::Refused(why)) => {
            Step::Skip(ActionKind::Throttle, super::pod_target(pod), why.clone())
        }
    };
    Some(Plan::step(step))
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

    fn taken(pod: &Value) -> Vec<RestoreEntry> {
        match cpu_of(pod) {
            Cpu::Take(entries) => entries,
            Cpu::Refused(why) => panic!("{why}"),
        }
    }

    fn refused(pod: &Value) -> String {
        match cpu_of(pod) {
            Cpu::Take(entries) => panic!("{entries:?}"),
            Cpu::Refused(why) => why,
        }
    }

    #[test]
    fn a_guaranteed_pod_loses_request_and_limit_together_and_keeps_its_memory() {
        let whole = json!({ "cpu": "2", "memory": "1Gi" });
        let entries = taken(&pod("Guaranteed", &json!([container(&whole, &whole)])));
        let less = json!({ "cpu": "100m", "memory": "1Gi" });
        assert_eq!(entries[0].set, json!({ "requests": less, "limits": less }));
        assert_eq!(
            entries[0].before,
            Some(json!({ "requests": whole, "limits": whole }))
        );
        assert_eq!(entries[0].field, "/spec/containers/0/resources");
    }

    #[test]
    fn a_burstable_pod_stays_burstable() {
        let limits = json!({ "cpu": "2" });
        for (request, left) in [("2", "50m"), ("1", "50m"), ("100m", "50m"), ("20m", "20m")] {
            let requests = json!({ "cpu": request });
            let entries = taken(&pod("Burstable", &json!([container(&requests, &limits)])));
            assert_eq!(entries[0].set["requests"]["cpu"], left, "{request}");
            assert_eq!(entries[0].set["limits"]["cpu"], "100m");
        }
    }

    #[test]
    fn only_containers_with_a_limit_to_lower_are_throttled() {
        let limited = container(&json!({ "cpu": "1" }), &json!({ "cpu": "2" }));
        let free = container(&json!({ "cpu": "1" }), &json!({}));
        let entries = taken(&pod("Burstable", &json!([free, limited])));
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].field, "/spec/containers/1/resources");
        assert!(refused(&pod("Burstable", &json!([free]))).contains("has no CPU limit"));
    }

    #[test]
    fn what_cannot_be_undone_or_would_restart_is_refused() {
        assert!(refused(&pod("BestEffort", &json!([]))).contains("BestEffort"));
        let small = json!({ "cpu": "0.1" });
        let why = refused(&pod("Guaranteed", &json!([container(&small, &small)])));
        assert!(why.contains("no more CPU"), "{why}");
        let mut restarting = container(&json!({ "cpu": "2" }), &json!({ "cpu": "2" }));
        restarting["resizePolicy"] =
            json!([{ "resourceName": "cpu", "restartPolicy": "RestartContainer" }]);
        let why = refused(&pod("Guaranteed", &json!([restarting])));
        assert!(why.contains("restarted"), "{why}");
    }
}
