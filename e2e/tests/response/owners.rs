//! Owners of every kind: the topmost one that drives is held by its own field, and a release sets
//! exactly that field back. The controllers of other projects' kinds are not here; their fields are.

use anyhow::Context;
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use yellowjack::testing::api::{ActionKind, ActionResult, GuardrailPolicy, Incident};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{
    ApiFixture, Fixture, LIMIT, ROGUE_IP, SCANNED_HOSTS, action_results, with_fixture,
};
use yellowjack_e2e::wait_for;

/// An owner to make: API version, kind, spec.
type Made = (&'static str, &'static str, Value);

/// One chain of owners, topmost first, and which of them is held by which field.
struct Case {
    chain: Vec<Made>,
    /// Place in the chain, field, value that holds.
    held: (usize, &'static str, Value),
}

fn case(chain: Vec<Made>, place: usize, field: &'static str, value: Value) -> Case {
    Case {
        chain,
        held: (place, field, value),
    }
}

#[tokio::test]
async fn owners_of_training_jobs_are_suspended_and_restored_exactly() -> anyhow::Result<()> {
    let job_set = || ("jobset.x-k8s.io/v1alpha2", "JobSet", json!({}));
    let ray_job = json!({ "shutdownAfterJobFinishes": true, "suspend": false });
    each(vec![
        case(vec![job_set()], 0, "/spec/suspend", json!(true)),
        case(
            vec![
                ("trainer.kubeflow.org/v1alpha1", "TrainJob", json!({})),
                job_set(),
            ],
            0,
            "/spec/suspend",
            json!(true),
        ),
        case(
            vec![
                ("ray.io/v1", "RayJob", ray_job),
                ("ray.io/v1", "RayCluster", json!({})),
            ],
            0,
            "/spec/suspend",
            json!(true),
        ),
        case(
            vec![("ray.io/v1", "RayCluster", json!({ "suspend": false }))],
            0,
            "/spec/suspend",
            json!(true),
        ),
    ])
    .await
}

#[tokio::test]
async fn sandboxes_and_leader_worker_sets_are_stopped_and_restored_exactly() -> anyhow::Result<()> {
    let claim = (
        "extensions.agents.x-k8s.io/v1beta1",
        "SandboxClaim",
        json!({}),
    );
    let sandbox = |spec| ("agents.x-k8s.io/v1beta1", "Sandbox", spec);
    let mode = "/spec/operatingMode";
    each(vec![
        case(vec![sandbox(json!({}))], 0, mode, json!("Suspended")),
        case(
            vec![claim, sandbox(json!({ "operatingMode": "Running" }))],
            1,
            mode,
            json!("Suspended"),
        ),
        case(
            vec![(
                "leaderworkerset.x-k8s.io/v1",
                "LeaderWorkerSet",
                json!({ "replicas": 3 }),
            )],
            0,
            "/spec/replicas",
            json!(0),
        ),
    ])
    .await
}

/// Lets a pod below each chain do wrong where isolation cannot hold, and releases it.
async fn each(cases: Vec<Case>) -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        install_kinds(fixture).await?;
        fixture.allow_all_egress().await?;
        for (number, case) in (1_u8..).zip(cases) {
            let pod = format!("rogue-{number}");
            let ip = format!("10.244.3.{number}");
            let made = make_chain(fixture, &pod, &case.chain).await?;
            let owner = made.last().context("an owner")?;
            let before: Vec<Value> = specs(fixture, &made).await?;
            fixture.create_run(&pod, json!({})).await?;
            owned_pod(fixture, &pod, &ip, owner).await?;
            fixture.sync().await?;
            fixture.log.scan_hosts(&ip, 0, SCANNED_HOSTS)?;
            let incident = until_suspension(fixture, &pod, ActionResult::Succeeded).await?;

            let (place, field, wanted) = &case.held;
            let held = specs(fixture, &made).await?;
            for (at, (before, held)) in before.iter().zip(&held).enumerate() {
                let mut expected = before.clone();
                if at == *place {
                    let name = field.trim_start_matches("/spec/");
                    expected = build::with_field(expected, name, wanted.clone());
                }
                assert_eq!(*held, expected, "{pod}, owner {at}");
            }
            fixture.decide(&incident, "Release").await?;
            fixture.until_released(&pod).await?;
            assert_eq!(specs(fixture, &made).await?, before, "{pod}");
            // No controller of these kinds runs here: the operator itself ended what went on.
            fixture.until_gone::<Pod>(&pod).await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_ray_job_that_cannot_be_suspended_is_named_and_left_alone() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        install_kinds(fixture).await?;
        fixture.allow_all_egress().await?;
        let chain = [
            ("ray.io/v1", "RayJob", json!({})),
            ("ray.io/v1", "RayCluster", json!({})),
        ];
        let made = make_chain(fixture, "rogue", &chain).await?;
        let before = specs(fixture, &made).await?;
        fixture.create_run("rogue", json!({})).await?;
        owned_pod(fixture, "rogue", ROGUE_IP, &made[1]).await?;
        fixture.sync().await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = until_suspension(fixture, "rogue", ActionResult::Skipped).await?;
        let actions = incident.status.unwrap_or_default().actions;
        let said = actions
            .iter()
            .find(|action| action.kind == ActionKind::Suspend);
        let said = &said.context("a word about it")?.message;
        assert!(said.contains("shutdownAfterJobFinishes"), "{said}");
        assert_eq!(specs(fixture, &made).await?, before);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_driver_of_a_kind_that_is_not_known_is_named_and_what_it_drives_left_alone()
-> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture.allow_all_egress().await?;
        let made = make_chain(fixture, "driver", &[("v1", "ConfigMap", Value::Null)]).await?;
        let owners = json!({ "ownerReferences": [reference(&made[0])] });
        let name = job(fixture, owners).await?;
        fixture.create_run("rogue", json!({})).await?;
        let pod = running_pod(fixture, "app=rogue", ROGUE_IP).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = until_suspension(fixture, &pod, ActionResult::Skipped).await?;
        let actions = incident.status.unwrap_or_default().actions;
        let said = actions
            .iter()
            .find(|action| action.kind == ActionKind::Suspend);
        let said = &said.context("a word about it")?.message;
        assert!(said.contains("ConfigMap driver"), "{said}");
        assert_eq!(get_suspend(fixture, &name).await?, Some(false));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_that_its_held_owner_lets_run_on_is_deleted_after_that_where_allowed()
-> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        install_kinds(fixture).await?;
        fixture.allow_all_egress().await?;
        let chain = [("jobset.x-k8s.io/v1alpha2", "JobSet", json!({}))];
        let made = make_chain(fixture, "rogue", &chain).await?;
        let policy = &fixture.env.namespace;
        let allows = json!({ "response": { "maxAction": "Terminate" } });
        let allows = build::guardrail_policy(policy, &allows)?;
        let policies: Api<GuardrailPolicy> = Api::all(fixture.env.client.clone());
        policies.create(&PostParams::default(), &allows).await?;
        let response = json!({ "maxAction": "Terminate" });
        let rest = json!({ "policy": policy, "response": response });
        fixture.create_run("rogue", rest).await?;
        owned_pod(fixture, "rogue", ROGUE_IP, &made[0]).await?;
        fixture.sync().await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture
            .incident_condition("rogue", "Contained", "True", "PodGone")
            .await?;
        let held = fixture.write_positions(|write| write.path.ends_with("/jobsets/rogue"));
        let deleted = fixture.write_positions(|write| {
            write.method == "DELETE" && write.path.ends_with("/pods/rogue")
        });
        assert_eq!((held.len(), deleted.len()), (1, 1));
        assert!(held[0] < deleted[0], "{held:?} {deleted:?}");
        policies.delete(policy, &DeleteParams::default()).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cron_job_makes_no_new_job_and_its_running_job_stops() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture.allow_all_egress().await?;
        let spec = json!({ "schedule": "0 0 31 2 *", "jobTemplate": { "spec": {
            "template": build::pod_template("rogue", "Never"),
        }}});
        let made = make_chain(fixture, "rogue", &[("batch/v1", "CronJob", spec)]).await?;
        let owner = reference(&made[0]);
        let job = job(fixture, json!({ "ownerReferences": [owner] })).await?;
        let before = specs(fixture, &made).await?;
        fixture.create_run("rogue", json!({})).await?;
        let pod = running_pod(fixture, "app=rogue", ROGUE_IP).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture
            .until_action(&pod, ActionKind::Suspend, &[ActionResult::Succeeded; 2])
            .await?;
        assert_eq!(specs(fixture, &made).await?[0]["suspend"], true);
        assert_eq!(get_suspend(fixture, &job).await?, Some(true));
        fixture
            .incident_condition(&pod, "Contained", "True", "PodGone")
            .await?;
        fixture.decide(&incident, "Release").await?;
        fixture.until_released(&pod).await?;
        assert_eq!(specs(fixture, &made).await?, before);
        assert_eq!(get_suspend(fixture, &job).await?, Some(false));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_job_that_kueue_admitted_is_held_by_its_workload() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        install_kinds(fixture).await?;
        fixture.allow_all_egress().await?;
        let queue = json!({ "labels": { "kueue.x-k8s.io/queue-name": "agents" } });
        let name = job(fixture, queue).await?;
        let jobs: Api<Job> = fixture.api();
        let uid = jobs.get(&name).await?.uid().unwrap_or_default();
        let workload = json!({
            "apiVersion": "kueue.x-k8s.io/v1beta1",
            "kind": "Workload",
            "metadata": { "name": "job-rogue", "ownerReferences": [{
                "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": uid,
                "controller": true,
            }]},
            "spec": { "queueName": "agents" },
        });
        let made = [make(fixture, workload).await?];
        let before = specs(fixture, &made).await?;
        fixture.create_run("rogue", json!({})).await?;
        let pod = running_pod(fixture, "app=rogue", ROGUE_IP).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = until_suspension(fixture, &pod, ActionResult::Succeeded).await?;
        assert_eq!(specs(fixture, &made).await?[0]["active"], false);
        assert_eq!(
            get_suspend(fixture, &name).await?,
            Some(false),
            "Kueue's to set"
        );
        fixture.decide(&incident, "Release").await?;
        fixture.until_released(&pod).await?;
        assert_eq!(specs(fixture, &made).await?, before);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_deployment_is_scaled_to_nothing_and_back() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let pod = rogue_deployment(fixture, 2).await?;
        let incident = until_suspension(fixture, &pod, ActionResult::Succeeded).await?;
        replicas_are(fixture, 0).await?;
        none_left(fixture).await?;
        fixture
            .incident_condition(&pod, "Contained", "True", "PodGone")
            .await?;
        fixture.decide(&incident, "Release").await?;
        let closed = fixture.until_released(&pod).await?;
        assert!(action_results(&closed, ActionKind::Restore).contains(&ActionResult::Succeeded));
        replicas_are(fixture, 2).await
    })
    .await
}

