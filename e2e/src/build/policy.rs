//! NetworkPolicies of other teams, and GuardrailPolicies.

use anyhow::Context;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use serde_json::{Value, json};
use yellowjack::testing::api::GuardrailPolicy;

/// A NetworkPolicy that selects every pod of its namespace, with these rules.
pub fn network_policy(name: &str, rules: Value) -> anyhow::Result<NetworkPolicy> {
    let spec = super::with_field(rules, "podSelector", json!({}));
    serde_json::from_value(json!({ "metadata": { "name": name }, "spec": spec }))
        .with_context(|| format!("failed to build the NetworkPolicy {name}"))
}

/// Rules that allow all egress to IPv4 addresses.
#[must_use]
pub fn allow_all_egress() -> Value {
    json!({
        "policyTypes": ["Egress"],
        "egress": [{ "to": [{ "ipBlock": { "cidr": "0.0.0.0/0" } }] }],
    })
}

/// A GuardrailPolicy with this spec.
pub fn guardrail_policy(name: &str, spec: &Value) -> anyhow::Result<GuardrailPolicy> {
    serde_json::from_value(json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "GuardrailPolicy",
        "metadata": { "name": name },
        "spec": spec,
    }))
    .with_context(|| format!("failed to build the GuardrailPolicy {name}"))
}
