//! Guardrails against the real API server: made, repaired, removed, never taken from others, and
//! quiet at rest. Each test runs the operator itself.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{LimitRange, Pod, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use serde_json::{Value, json};
use yellowjack::testing::api::{AgentRun, GuardrailPolicy, condition_of, labels};
use yellowjack_e2e::{Operator, TestEnv, pod, wait_for, with_namespace};

const LIMIT: Duration = Duration::from_secs(30);

/// The garbage collector looks for new kinds of owners every 30 s.
const COLLECTED_LIMIT: Duration = Duration::from_secs(100);

async fn operator(env: &TestEnv) -> anyhow::Result<Operator> {
    env.operator(
        env.cluster.kubeconfig(),
        &["controller", "--log", "yellowjack=debug"],
    )
    .await
}

async fn create_run(env: &TestEnv, name: &str, spec: Value) -> anyhow::Result<AgentRun> {
    let run: AgentRun = serde_json::from_value(json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "AgentRun",
        "metadata": { "name": name },
        "spec": spec,
    }))?;
    env.api::<AgentRun>()
        .create(&PostParams::default(), &run)
        .await
        .with_context(|| format!("failed to create the AgentRun {name}"))
}

fn by_label(app: &str) -> Value {
    json!({ "selector": { "matchLabels": { "app": app } } })
}

fn template() -> Value {
    json!({ "template": { "pod": { "spec": {
        "containers": [{ "name": "agent", "image": "registry.invalid/agent:1" }],
    } } } })
}