#[tokio::test]
async fn a_deployment_that_a_human_scaled_meanwhile_is_left_alone() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let pod = rogue_deployment(fixture, 2).await?;
        let incident = until_suspension(fixture, &pod, ActionResult::Succeeded).await?;
        none_left(fixture).await?;
        fixture
            .incident_condition(&pod, "Contained", "True", "PodGone")
            .await?;
        fixture
            .env
            .kubectl(&["scale", "deployment", "work", "--replicas=5"])
            .await?;
        fixture.decide(&incident, "Release").await?;
        let closed = fixture.until_released(&pod).await?;
        assert_eq!(
            action_results(&closed, ActionKind::Restore).last(),
            Some(&ActionResult::Skipped)
        );
        replicas_are(fixture, 5).await
    })
    .await
}

#[tokio::test]
async fn a_stateful_set_is_scaled_to_nothing_and_back() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture.allow_all_egress().await?;
        let set: StatefulSet =
            serde_json::from_value(json!({ "metadata": { "name": "work" }, "spec": {
                "serviceName": "work",
                "selector": { "matchLabels": { "app": "rogue" } },
                "template": build::pod_template("rogue", "Always"),
            }}))?;
        let made = fixture.create(&set).await?;
        fixture.create_run("rogue", json!({})).await?;
        let pod = running_pod(fixture, "app=rogue", ROGUE_IP).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = until_suspension(fixture, &pod, ActionResult::Succeeded).await?;
        none_left(fixture).await?;
        fixture
            .incident_condition(&pod, "Contained", "True", "PodGone")
            .await?;
        fixture.decide(&incident, "Release").await?;
        fixture.until_released(&pod).await?;
        let restored = fixture.api::<StatefulSet>().get("work").await?;
        assert_eq!(restored.spec, made.spec);
        Ok(())
    })
    .await
}

