//! Quarantined pods that are deleted, and that their controllers replace.

use k8s_openapi::api::apps::v1::{ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use yellowjack::testing::api::{Incident, labels};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{ApiFixture, Fixture, LIMIT, ROGUE_IP, SCANNED_HOSTS, with_fixture};
use yellowjack_e2e::{wait_for, with_namespace};

fn owner(kind: &str, replicas: u8) -> Value {
    // A pod without a node is deleted at once, whatever its grace period is.
    let mut template = build::pod_template("rogue", "Always");
    if let Some(spec) = template.pointer_mut("/spec") {
        *spec = build::with_field(spec.take(), "nodeName", json!("node-a"));
    }
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": { "name": "agents" },
        "spec": {
            "replicas": replicas, "serviceName": "agents",
            "selector": { "matchLabels": { "app": "rogue" } },
            "template": template,
        },
    })
}

/// Waits for this many living pods, and returns their names, oldest first.
async fn until_pods(fixture: &ApiFixture, count: usize) -> anyhow::Result<Vec<String>> {
    let params = ListParams::default().labels("app=rogue");
    wait_for(&format!("{count} pods"), LIMIT, async || {
        let list = fixture.pods().list(&params).await;
        let mut pods = list.map_err(|error| error.to_string())?.items;
        pods.retain(|pod| pod.metadata.deletion_timestamp.is_none());
        pods.sort_by_key(|pod| (pod.creation_timestamp().map(|time| time.0), pod.name_any()));
        let names: Vec<String> = pods.iter().map(ResourceExt::name_any).collect();
        if names.len() == count {
            Ok(names)
        } else {
            Err(format!("{names:?}"))
        }
    })
    .await
}

/// The Incident of the first pod, which is in quarantine, and the other pods.
async fn isolated_of(
    fixture: &ApiFixture,
    replicas: usize,
) -> anyhow::Result<(Incident, String, Vec<String>)> {
    isolated_with(fixture, replicas, json!({})).await
}

/// The same with these fields in the spec of the run.
async fn isolated_with(
    fixture: &ApiFixture,
    replicas: usize,
    spec: Value,
) -> anyhow::Result<(Incident, String, Vec<String>)> {
    fixture.create_run("rogue", spec).await?;
    let mut names = until_pods(fixture, replicas).await?;
    let first = names.remove(0);
    fixture.set_pod_ip(&first, ROGUE_IP).await?;
    fixture.sync().await?;
    fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
    let incident = fixture.until_isolated(&first).await?;
    Ok((incident, first, names))
}

#[tokio::test]
async fn the_pod_that_replaces_a_deleted_one_is_isolated_until_a_release() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture
            .create::<ReplicaSet>(&serde_json::from_value(owner("ReplicaSet", 2))?)
            .await?;
        let (incident, first, others) = isolated_of(fixture, 2).await?;
        // A graceful deletion, which only a kubelet would end.
        fixture
            .pods()
            .delete(&first, &kube::api::DeleteParams::default())
            .await?;
        let mut names = until_pods(fixture, 2).await?;
        names.retain(|name| !others.contains(name));
        fixture
            .until_quarantine_label(&names[0], Some(&incident.name_any()))
            .await?;
        fixture.until_quarantine_label(&others[0], None).await?;

        // Again, at once.
        fixture.delete_pod(&first).await?;
        fixture.delete_pod(&names[0]).await?;
        let mut again = until_pods(fixture, 2).await?;
        again.retain(|name| !others.contains(name));
        fixture
            .until_quarantine_label(&again[0], Some(&incident.name_any()))
            .await?;

        fixture.decide(&incident, "Release").await?;
        fixture.until_released(&first).await?;
        fixture.until_quarantine_label(&again[0], None).await?;
        // The record is closed: what comes next is free.
        fixture.delete_pod(&again[0]).await?;
        let mut last = until_pods(fixture, 2).await?;
        last.retain(|name| !others.contains(name));
        fixture.sync().await?;
        fixture.until_quarantine_label(&last[0], None).await
    })
    .await
}

#[tokio::test]
async fn pods_that_the_controller_adds_or_replaces_beside_a_quarantined_one_stay_free()
-> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture
            .create::<ReplicaSet>(&serde_json::from_value(owner("ReplicaSet", 2))?)
            .await?;
        let (incident, first, others) = isolated_of(fixture, 2).await?;
        fixture.delete_pod(&others[0]).await?;
        until_pods(fixture, 2).await?;
        let more = json!({ "spec": { "replicas": 4 } });
        fixture.patch::<ReplicaSet>("agents", &more).await?;
        let names = until_pods(fixture, 4).await?;
        // A write of the responder after all of them.
        fixture.delete_pod(&first).await?;
        let replaced = until_pods(fixture, 4).await?;
        let new: Vec<&String> = replaced
            .iter()
            .filter(|name| !names.contains(name))
            .collect();
        fixture
            .until_quarantine_label(new[0], Some(&incident.name_any()))
            .await?;
        let list = fixture.pods().list(&ListParams::default()).await?;
        let held: Vec<String> = list
            .iter()
            .filter(|pod| pod.labels().contains_key(labels::QUARANTINE))
            .map(ResourceExt::name_any)
            .collect();
        assert_eq!(held, [new[0].as_str()]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_pod_of_a_stateful_set_that_comes_back_under_its_name_is_isolated() -> anyhow::Result<()>
{
    with_fixture(&[], async |fixture| {
        fixture
            .create::<StatefulSet>(&serde_json::from_value(owner("StatefulSet", 1))?)
            .await?;
        let (incident, first, _) = isolated_of(fixture, 1).await?;
        let uid = fixture.get::<Pod>(&first).await?.uid();
        fixture.delete_pod(&first).await?;
        fixture
            .until::<Pod>(&first, "another pod in quarantine", |pod| {
                pod.uid() != uid
                    && pod.labels().get(labels::QUARANTINE) == Some(&incident.name_any())
            })
            .await
            .map(drop)
    })
    .await
}

#[tokio::test]
async fn a_pod_that_was_replaced_while_no_controller_ran_is_isolated_by_the_next_one()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        let mut fixture = ApiFixture::start(env, &[]).await?;
        fixture
            .create::<ReplicaSet>(&serde_json::from_value(owner("ReplicaSet", 1))?)
            .await?;
        let (incident, first, _) = isolated_of(&fixture, 1).await?;
        fixture.kill();
        fixture.delete_pod(&first).await?;
        let names = until_pods(&fixture, 1).await?;
        fixture.restart(&[]).await?;
        fixture
            .until_quarantine_label(&names[0], Some(&incident.name_any()))
            .await
    })
    .await
}

#[tokio::test]
async fn a_policy_that_widens_the_deny_of_the_replacement_is_named() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let limited = json!({ "response": { "maxAction": "Isolate" } });
        fixture
            .create::<ReplicaSet>(&serde_json::from_value(owner("ReplicaSet", 1))?)
            .await?;
        let (incident, first, _) = isolated_with(fixture, 1, limited).await?;
        fixture.delete_pod(&first).await?;
        let names = until_pods(fixture, 1).await?;
        fixture
            .until_quarantine_label(&names[0], Some(&incident.name_any()))
            .await?;
        fixture
            .incident_condition(&first, "Contained", "True", "Isolated")
            .await?;
        fixture.allow_all_egress().await?;
        fixture
            .incident_condition(&first, "Contained", "False", "UnionWidened")
            .await
            .map(drop)
    })
    .await
}
