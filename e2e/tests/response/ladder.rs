//! What follows where isolation does not hold: proof, survivors, a wide union of policies, the
//! suspended owner, and a human who ends it.

use k8s_openapi::api::batch::v1::Job;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use serde_json::json;
use yellowjack::testing::api::{ActionKind, ActionResult};
use yellowjack_e2e::fixture::{
    ApiFixture, Fixture, HONEST_IP, ROGUE_IP, SCANNED_HOSTS, VERIFICATION_SPAN, action_results,
    with_fixture,
};
use yellowjack_e2e::proxy::Write;

fn suspends(write: &Write) -> bool {
    write.path.contains("/jobs/work") && write.body.pointer("/spec/suspend") == Some(&json!(true))
}

/// Place of the write that first stores a part of an Incident's status.
fn first_with(fixture: &ApiFixture, part: &str) -> Option<usize> {
    let stored = |write: &Write| {
        let part = write.body.pointer(&format!("/status/{part}"));
        part.is_some_and(|part| !part.is_null() && *part != json!([]))
    };
    fixture.write_positions(stored).first().copied()
}

#[tokio::test]
async fn the_stop_is_verified_once_the_log_goes_on_without_the_pod() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture.create_rogue_pod(json!({})).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture
            .incident_condition("rogue", "Verified", "Unknown", "AwaitingProof")
            .await?;
        fixture.log.chatter(HONEST_IP, VERIFICATION_SPAN)?;
        let incident = fixture
            .incident_condition("rogue", "Verified", "True", "Verified")
            .await?;
        fixture
            .run_condition("rogue", "Quarantined", "True", "Verified")
            .await?;
        assert!(action_results(&incident, ActionKind::Suspend).is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_log_that_tells_of_no_living_connection_verifies_no_stop() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture.create_rogue_pod(json!({})).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture
            .incident_condition("rogue", "Verified", "Unknown", "AwaitingProof")
            .await?;
        fixture
            .log
            .chatter_without_alive(HONEST_IP, VERIFICATION_SPAN)?;
        fixture
            .incident_condition(
                "rogue",
                "Verified",
                "Unknown",
                "OpenConnectionsUnverifiable",
            )
            .await?;
        let later = Timestamp::now() + VERIFICATION_SPAN;
        fixture.log.lives_on(HONEST_IP, later)?;
        fixture
            .incident_condition("rogue", "Verified", "True", "Verified")
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn connections_that_survive_suspend_the_job_after_capture_and_saved_state()
-> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let pod = fixture.create_rogue_job(json!({}), json!({})).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture
            .incident_condition(&pod, "Verified", "Unknown", "AwaitingProof")
            .await?;
        fixture
            .log
            .answered(ROGUE_IP, Timestamp::now() + Duration::from_secs(5))?;
        fixture.until_job_suspend(true).await?;

        let incident = fixture
            .until_action(&pod, ActionKind::Suspend, &[ActionResult::Succeeded])
            .await?;
        assert_eq!(
            action_results(&incident, ActionKind::Capture),
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
        let suspended = fixture.write_positions(suspends);
        let suspended = *suspended.first().expect("a suspension");
        assert!(first_with(fixture, "capture").expect("a capture") < suspended);
        assert!(first_with(fixture, "restore").expect("a saved state") < suspended);
        fixture
            .incident_condition(&pod, "Contained", "True", "PodGone")
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_policy_that_widens_the_union_is_named_and_the_job_suspended() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let pod = fixture.create_rogue_job(json!({}), json!({})).await?;
        fixture.allow_all_egress().await?;
        let message = fixture
            .run_condition("rogue", "NetworkGuarded", "False", "UnionWidened")
            .await?;
        assert!(message.contains("theirs"), "{message}");
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture
            .until_action(&pod, ActionKind::Suspend, &[ActionResult::Succeeded])
            .await?;
        assert_eq!(
            action_results(&incident, ActionKind::Isolate),
            [ActionResult::Succeeded]
        );
        fixture.until_job_suspend(true).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn where_nothing_can_be_suspended_a_widened_union_is_not_called_contained()
-> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture.create_rogue_pod(json!({})).await?;
        fixture.allow_all_egress().await?;
        fixture
            .run_condition("rogue", "NetworkGuarded", "False", "UnionWidened")
            .await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture
            .incident_condition("rogue", "Contained", "False", "UnionWidened")
            .await?;
        assert_eq!(
            action_results(&incident, ActionKind::Suspend),
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
    with_fixture(&[], async |fixture| {
        let limits = json!({ "response": { "maxAction": "Isolate" } });
        let pod = fixture.create_rogue_job(json!({}), limits).await?;
        fixture.allow_all_egress().await?;
        fixture.sync().await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture
            .incident_condition(&pod, "Contained", "False", "UnionWidened")
            .await?;
        fixture.sync().await?;
        fixture.until_job_suspend(false).await?;
        assert!(fixture.write_positions(suspends).is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_human_who_says_terminate_ends_owner_and_pod() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let pod = fixture.create_rogue_job(json!({}), json!({})).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture.until_isolated(&pod).await?;
        fixture.decide(&incident, "Terminate").await?;
        fixture.until_job_suspend(true).await?;
        fixture.until_gone::<Pod>(&pod).await?;
        let incident = fixture
            .incident_condition(&pod, "Closed", "True", "Terminated")
            .await?;
        assert_eq!(
            action_results(&incident, ActionKind::Suspend),
            [ActionResult::Succeeded]
        );
        assert!(
            fixture
                .get::<Job>("work")
                .await?
                .metadata
                .deletion_timestamp
                .is_none()
        );
        Ok(())
    })
    .await
}
