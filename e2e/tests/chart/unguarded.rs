//! The control of the admission policies: without them the API server accepts the requests that they refuse.
//!
//! The requests are those of `admission` and `run_status`, by a client with every right that RBAC can give, in a cluster of
//! its own where the chart is not installed. Where one of them fails here, its refusal there shows nothing.

use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use yellowjack::testing::api::{AgentRun, Incident, labels};
use yellowjack_e2e::fixture::Fixture;
use yellowjack_e2e::{TestEnv, build, pod, with_own_cluster};

use crate::admission::{
    api, delete, dry_patch, dry_post, evidence, incident, label, make_incident, make_pods, patch,
    post, word,
};
use crate::people::agent;

#[tokio::test(flavor = "multi_thread")]
async fn without_the_admission_policies_the_same_requests_are_accepted() -> anyhow::Result<()> {
    with_own_cluster(async |env| {
        make_pods(&env).await?;
        make_incident(&env, &[evidence("node-1", "seen")]).await?;
        let agent = agent(&env).await?;
        labels_are_set_and_removed(&env, &agent).await?;
        guards_are_changed(&env, &agent).await?;
        incidents_are_changed(&env, &agent).await?;
        runs_are_created_and_changed(&env, &agent).await?;
        quarantined_pods_are_entered(&env, &agent).await
    })
    .await
}

async fn labels_are_set_and_removed(env: &TestEnv, agent: &Client) -> anyhow::Result<()> {
    patch::<Pod>(agent, env, "free", &label(Some("inc-1"))).await?;
    patch::<Pod>(agent, env, "held", &label(None)).await?;
    let pods = api::<Pod>(agent, env);
    let change = Patch::Merge(label(None));
    pods.patch_status("held", &dry_patch(), &change).await?;
    let created = pod("created", &[(labels::QUARANTINE, "")])?;
    pods.create(&dry_post(), &created).await?;
    let run = json!({ "metadata": { "labels": { labels::RUN: "lax" } } });
    patch::<Pod>(agent, env, "free", &run).await?;
    let job = json!([{ "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u-j" }]);
    let mut owned = pod("owned", &[(labels::RUN, "train")])?;
    owned.metadata.owner_references = Some(serde_json::from_value(job)?);
    // The garbage collector would delete the pod of an owner that does not exist.
    owned.metadata.finalizers = Some(vec!["test.example/keep".to_owned()]);
    env.api::<Pod>()
        .create(&PostParams::default(), &owned)
        .await?;
    let no_owner = json!({ "metadata": { "ownerReferences": null } });
    patch::<Pod>(agent, env, "owned", &no_owner).await?;
    let freed = json!({ "metadata": { "finalizers": null } });
    env.patch::<Pod>("owned", &freed).await.map(drop)
}

async fn guards_are_changed(env: &TestEnv, agent: &Client) -> anyhow::Result<()> {
    let ours = json!({ labels::MANAGED_BY: labels::MANAGED_BY_VALUE });
    let policy = |name: &str| -> anyhow::Result<NetworkPolicy> {
        let object = json!({
            "metadata": { "name": name, "labels": ours },
            "spec": { "podSelector": {}, "policyTypes": ["Egress"] },
        });
        Ok(serde_json::from_value(object)?)
    };
    let quota = json!({ "metadata": { "name": "guard", "labels": ours }, "spec": { "hard": { "pods": "5" } } });
    let quota: ResourceQuota = serde_json::from_value(quota)?;
    let params = PostParams::default();
    env.api().create(&params, &policy("guard")?).await?;
    env.api().create(&params, &quota).await?;
    let wide = json!({ "spec": { "egress": [{}] } });
    patch::<NetworkPolicy>(agent, env, "guard", &wide).await?;
    let more = json!({ "spec": { "hard": { "pods": "500" } } });
    patch::<ResourceQuota>(agent, env, "guard", &more).await?;
    delete(agent, env, "guard").await?;
    let foreign = policy("yellowjack-quarantine")?;
    let policies = api::<NetworkPolicy>(agent, env);
    policies.create(&dry_post(), &foreign).await?;
    Ok(())
}

async fn incidents_are_changed(env: &TestEnv, agent: &Client) -> anyhow::Result<()> {
    let forged = incident("forged", &[evidence("node-1", "invented")]);
    let forged: Incident = serde_json::from_value(forged)?;
    let incidents = api::<Incident>(agent, env);
    incidents.create(&dry_post(), &forged).await?;
    let owner = json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "u-gone" });
    for change in [
        json!({ "spec": { "evidence": [evidence("node-1", "nothing")] } }),
        json!({ "metadata": { "ownerReferences": [owner] } }),
        json!({ "metadata": { "finalizers": ["test.example/keep"] } }),
        word(),
    ] {
        patch::<Incident>(agent, env, "inc-1", &change).await?;
    }
    let closed = json!({ "status": { "closedAt": "2026-01-05T10:00:30.000000Z" } });
    let closed = Patch::Merge(&closed);
    incidents
        .patch_status("inc-1", &dry_patch(), &closed)
        .await?;
    let params = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    incidents.delete("inc-1", &params).await?;
    Ok(())
}

async fn runs_are_created_and_changed(env: &TestEnv, agent: &Client) -> anyhow::Result<()> {
    let runs: Api<AgentRun> = api(agent, env);
    let run = build::agent_run("run", build::template_target(), json!({}))?;
    runs.create(&PostParams::default(), &run).await?;
    let status = json!({ "status": { "podAddresses": { "pods": 1, "addresses": ["10.0.0.1"] } } });
    let status = Patch::Merge(&status);
    runs.patch_status("run", &dry_patch(), &status).await?;
    Ok(())
}

/// The requests get as far as the pod, which no kubelet runs here.
async fn quarantined_pods_are_entered(env: &TestEnv, agent: &Client) -> anyhow::Result<()> {
    let namespace = format!("/api/v1/namespaces/{}", env.namespace);
    for path in [
        "pods/held/exec?command=sh&stdout=true",
        "pods/held/attach?stdout=true",
        "pods/held/portforward?ports=80",
        "pods/held/proxy/",
        "pods/held:8080/proxy/",
        "services/any:80/proxy/",
    ] {
        let answer = post(agent, &format!("{namespace}/{path}"), &Value::Null).await;
        let error = answer.err().map(|error| error.to_string());
        let error = error.unwrap_or_default();
        anyhow::ensure!(
            !error.is_empty() && !error.contains("quarantine"),
            "{path}: {error}"
        );
    }
    let debug = json!({ "spec": { "ephemeralContainers": [{ "name": "debug", "image": "registry.invalid/debug:1" }] } });
    let pods = api::<Pod>(agent, env);
    let change = Patch::Strategic(&debug);
    pods.patch_subresource("ephemeralcontainers", "held", &dry_patch(), &change)
        .await?;
    Ok(())
}
