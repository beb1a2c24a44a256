//! What the server fills in, keeps and merges.

use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use yellowjack_e2e::with_namespace;

use crate::cases::Kind;
use crate::incident::evidence;

#[tokio::test]
async fn a_minimal_run_is_stored_with_every_default() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let target = json!({ "selector": { "matchLabels": { "app": "agent" } } });
        let spec = json!({ "target": target });
        let api = Kind::AgentRun.api(&env);
        let stored = api
            .create(&PostParams::default(), &Kind::AgentRun.object("run", &spec))
            .await?;
        assert_eq!(
            stored.data["spec"],
            json!({
                "target": target,
                "policy": "default",
                "network": { "egress": [], "ingress": [] },
                "resources": {},
                "detection": { "profile": "Standard", "modes": {} },
                "response": {},
            })
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn partly_written_parts_get_the_rest_of_their_defaults() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let spec = json!({
            "target": { "template": { "pod": { "spec": { "containers": [{ "name": "a" }], "x": { "y": 1 } } } } },
            "network": { "egress": [{ "cidr": "203.0.113.0/24", "ports": [{ "port": 443 }] }] },
            "detection": { "modes": { "scan": "Observe" } },
        });
        let api = Kind::AgentRun.api(&env);
        let stored = api.create(&PostParams::default(), &Kind::AgentRun.object("run", &spec)).await?;
        let spec = &stored.data["spec"];
        assert_eq!(spec["target"]["template"]["parallelism"], 1);
        assert_eq!(spec["target"]["template"]["backoffLimit"], 6);
        assert_eq!(spec["target"]["template"]["pod"]["spec"]["x"], json!({ "y": 1 }), "pruned");
        assert_eq!(spec["network"]["egress"][0]["ports"][0], json!({ "port": 443, "protocol": "TCP" }));
        assert_eq!(spec["detection"], json!({ "profile": "Standard", "modes": { "scan": "Observe" } }));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_null_is_as_good_as_nothing() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let spec = json!({
            "target": { "selector": { "matchLabels": { "app": "agent" } }, "ref": null, "template": null },
            "policy": null,
            "network": { "egress": null },
            "resources": { "quota": null },
            "response": { "maxAction": null },
            "trace": null,
        });
        let api = Kind::AgentRun.api(&env);
        let stored = api.create(&PostParams::default(), &Kind::AgentRun.object("run", &spec)).await?;
        let spec = &stored.data["spec"];
        assert!(!spec.to_string().contains("null"), "{spec}");
        assert_eq!(spec["policy"], "default");
        assert_eq!(spec["network"], json!({ "egress": [], "ingress": [] }));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_policy_that_says_nothing_observes_at_least() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let api = Kind::GuardrailPolicy.api(&env);
        let stored = api
            .create(&params, &Kind::GuardrailPolicy.object("case", &json!({})))
            .await?;
        assert_eq!(
            stored.data["spec"],
            json!({
                "network": {
                    "allowInfrastructure": false, "blockedCidrs": [], "defaultEgress": [],
                    "allowedIngressCidrs": [], "defaultIngress": [], "acceptedPolicies": [],
                },
                "resources": { "defaultQuota": {}, "maxQuota": {} },
                "detection": { "minimum": "Observe", "modes": {} },
                "response": {},
                "template": { "allowedPrivileges": [] },
            })
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn evidence_of_two_nodes_merges_into_one_incident() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let api = Kind::Incident.api(&env);
        let apply = async |manager: &str, entries: Vec<Value>| {
            let spec = json!({ "subject": { "name": "agent-0", "uid": "u-1" }, "evidence": entries });
            let object = Kind::Incident.object("agent-0", &spec);
            api.patch("agent-0", &PatchParams::apply(manager), &Patch::Apply(&object)).await
        };
        apply("node-a", vec![evidence("node-a", "HorizontalScan")]).await?;
        apply("node-b", vec![evidence("node-b", "HorizontalScan")]).await?;
        // Each node writes its own entries again and leaves the other's alone.
        let mut more = evidence("node-a", "HorizontalScan");
        more["contacts"] = json!(99);
        let stored =
            apply("node-a", vec![more, evidence("node-a", "Mining")]).await?;
        assert_eq!(
            seen(&stored),
            [
                ("node-a".to_owned(), "HorizontalScan".to_owned(), 99),
                ("node-a".to_owned(), "Mining".to_owned(), 40),
                ("node-b".to_owned(), "HorizontalScan".to_owned(), 40),
            ]
        );
        // A human's word lands beside them, and a node that writes again does not take it away.
        let release = json!({ "spec": { "disposition": { "verdict": "Release", "decidedBy": "sam", "justification": "tests" } } });
        api.patch("agent-0", &PatchParams::default(), &Patch::Merge(&release)).await?;
        let stored = apply("node-b", vec![evidence("node-b", "HorizontalScan")]).await?;
        assert_eq!(stored.data["spec"]["disposition"]["verdict"], "Release");
        assert_eq!(seen(&stored).len(), 3);
        Ok(())
    })
    .await
}

fn seen(incident: &DynamicObject) -> Vec<(String, String, i64)> {
    let entries = incident.data["spec"]["evidence"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut seen: Vec<_> = entries
        .iter()
        .map(|entry| {
            let contacts = entry["contacts"].as_i64().unwrap_or_default();
            (
                text(&entry["observer"]),
                text(&entry["signature"]),
                contacts,
            )
        })
        .collect();
    seen.sort();
    seen
}

#[tokio::test]
async fn a_spec_writer_cannot_write_status_nor_a_status_writer_the_spec() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let api = Kind::Incident.api(&env);
        let mut object = Kind::Incident.object(
            "agent-0",
            &json!({ "subject": { "name": "a", "uid": "u" } }),
        );
        object.data["status"] = json!({ "widenedBy": ["forged"] });
        let stored = api.create(&PostParams::default(), &object).await?;
        assert!(stored.data.get("status").is_none(), "{}", stored.data);
        let both = json!({
            "spec": { "disposition": { "verdict": "Release", "decidedBy": "robot", "justification": "x" } },
            "status": { "techniques": ["T1046"] },
        });
        let stored = api
            .patch_status("agent-0", &PatchParams::default(), &Patch::Merge(&both))
            .await?;
        assert!(
            stored.data["spec"].get("disposition").is_none(),
            "{}",
            stored.data
        );
        assert_eq!(stored.data["status"]["techniques"], json!(["T1046"]));
        Ok(())
    })
    .await
}
