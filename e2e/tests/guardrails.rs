//! Guardrails against the real API server: made, repaired, removed, never taken from others, and
//! quiet at rest. Each test runs the operator itself.

use anyhow::Context;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{LimitRange, Pod, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::ApiResource;
use serde_json::json;
use yellowjack::testing::api::{AgentRun, GuardrailPolicy, labels};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::Fixture;
use yellowjack_e2e::{Operator, TestEnv, with_namespace};

async fn operator(env: &TestEnv) -> anyhow::Result<Operator> {
    env.operator(
        env.cluster.kubeconfig(),
        &["controller", "--log", "yellowjack=debug"],
    )
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_gets_its_guardrails_and_becomes_ready() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let _operator = operator(&env).await?;
        let spec = json!({
            "network": { "egress": [{ "cidr": "0.0.0.0/0", "ports": [{ "port": 443 }] }] },
            "resources": {
                "quota": { "hard": { "pods": "4", "requests.cpu": "4000m" } },
                "defaults": { "requests": { "cpu": "500m" }, "limits": { "cpu": "1" } },
            },
        });
        let target = build::pods_with_app("agent");
        env.create_run_for("train", target, spec).await?;
        env.create(&build::pod("p", &[("app", "agent")])?).await?;
        env.run_condition("train", "Ready", "True", "GuardrailsInPlace")
            .await?;
        env.run_condition("train", "QuotaBound", "True", "QuotaEnforced")
            .await?;
        let guard = env
            .until::<NetworkPolicy>("yellowjack-run-train", "to exist", |_| true)
            .await?;
        let spec = serde_json::to_value(guard.spec)?;
        let block = &spec["egress"][1]["to"][0]["ipBlock"];
        let except = block["except"].as_array().context("exceptions")?;
        anyhow::ensure!(except.contains(&json!("169.254.0.0/16")), "{block}");
        env.until::<NetworkPolicy>(labels::STANDING_DENY, "to exist", |_| true)
            .await?;
        env.until::<LimitRange>("yellowjack-run-train", "to exist", |_| true)
            .await?;
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
            "resources": { "quota": { "hard": { "pods": "4" } } },
        });
        let target = build::pods_with_app("agent");
        env.create_run_for("train", target, spec).await?;
        let name = "yellowjack-run-train";
        env.until::<NetworkPolicy>(name, "to exist", |_| true)
            .await?;
        env.until::<ResourceQuota>(name, "to exist", |_| true)
            .await?;
        // Into lists that we apply, and beside ours.
        env.patch::<NetworkPolicy>(name, &json!({ "spec": { "ingress": [{}] } }))
            .await?;
        env.until::<NetworkPolicy>(name, "only rules of the run in ingress", |policy| {
            let spec = policy.spec.clone().unwrap_or_default();
            let rules = spec.ingress.unwrap_or_default();
            !rules.is_empty() && rules.iter().all(|rule| rule.from.is_some())
        })
        .await?;
        env.patch::<NetworkPolicy>(name, &json!({ "spec": { "egress": [{}] } }))
            .await?;
        env.until::<NetworkPolicy>(name, "only rules of the run in egress", |policy| {
            let spec = policy.spec.clone().unwrap_or_default();
            spec.egress
                .unwrap_or_default()
                .iter()
                .all(|rule| rule.to.is_some())
        })
        .await?;
        env.patch::<ResourceQuota>(name, &json!({ "spec": { "hard": { "pods": "400" } } }))
            .await?;
        env.until::<ResourceQuota>(name, "pods=4", |quota| {
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
        env.patch::<ResourceQuota>(name, &scope).await?;
        env.until::<ResourceQuota>(name, "no scope", |quota| {
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
        env.until::<NetworkPolicy>(labels::STANDING_DENY, "to exist", |_| true)
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn guardrails_that_are_no_longer_wanted_go_and_quota_keys_with_them() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let _operator = operator(&env).await?;
        let spec = json!({
            "resources": { "quota": { "hard": { "pods": "4", "requests.cpu": "1" } } },
        });
        let target = build::pods_with_app("agent");
        env.create_run_for("train", target, spec).await?;
        let name = "yellowjack-run-train";
        env.until::<ResourceQuota>(name, "to exist", |_| true)
            .await?;
        let fewer =
            json!({ "spec": { "resources": { "quota": { "hard": { "requests.cpu": null } } } } });
        env.patch::<AgentRun>("train", &fewer).await?;
        env.until::<ResourceQuota>(name, "pods alone", |quota| {
            let hard = quota
                .spec
                .clone()
                .unwrap_or_default()
                .hard
                .unwrap_or_default();
            hard.len() == 1 && hard.contains_key("pods")
        })
        .await?;
        env.patch::<AgentRun>(
            "train",
            &json!({ "spec": { "resources": { "quota": null } } }),
        )
        .await?;
        env.until_gone::<ResourceQuota>(name).await?;
        env.api::<AgentRun>()
            .delete("train", &DeleteParams::default())
            .await?;
        env.until_gone::<NetworkPolicy>(name).await?;
        // It outlives the runs: deleting one lifts no quarantine.
        env.until::<NetworkPolicy>(labels::STANDING_DENY, "to exist", |_| true)
            .await?;
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
        let theirs = env.create(&theirs).await?;
        let quota: ResourceQuota = serde_json::from_value(json!({
            "metadata": { "name": "yellowjack-run-train" },
            "spec": { "hard": { "pods": "100" } },
        }))?;
        let quota = env.create(&quota).await?;
        let _operator = operator(&env).await?;
        let spec = json!({
            "resources": { "quota": { "hard": { "pods": "4" } } },
        });
let target = build::pods_with_app("agent");
env.create_run_for("train", target, spec).await?;
        env.run_condition("train", "NetworkGuarded", "False", "NameConflict").await?;
        env.run_condition("train", "QuotaBound", "False", "NameConflict").await?;
        env.run_condition("train", "Stalled", "True", "NameConflict").await?;
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
        env.create_run_for("train", build::template_target(), json!({}))
            .await?;
        let name = "yellowjack-run-train";
        let job = env
            .until::<Job>(name, "suspend=false", |job| {
                job.spec.as_ref().and_then(|spec| spec.suspend) == Some(false)
            })
            .await?;
        let annotations = job.metadata.annotations.unwrap_or_default();
        anyhow::ensure!(annotations.contains_key(labels::STARTED_AT));
        env.run_condition("train", "Ready", "True", "GuardrailsInPlace")
            .await?;
        env.until_pod_with("yellowjack.dev/run=train", |_| true)
            .await?;
        env.patch::<Job>(name, &json!({ "spec": { "suspend": true } }))
            .await?;
        // Something that the controller answers after it saw the suspension.
        env.create_run_for("other", build::pods_with_app("other"), json!({}))
            .await?;
        env.run_condition("other", "Accepted", "True", "Valid")
            .await?;
        env.patch::<AgentRun>(
            "train",
            &json!({ "spec": { "response": { "scope": "Run" } } }),
        )
        .await?;
        env.until::<AgentRun>("train", "the new generation to be observed", |run| {
            let status = run.status.as_ref();
            status.and_then(|status| status.observed_generation) == run.metadata.generation
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
        env.create_network_policy(
            "allow-all",
            json!({ "policyTypes": ["Egress"], "egress": [{}] }),
        )
        .await?;
        let _operator = operator(&env).await?;
        env.create_run_for("train", build::template_target(), json!({}))
            .await?;
        let said = env
            .run_condition("train", "NetworkGuarded", "False", "UnionWidened")
            .await?;
        anyhow::ensure!(said.contains("allow-all"), "{said}");
        let job = env
            .until::<Job>("yellowjack-run-train", "to exist", |_| true)
            .await?;
        anyhow::ensure!(job.spec.and_then(|spec| spec.suspend) == Some(true));
        env.api::<NetworkPolicy>()
            .delete("allow-all", &DeleteParams::default())
            .await?;
        env.until::<Job>("yellowjack-run-train", "suspend=false", |job| {
            job.spec.as_ref().and_then(|spec| spec.suspend) == Some(false)
        })
        .await?;
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_with_a_privileged_field_starts_only_under_a_policy_that_allows_it()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        let _operator = operator(&env).await?;
        let target = json!({ "template": { "pod": { "spec": {
            "hostPID": true, "containers": [{ "name": "agent", "image": build::PLACEHOLDER_IMAGE }],
        }}}});
        let policies: Api<GuardrailPolicy> = Api::all(env.client.clone());
        let name = format!("debug-{}", env.namespace);
        let allowed = json!({ "template": { "allowedPrivileges": ["HostPID"] } });
        let policy = build::guardrail_policy(&name, &allowed)?;
        policies.create(&PostParams::default(), &policy).await?;
        let outcome = async {
            env.create_run_for("refused", target.clone(), json!({}))
                .await?;
            let message = env
                .run_condition("refused", "Accepted", "False", "ExceedsPolicy")
                .await?;
            anyhow::ensure!(message.contains("spec.hostPID"), "{message}");
            env.create_run_for("allowed", target, json!({ "policy": name }))
                .await?;
            env.until::<Job>("yellowjack-run-allowed", "suspend=false", |job| {
                job.spec.as_ref().and_then(|spec| spec.suspend) == Some(false)
            })
            .await?;
            let job = env
                .until::<Job>("yellowjack-run-refused", "to exist", |_| true)
                .await?;
            anyhow::ensure!(job.spec.and_then(|spec| spec.suspend) == Some(true));
            Ok(())
        }
        .await;
        policies.delete(&name, &DeleteParams::default()).await?;
        outcome
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
        env.create(&internal).await?;
        let _operator = operator(&env).await?;
        env.create_run_for("train", build::pods_with_app("agent"), json!({}))
            .await?;
        env.create(&build::pod("p", &[("app", "agent")])?).await?;
        env.run_condition("train", "Ready", "True", "GuardrailsInPlace")
            .await?;
        let apart = json!({ "spec": { "network": { "allowWithinRun": false } } });
        env.patch::<AgentRun>("train", &apart).await?;
        let said = env
            .run_condition("train", "NetworkGuarded", "False", "UnionWidened")
            .await?;
        anyhow::ensure!(said.contains("ray-internal"), "{said}");
        // Accepted on purpose by whoever writes the policies.
        let spec = json!({ "network": { "acceptedPolicies": ["ray-internal"] } });
        let policy = build::guardrail_policy(&env.namespace, &spec)?;
        let policies: Api<GuardrailPolicy> = Api::all(env.client.clone());
        policies.create(&PostParams::default(), &policy).await?;
        let spec = json!({
            "policy": env.namespace,
            "network": { "allowWithinRun": false },
        });
        env.api::<AgentRun>()
            .delete("train", &DeleteParams::default())
            .await?;
        env.create_run_for("again", build::pods_with_app("agent"), spec)
            .await?;
        let said = env
            .run_condition("again", "NetworkGuarded", "True", "PoliciesApplied")
            .await;
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
        let target = build::job_target("work");
        env.create_run_for("first", target.clone(), json!({}))
            .await?;
        env.run_condition("first", "TargetResolved", "False", "TargetNotFound")
            .await?;
        let job = build::job("work", &build::pod_template("work", "Never"), json!({}))?;
        env.create(&job).await?;
        env.run_condition("first", "Ready", "True", "GuardrailsInPlace")
            .await?;
        let labelled = "yellowjack.dev/run=first";
        env.until_pod_with(labelled, |_| true).await?;
        env.create_run_for("second", target.clone(), json!({}))
            .await?;
        for run in ["first", "second"] {
            let said = env
                .run_condition(run, "TargetResolved", "False", "Overlap")
                .await?;
            anyhow::ensure!(said.contains("first and second"), "{said}");
        }
        let labelled = ListParams::default().labels(labelled);
        let pods = env.api::<Pod>().list(&labelled).await?;
        anyhow::ensure!(pods.items.len() == 1, "the stamp is left as it was");
        env.api::<AgentRun>()
            .delete("second", &DeleteParams::default())
            .await?;
        env.run_condition("first", "Ready", "True", "GuardrailsInPlace")
            .await?;
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
        let target =
            json!({ "ref": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "agents" } });
        env.create_run_for("train", target.clone(), json!({}))
            .await?;
        create_deployment(&env).await?;
        env.until_pod_with("app=agent,yellowjack.dev/run=train", |_| true)
            .await?;
        env.run_condition("train", "TargetResolved", "True", "Resolved")
            .await?;
        Ok(())
    })
    .await
}

/// Any kind of the apps group, without its type.
fn dynamic(env: &TestEnv, kind: &str) -> Api<DynamicObject> {
    let kind = kube::core::GroupVersionKind::gvk("apps", "v1", kind);
    let resource = ApiResource::from_gvk(&kind);
    Api::namespaced_with(env.client.clone(), &env.namespace, &resource)
}

async fn create_deployment(env: &TestEnv) -> anyhow::Result<()> {
    let deployment: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": { "name": "agents" },
        "spec": {
            "selector": { "matchLabels": { "app": "agent" } },
            "template": build::pod_template("agent", "Always"),
        },
    }))?;
    let api = dynamic(env, "Deployment");
    api.create(&PostParams::default(), &deployment).await?;
    Ok(())
}

