//! The admission policies, as the real API server judges by them. Who asks has every right that RBAC can
//! give, so that each refusal is a policy's.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use yellowjack::testing::api::{AgentRun, Incident, labels};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::Fixture;
use yellowjack_e2e::{TestEnv, pod, wait_for, with_namespace};

use crate::helm::{NAMESPACE, install};
use crate::people::{RESPONSE_GROUP, account, agent, agent_on_node, almighty, person};

/// A policy is in force within a second or two after it was stored.
const LIMIT: Duration = Duration::from_secs(30);

pub type Answer = Result<(), kube::Error>;

/// Waits until the API server refuses this with these words. Only dry runs, for it may accept at first.
pub async fn refused(what: &str, words: &str, ask: impl AsyncFn() -> Answer) -> anyhow::Result<()> {
    wait_for(
        &format!("a refusal of: {what}"),
        LIMIT,
        async || match ask().await {
            Err(error) if error.to_string().contains(words) => Ok(()),
            answer => Err(format!("{answer:?}")),
        },
    )
    .await
}

pub fn dry_patch() -> PatchParams {
    PatchParams {
        dry_run: true,
        ..PatchParams::default()
    }
}

pub fn dry_post() -> PostParams {
    PostParams {
        dry_run: true,
        ..PostParams::default()
    }
}

pub fn api<K>(client: &Client, env: &TestEnv) -> Api<K>
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    Api::namespaced(client.clone(), &env.namespace)
}

pub async fn patch<K>(client: &Client, env: &TestEnv, name: &str, change: &Value) -> Answer
where
    K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + serde::de::DeserializeOwned,
{
    api::<K>(client, env)
        .patch(name, &dry_patch(), &Patch::Merge(change))
        .await
        .map(drop)
}

pub fn label(value: Option<&str>) -> Value {
    json!({ "metadata": { "labels": { labels::QUARANTINE: value } } })
}

/// A free pod and one in quarantine.
pub async fn make_pods(env: &TestEnv) -> anyhow::Result<()> {
    let pods: Api<Pod> = env.api();
    pods.create(&PostParams::default(), &pod("free", &[("app", "agent")])?)
        .await?;
    pods.create(
        &PostParams::default(),
        &pod("held", &[(labels::QUARANTINE, "inc-1")])?,
    )
    .await?;
    Ok(())
}

