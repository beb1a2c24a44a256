//! Throttle: where that is all that is allowed, CPU is taken from the running pod, and a release
//! gives exactly that back. No kubelet follows here; what the API server accepted is looked at.

use kube::api::PostParams;
use serde_json::{Value, json};
use yellowjack::testing::api::{ActionKind, ActionResult, Incident};
use yellowjack_e2e::set_pod_ip;

use crate::scene::{MANY, ROGUE_IP, Scene, results, with_scene};

fn whole() -> Value {
    json!({ "cpu": "2", "memory": "1Gi" })
}

/// A pod of the run `rogue`, which may be throttled and no more, with these resources.
async fn rogue(scene: &Scene, requests: Value, limits: Value) -> anyhow::Result<()> {
    let limit = json!({ "response": { "maxAction": "Throttle" } });
    scene.run("rogue", limit).await?;
    let mut pod = yellowjack_e2e::pod("rogue", &[("app", "rogue")])?;
    let resources = json!({ "requests": requests, "limits": limits });
    let containers = pod.spec.as_mut().map(|spec| &mut spec.containers);
    for container in containers.into_iter().flatten() {
        container.resources = Some(serde_json::from_value(resources.clone())?);
    }
    scene.pods().create(&PostParams::default(), &pod).await?;
    set_pod_ip(&scene.env.client, &scene.env.namespace, "rogue", ROGUE_IP).await?;
    scene.settle().await?;
    scene.log.scan_hosts(ROGUE_IP, 0, MANY)
}

/// The pod's spec now.
async fn spec(scene: &Scene) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(scene.pods().get("rogue").await?.spec)?)
}

async fn noted(scene: &Scene, result: ActionResult) -> anyhow::Result<Incident> {
    scene
        .wait_incident("rogue", "the throttle is noted", |incident| {
            results(incident, ActionKind::Throttle) == [result]
        })
        .await
}

#[tokio::test]
async fn a_guaranteed_pod_is_throttled_and_released_exactly() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        rogue(scene, whole(), whole()).await?;
        let incident = noted(scene, ActionResult::Succeeded).await?;
        let less = json!({ "cpu": "100m", "memory": "1Gi" });
        let resources = spec(scene).await?["containers"][0]["resources"].clone();
        assert_eq!(resources, json!({ "requests": less, "limits": less }));
        let class = scene
            .pods()
            .get("rogue")
            .await?
            .status
            .and_then(|s| s.qos_class);
        assert_eq!(class.as_deref(), Some("Guaranteed"));
        scene
            .incident_says("rogue", "Contained", "False", "ActionLimited")
            .await?;
        scene.label_is("rogue", None).await?;

        scene.decide(&incident, "Release").await?;
        scene
            .incident_says("rogue", "Closed", "True", "Released")
            .await?;
        let resources = spec(scene).await?["containers"][0]["resources"].clone();
        assert_eq!(resources, json!({ "requests": whole(), "limits": whole() }));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_must_be_restored_is_stored_before_the_resize() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        rogue(scene, json!({ "cpu": "1" }), json!({ "cpu": "2" })).await?;
        noted(scene, ActionResult::Succeeded).await?;
        let resources = spec(scene).await?["containers"][0]["resources"].clone();
        let expected = json!({ "requests": { "cpu": "50m" }, "limits": { "cpu": "100m" } });
        assert_eq!(resources, expected);
        let saved = scene.places(|write| {
            let restore = write
                .body
                .pointer("/status/restore/0/originalValue/limits/cpu");
            restore == Some(&json!("2"))
        });
        let resized = scene.places(|write| write.path.ends_with("/pods/rogue/resize"));
        assert_eq!(resized.len(), 1);
        assert!(saved[0] < resized[0], "{saved:?} {resized:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_that_a_human_resized_meanwhile_is_left_alone() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        rogue(scene, whole(), whole()).await?;
        let incident = noted(scene, ActionResult::Succeeded).await?;
        let patch = json!({ "spec": { "containers": [{ "name": "agent", "resources": {
            "requests": { "cpu": "500m" }, "limits": { "cpu": "500m" },
        }}]}});
        let patch = patch.to_string();
        let resize = [
            "patch",
            "pod",
            "rogue",
            "--subresource=resize",
            "--patch",
            &patch,
        ];
        scene.env.kubectl(&resize).await?;
        scene.decide(&incident, "Release").await?;
        let closed = scene
            .incident_says("rogue", "Closed", "True", "Released")
            .await?;
        assert_eq!(
            results(&closed, ActionKind::Restore),
            [ActionResult::Skipped]
        );
        let cpu = spec(scene).await?["containers"][0]["resources"]["limits"]["cpu"].clone();
        assert_eq!(cpu, "500m");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_best_effort_pod_is_not_throttled_and_the_record_says_why() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        rogue(scene, json!({}), json!({})).await?;
        let before = spec(scene).await?;
        let incident = noted(scene, ActionResult::Skipped).await?;
        let actions = incident.status.unwrap_or_default().actions;
        assert!(actions[0].message.contains("BestEffort"), "{actions:?}");
        assert_eq!(spec(scene).await?, before);
        Ok(())
    })
    .await
}