/// Installs the kinds of other projects. Safe to call from many tests at once.
async fn install_kinds(fixture: &ApiFixture) -> anyhow::Result<()> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/crds/owners.yaml");
    let apply = ["apply", "--server-side", "--force-conflicts", "-f", file];
    fixture.env.kubectl(&apply).await?;
    let wait = [
        "wait",
        "--for=condition=Established",
        "--timeout=60s",
        "-f",
        file,
    ];
    fixture.env.kubectl(&wait).await?;
    Ok(())
}

fn resource(object: &DynamicObject) -> anyhow::Result<ApiResource> {
    let kind = GroupVersionKind::try_from(object.types.clone().context("a kind")?)?;
    Ok(match kind.kind.as_str() {
        "Sandbox" => ApiResource::from_gvk_with_plural(&kind, "sandboxes"),
        _ => ApiResource::from_gvk(&kind),
    })
}

fn api(fixture: &ApiFixture, object: &DynamicObject) -> anyhow::Result<Api<DynamicObject>> {
    let (client, namespace) = (fixture.env.client.clone(), &fixture.env.namespace);
    Ok(Api::namespaced_with(client, namespace, &resource(object)?))
}

async fn make(fixture: &ApiFixture, object: Value) -> anyhow::Result<DynamicObject> {
    let object: DynamicObject = serde_json::from_value(object)?;
    let made = api(fixture, &object)?
        .create(&PostParams::default(), &object)
        .await?;
    Ok(DynamicObject {
        types: object.types,
        ..made
    })
}

