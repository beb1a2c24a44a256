//! What follows where isolation does not hold: proof, survivors, a wide union of policies, the
//! suspended owner, and a human who ends it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::json;
use yellowjack::testing::api::{ActionKind, ActionResult};
use yellowjack_e2e::proxy::Write;
use yellowjack_e2e::wait_for;

use crate::scene::{
    HONEST_IP, LIMIT, MANY, QUIET, ROGUE_IP, Scene, everything_out, results, with_scene,
};

fn suspends(write: &Write) -> bool {
    write.path.contains("/jobs/work") && write.body.pointer("/spec/suspend") == Some(&json!(true))
}

/// Place of the write that first stores a part of an Incident's status.
fn first_with(scene: &Scene, part: &str) -> Option<usize> {
    let stored = |write: &Write| {
        let part = write.body.pointer(&format!("/status/{part}"));
        part.is_some_and(|part| !part.is_null() && *part != json!([]))
    };
    scene.places(stored).first().copied()
}

#[tokio::test]
async fn the_stop_is_verified_once_the_log_goes_on_without_the_pod() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        scene
            .incident_says("rogue", "Verified", "Unknown", "AwaitingProof")
            .await?;
        scene.log.chatter(HONEST_IP, QUIET)?;
        let incident = scene
            .incident_says("rogue", "Verified", "True", "Verified")
            .await?;
        scene
            .run_says("rogue", "Quarantined", "True", "Verified")
            .await?;
        assert!(results(&incident, ActionKind::Suspend).is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_log_that_tells_of_no_living_connection_verifies_no_stop() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        scene
            .incident_says("rogue", "Verified", "Unknown", "AwaitingProof")
            .await?;
        scene.log.chatter_without_alive(HONEST_IP, QUIET)?;
        scene
            .incident_says(
                "rogue",
                "Verified",
                "Unknown",
                "OpenConnectionsUnverifiable",
            )
            .await?;
        let later = Timestamp::now() + QUIET;
        scene.log.lives_on(HONEST_IP, later)?;
        scene
            .incident_says("rogue", "Verified", "True", "Verified")
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn connections_that_survive_suspend_the_job_after_capture_and_saved_state()
-> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        let pod = scene.rogue_job(json!({}), json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        scene
            .incident_says(&pod, "Verified", "Unknown", "AwaitingProof")
            .await?;
        scene
            .log
            .answered(ROGUE_IP, Timestamp::now() + Duration::from_secs(5))?;
        scene.suspend_is(true).await?;

        let incident = scene
            .wait_incident(&pod, "the suspension is noted", |incident| {
                results(incident, ActionKind::Suspend) == [ActionResult::Succeeded]
            })
            .await?;
        assert_eq!(
            results(&incident, ActionKind::Capture),
            [ActionResult::Succeeded]
        );
        let status = incident.status.unwrap_or_default();
        let capture = status.capture.expect("a capture");
        assert_eq!(capture.pod["metadata"]["name"], pod);
        assert!(
            capture
                .selected_by
                .contains(&"yellowjack-quarantine".to_owned()),
            "{:?}",
            capture.selected_by
        );
        assert_eq!(status.restore.len(), 1, "{:?}", status.restore);
        let suspended = scene.places(suspends);
        let suspended = *suspended.first().expect("a suspension");
        assert!(first_with(scene, "capture").expect("a capture") < suspended);
        assert!(first_with(scene, "restore").expect("a saved state") < suspended);
        scene
            .incident_says(&pod, "Contained", "True", "PodGone")
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_policy_that_widens_the_union_is_named_and_the_job_suspended() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        let pod = scene.rogue_job(json!({}), json!({})).await?;
        scene.foreign_policy("theirs", everything_out()).await?;
        let message = scene
            .run_says("rogue", "NetworkGuarded", "False", "UnionWidened")
            .await?;
        assert!(message.contains("theirs"), "{message}");
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        let incident = scene
            .wait_incident(&pod, "the suspension is noted", |incident| {
                results(incident, ActionKind::Suspend) == [ActionResult::Succeeded]
            })
            .await?;
        assert_eq!(
            results(&incident, ActionKind::Isolate),
            [ActionResult::Succeeded]
        );
        scene.suspend_is(true).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn where_nothing_can_be_suspended_a_widened_union_is_not_called_contained()
-> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.foreign_policy("theirs", everything_out()).await?;
        scene
            .run_says("rogue", "NetworkGuarded", "False", "UnionWidened")
            .await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        let incident = scene
            .incident_says("rogue", "Contained", "False", "UnionWidened")
            .await?;
        assert_eq!(
            results(&incident, ActionKind::Suspend),
            [ActionResult::Skipped]
        );
        assert_eq!(incident.status.unwrap_or_default().widened_by, ["theirs"]);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn max_action_isolate_leaves_the_job_running_and_says_that_it_does_not_hold()
-> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        let limits = json!({ "response": { "maxAction": "Isolate" } });
        let pod = scene.rogue_job(json!({}), limits).await?;
        scene.foreign_policy("theirs", everything_out()).await?;
        scene.settle().await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        scene
            .incident_says(&pod, "Contained", "False", "UnionWidened")
            .await?;
        scene.settle().await?;
        scene.suspend_is(false).await?;
        assert!(scene.places(suspends).is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_human_who_says_terminate_ends_owner_and_pod() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        let pod = scene.rogue_job(json!({}), json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        let incident = scene
            .incident_says(&pod, "Contained", "True", "Isolated")
            .await?;
        scene.decide(&incident, "Terminate").await?;
        scene.suspend_is(true).await?;
        wait_for("the pod's deletion", LIMIT, async || {
            match scene.pods().get_opt(&pod).await {
                Ok(None) => Ok(()),
                Ok(Some(found)) => Err(format!("{:?}", found.metadata.deletion_timestamp)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
        let incident = scene
            .incident_says(&pod, "Closed", "True", "Terminated")
            .await?;
        assert_eq!(
            results(&incident, ActionKind::Suspend),
            [ActionResult::Succeeded]
        );
        assert!(scene.get_job().await?.metadata.deletion_timestamp.is_none());
        Ok(())
    })
    .await
}