/// Waits until a condition of the run has this status and reason, and returns its message.
async fn wait_condition(
    env: &TestEnv,
    run: &str,
    condition: &str,
    status: &str,
    reason: &str,
) -> anyhow::Result<String> {
    let api = env.api::<AgentRun>();
    let what = format!("{condition}={status} ({reason}) on {run}");
    wait_for(&what, LIMIT, async || {
        let run = api.get(run).await.map_err(|error| error.to_string())?;
        let conditions = run.status.unwrap_or_default().conditions;
        let found = condition_of(&conditions, condition).cloned();
        match found {
            Some(c) if c.status == status && c.reason == reason => Ok(c.message),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

async fn wait_object<K>(env: &TestEnv, name: &str, is_right: fn(&K) -> bool) -> anyhow::Result<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api = env.api::<K>();
    wait_for(&format!("{} {name}", K::kind(&())), LIMIT, async || {
        let object = api.get(name).await.map_err(|error| error.to_string())?;
        if is_right(&object) {
            Ok(object)
        } else {
            Err(format!("{object:?}"))
        }
    })
    .await
}

async fn wait_gone<K>(env: &TestEnv, name: &str) -> anyhow::Result<()>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    let api = env.api::<K>();
    wait_for(
        &format!("{} {name} to go", K::kind(&())),
        COLLECTED_LIMIT,
        async || match api.get_opt(name).await {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err("still there".to_owned()),
            Err(error) => Err(error.to_string()),
        },
    )
    .await
}

async fn patch<K>(env: &TestEnv, name: &str, patch: Value) -> anyhow::Result<()>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    env.api::<K>()
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .map(drop)
        .with_context(|| format!("failed to patch {name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_gets_its_guardrails_and_becomes_ready() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let _operator = operator(&env).await?;
        let spec = json!({
            "target": by_label("agent"),
            "network": { "egress": [{ "cidr": "0.0.0.0/0", "ports": [{ "port": 443 }] }] },
            "resources": {
                "quota": { "hard": { "pods": "4", "requests.cpu": "4000m" } },
                "defaults": { "requests": { "cpu": "500m" }, "limits": { "cpu": "1" } },
            },
        });
        create_run(&env, "train", spec).await?;
        env.api::<Pod>()
            .create(&PostParams::default(), &pod("p", &[("app", "agent")])?)
            .await?;
        wait_condition(&env, "train", "Ready", "True", "GuardrailsInPlace").await?;
        wait_condition(&env, "train", "QuotaBound", "True", "QuotaEnforced").await?;
        let guard = wait_object::<NetworkPolicy>(&env, "yellowjack-run-train", |_| true).await?;
        let spec = serde_json::to_value(guard.spec)?;
        let block = &spec["egress"][1]["to"][0]["ipBlock"];
        let except = block["except"].as_array().context("exceptions")?;
        anyhow::ensure!(except.contains(&json!("169.254.0.0/16")), "{block}");
        wait_object::<NetworkPolicy>(&env, labels::STANDING_DENY, |_| true).await?;
        wait_object::<LimitRange>(&env, "yellowjack-run-train", |_| true).await?;
        // kstatus: a wait for Ready works with kubectl.
        env.kubectl(&[
            "wait",
            "--for=condition=Ready",
            "agentrun/train",
            "--timeout=10s",
        ])
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn drift_is_repaired_whoever_made_it() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let _operator = operator(&env).await?;
        let spec = json!({
            "target": by_label("agent"),
            "resources": { "quota": { "hard": { "pods": "4" } } },
        });
        create_run(&env, "train", spec).await?;
        let name = "yellowjack-run-train";
        wait_object::<NetworkPolicy>(&env, name, |_| true).await?;
        wait_object::<ResourceQuota>(&env, name, |_| true).await?;
        // Into lists that we apply, and beside ours.
        patch::<NetworkPolicy>(&env, name, json!({ "spec": { "ingress": [{}] } })).await?;
        wait_object::<NetworkPolicy>(&env, name, |policy| {
            let spec = policy.spec.clone().unwrap_or_default();
            let rules = spec.ingress.unwrap_or_default();
            !rules.is_empty() && rules.iter().all(|rule| rule.from.is_some())
        })
        .await?;
        patch::<NetworkPolicy>(&env, name, json!({ "spec": { "egress": [{}] } })).await?;
        wait_object::<NetworkPolicy>(&env, name, |policy| {
            let spec = policy.spec.clone().unwrap_or_default();
            spec.egress
                .unwrap_or_default()
                .iter()
                .all(|rule| rule.to.is_some())
        })
        .await?;
        patch::<ResourceQuota>(&env, name, json!({ "spec": { "hard": { "pods": "400" } } }))
            .await?;
        wait_object::<ResourceQuota>(&env, name, |quota| {
            let hard = quota
                .spec
                .clone()
                .unwrap_or_default()
                .hard
                .unwrap_or_default();
            hard.get("pods").is_some_and(|amount| amount.0 == "4")
        })
        .await?;
        let scope = json!({ "spec": { "scopeSelector": { "matchExpressions": [
            { "scopeName": "PriorityClass", "operator": "In", "values": ["nobody"] }
        ] } } });
        patch::<ResourceQuota>(&env, name, scope).await?;
        wait_object::<ResourceQuota>(&env, name, |quota| {
            let selector = quota.spec.clone().unwrap_or_default().scope_selector;
            selector
                .unwrap_or_default()
                .match_expressions
                .unwrap_or_default()
                .is_empty()
        })
        .await?;
        env.api::<NetworkPolicy>()
            .delete(labels::STANDING_DENY, &DeleteParams::default())
            .await?;
        wait_object::<NetworkPolicy>(&env, labels::STANDING_DENY, |_| true).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn guardrails_that_are_no_longer_wanted_go_and_quota_keys_with_them() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let _operator = operator(&env).await?;
        let spec = json!({
            "target": by_label("agent"),
            "resources": { "quota": { "hard": { "pods": "4", "requests.cpu": "1" } } },
        });
        create_run(&env, "train", spec).await?;
        let name = "yellowjack-run-train";
        wait_object::<ResourceQuota>(&env, name, |_| true).await?;
        let fewer =
            json!({ "spec": { "resources": { "quota": { "hard": { "requests.cpu": null } } } } });
        patch::<AgentRun>(&env, "train", fewer).await?;
        wait_object::<ResourceQuota>(&env, name, |quota| {
            let hard = quota
                .spec
                .clone()
                .unwrap_or_default()
                .hard
                .unwrap_or_default();
            hard.len() == 1 && hard.contains_key("pods")
        })
        .await?;
        patch::<AgentRun>(
            &env,
            "train",
            json!({ "spec": { "resources": { "quota": null } } }),
        )
        .await?;
        wait_gone::<ResourceQuota>(&env, name).await?;
        env.api::<AgentRun>()
            .delete("train", &DeleteParams::default())
            .await?;
        wait_gone::<NetworkPolicy>(&env, name).await?;
        // It outlives the runs: deleting one lifts no quarantine.
        wait_object::<NetworkPolicy>(&env, labels::STANDING_DENY, |_| true).await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_others_are_left_exactly_as_they_are() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let theirs: NetworkPolicy = serde_json::from_value(json!({
            "metadata": { "name": "yellowjack-run-train", "labels": { "team": "web" } },
            "spec": { "podSelector": { "matchLabels": { "app": "web" } }, "policyTypes": ["Ingress"] },
        }))?;
        let theirs = env.api().create(&PostParams::default(), &theirs).await?;
        let quota: ResourceQuota = serde_json::from_value(json!({
            "metadata": { "name": "yellowjack-run-train" },
            "spec": { "hard": { "pods": "100" } },
        }))?;
        let quota = env.api().create(&PostParams::default(), &quota).await?;
        let _operator = operator(&env).await?;
        let spec = json!({
            "target": by_label("agent"),
            "resources": { "quota": { "hard": { "pods": "4" } } },
        });
        create_run(&env, "train", spec).await?;
        wait_condition(&env, "train", "NetworkGuarded", "False", "NameConflict").await?;
        wait_condition(&env, "train", "QuotaBound", "False", "NameConflict").await?;
        wait_condition(&env, "train", "Stalled", "True", "NameConflict").await?;
        let after = env.api::<NetworkPolicy>().get("yellowjack-run-train").await?;
        anyhow::ensure!(after.metadata == theirs.metadata && after.spec == theirs.spec);
        let after = env.api::<ResourceQuota>().get("yellowjack-run-train").await?;
        anyhow::ensure!(after.spec == quota.spec && after.metadata.labels == quota.metadata.labels);
        anyhow::ensure!(after.metadata.owner_references == quota.metadata.owner_references);
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_starts_behind_its_guardrails_and_stays_down_when_a_human_says_so()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        let _operator = operator(&env).await?;
        create_run(&env, "train", json!({ "target": template() })).await?;
        let name = "yellowjack-run-train";
        let job = wait_object::<Job>(&env, name, |job| {
            job.spec.as_ref().and_then(|spec| spec.suspend) == Some(false)
        })
        .await?;
        let annotations = job.metadata.annotations.unwrap_or_default();
        anyhow::ensure!(annotations.contains_key(labels::STARTED_AT));
        wait_condition(&env, "train", "Ready", "True", "GuardrailsInPlace").await?;
        wait_for("a pod that carries the run", LIMIT, async || {
            let pods = env
                .api::<Pod>()
                .list(&kube::api::ListParams::default().labels("yellowjack.dev/run=train"))
                .await
                .map_err(|error| error.to_string())?;
            pods.items
                .first()
                .map(drop)
                .ok_or_else(|| "no pod".to_owned())
        })
        .await?;
        patch::<Job>(&env, name, json!({ "spec": { "suspend": true } })).await?;
        // Something that the controller answers after it saw the suspension.
        create_run(&env, "other", json!({ "target": by_label("other") })).await?;
        wait_condition(&env, "other", "Accepted", "True", "Valid").await?;
        patch::<AgentRun>(
            &env,
            "train",
            json!({ "spec": { "response": { "scope": "Run" } } }),
        )
        .await?;
        wait_for("the new generation to be observed", LIMIT, async || {
            let run = env
                .api::<AgentRun>()
                .get("train")
                .await
                .map_err(|e| e.to_string())?;
            let observed = run.status.and_then(|status| status.observed_generation);
            (observed == run.metadata.generation)
                .then_some(())
                .ok_or_else(|| format!("{observed:?}"))
        })
        .await?;
        let job = env.api::<Job>().get(name).await?;
        anyhow::ensure!(job.spec.and_then(|spec| spec.suspend) == Some(true));
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_waits_while_another_policy_widens_it() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let wide: NetworkPolicy = serde_json::from_value(json!({
            "metadata": { "name": "allow-all" },
            "spec": { "podSelector": {}, "policyTypes": ["Egress"], "egress": [{}] },
        }))?;
        env.api().create(&PostParams::default(), &wide).await?;
        let _operator = operator(&env).await?;
        create_run(&env, "train", json!({ "target": template() })).await?;
        let said = wait_condition(&env, "train", "NetworkGuarded", "False", "UnionWidened").await?;
        anyhow::ensure!(said.contains("allow-all"), "{said}");
        let job = wait_object::<Job>(&env, "yellowjack-run-train", |_| true).await?;
        anyhow::ensure!(job.spec.and_then(|spec| spec.suspend) == Some(true));
        env.api::<NetworkPolicy>()
            .delete("allow-all", &DeleteParams::default())
            .await?;
        wait_object::<Job>(&env, "yellowjack-run-train", |job| {
            job.spec.as_ref().and_then(|spec| spec.suspend) == Some(false)
        })
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_between_the_pods_of_a_run_is_no_hole_unless_the_run_keeps_them_apart()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        // What a Ray cluster needs under a namespace-wide deny.
        let internal: NetworkPolicy = serde_json::from_value(json!({
            "metadata": { "name": "ray-internal" },
            "spec": {
                "podSelector": { "matchLabels": { "app": "agent" } },
                "policyTypes": ["Ingress"],
                "ingress": [{ "from": [{ "podSelector": { "matchLabels": { "app": "agent" } } }] }],
            },
        }))?;
        env.api().create(&PostParams::default(), &internal).await?;
        let _operator = operator(&env).await?;
        create_run(&env, "train", json!({ "target": by_label("agent") })).await?;
        env.api::<Pod>()
            .create(&PostParams::default(), &pod("p", &[("app", "agent")])?)
            .await?;
        wait_condition(&env, "train", "Ready", "True", "GuardrailsInPlace").await?;
        let apart = json!({ "spec": { "network": { "allowWithinRun": false } } });
        patch::<AgentRun>(&env, "train", apart).await?;
        let said = wait_condition(&env, "train", "NetworkGuarded", "False", "UnionWidened").await?;
        anyhow::ensure!(said.contains("ray-internal"), "{said}");
        // Accepted on purpose by whoever writes the policies.
        let policy: GuardrailPolicy = serde_json::from_value(json!({
            "apiVersion": "yellowjack.dev/v1alpha1",
            "kind": "GuardrailPolicy",
            "metadata": { "name": env.namespace },
            "spec": { "network": { "acceptedPolicies": ["ray-internal"] } },
        }))?;
        let policies: Api<GuardrailPolicy> = Api::all(env.client.clone());
        policies.create(&PostParams::default(), &policy).await?;
        let spec = json!({
            "target": by_label("agent"),
            "policy": env.namespace,
            "network": { "allowWithinRun": false },
        });
        env.api::<AgentRun>()
            .delete("train", &DeleteParams::default())
            .await?;
        create_run(&env, "again", spec).await?;
        let said = wait_condition(&env, "again", "NetworkGuarded", "True", "PoliciesApplied").await;
        policies
            .delete(&env.namespace, &DeleteParams::default())
            .await?;
        let said = said?;
        anyhow::ensure!(said.contains("accepts: ray-internal"), "{said}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_stamps_the_pods_of_its_job_and_two_runs_on_one_job_say_so()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        let _operator = operator(&env).await?;
        let target = json!({ "ref": { "apiVersion": "batch/v1", "kind": "Job", "name": "work" } });
        create_run(&env, "first", json!({ "target": target })).await?;
        wait_condition(&env, "first", "TargetResolved", "False", "TargetNotFound").await?;
        let job: Job = serde_json::from_value(json!({
            "metadata": { "name": "work" },
            "spec": { "template": { "spec": {
                "restartPolicy": "Never",
                "containers": [{ "name": "agent", "image": "registry.invalid/agent:1" }],
            } } },
        }))?;
        env.api().create(&PostParams::default(), &job).await?;
        wait_condition(&env, "first", "Ready", "True", "GuardrailsInPlace").await?;
        let stamped = kube::api::ListParams::default().labels("yellowjack.dev/run=first");
        wait_for("the stamp", LIMIT, async || {
            let pods = env
                .api::<Pod>()
                .list(&stamped)
                .await
                .map_err(|e| e.to_string())?;
            pods.items
                .first()
                .map(drop)
                .ok_or_else(|| "no pod".to_owned())
        })
        .await?;
        create_run(&env, "second", json!({ "target": target })).await?;
        for run in ["first", "second"] {
            let said = wait_condition(&env, run, "TargetResolved", "False", "Overlap").await?;
            anyhow::ensure!(said.contains("first and second"), "{said}");
        }
        let pods = env.api::<Pod>().list(&stamped).await?;
        anyhow::ensure!(pods.items.len() == 1, "the stamp is left as it was");
        env.api::<AgentRun>()
            .delete("second", &DeleteParams::default())
            .await?;
        wait_condition(&env, "first", "Ready", "True", "GuardrailsInPlace").await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_finds_pods_through_kinds_that_this_build_does_not_know() -> anyhow::Result<()>
{
    with_namespace(async |env| {
        let _operator = operator(&env).await?;
        // Any kind will do that the controller holds no store of: a Deployment over a ReplicaSet.
        let target = json!({ "ref": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "agents" } });
        create_run(&env, "train", json!({ "target": target })).await?;
        let resource = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk("apps", "v1", "Deployment"));
        let api: Api<DynamicObject> = Api::namespaced_with(env.client.clone(), &env.namespace, &resource);
        let deployment: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": "agents" },
            "spec": {
                "selector": { "matchLabels": { "app": "agent" } },
                "template": {
                    "metadata": { "labels": { "app": "agent" } },
                    "spec": { "containers": [{ "name": "agent", "image": "registry.invalid/agent:1" }] },
                },
            },
        }))?;
        api.create(&PostParams::default(), &deployment).await?;
        wait_for("a pod of the Deployment with the run's label", LIMIT, async || {
            let ours = kube::api::ListParams::default().labels("app=agent,yellowjack.dev/run=train");
            let pods = env.api::<Pod>().list(&ours).await.map_err(|e| e.to_string())?;
            pods.items.first().map(drop).ok_or_else(|| "no pod".to_owned())
        })
        .await?;
        wait_condition(&env, "train", "TargetResolved", "True", "Resolved").await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_the_allow_list_is_refused_with_a_reason() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let _operator = operator(&env).await?;
        let spec = json!({
            "target": by_label("agent"),
            "network": { "egress": [{ "fqdn": "pypi.org" }] },
        });
        create_run(&env, "train", spec).await?;
        let said = wait_condition(&env, "train", "Accepted", "False", "FqdnNotEnforceable").await?;
        anyhow::ensure!(said.contains("pypi.org"), "{said}");
        wait_condition(&env, "train", "Ready", "False", "GuardrailsIncomplete").await?;
        Ok(())
    })
    .await
}