/// Whoever may make pods chooses their owner references: the UID of somebody's ReplicaSet under the name of none.
#[tokio::test(flavor = "multi_thread")]
async fn forged_owner_references_do_not_keep_the_pods_of_a_run_from_it() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let target =
            json!({ "ref": { "apiVersion": "apps/v1", "kind": "Deployment", "name": "agents" } });
        env.create_run_for("train", target, json!({})).await?;
        create_deployment(&env).await?;
        let pod = env.until_pod_with("app=agent", |_| true).await?;
        let pod = env.api::<Pod>().get(&pod).await?;
        let owners = pod.metadata.owner_references.unwrap_or_default();
        let uid = &owners.first().context("the pod has no owner")?.uid;
        for nth in 0..30 {
            let mut forged = build::pod(&format!("a-{nth}"), &[])?;
            let bad = if nth % 2 == 0 { "apps/v1" } else { "a b/v1" };
            forged.metadata.owner_references = Some(serde_json::from_value(json!([{
                "apiVersion": bad, "kind": "ReplicaSet", "name": "none", "uid": uid, "controller": true,
            }]))?);
            // The garbage collector deletes pods of an owner that does not exist; until then they do their harm.
            forged.metadata.finalizers = Some(vec!["test.example/keep".to_owned()]);
            env.api().create(&PostParams::default(), &forged).await?;
        }
        let operator = operator(&env).await?;
        env.until_pod_with("app=agent,yellowjack.dev/run=train", |_| true)
            .await?;
        drop(operator);
        let freed = json!({ "metadata": { "finalizers": null } });
        for nth in 0..30 {
            env.patch::<Pod>(&format!("a-{nth}"), &freed).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_the_allow_list_is_refused_with_a_reason() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let _operator = operator(&env).await?;
        let spec = json!({
            "network": { "egress": [{ "fqdn": "pypi.org" }] },
        });
        let target = build::pods_with_app("agent");
        env.create_run_for("train", target, spec).await?;
        let said = env
            .run_condition("train", "Accepted", "False", "FqdnNotEnforceable")
            .await?;
        anyhow::ensure!(said.contains("pypi.org"), "{said}");
        env.run_condition("train", "Ready", "False", "GuardrailsIncomplete")
            .await?;
        Ok(())
    })
    .await
}
