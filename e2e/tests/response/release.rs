//! Release: a human's word undoes exactly what was done, and detection starts anew.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::DeleteParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use yellowjack::testing::api::{ActionKind, ActionResult, Incident, labels};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{
    ApiFixture, Fixture, ROGUE_IP, SCANNED_HOSTS, action_results, has_condition,
    incident_conditions, with_fixture,
};

/// A second pod of the same Job.
const SECOND_IP: &str = "10.244.1.67";

#[tokio::test]
async fn a_release_takes_the_label_off_and_old_contacts_no_longer_count() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let first = fixture.isolated_rogue_pod().await?;
        fixture.decide(&first, "Release").await?;
        let first = fixture.until_released("rogue").await?;
        assert!(first.status.as_ref().is_some_and(|s| s.closed_at.is_some()));
        fixture.until_quarantine_label("rogue", None).await?;
        fixture
            .run_condition("rogue", "Quarantined", "False", "NotQuarantined")
            .await?;
        fixture
            .run_condition("rogue", "Suspicious", "False", "NoOpenIncidents")
            .await?;
        fixture
            .run_condition("rogue", "Ready", "True", "GuardrailsInPlace")
            .await?;

        // One more contact would cross the line again if the old ones still counted.
        fixture.log.scan_hosts(ROGUE_IP, 1, 3)?;
        fixture.create_pod("marker", "rogue", SECOND_IP).await?;
        fixture.sync().await?;
        fixture.log.scan_hosts(SECOND_IP, 3, SCANNED_HOSTS)?;
        fixture.until_isolated("marker").await?;
        let incidents = fixture.incidents_of("rogue").await?;
        assert_eq!(incidents.len(), 1, "{incidents:#?}");
        fixture.until_quarantine_label("rogue", None).await?;

        fixture.log.scan_hosts(ROGUE_IP, 2, SCANNED_HOSTS)?;
        let second = fixture.until_isolated("rogue").await?;
        assert_ne!(second.name_any(), first.name_any());
        fixture
            .until_quarantine_label("rogue", Some(&second.name_any()))
            .await
    })
    .await
}

#[tokio::test]
async fn a_job_that_did_not_say_suspend_is_restored_to_what_the_server_makes_of_that()
-> anyhow::Result<()> {
    restores_exactly(json!({})).await
}

#[tokio::test]
async fn a_job_that_said_suspend_false_is_restored_to_false() -> anyhow::Result<()> {
    restores_exactly(json!({ "suspend": false })).await
}

/// Quarantines a Job's pod so that the Job is suspended, releases it, and compares the Job.
async fn restores_exactly(spec: Value) -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let pod = fixture.create_rogue_job(spec, json!({})).await?;
        let before = serde_json::to_value(fixture.get::<Job>("work").await?.spec)?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        open_connection_after_isolation(fixture, &pod, ROGUE_IP).await?;
        let suspended = serde_json::to_value(fixture.until_job_suspend(true).await?.spec)?;
        assert_ne!(before, suspended);

        let incident = until_suspended(fixture, &pod).await?;
        fixture.decide(&incident, "Release").await?;
        let closed = fixture.until_released(&pod).await?;
        assert!(action_results(&closed, ActionKind::Restore).contains(&ActionResult::Succeeded));
        let restored = fixture.until_job_suspend(false).await?;
        assert_eq!(serde_json::to_value(&restored.spec)?, before);
        let replacement = fixture.pod_of_job("work").await?;
        fixture.until_quarantine_label(&replacement, None).await?;
        fixture
            .run_condition("rogue", "Ready", "True", "GuardrailsInPlace")
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_job_that_somebody_resumed_meanwhile_stays_resumed() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let pod = fixture.create_rogue_job(json!({}), json!({})).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        open_connection_after_isolation(fixture, &pod, ROGUE_IP).await?;
        let incident = until_suspended(fixture, &pod).await?;
        fixture
            .incident_condition(&pod, "Contained", "True", "PodGone")
            .await?;
        fixture
            .env
            .kubectl(&[
                "patch",
                "job",
                "work",
                "--patch",
                r#"{"spec":{"suspend":false}}"#,
            ])
            .await?;
        fixture.decide(&incident, "Release").await?;
        let closed = fixture.until_released(&pod).await?;
        // It is what it was before, whoever saw to that.
        assert_eq!(
            action_results(&closed, ActionKind::Restore).last(),
            Some(&ActionResult::Succeeded)
        );
        fixture.until_job_suspend(false).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_job_stays_suspended_for_a_second_incident_whose_pod_went_with_it() -> anyhow::Result<()>
{
    with_fixture(&[], async |fixture| {
        let (first, second) = two_pods_of_a_job(fixture).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture.log.scan_hosts(SECOND_IP, 0, SCANNED_HOSTS)?;
        let other = fixture.until_isolated(&second).await?;
        open_connection_after_isolation(fixture, &first, ROGUE_IP).await?;
        let incident = until_suspended(fixture, &first).await?;
        let other = fixture
            .until_incident(&second, "its pod is gone", |i| {
                has_condition(incident_conditions(i), "Contained", "True", "PodGone")
                    && i.uid() == other.uid()
            })
            .await?;
        assert_eq!(action_results(&other, ActionKind::Suspend), []);

        fixture.decide(&incident, "Release").await?;
        let closed = fixture.until_released(&first).await?;
        assert_eq!(
            action_results(&closed, ActionKind::Restore).last(),
            Some(&ActionResult::Skipped)
        );
        fixture.until_job_suspend(true).await?;
        fixture.decide(&other, "Release").await?;
        fixture.until_released(&second).await?;
        fixture.until_job_suspend(false).await?;
        Ok(())
    })
    .await
}

