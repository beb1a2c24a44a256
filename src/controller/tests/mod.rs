//! Tests of the pure steps: desired objects, the start of a Job, and conditions. The steps that write are tested
//! against a real API server.

// Objects are written as `json!` literals at the call, which read better by value.
#![allow(clippy::needless_pass_by_value)]

mod addresses;
mod start;
mod status;
mod validate;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::apply::{Applied, ApplyState};
use super::dereference::{Observed, ObservedPod};
use super::status::status;
use super::validate::validate;
use crate::api::{AgentRun, AgentRunStatus, Incident, condition_of};
use crate::cluster::Pod;
use crate::guardrails::membership::OwnerLink;
use crate::guardrails::{ClusterFacts, RunOwner};
use crate::signals::health::{Certainty, SignalsVerdict};

fn of<T: DeserializeOwned>(json: Value) -> T {
    serde_json::from_value(json).expect("an object")
}

fn by_label() -> Value {
    json!({ "selector": { "matchLabels": { "app": "agent" } } })
}

fn by_template() -> Value {
    json!({ "template": { "pod": { "spec": { "containers": [{ "name": "a" }] } } } })
}

fn by_job(name: &str) -> Value {
    json!({ "ref": { "apiVersion": "batch/v1", "kind": "Job", "name": name } })
}

/// A run with the UID `uid-NAME`. Later names in the alphabet are younger.
fn run(name: &str, target: Value) -> AgentRun {
    let age = u32::from(name.bytes().next().unwrap_or(b'a') - b'a');
    of(json!({
        "metadata": {
            "name": name,
            "namespace": "team",
            "uid": format!("uid-{name}"),
            "generation": 3,
            "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z"),
        },
        "spec": { "target": target },
    }))
}

fn pod(name: &str, labels: Value) -> Pod {
    of(json!({
        "metadata": { "name": name, "namespace": "team", "uid": format!("uid-{name}"), "labels": labels },
        "spec": { "containers": [] },
    }))
}

fn owned_by(kind: &str, api_version: &str, name: &str, uid: &str) -> OwnerLink {
    OwnerLink {
        api_version: api_version.into(),
        kind: kind.into(),
        name: name.into(),
        uid: uid.into(),
    }
}

fn incident(name: &str, status: Value) -> Arc<Incident> {
    Arc::new(of(json!({
        "metadata": { "name": name, "namespace": "team" },
        "spec": { "run": { "name": "a", "uid": "uid-a" }, "subject": { "name": "p", "uid": "uid-p" } },
        "status": status,
    })))
}

/// Conditions of an Incident, from (type, status, reason).
fn with_conditions(conditions: &[(&str, &str, &str)]) -> Value {
    let list: Vec<Value> = conditions
        .iter()
        .map(|(kind, status, reason)| {
            json!({
                "type": kind, "status": status, "reason": reason, "message": "",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            })
        })
        .collect();
    json!({ "conditions": list })
}

/// Observed state of a run that is alone in its namespace.
fn observed(run: AgentRun) -> Observed {
    let owner = RunOwner::of(&run).expect("an owner");
    let run = Arc::new(run);
    Observed {
        agents: Arc::default(),
        runs: vec![Arc::clone(&run)],
        run,
        owner,
        policy: None,
        pods: Vec::new(),
        network_policies: Vec::new(),
        quotas: Vec::new(),
        limit_ranges: Vec::new(),
        job: None,
        owner_exists: true,
        incidents: Vec::new(),
        cluster_deny: false,
        on_cilium: false,
        signals: SignalsVerdict::Fresh,
        certainty: Certainty::Known,
        facts: Arc::new(ClusterFacts::default()),
    }
}

fn with_pods(mut observed: Observed, pods: impl IntoIterator<Item = Pod>) -> Observed {
    let seen = pods.into_iter().map(|pod| ObservedPod {
        pod: Arc::new(pod),
        owners: Vec::new(),
        holder: None,
    });
    observed.pods.extend(seen);
    observed
}

fn foreign_policy(name: &str) -> Arc<NetworkPolicy> {
    Arc::new(of(json!({
        "metadata": { "name": name, "namespace": "team" },
        "spec": { "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] },
    })))
}

fn job(annotations: Value, suspend: bool, status: Value) -> Job {
    of(json!({
        "metadata": { "name": "yellowjack-run-a", "namespace": "team", "uid": "uid-job", "annotations": annotations },
        "spec": { "suspend": suspend, "template": { "spec": { "containers": [] } } },
        "status": status,
    }))
}

/// All objects are up to date.
fn up_to_date() -> Applied {
    Applied {
        standing_deny: ApplyState::UpToDate,
        network: ApplyState::UpToDate,
        ..Applied::default()
    }
}

fn status_of(observed: &Observed, applied: &Applied) -> AgentRunStatus {
    let now = Timestamp::from_second(1_000).expect("a time");
    status(observed, &validate(observed), applied, now)
}

/// Checks one condition: status, reason, and a word of its message.
fn check(status: &AgentRunStatus, condition: &str, expected: (&str, &str), word: &str) {
    let found = condition_of(&status.conditions, condition)
        .unwrap_or_else(|| panic!("{condition} is missing"));
    assert_eq!(
        (found.status.as_str(), found.reason.as_str()),
        expected,
        "{condition}: {}",
        found.message
    );
    assert!(
        found.message.contains(word),
        "{condition}: {} does not contain {word}",
        found.message
    );
    assert_eq!(found.observed_generation, Some(3), "{condition}");
}

fn names<K: kube::Resource<DynamicType = ()>>(objects: &[K]) -> Vec<String> {
    objects.iter().map(ResourceExt::name_any).collect()
}
