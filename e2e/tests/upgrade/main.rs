//! Incidents that an older version stored, under the CRD of today. The older CRD is in incidents-before.yaml, as it
//! was before fields of evidence, dispositions and restore entries were renamed.

#![allow(
    clippy::indexing_slicing,
    reason = "reading a JSON value by a missing key gives null"
)]

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use yellowjack::testing::api::{EvidenceEntry, Incident, condition_of, labels};
use yellowjack_e2e::{TestEnv, install_crds, pod, wait_for, with_own_cluster};

const BEFORE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/tests/upgrade/incidents-before.yaml"
);

const NAME: &str = "inc-1";

/// A loaded machine is slow.
const LIMIT: Duration = Duration::from_mins(2);

/// The API of Incidents without the types of today.
fn incidents(env: &TestEnv) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("yellowjack.dev", "v1alpha1", "Incident");
    let resource = ApiResource::from_gvk_with_plural(&kind, "incidents");
    Api::namespaced_with(env.client.clone(), &env.namespace, &resource)
}

fn entry(key: &str, observer: &str, signature: &str, contacts: i64) -> Value {
    json!({
        key: observer, "signature": signature, "severity": "Quarantine", "score": 21.5, "threshold": 20.0,
        "firstSeen": "2026-01-05T10:00:00Z", "lastSeen": "2026-01-05T10:00:09Z", "contacts": contacts,
        "summary": "s",
    })
}

fn former_entry(observer: &str, signature: &str, contacts: i64) -> Value {
    let mut entry = entry("node", observer, signature, contacts);
    entry["against"] = json!(["it may be a test"]);
    entry["course"] = json!([
        { "time": "2026-01-05T10:00:09.000000Z", "contacts": contacts, "score": 21.5, "threshold": 20.0 },
    ]);
    entry
}

/// A server-side apply of one observer's evidence, as agents write it.
async fn apply(
    env: &TestEnv,
    observer: &str,
    entry: &Value,
    dry_run: bool,
) -> kube::Result<DynamicObject> {
    let params = PatchParams {
        dry_run,
        ..PatchParams::apply(&format!("yellowjack/evidence-{observer}")).force()
    };
    let object = json!({
        "apiVersion": "yellowjack.dev/v1alpha1", "kind": "Incident", "metadata": { "name": NAME },
        "spec": { "subject": { "name": "rogue", "uid": "u-1" }, "evidence": [entry] },
    });
    incidents(env)
        .patch(NAME, &params, &Patch::Apply(&object))
        .await
}

/// Waits until the API server takes entries under this name of the key.
async fn takes(env: &TestEnv, key: &str) -> anyhow::Result<()> {
    wait_for(&format!("a schema with {key}"), LIMIT, async || {
        let entry = entry(key, "n0", "Mining", 1);
        let stored = apply(env, "n0", &entry, true)
            .await
            .map_err(|error| error.to_string())?;
        let entries = stored.data["spec"]["evidence"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let is_kept = entries.iter().any(|entry| entry[key] == "n0");
        is_kept.then_some(()).ok_or_else(|| stored.data.to_string())
    })
    .await
}

async fn install_former_crd(env: &TestEnv) -> anyhow::Result<()> {
    let arguments = [
        "apply",
        "--server-side",
        "--force-conflicts",
        "--filename",
        BEFORE,
    ];
    env.kubectl(&arguments).await?;
    takes(env, "node").await
}

/// A suspended Job, its isolated pod, and the Incident of the older version that holds both.
async fn hold(env: &TestEnv) -> anyhow::Result<()> {
    let job: Job = serde_json::from_value(json!({
        "metadata": { "name": "train" },
        "spec": { "suspend": true, "template": { "spec": {
            "restartPolicy": "Never", "containers": [{ "name": "a", "image": "registry.invalid/a:1" }],
        }}},
    }))?;
    let job = env
        .api::<Job>()
        .create(&PostParams::default(), &job)
        .await?;
    let rogue = pod("rogue", &[(labels::QUARANTINE, NAME)])?;
    env.api::<Pod>()
        .create(&PostParams::default(), &rogue)
        .await?;
    apply(env, "n1", &former_entry("n1", "HorizontalScan", 40), false).await?;
    let condition = |kind: &str, status: &str, reason: &str| {
        json!({ "type": kind, "status": status, "reason": reason, "message": "m",
                "lastTransitionTime": "2026-01-05T10:00:10Z" })
    };
    let status = json!({ "status": {
        "conditions": [
            condition("Detected", "True", "FindingCrossed"),
            condition("Contained", "True", "OwnerSuspended"),
            condition("Verified", "Unknown", "OpenConnectionsUnseen"),
            condition("Closed", "False", "AwaitingHuman"),
        ],
        "restore": [{
            "target": { "apiVersion": "batch/v1", "kind": "Job", "name": "train", "uid": job.uid() },
            "field": "/spec/suspend", "before": false, "set": true,
        }],
    }});
    incidents(env)
        .patch_status(NAME, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    Ok(())
}

async fn evidence(env: &TestEnv) -> anyhow::Result<Vec<(String, String, i64)>> {
    let stored: Incident = env.api().get(NAME).await?;
    let seen = |entry: &EvidenceEntry| {
        (
            entry.observer.clone(),
            entry.signature.clone(),
            entry.contacts,
        )
    };
    let mut found: Vec<_> = stored.spec.evidence.iter().map(seen).collect();
    found.sort();
    Ok(found)
}

#[tokio::test]
async fn an_open_incident_of_the_version_before_is_read_written_and_released() -> anyhow::Result<()>
{
    with_own_cluster(async |env| {
        install_former_crd(&env).await?;
        hold(&env).await?;
        install_crds(&env.client).await?;
        takes(&env, "observer").await?;

        // While the agents are replaced, those of both versions write.
        apply(&env, "n2", &former_entry("n2", "Mining", 3), false).await?;
        apply(
            &env,
            "n1",
            &entry("observer", "n1", "HorizontalScan", 60),
            false,
        )
        .await?;
        let scan = ("n1".to_owned(), "HorizontalScan".to_owned(), 60);
        let mining = ("n2".to_owned(), "Mining".to_owned(), 3);
        assert_eq!(evidence(&env).await?, [scan, mining]);

        let kubeconfig = env.cluster.kubeconfig().to_owned();
        let arguments = [
            "controller",
            "--namespace",
            &env.namespace,
            "--listen",
            "127.0.0.1:0",
        ];
        let _operator = env.operator(&kubeconfig, &arguments).await?;
        let word = json!({ "spec": { "disposition": {
            "verdict": "Release", "decidedBy": "ana@example.com", "justification": "a test",
        }}});
        let patch = Patch::Merge(&word);
        incidents(&env)
            .patch(NAME, &PatchParams::default(), &patch)
            .await?;
        wait_for("the Incident to be closed", LIMIT, async || {
            let stored: Incident = env
                .api()
                .get(NAME)
                .await
                .map_err(|error| error.to_string())?;
            let conditions = stored
                .status
                .map(|status| status.conditions)
                .unwrap_or_default();
            let closed =
                condition_of(&conditions, "Closed").is_some_and(|one| one.reason == "Released");
            closed
                .then_some(())
                .ok_or_else(|| format!("{conditions:?}"))
        })
        .await?;
        let job: Job = env.api().get("train").await?;
        assert_eq!(job.spec.context("no spec")?.suspend, Some(false));
        let rogue: Pod = env.api().get("rogue").await?;
        assert!(
            !rogue.labels().contains_key(labels::QUARANTINE),
            "{:?}",
            rogue.labels()
        );
        Ok(())
    })
    .await
}
