//! What keeps a response from becoming the outage: Observe, protected namespaces, the cap, the
//! circuit breaker, and the bounds of a single run.

use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use yellowjack::testing::api::{ActionKind, GuardrailPolicy, labels};
use yellowjack_e2e::with_namespace;

use crate::scene::{MANY, ROGUE_IP, Scene, conditions, results, says, with_scene};

/// Pods that the breaker lets through, and one more than twice as many.
const CROSSINGS: u8 = 7;

/// A rogue pod scans; its Incident must say why nothing was done, and nothing may have been.
async fn is_left_alone(scene: &Scene, reason: &str) -> anyhow::Result<()> {
    scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
    let incident = scene
        .incident_says("rogue", "Contained", "False", reason)
        .await?;
    assert!(results(&incident, ActionKind::Isolate).is_empty());
    scene.settle().await?;
    scene.label_is("rogue", None).await?;
    scene
        .run_says("rogue", "Suspicious", "True", "IncidentOpen")
        .await?;
    scene
        .run_says("rogue", "Quarantined", "False", "NotQuarantined")
        .await?;
    let labelled = scene.places(|write| {
        write.body.to_string().contains(labels::QUARANTINE) && write.path.contains("/pods/")
    });
    assert!(labelled.is_empty(), "a pod was written to");
    Ok(())
}

#[tokio::test]
async fn observe_all_records_and_does_nothing() -> anyhow::Result<()> {
    with_scene(&["--observe-all"], async |scene| {
        scene.rogue_pod(json!({})).await?;
        is_left_alone(scene, "ObserveOnly").await?;
        let incidents = scene.incidents_of("rogue").await?;
        assert!(incidents[0].spec.evidence.iter().all(|e| e.observe_only));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_run_in_observe_mode_is_recorded_and_left_alone() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        let observe = json!({ "detection": { "modes": { "scan": "Observe" } } });
        scene.rogue_pod(observe).await?;
        is_left_alone(scene, "ObserveOnly").await
    })
    .await
}

#[tokio::test]
async fn a_run_whose_max_action_is_alert_is_recorded_and_left_alone() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        let alert = json!({ "response": { "maxAction": "Alert" } });
        scene.rogue_pod(alert).await?;
        is_left_alone(scene, "ActionLimited").await
    })
    .await
}

#[tokio::test]
async fn a_protected_namespace_is_left_alone() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let flags = ["--protected-namespace".to_owned(), env.namespace.clone()];
        let scene = Scene::start(env, &[&flags[0], &flags[1]]).await?;
        scene.rogue_pod(json!({})).await?;
        is_left_alone(&scene, "Protected").await
    })
    .await
}

#[tokio::test]
async fn a_run_with_a_disabled_signature_gets_no_incident() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        let policies: Api<GuardrailPolicy> = Api::all(scene.env.client.clone());
        let name = format!("{}-lax", scene.env.namespace);
        let lax: GuardrailPolicy = serde_json::from_value(json!({
            "apiVersion": "yellowjack.dev/v1alpha1",
            "kind": "GuardrailPolicy",
            "metadata": { "name": name },
            "spec": { "detection": { "minimum": "Disabled" } },
        }))?;
        policies.create(&PostParams::default(), &lax).await?;
        let outcome = async {
            let off = json!({ "policy": name, "detection": { "modes": { "scan": "Disabled" } } });
            scene.rogue_pod(off).await?;
            scene.run_says("rogue", "Accepted", "True", "Valid").await?;
            scene.run("other", json!({})).await?;
            scene.pod("other", "other", "10.244.1.67").await?;
            scene.settle().await?;
            scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
            // Findings are dealt with in order.
            scene.log.scan_hosts("10.244.1.67", 0, MANY)?;
            scene
                .incident_says("other", "Contained", "True", "Isolated")
                .await?;
            assert!(scene.incidents_of("rogue").await?.is_empty());
            scene
                .run_says("rogue", "Suspicious", "False", "NoOpenIncidents")
                .await
        }
        .await;
        policies.delete(&name, &DeleteParams::default()).await?;
        outcome.map(drop)
    })
    .await
}

#[tokio::test]
async fn the_cap_holds_back_the_next_pod_until_one_is_released() -> anyhow::Result<()> {
    with_scene(&["--max-quarantines", "1"], async |scene| {
        scene.run("rogue", json!({})).await?;
        scene.pod("first", "rogue", "10.244.1.1").await?;
        scene.pod("second", "rogue", "10.244.1.2").await?;
        scene.settle().await?;
        scene.log.scan_hosts("10.244.1.1", 0, MANY)?;
        let first = scene
            .incident_says("first", "Contained", "True", "Isolated")
            .await?;
        scene.log.scan_hosts("10.244.1.2", 0, MANY)?;
        scene
            .incident_says("second", "Contained", "False", "CapReached")
            .await?;
        scene.label_is("second", None).await?;
        scene.decide(&first, "Release").await?;
        scene
            .incident_says("first", "Closed", "True", "Released")
            .await?;
        let second = scene
            .incident_says("second", "Contained", "True", "Isolated")
            .await?;
        scene.label_is("second", Some(&second.name_any())).await
    })
    .await
}

#[tokio::test]
async fn when_many_pods_cross_at_once_the_breaker_opens_and_a_release_still_works()
-> anyhow::Result<()> {
    with_scene(&["--breaker-pods", "5"], async |scene| {
        scene.run("rogue", json!({})).await?;
        let address = |number: u8| format!("10.244.1.{number}");
        for number in 1..=CROSSINGS {
            let name = format!("rogue-{number}");
            scene.pod(&name, "rogue", &address(number)).await?;
        }
        scene.settle().await?;
        scene.log.scan_hosts(&address(1), 0, MANY)?;
        let first = scene
            .incident_says("rogue-1", "Contained", "True", "Isolated")
            .await?;
        for number in 2..=CROSSINGS {
            scene.log.scan_hosts(&address(number), 0, MANY)?;
        }
        // Whichever comes last sees more crossings than are acted on.
        let mut held_back = 0;
        for number in 2..=CROSSINGS {
            let incident = scene
                .wait_incident(&format!("rogue-{number}"), "a decision", |incident| {
                    let said = conditions(incident);
                    says(said, "Contained", "True", "Isolated")
                        || says(said, "Contained", "False", "BreakerOpen")
                })
                .await?;
            if results(&incident, ActionKind::Isolate).is_empty() {
                held_back += 1;
                scene.label_is(&incident.spec.subject.name, None).await?;
            }
        }
        assert!(held_back >= 1, "{held_back} of {CROSSINGS}");
        scene.decide(&first, "Release").await?;
        scene
            .incident_says("rogue-1", "Closed", "True", "Released")
            .await?;
        scene.label_is("rogue-1", None).await
    })
    .await
}

#[tokio::test]
async fn with_scope_run_every_pod_of_the_run_is_isolated_and_no_other() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        let whole = json!({ "response": { "scope": "Run" } });
        scene.rogue_pod(whole).await?;
        scene.pod("accomplice", "rogue", "10.244.1.67").await?;
        scene.settle().await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        let incident = scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        let name = incident.name_any();
        scene.label_is("rogue", Some(&name)).await?;
        scene.label_is("accomplice", Some(&name)).await?;
        scene.label_is("honest-1", None).await?;
        scene.decide(&incident, "Release").await?;
        scene.label_is("rogue", None).await?;
        scene.label_is("accomplice", None).await
    })
    .await
}
