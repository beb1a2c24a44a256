//! What people see through kubectl: short names, categories, columns and explanations.

use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use yellowjack_e2e::{TestEnv, with_namespace};

use crate::cases::Kind;
use crate::incident::evidence;

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": "2026-01-05T10:00:00Z",
    })
}

/// A quarantined run and its Incident.
async fn store_both(env: &TestEnv) -> anyhow::Result<()> {
    let run = json!({ "target": { "selector": { "matchLabels": { "app": "agent" } } } });
    let run_status = json!({ "status": {
        "conditions": [
            condition("SignalsFresh", "True", "SourcesFresh", ""),
            condition("Suspicious", "True", "IncidentOpen", ""),
            condition("Quarantined", "True", "Verified", ""),
            condition("Ready", "False", "PodsQuarantined", "1 of 3 pods is in quarantine"),
        ],
        "pods": { "total": 3, "quarantined": 1 },
    }});
    let incident = json!({
        "run": { "name": "rogue", "uid": "u" },
        "subject": { "name": "rogue-0", "uid": "u-1" },
        "evidence": [evidence("node-a", "HorizontalScan")],
    });
    let target = json!({ "apiVersion": "v1", "kind": "Pod", "name": "rogue-0" });
    let action = |kind: &str| json!({ "type": kind, "target": target, "time": "2026-01-05T10:00:00Z", "result": "Succeeded" });
    let incident_status = json!({ "status": {
        "conditions": [
            condition("Contained", "True", "Isolated", ""),
            condition("Verified", "Unknown", "Unverified", ""),
            condition("Closed", "False", "IncidentOpen", ""),
        ],
        "actions": [action("Alert"), action("Isolate")],
    }});
    for (kind, name, spec, status) in [
        (Kind::AgentRun, "rogue", run, run_status),
        (Kind::Incident, "rogue-0-scan", incident, incident_status),
    ] {
        let api = kind.api(env);
        api.create(&PostParams::default(), &kind.object(name, &spec))
            .await?;
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await?;
    }
    Ok(())
}

/// The words of each line, without the age.
fn table(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .map(|line| {
            let mut words: Vec<_> = line.split_whitespace().collect();
            words.pop();
            words
        })
        .collect()
}

#[tokio::test]
async fn the_columns_tell_whether_a_run_is_safe() -> anyhow::Result<()> {
    with_namespace(async |env| {
        store_both(&env).await?;
        let text = env.kubectl(&["get", "ar"]).await?;
        assert_eq!(
            table(&text),
            [
                vec![
                    "NAME",
                    "READY",
                    "SUSPICIOUS",
                    "QUARANTINED",
                    "WATCHED",
                    "PODS",
                    "REASON"
                ],
                vec![
                    "rogue",
                    "False",
                    "True",
                    "True",
                    "True",
                    "3",
                    "PodsQuarantined"
                ],
            ],
            "{text}"
        );
        let text = env.kubectl(&["get", "ar", "--output=wide"]).await?;
        assert!(text.contains("POLICY"), "{text}");
        assert!(text.contains("SourcesFresh"), "{text}");
        assert!(text.contains("1 of 3 pods is in quarantine"), "{text}");
        let text = env.kubectl(&["get", "inc"]).await?;
        assert_eq!(
            table(&text),
            [
                vec![
                    "NAME",
                    "RUN",
                    "POD",
                    "SIGNATURE",
                    "CONTAINED",
                    "VERIFIED",
                    "CLOSED",
                    "LAST-ACTION"
                ],
                vec![
                    "rogue-0-scan",
                    "rogue",
                    "rogue-0",
                    "HorizontalScan",
                    "True",
                    "Unknown",
                    "False",
                    "Isolate"
                ],
            ],
            "{text}"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn short_names_and_categories_list_both_kinds() -> anyhow::Result<()> {
    with_namespace(async |env| {
        store_both(&env).await?;
        for words in ["ar,inc", "ai"] {
            let names = env.kubectl(&["get", words, "--output=name"]).await?;
            let mut names: Vec<_> = names.lines().collect();
            names.sort_unstable();
            assert_eq!(
                names,
                [
                    "agentrun.yellowjack.dev/rogue",
                    "incident.yellowjack.dev/rogue-0-scan"
                ],
                "kubectl get {words}"
            );
        }
        let kinds = env
            .kubectl(&["api-resources", "--categories=yellowjack", "--no-headers"])
            .await?;
        for part in ["ar ", "gp ", "inc "] {
            assert!(kinds.contains(part), "{kinds}");
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_wait_for_ready_ends_when_the_condition_is_true() -> anyhow::Result<()> {
    with_namespace(async |env| {
        store_both(&env).await?;
        let ready = json!({ "status": { "conditions": [condition("Ready", "True", "GuardrailsInPlace", "")] } });
        let api = Kind::AgentRun.api(&env);
        api.patch_status("rogue", &PatchParams::default(), &Patch::Merge(&ready)).await?;
        env.kubectl(&["wait", "ar/rogue", "--for=condition=Ready", "--timeout=10s"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn explain_teaches_every_field() -> anyhow::Result<()> {
    with_namespace(async |env| {
        for (path, sentence) in [
            ("agentrun.spec.network", "nothing else reaches them"),
            (
                "agentrun.spec.network.egress.cidr",
                "An IPv4 or IPv6 range in CIDR form",
            ),
            ("agentrun.spec.target", "exactly one of"),
            (
                "gp.spec.detection.minimum",
                "The laxest mode that a run may set",
            ),
            ("inc.spec.disposition", "The human's decision"),
            ("inc.status.restore", "What must be restored on release"),
        ] {
            let text = env.kubectl(&["explain", path]).await?;
            let words: Vec<_> = text.split_whitespace().collect();
            assert!(words.join(" ").contains(sentence), "{path}:\n{text}");
        }
        Ok(())
    })
    .await
}

/// A field without a description is a hole in `kubectl explain`.
#[test]
fn every_field_has_a_description() {
    fn walk(path: &str, schema: &Value, into: &mut Vec<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            for (name, property) in properties {
                let path = format!("{path}.{name}");
                let is_pods_own = path.contains(".pod.spec.");
                if property["description"].as_str().is_none_or(str::is_empty) && !is_pods_own {
                    into.push(path.clone());
                }
                walk(&path, property, into);
            }
        }
        if schema["items"].is_object() {
            walk(&format!("{path}[]"), &schema["items"], into);
        }
    }
    let mut silent = Vec::new();
    for crd in yellowjack::testing::api::crds() {
        let crd = serde_json::to_value(&crd).unwrap();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
        for part in ["spec", "status"] {
            let kind = crd["spec"]["names"]["kind"].as_str().unwrap_or_default();
            walk(
                &format!("{kind}.{part}"),
                &schema["properties"][part],
                &mut silent,
            );
        }
    }
    assert!(silent.is_empty(), "no description: {silent:#?}");
}
