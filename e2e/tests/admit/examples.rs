//! A full example of every part of every kind: each field of the schemas is in one of them, which
//! a test checks. `bounds` breaks them at one place at a time.

use serde_json::{Value, json};

use crate::cases::Kind;
use crate::incident::evidence;

pub fn all() -> Vec<(Kind, &'static str, Value)> {
    let template = json!({ "template": {
        "parallelism": 2, "completions": 3, "backoffLimit": 1,
        "pod": { "labels": { "a": "b" }, "annotations": { "a": "b" }, "spec": {
            "containers": [{ "name": "agent" }], "restartPolicy": "Never", "hostNetwork": false,
        }},
    }});
    let reference = json!({ "ref": { "apiVersion": "batch/v1", "kind": "Job", "name": "x" } });
    let selector = json!({ "selector": labels() });
    vec![
        (Kind::AgentRun, "spec", run_spec(&template)),
        (Kind::AgentRun, "spec", run_spec(&reference)),
        (Kind::AgentRun, "spec", run_spec(&selector)),
        (Kind::AgentRun, "status", run_status()),
        (Kind::GuardrailPolicy, "spec", policy_spec()),
        (Kind::Incident, "spec", incident_spec()),
        (Kind::Incident, "status", incident_status()),
    ]
}

fn labels() -> Value {
    let expression = json!({ "key": "app", "operator": "In", "values": ["agent"] });
    json!({ "matchLabels": { "app": "agent" }, "matchExpressions": [expression] })
}

fn egress() -> Value {
    let ports = json!([{ "port": 80, "endPort": 90, "protocol": "TCP" }]);
    json!([
        { "cidr": "203.0.113.0/24", "ports": ports },
        { "fqdn": "a.example" },
        { "podSelector": labels(), "namespaceSelector": labels() },
    ])
}

fn ingress() -> Value {
    let ports = json!([{ "port": 80, "endPort": 90, "protocol": "TCP" }]);
    json!([
        { "cidr": "203.0.113.0/24", "ports": ports },
        { "podSelector": labels(), "namespaceSelector": labels() },
    ])
}

fn run_spec(target: &Value) -> Value {
    let amounts = json!({ "cpu": "1" });
    json!({
        "target": target,
        "policy": "default",
        "network": { "egress": egress(), "ingress": ingress(), "allowWithinRun": true },
        "resources": {
            "quota": { "hard": { "pods": "10" }, "priorityClassName": "agents" },
            "defaults": { "requests": amounts, "limits": amounts },
        },
        "detection": { "profile": "Standard", "modes": { "scan": "Observe", "mining": "Observe", "tunnel": "Observe" } },
        "response": { "maxAction": "Isolate", "scope": "Pod" },
        "trace": { "run": "r", "episode": "e", "experiment": "x" },
    })
}

fn policy_spec() -> Value {
    let amounts = json!({ "cpu": "1" });
    json!({
        "network": {
            "allowedCidrs": ["203.0.113.0/24"], "allowedFqdns": ["a.example"],
            "blockedCidrs": ["198.51.100.0/24"], "allowInfrastructure": false,
            "defaultEgress": egress(),
            "allowWithinRun": true, "allowedIngressCidrs": ["203.0.113.0/24"],
            "defaultIngress": ingress(), "acceptedPolicies": ["mesh"],
        },
        "resources": {
            "defaultQuota": amounts, "maxQuota": amounts,
            "defaults": { "requests": amounts, "limits": amounts },
        },
        "detection": {
            "minimum": "Observe", "modes": { "scan": "Observe", "mining": "Observe", "tunnel": "Observe" },
            "allowedProfiles": ["Standard"],
        },
        "response": { "maxAction": "Isolate", "minAction": "Alert", "scope": "Pod" },
        "template": { "allowedPrivileges": ["HostPath"] },
    })
}

fn condition() -> Value {
    json!({ "type": "Ready", "status": "True", "reason": "R", "message": "m",
            "observedGeneration": 1, "lastTransitionTime": "2026-01-05T10:00:00Z" })
}

fn run_status() -> Value {
    json!({
        "observedGeneration": 1,
        "conditions": [condition()],
        "pods": { "total": 3, "quarantined": 1 },
        "openIncidents": ["a"],
        "podAddresses": { "addresses": ["10.244.0.66"], "pods": 2 },
    })
}

fn incident_spec() -> Value {
    let mut entry = evidence("node-a", "Mining");
    entry["observeOnly"] = json!(false);
    entry["counterEvidence"] = json!(["it has a name"]);
    entry["examples"] = json!([{
        "time": "2026-01-05T10:00:00Z", "destination": "203.0.113.9", "port": 22,
        "protocol": "TCP", "outcome": "Refused", "name": "a.example",
    }]);
    entry["history"] = json!([
        { "time": "2026-01-05T10:00:00.000000Z", "contacts": 35, "score": 20.6, "threshold": 20.0 },
    ]);
    json!({
        "run": { "name": "r", "uid": "u" },
        "subject": { "name": "a", "uid": "u", "node": "n", "podIPs": ["10.244.0.9"] },
        "evidence": [entry],
        "observations": [{
            "node": "node-a",
            "since": "2026-11-24T10:15:12.000000Z",
            "logTime": "2026-11-24T10:15:25.000000Z",
            "lastPassed": "2026-11-24T10:15:13.000000Z",
            "observedAt": "2026-11-24T10:15:25.500000Z",
            "showsSurvivors": true,
        }],
        "disposition": { "verdict": "Confirm", "decidedBy": "sam", "justification": "seen" },
        "trace": { "run": "r", "episode": "e", "experiment": "x" },
    })
}

fn incident_status() -> Value {
    let target = json!({ "apiVersion": "v1", "kind": "Pod", "name": "a", "uid": "u" });
    let time = "2026-01-05T10:00:00Z";
    json!({
        "observedGeneration": 1,
        "conditions": [condition()],
        "actions": [{ "type": "Alert", "target": target, "time": time, "result": "Failed", "message": "m" }],
        "restore": [{ "target": target, "field": "/spec/suspend", "originalValue": false, "appliedValue": true }],
        "cilium": {
            "interimIdentities": ["app=train"],
            "deniedSince": "2026-01-05T10:00:00.000000Z",
            "labelInForceSince": "2026-01-05T10:00:36.000000Z",
        },
        "replacement": { "controller": target, "notBefore": "2026-01-05T10:00:00.000000Z" },
        "widenedBy": ["allow-all"],
        "techniques": ["T1046"],
        "notified": { "detected": time },
        "capture": { "pod": { "spec": {} }, "time": time, "selectedBy": ["allow-all"] },
        "closedAt": time,
    })
}