#[tokio::test]
async fn nobody_but_yellowjack_sets_or_removes_the_quarantine_label() -> anyhow::Result<()> {
    with_namespace(async |env| {
        install(env.cluster).await?;
        make_pods(&env).await?;
        let words = "only Yellowjack sets or removes the label";
        let responder = almighty(env.cluster, "ana", &[RESPONSE_GROUP]).await?;
        for client in [agent(&env).await?, responder] {
            for (name, value) in [
                ("free", Some("inc-1")),
                ("held", None),
                ("held", Some("inc-2")),
            ] {
                let what = format!("{name} gets {value:?}");
                refused(&what, words, async || {
                    patch::<Pod>(&client, &env, name, &label(value)).await
                })
                .await?;
                refused(&format!("{what} with its status"), words, async || {
                    let change = Patch::Merge(label(value));
                    api::<Pod>(&client, &env)
                        .patch_status(name, &dry_patch(), &change)
                        .await
                        .map(drop)
                })
                .await?;
            }
            let born = pod("born", &[(labels::QUARANTINE, "")])?;
            refused("a pod is made with it", words, async || {
                api::<Pod>(&client, &env)
                    .create(&dry_post(), &born)
                    .await
                    .map(drop)
            })
            .await?;
            let binding = json!({
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": { "name": "free", "labels": { labels::QUARANTINE: "inc-1" } },
                "target": { "kind": "Node", "name": "node-1" },
            });
            refused("a binding brings it", words, async || {
                let path = format!(
                    "/api/v1/namespaces/{}/pods/free/binding?dryRun=All",
                    env.namespace
                );
                post(&client, &path, &binding).await
            })
            .await?;
            // Everything else about a contained pod stays its owner's.
            patch::<Pod>(
                &client,
                &env,
                "held",
                &json!({ "metadata": { "labels": { "a": "b" } } }),
            )
            .await?;
        }
        let controller = account(&env, "yellowjack-controller", None).await?;
        patch::<Pod>(&controller, &env, "free", &label(Some("inc-1"))).await?;
        patch::<Pod>(&controller, &env, "held", &label(None)).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn nobody_takes_a_pod_out_of_its_run_and_its_controllers_may() -> anyhow::Result<()> {
    with_namespace(async |env| {
        install(env.cluster).await?;
        let mut owned = pod("owned", &[(labels::RUN, "train")])?;
        owned.metadata.owner_references = Some(serde_json::from_value(json!([{
            "apiVersion": "batch/v1", "kind": "Job", "name": "j", "uid": "u-j", "controller": true,
        }]))?);
        // The garbage collector would delete the pod of an owner that does not exist.
        owned.metadata.finalizers = Some(vec!["test.example/keep".to_owned()]);
        let pods: Api<Pod> = env.api();
        pods.create(&PostParams::default(), &owned).await?;
        let alone = pod("alone", &[("app", "agent")])?;
        pods.create(&PostParams::default(), &alone).await?;

        let client = agent(&env).await?;
        let run = |value: Option<&str>| json!({ "metadata": { "labels": { labels::RUN: value } } });
        let no_owner = json!({ "metadata": { "ownerReferences": null } });
        let words = "only Yellowjack sets or changes the label yellowjack.dev/run";
        for (name, value) in [
            ("owned", None),
            ("owned", Some("lax")),
            ("alone", Some("lax")),
        ] {
            refused(&format!("{name} gets {value:?}"), words, async || {
                patch::<Pod>(&client, &env, name, &run(value)).await
            })
            .await?;
        }
        let cell = json!({ "metadata": { "labels": { labels::CELL: "3" } } });
        let words = "only Yellowjack sets or changes the label yellowjack.dev/cell";
        refused("the cell of a pod is changed", words, async || {
            patch::<Pod>(&client, &env, "owned", &cell).await
        })
        .await?;
        let words = "only the controllers that admissionPolicies.workloadControllers names";
        refused("the owner is taken off", words, async || {
            patch::<Pod>(&client, &env, "owned", &no_owner).await
        })
        .await?;
        let other = json!({ "metadata": { "labels": { "a": "b" } } });
        patch::<Pod>(&client, &env, "owned", &other).await?;
        patch::<Pod>(&client, &env, "alone", &other).await?;
        let job_controller = "system:serviceaccount:kube-system:job-controller";
        let job_controller = almighty(env.cluster, job_controller, &[]).await?;
        patch::<Pod>(&job_controller, &env, "owned", &no_owner).await?;
        let freed = json!({ "metadata": { "finalizers": null } });
        env.patch::<Pod>("owned", &freed).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_template_needs_the_right_to_create_jobs() -> anyhow::Result<()> {
    with_namespace(async |env| {
        install(env.cluster).await?;
        let runs = json!({ "apiGroups": ["yellowjack.dev"], "resources": ["agentruns"], "verbs": ["create"] });
        let jobs = json!({ "apiGroups": ["batch"], "resources": ["jobs"], "verbs": ["create"] });
        for (user, rules) in [("ana", json!([runs, jobs])), ("ben", json!([runs]))] {
            let role: Role = serde_json::from_value(
                json!({ "metadata": { "name": user }, "rules": rules }),
            )?;
            env.create(&role).await?;
            let binding: RoleBinding = serde_json::from_value(json!({
                "metadata": { "name": user },
                "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": user },
                "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user }],
            }))?;
            env.create(&binding).await?;
        }
        let (ana, ben) = (
            person(env.cluster, "ana", &[]).await?,
            person(env.cluster, "ben", &[]).await?,
        );
        let make = async |client: &Client, target: Value| {
            let run = build::agent_run("run", target, json!({})).expect("an AgentRun");
            api::<AgentRun>(client, &env)
                .create(&dry_post(), &run)
                .await
                .map(drop)
        };
        let words = "its creator must be allowed to create jobs";
        refused("a template without that right", words, async || {
            make(&ben, build::template_target()).await
        })
        .await?;
        make(&ben, json!({ "selector": { "matchLabels": { "app": "a" } } })).await?;
        make(&ana, build::template_target()).await?;
        Ok(())
    })
    .await
}

pub async fn post(client: &Client, path: &str, body: &Value) -> Answer {
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(body.to_string().into_bytes())
        .map_err(kube::Error::HttpError)?;
    client.request_text(request).await.map(drop)
}

#[tokio::test]
async fn an_agent_can_neither_change_nor_delete_nor_forestall_what_guards_it() -> anyhow::Result<()>
{
    with_namespace(async |env| {
        install(env.cluster).await?;
        let words = "this object is Yellowjack's";
        let ours = json!({ labels::MANAGED_BY: labels::MANAGED_BY_VALUE });
        let policy = |name: &str, labels: &Value| -> anyhow::Result<NetworkPolicy> {
            let object = json!({
                "metadata": { "name": name, "labels": labels },
                "spec": { "podSelector": {}, "policyTypes": ["Egress"] },
            });
            Ok(serde_json::from_value(object)?)
        };
        let quota = json!({ "metadata": { "name": "guard", "labels": ours }, "spec": { "hard": { "pods": "5" } } });
        let quota: ResourceQuota = serde_json::from_value(quota)?;
        env.api().create(&PostParams::default(), &policy("guard", &ours)?).await?;
        env.api().create(&PostParams::default(), &quota).await?;

        let agent = agent(&env).await?;
        let wide = json!({ "spec": { "egress": [{}] } });
        refused("a change", words, async || patch::<NetworkPolicy>(&agent, &env, "guard", &wide).await).await?;
        let disowned = json!({ "metadata": { "labels": { labels::MANAGED_BY: "me" } } });
        refused("taking the label off", words, async || patch::<NetworkPolicy>(&agent, &env, "guard", &disowned).await).await?;
        let more = json!({ "spec": { "hard": { "pods": "500" } } });
        refused("more quota", words, async || patch::<ResourceQuota>(&agent, &env, "guard", &more).await).await?;
        refused("a deletion", words, async || delete(&agent, &env, "guard").await).await?;
        for name in ["yellowjack-quarantine", "yellowjack-run-other"] {
            let foreign = policy(name, &json!({}))?;
            refused(name, words, async || {
                api::<NetworkPolicy>(&agent, &env).create(&dry_post(), &foreign).await.map(drop)
            })
            .await?;
        }
        // What is not Yellowjack's is nobody's business.
        api::<NetworkPolicy>(&agent, &env).create(&dry_post(), &policy("mine", &json!({}))?).await?;
        // Namespaces must be able to end.
        let collector = "system:serviceaccount:kube-system:namespace-controller";
        let collector = almighty(env.cluster, collector, &[]).await?;
        delete(&collector, &env, "guard").await?;
        Ok(())
    })
    .await
}

pub async fn delete(client: &Client, env: &TestEnv, name: &str) -> Answer {
    let params = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    api::<NetworkPolicy>(client, env)
        .delete(name, &params)
        .await
        .map(drop)
}

pub fn evidence(node: &str, summary: &str) -> Value {
    json!({
        "observer": node,
        "signature": "HorizontalScan",
        "severity": "Quarantine",
        "score": 20.0,
        "threshold": 10.0,
        "firstSeen": "2026-01-05T10:00:00Z",
        "lastSeen": "2026-01-05T10:00:00Z",
        "contacts": 40,
        "summary": summary,
    })
}

pub fn incident(name: &str, entries: &[Value]) -> Value {
    incident_on("node-1", name, entries)
}

fn incident_on(node: &str, name: &str, entries: &[Value]) -> Value {
    json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "Incident",
        "metadata": { "name": name },
        "spec": { "subject": { "name": "held", "uid": "u-1", "node": node }, "evidence": entries },
    })
}

pub async fn make_incident(env: &TestEnv, entries: &[Value]) -> anyhow::Result<()> {
    let object: Incident = serde_json::from_value(incident("inc-1", entries))?;
    env.api().create(&PostParams::default(), &object).await?;
    Ok(())
}

pub fn word() -> Value {
    json!({ "spec": { "disposition": { "verdict": "Release", "decidedBy": "ana", "justification": "a test" } } })
}

#[tokio::test]
async fn an_agent_can_write_nothing_about_an_incident() -> anyhow::Result<()> {
    with_namespace(async |env| {
        install(env.cluster).await?;
        make_incident(&env, &[evidence("node-1", "seen")]).await?;
        let agent = agent(&env).await?;
        let forged: Incident =
            serde_json::from_value(incident("forged", &[evidence("node-1", "invented")]))?;
        refused(
            "a forged Incident",
            "only Yellowjack makes Incidents",
            async || {
                api::<Incident>(&agent, &env)
                    .create(&dry_post(), &forged)
                    .await
                    .map(drop)
            },
        )
        .await?;
        let cleaned = json!({ "spec": { "evidence": [evidence("node-1", "nothing")] } });
        let observed = json!({ "spec": { "observations": [{
            "node": "node-1",
            "since": "2026-01-05T10:00:00.000000Z",
            "logTime": "2026-01-05T10:00:30.000000Z",
            "observedAt": "2026-01-05T10:00:30.000000Z",
        }] } });
        for (what, change) in [
            ("less evidence", &cleaned),
            ("a proof of silence", &observed),
        ] {
            let words = "only Yellowjack changes the evidence";
            refused(what, words, async || {
                patch::<Incident>(&agent, &env, "inc-1", change).await
            })
            .await?;
        }
        refused(
            "a release",
            "spec.disposition is for the groups",
            async || patch::<Incident>(&agent, &env, "inc-1", &word()).await,
        )
        .await?;
        let closed = json!({ "status": { "closedAt": "2026-01-05T10:00:30.000000Z" } });
        refused(
            "a closed record",
            "only Yellowjack's controller writes the status",
            async || {
                api::<Incident>(&agent, &env)
                    .patch_status("inc-1", &dry_patch(), &Patch::Merge(&closed))
                    .await
                    .map(drop)
            },
        )
        .await?;
        let params = DeleteParams {
            dry_run: true,
            ..DeleteParams::default()
        };
        refused("a deletion", "is the audit record", async || {
            api::<Incident>(&agent, &env)
                .delete("inc-1", &params)
                .await
                .map(drop)
        })
        .await
    })
    .await
}

/// The garbage collector deletes what only an object owns that is gone, and a finalizer keeps an object for ever.
#[tokio::test]
async fn nobody_gives_an_incident_an_owner_or_a_finalizer() -> anyhow::Result<()> {
    with_namespace(async |env| {
        install(env.cluster).await?;
        make_incident(&env, &[evidence("node-1", "seen")]).await?;
        let ana = almighty(env.cluster, "ana", &[RESPONSE_GROUP]).await?;
        let controller = format!("system:serviceaccount:{NAMESPACE}:yellowjack-controller");
        let controller = almighty(env.cluster, &controller, &[]).await?;
        let owner =
            json!({ "apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "u-gone" });
        for (what, change) in [
            (
                "an owner that is gone",
                json!({ "metadata": { "ownerReferences": [owner] } }),
            ),
            (
                "a finalizer",
                json!({ "metadata": { "finalizers": ["test.example/keep"] } }),
            ),
        ] {
            let words = "an Incident has no owner and no finalizer";
            for client in [&ana, &controller] {
                let attempt = async || patch::<Incident>(client, &env, "inc-1", &change).await;
                refused(what, words, attempt).await?;
            }
        }
        patch::<Incident>(&ana, &env, "inc-1", &word()).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_incident_response_releases_and_does_not_touch_the_evidence() -> anyhow::Result<()> {
    with_namespace(async |env| {
        install(env.cluster).await?;
        make_incident(&env, &[evidence("node-1", "seen")]).await?;
        let responder = almighty(env.cluster, "ana", &[RESPONSE_GROUP]).await?;
        let cleaned = json!({ "spec": { "evidence": [] } });
        refused(
            "less evidence",
            "only Yellowjack changes the evidence",
            async || patch::<Incident>(&responder, &env, "inc-1", &cleaned).await,
        )
        .await?;
        // Neither may Yellowjack say the human's word.
        let bound = almighty(
            env.cluster,
            &format!("system:serviceaccount:{NAMESPACE}:yellowjack-controller"),
            &[],
        )
        .await?;
        refused(
            "a release by Yellowjack",
            "spec.disposition is for the groups",
            async || patch::<Incident>(&bound, &env, "inc-1", &word()).await,
        )
        .await?;
        patch::<Incident>(&responder, &env, "inc-1", &word()).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_node_agent_writes_evidence_of_its_own_node_alone() -> anyhow::Result<()> {
    with_namespace(async |env| {
        install(env.cluster).await?;
        make_incident(&env, &[evidence("node-2", "seen")]).await?;
        let mut agent_pod = pod("agent-of-node-1", &[])?;
        if let Some(spec) = agent_pod.spec.as_mut() {
            spec.node_name = Some("node-1".to_owned());
            spec.service_account_name = Some("yellowjack-node".to_owned());
        }
        let pods: Api<Pod> = Api::namespaced(env.client.clone(), NAMESPACE);
        let name = format!("agent-{}", env.namespace);
        agent_pod.metadata.name = Some(name.clone());
        let made = pods.create(&PostParams::default(), &agent_pod).await?;
        let uid = made.metadata.uid.unwrap_or_default();
        let bound = account(&env, "yellowjack-node", Some((&name, &uid))).await?;
        let unbound = account(&env, "yellowjack-node", None).await?;

        let words = "an agent writes evidence of its own node alone";
        let (mine, theirs) = (evidence("node-1", "mine"), evidence("node-2", "seen"));
        let forged = evidence("node-2", "nothing");
        // As an older version writes it, and with both names.
        let former = |node: &str, observer: &str| {
            let mut entry = evidence(node, "former");
            entry["observer"] = json!(observer);
            entry["node"] = json!(node);
            entry
        };
        for (what, client, entries) in [
            ("another's entry changed", &bound, vec![forged]),
            ("another's entry removed", &bound, vec![mine.clone()]),
            (
                "a third one's entry",
                &bound,
                vec![theirs.clone(), evidence("node-3", "invented")],
            ),
            (
                "a third one's entry under the former name",
                &bound,
                vec![theirs.clone(), former("node-3", "")],
            ),
            (
                "an entry with its own observer and another's former name",
                &bound,
                vec![theirs.clone(), former("node-3", "node-1")],
            ),
            (
                "a token of no pod",
                &unbound,
                vec![theirs.clone(), mine.clone()],
            ),
        ] {
            let change = json!({ "spec": { "evidence": entries } });
            refused(what, words, async || {
                patch::<Incident>(client, &env, "inc-1", &change).await
            })
            .await?;
        }
        refused(
            "a release by an agent",
            "spec.disposition is for the groups",
            async || patch::<Incident>(&bound, &env, "inc-1", &word()).await,
        )
        .await?;
        let change = json!({ "spec": { "evidence": [theirs, mine, former("node-1", "")] } });
        patch::<Incident>(&bound, &env, "inc-1", &change).await?;
        yellowjack_e2e::delete_pod(&env.client, NAMESPACE, &name).await
    })
    .await
}

#[tokio::test]
async fn a_node_agent_writes_evidence_about_pods_of_its_own_node_alone() -> anyhow::Result<()> {
    with_namespace(async |env| {
        install(env.cluster).await?;
        let name = format!("own-{}", env.namespace);
        let agent = agent_on_node(&env, &name, "node-1").await?;
        let path = format!(
            "/apis/yellowjack.dev/v1alpha1/namespaces/{}/incidents",
            env.namespace
        );
        let dry_run = format!("{path}?dryRun=All");
        let mine = [evidence("node-1", "mine")];
        let words = "an agent writes evidence about pods of its own node alone";
        refused("a pod of another node", words, async || {
            post(&agent, &dry_run, &incident_on("node-2", "inc-2", &mine)).await
        })
        .await?;
        post(&agent, &path, &incident_on("node-1", "inc-1", &mine)).await?;
        yellowjack_e2e::delete_pod(&env.client, NAMESPACE, &name).await
    })
    .await
}

#[tokio::test]
async fn only_the_incident_response_gets_into_a_quarantined_pod() -> anyhow::Result<()> {
    with_namespace(async |env| {
        install(env.cluster).await?;
        make_pods(&env).await?;
        let agent = agent(&env).await?;
        let responder = almighty(env.cluster, "ana", &[RESPONSE_GROUP]).await?;
        let words = "only the incident response may connect to it";
        let connect = async |client: &Client, pod: &str, way: &str| {
            let path = format!("/api/v1/namespaces/{}/pods/{pod}/{way}", env.namespace);
            post(client, &path, &json!({})).await
        };
        for way in ["exec?command=sh&stdout=true", "attach?stdout=true", "portforward?ports=80", "proxy/"] {
            refused(way, words, async || connect(&agent, "held", way).await).await?;
            // Both get as far as the pod, which no kubelet runs here.
            for (client, pod) in [(&agent, "free"), (&responder, "held")] {
                let answer = connect(client, pod, way).await;
                let said = answer.err().map(|error| error.to_string()).unwrap_or_default();
                assert!(!said.is_empty() && !said.contains("quarantine"), "{way} into {pod}: {said}");
            }
        }
        // The other names that a proxy takes for the same pod.
        for name in ["held:8080", "http:held", "https:held:8443"] {
            refused(name, words, async || connect(&agent, name, "proxy/").await).await?;
        }
        let path = format!("/api/v1/namespaces/{}/services/any:80/proxy/", env.namespace);
        let service = async |client: &Client| post(client, &path, &json!({})).await;
        refused("a Service", "a Service may lead to it", async || service(&agent).await).await?;
        let answer = service(&responder).await;
        let said = answer.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(!said.is_empty() && !said.contains("quarantine"), "{said}");
        let debug = json!({ "spec": { "ephemeralContainers": [{ "name": "debug", "image": "registry.invalid/debug:1" }] } });
        let add = async |client: &Client, pod: &str| {
            let pods = api::<Pod>(client, &env);
            let change = Patch::Strategic(&debug);
            pods.patch_subresource("ephemeralcontainers", pod, &dry_patch(), &change).await.map(drop)
        };
        refused("a debug container", "only the incident response may add containers", async || add(&agent, "held").await).await?;
        add(&agent, "free").await?;
        add(&responder, "held").await?;
        Ok(())
    })
    .await
}
