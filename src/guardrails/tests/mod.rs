//! Tests of the guardrails, one file per concern, with the builders that they share.
//!
//! Sentences are asserted, not whole messages: the wording may improve, the names in it may not go.

// Objects are written as `json!` literals at the call, which read better by value.
#![allow(clippy::needless_pass_by_value)]

mod allow_list;
mod audit;
mod ceiling;
mod drift;
mod network;
mod objects;

use serde_json::{Value, json};

use super::ceiling::Evaluation;
use super::{ClusterFacts, RunOwner};
use crate::api::{AgentRunSpec, GuardrailPolicySpec, Reason};

/// A run's spec from the fields that a test is about; the target is a label unless given.
fn run(fields: Value) -> AgentRunSpec {
    let mut spec = json!({ "target": { "selector": { "matchLabels": { "app": "agent" } } } });
    merge(&mut spec, fields);
    serde_json::from_value(spec).expect("a run's spec")
}

fn policy(spec: Value) -> GuardrailPolicySpec {
    serde_json::from_value(spec).expect("a policy's spec")
}

fn merge(into: &mut Value, fields: Value) {
    let (Some(into), Value::Object(fields)) = (into.as_object_mut(), fields) else {
        panic!("fields must be an object");
    };
    into.extend(fields);
}

fn owner() -> RunOwner {
    RunOwner {
        namespace: "team".into(),
        name: "train".into(),
        uid: "uid-1".into(),
    }
}

fn facts() -> ClusterFacts {
    let ranges = |texts: &[&str]| texts.iter().map(|t| t.parse().unwrap()).collect();
    ClusterFacts {
        dns: ClusterFacts::usual_dns(),
        pod_cidrs: ranges(&["10.244.0.0/16", "fd00:10:244::/56"]),
        service_cidrs: ranges(&["10.96.0.0/12", "fd00:10:96::/112"]),
        node_cidrs: ranges(&["192.168.7.4/32", "192.168.7.5/32"]),
        unread_policy_kinds: Vec::new(),
        cilium_policies: Vec::new(),
    }
}

fn evaluate(run_fields: Value, policy_spec: Value) -> Evaluation {
    super::ceiling::evaluate(&run(run_fields), Some(&policy(policy_spec)), &facts())
}

fn reasons(evaluation: &Evaluation) -> Vec<Reason> {
    evaluation
        .problems
        .iter()
        .map(|problem| problem.reason)
        .collect()
}