/// Makes the owners, topmost first, each owned by the one before it.
async fn make_chain(
    fixture: &ApiFixture,
    name: &str,
    chain: &[Made],
) -> anyhow::Result<Vec<DynamicObject>> {
    let mut made: Vec<DynamicObject> = Vec::new();
    for (api_version, kind, spec) in chain {
        let owners: Vec<Value> = made.last().map(reference).into_iter().collect();
        let object = json!({
            "apiVersion": api_version,
            "kind": kind,
            "metadata": { "name": name, "ownerReferences": owners },
            "spec": spec,
        });
        made.push(make(fixture, object).await?);
    }
    Ok(made)
}

fn reference(owner: &DynamicObject) -> Value {
    let types = owner.types.clone().unwrap_or_default();
    json!({
        "apiVersion": types.api_version,
        "kind": types.kind,
        "name": owner.name_any(),
        "uid": owner.uid(),
        "controller": true,
    })
}

/// The specs as they are now.
async fn specs(fixture: &ApiFixture, objects: &[DynamicObject]) -> anyhow::Result<Vec<Value>> {
    let mut specs = Vec::new();
    for object in objects {
        let found = api(fixture, object)?.get(&object.name_any()).await?;
        specs.push(found.data.get("spec").cloned().unwrap_or_default());
    }
    Ok(specs)
}

/// A pod with this owner, in the run of its name.
async fn owned_pod(
    fixture: &ApiFixture,
    name: &str,
    ip: &str,
    owner: &DynamicObject,
) -> anyhow::Result<()> {
    let mut pod = build::pod(name, &[("app", name)])?;
    pod.metadata.owner_references = serde_json::from_value(json!([reference(owner)]))?;
    fixture.start_pod(&pod, ip).await?;
    Ok(())
}

/// A Job `work` of the run `rogue` with this in its metadata. Returns its name.
async fn job(fixture: &ApiFixture, metadata: Value) -> anyhow::Result<String> {
    let template = build::pod_template("rogue", "Never");
    let mut job = build::job("work", &template, json!({}))?;
    let metadata = build::with_field(metadata, "name", json!("work"));
    job.metadata = serde_json::from_value(metadata)?;
    fixture.create(&job).await?;
    Ok("work".to_owned())
}

async fn get_suspend(fixture: &ApiFixture, job: &str) -> anyhow::Result<Option<bool>> {
    let jobs: Api<Job> = fixture.api();
    Ok(jobs.get(job).await?.spec.and_then(|spec| spec.suspend))
}

/// A Deployment `work` of so many pods in the run `rogue`, one of which does wrong where isolation
/// cannot hold. Returns that pod's name.
async fn rogue_deployment(fixture: &ApiFixture, replicas: i32) -> anyhow::Result<String> {
    fixture.allow_all_egress().await?;
    let deployment: Deployment =
        serde_json::from_value(json!({ "metadata": { "name": "work" }, "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "rogue" } },
            "template": build::pod_template("rogue", "Always"),
        }}))?;
    fixture.create(&deployment).await?;
    fixture.create_run("rogue", json!({})).await?;
    let pod = running_pod(fixture, "app=rogue", ROGUE_IP).await?;
    fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
    Ok(pod)
}

/// Waits for a pod with this label, and gives it this address.
async fn running_pod(fixture: &ApiFixture, label: &str, ip: &str) -> anyhow::Result<String> {
    let name = fixture.until_pod_with(label, |_| true).await?;
    fixture.set_pod_ip(&name, ip).await?;
    fixture.sync().await?;
    Ok(name)
}

async fn none_left(fixture: &ApiFixture) -> anyhow::Result<()> {
    let pods = fixture.pods();
    let selector = ListParams::default().labels("app=rogue");
    wait_for("the end of the owner's pods", LIMIT, async || {
        let list = pods
            .list(&selector)
            .await
            .map_err(|error| error.to_string())?;
        let left: Vec<_> = list.items.iter().map(ResourceExt::name_any).collect();
        left.is_empty()
            .then_some(())
            .ok_or_else(|| format!("{left:?}"))
    })
    .await
}

async fn replicas_are(fixture: &ApiFixture, wanted: i32) -> anyhow::Result<()> {
    let deployments: Api<Deployment> = fixture.api();
    let spec = deployments.get("work").await?.spec.context("a spec")?;
    assert_eq!(spec.replicas, Some(wanted));
    Ok(())
}

/// Waits until the Incident records how the suspension ended.
async fn until_suspension(
    fixture: &ApiFixture,
    pod: &str,
    result: ActionResult,
) -> anyhow::Result<Incident> {
    fixture
        .until_action(pod, ActionKind::Suspend, &[result])
        .await
}