/// A Job of two pods with the addresses of the two rogues, and the run `rogue` over it.
async fn two_pods_of_a_job(fixture: &ApiFixture) -> anyhow::Result<(String, String)> {
    let first = fixture
        .create_rogue_job(json!({ "parallelism": 2 }), json!({}))
        .await?;
    let of_job = "batch.kubernetes.io/job-name=work";
    let second = fixture.until_pod_with(of_job, |name| name != first).await?;
    fixture.set_pod_ip(&second, SECOND_IP).await?;
    fixture.sync().await?;
    Ok((first, second))
}

/// Waits for the isolation, and lets a connection begin after it.
async fn open_connection_after_isolation(
    fixture: &ApiFixture,
    pod: &str,
    ip: &str,
) -> anyhow::Result<()> {
    fixture
        .incident_condition(pod, "Verified", "Unknown", "AwaitingProof")
        .await?;
    fixture
        .log
        .answered(ip, Timestamp::now() + Duration::from_secs(5))
}

/// Waits until the Incident records that the Job was suspended.
async fn until_suspended(fixture: &ApiFixture, pod: &str) -> anyhow::Result<Incident> {
    fixture
        .until_action(pod, ActionKind::Suspend, &[ActionResult::Succeeded])
        .await
}

#[tokio::test]
async fn a_pod_of_a_released_template_run_is_not_held_by_its_own_guard() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let target = build::template_target();
        fixture.create_run_for("made", target, json!({})).await?;
        let job = "yellowjack-run-made";
        let pod = fixture.pod_of_job(job).await?;
        fixture.set_pod_ip(&pod, ROGUE_IP).await?;
        fixture.sync().await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        open_connection_after_isolation(fixture, &pod, ROGUE_IP).await?;
        let incident = until_suspended(fixture, &pod).await?;
        let jobs: Api<Job> = fixture.api();
        let suspended = jobs.get(job).await?.spec.and_then(|spec| spec.suspend);
        assert_eq!(suspended, Some(true), "the controller let it run again");
        fixture.decide(&incident, "Release").await?;
        fixture.until_released(&pod).await?;
        let resumed = jobs.get(job).await?;
        assert_eq!(resumed.spec.and_then(|spec| spec.suspend), Some(false));
        let next = fixture.pod_of_job(job).await?;
        let found = fixture.pods().get(&next).await?;
        assert!(!found.labels().contains_key(labels::QUARANTINE));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_quarantined_pod_of_which_the_incident_was_deleted_gets_it_again_and_can_be_released()
-> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let before = fixture.isolated_rogue_pod().await?;
        let name = before.name_any();
        let incidents = fixture.api::<Incident>();
        incidents.delete(&name, &DeleteParams::default()).await?;
        let again = fixture
            .until::<Incident>(&name, "another one", |incident| {
                incident.uid() != before.uid()
            })
            .await?;
        assert_eq!(again.spec.subject, before.spec.subject);
        assert_eq!(again.spec.run, before.spec.run);
        fixture.until_isolated("rogue").await?;
        fixture.decide(&again, "Release").await?;
        fixture.until_released("rogue").await?;
        fixture.until_quarantine_label("rogue", None).await
    })
    .await
}
