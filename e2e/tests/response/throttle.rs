//! Throttle: where that is all that is allowed, CPU is taken from the running pod, and a release
//! gives exactly that back. No kubelet follows here; what the API server accepted is looked at.

use serde_json::{Value, json};
use yellowjack::testing::api::{ActionKind, ActionResult, Incident};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{
    ApiFixture, Fixture, ROGUE_IP, SCANNED_HOSTS, action_results, with_fixture,
};

fn whole() -> Value {
    json!({ "cpu": "2", "memory": "1Gi" })
}

/// A pod of the run `rogue`, which may be throttled and no more, with these resources.
async fn rogue(fixture: &ApiFixture, requests: Value, limits: Value) -> anyhow::Result<()> {
    let limit = json!({ "response": { "maxAction": "Throttle" } });
    fixture.create_run("rogue", limit).await?;
    let mut pod = build::pod("rogue", &[("app", "rogue")])?;
    let resources = json!({ "requests": requests, "limits": limits });
    let containers = pod.spec.as_mut().map(|spec| &mut spec.containers);
    for container in containers.into_iter().flatten() {
        container.resources = Some(serde_json::from_value(resources.clone())?);
    }
    fixture.start_pod(&pod, ROGUE_IP).await?;
    fixture.sync().await?;
    fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)
}

/// The pod's spec now.
async fn spec(fixture: &ApiFixture) -> anyhow::Result<Value> {
    Ok(serde_json::to_value(
        fixture.pods().get("rogue").await?.spec,
    )?)
}

async fn until_throttled(fixture: &ApiFixture, result: ActionResult) -> anyhow::Result<Incident> {
    fixture
        .until_action("rogue", ActionKind::Throttle, &[result])
        .await
}

#[tokio::test]
async fn a_guaranteed_pod_is_throttled_and_released_exactly() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        rogue(fixture, whole(), whole()).await?;
        let incident = until_throttled(fixture, ActionResult::Succeeded).await?;
        let less = json!({ "cpu": "100m", "memory": "1Gi" });
        let resources = spec(fixture).await?["containers"][0]["resources"].clone();
        assert_eq!(resources, json!({ "requests": less, "limits": less }));
        let class = fixture
            .pods()
            .get("rogue")
            .await?
            .status
            .and_then(|s| s.qos_class);
        assert_eq!(class.as_deref(), Some("Guaranteed"));
        fixture
            .incident_condition("rogue", "Contained", "False", "ActionLimited")
            .await?;
        fixture.until_quarantine_label("rogue", None).await?;

        fixture.decide(&incident, "Release").await?;
        fixture.until_released("rogue").await?;
        let resources = spec(fixture).await?["containers"][0]["resources"].clone();
        assert_eq!(resources, json!({ "requests": whole(), "limits": whole() }));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_must_be_restored_is_stored_before_the_resize() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        rogue(fixture, json!({ "cpu": "1" }), json!({ "cpu": "2" })).await?;
        until_throttled(fixture, ActionResult::Succeeded).await?;
        let resources = spec(fixture).await?["containers"][0]["resources"].clone();
        let expected = json!({ "requests": { "cpu": "50m" }, "limits": { "cpu": "100m" } });
        assert_eq!(resources, expected);
        let saved = fixture.write_positions(|write| {
            let restore = write
                .body
                .pointer("/status/restore/0/originalValue/limits/cpu");
            restore == Some(&json!("2"))
        });
        let resized = fixture.write_positions(|write| write.path.ends_with("/pods/rogue/resize"));
        assert_eq!(resized.len(), 1);
        assert!(saved[0] < resized[0], "{saved:?} {resized:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_that_a_human_resized_meanwhile_is_left_alone() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        rogue(fixture, whole(), whole()).await?;
        let incident = until_throttled(fixture, ActionResult::Succeeded).await?;
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
        fixture.env.kubectl(&resize).await?;
        fixture.decide(&incident, "Release").await?;
        let closed = fixture.until_released("rogue").await?;
        assert_eq!(
            action_results(&closed, ActionKind::Restore),
            [ActionResult::Skipped]
        );
        let cpu = spec(fixture).await?["containers"][0]["resources"]["limits"]["cpu"].clone();
        assert_eq!(cpu, "500m");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_best_effort_pod_is_not_throttled_and_the_record_says_why() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        rogue(fixture, json!({}), json!({})).await?;
        let before = spec(fixture).await?;
        let incident = until_throttled(fixture, ActionResult::Skipped).await?;
        let actions = incident.status.unwrap_or_default().actions;
        assert!(actions[0].message.contains("BestEffort"), "{actions:?}");
        assert_eq!(spec(fixture).await?, before);
        Ok(())
    })
    .await
}
