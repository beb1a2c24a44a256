//! Release: a human's word undoes exactly what was done, and detection starts anew.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use yellowjack::testing::api::{ActionKind, ActionResult, Incident, labels};
use yellowjack_e2e::{set_pod_ip, wait_for};

use crate::scene::{LIMIT, MANY, ROGUE_IP, Scene, conditions, results, says, with_scene};

/// A second pod of the same Job.
const SECOND_IP: &str = "10.244.1.67";

#[tokio::test]
async fn a_release_takes_the_label_off_and_old_contacts_no_longer_count() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        let first = scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        scene.decide(&first, "Release").await?;
        let first = scene
            .incident_says("rogue", "Closed", "True", "Released")
            .await?;
        assert!(first.status.as_ref().is_some_and(|s| s.closed_at.is_some()));
        scene.label_is("rogue", None).await?;
        scene
            .run_says("rogue", "Quarantined", "False", "NotQuarantined")
            .await?;
        scene
            .run_says("rogue", "Suspicious", "False", "NoOpenIncidents")
            .await?;
        scene
            .run_says("rogue", "Ready", "True", "GuardrailsInPlace")
            .await?;

        // One more contact would cross the line again if the old ones still counted.
        scene.log.scan_hosts(ROGUE_IP, 1, 3)?;
        scene.pod("marker", "rogue", SECOND_IP).await?;
        scene.settle().await?;
        scene.log.scan_hosts(SECOND_IP, 3, MANY)?;
        scene
            .incident_says("marker", "Contained", "True", "Isolated")
            .await?;
        let incidents = scene.incidents_of("rogue").await?;
        assert_eq!(incidents.len(), 1, "{incidents:#?}");
        scene.label_is("rogue", None).await?;

        scene.log.scan_hosts(ROGUE_IP, 2, MANY)?;
        let second = scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        assert_ne!(second.name_any(), first.name_any());
        scene.label_is("rogue", Some(&second.name_any())).await
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
    with_scene(&[], async |scene| {
        let pod = scene.rogue_job(spec, json!({})).await?;
        let before = serde_json::to_value(scene.get_job().await?.spec)?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        survive(scene, &pod, ROGUE_IP).await?;
        let suspended = serde_json::to_value(scene.suspend_is(true).await?.spec)?;
        assert_ne!(before, suspended);

        let incident = noted(scene, &pod).await?;
        scene.decide(&incident, "Release").await?;
        let closed = scene
            .incident_says(&pod, "Closed", "True", "Released")
            .await?;
        assert!(results(&closed, ActionKind::Restore).contains(&ActionResult::Succeeded));
        let restored = scene.suspend_is(false).await?;
        assert_eq!(serde_json::to_value(&restored.spec)?, before);
        let replacement = scene.pod_of_job("work").await?;
        scene.label_is(&replacement, None).await?;
        scene
            .run_says("rogue", "Ready", "True", "GuardrailsInPlace")
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_job_that_somebody_resumed_meanwhile_stays_resumed() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        let pod = scene.rogue_job(json!({}), json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        survive(scene, &pod, ROGUE_IP).await?;
        let incident = noted(scene, &pod).await?;
        scene
            .incident_says(&pod, "Contained", "True", "PodGone")
            .await?;
        scene
            .env
            .kubectl(&[
                "patch",
                "job",
                "work",
                "--patch",
                r#"{"spec":{"suspend":false}}"#,
            ])
            .await?;
        scene.decide(&incident, "Release").await?;
        let closed = scene
            .incident_says(&pod, "Closed", "True", "Released")
            .await?;
        // It is what it was before, whoever saw to that.
        assert_eq!(
            results(&closed, ActionKind::Restore).last(),
            Some(&ActionResult::Succeeded)
        );
        scene.suspend_is(false).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_job_stays_suspended_for_a_second_incident_whose_pod_went_with_it() -> anyhow::Result<()>
{
    with_scene(&[], async |scene| {
        let (first, second) = two_pods_of_a_job(scene).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        scene.log.scan_hosts(SECOND_IP, 0, MANY)?;
        let other = scene
            .incident_says(&second, "Contained", "True", "Isolated")
            .await?;
        survive(scene, &first, ROGUE_IP).await?;
        let incident = noted(scene, &first).await?;
        let other = scene
            .wait_incident(&second, "its pod is gone", |i| {
                says(conditions(i), "Contained", "True", "PodGone") && i.uid() == other.uid()
            })
            .await?;
        assert_eq!(results(&other, ActionKind::Suspend), []);

        scene.decide(&incident, "Release").await?;
        let closed = scene
            .incident_says(&first, "Closed", "True", "Released")
            .await?;
        assert_eq!(
            results(&closed, ActionKind::Restore).last(),
            Some(&ActionResult::Skipped)
        );
        scene.suspend_is(true).await?;
        scene.decide(&other, "Release").await?;
        scene
            .incident_says(&second, "Closed", "True", "Released")
            .await?;
        scene.suspend_is(false).await?;
        Ok(())
    })
    .await
}

/// A Job of two pods with the addresses of the two rogues, and the run `rogue` over it.
async fn two_pods_of_a_job(scene: &Scene) -> anyhow::Result<(String, String)> {
    let first = scene
        .rogue_job(json!({ "parallelism": 2 }), json!({}))
        .await?;
    let pods = scene.pods();
    let selector = ListParams::default().labels("batch.kubernetes.io/job-name=work");
    let second = wait_for("the second pod", LIMIT, async || {
        let list = pods.list(&selector).await.map_err(|e| e.to_string())?;
        let mut names = list.items.iter().map(ResourceExt::name_any);
        let other = names.find(|name| *name != first);
        other.ok_or_else(|| "one pod".to_owned())
    })
    .await?;
    set_pod_ip(&scene.env.client, &scene.env.namespace, &second, SECOND_IP).await?;
    scene.settle().await?;
    Ok((first, second))
}

/// Waits for the isolation, and lets a connection begin after it.
async fn survive(scene: &Scene, pod: &str, ip: &str) -> anyhow::Result<()> {
    scene
        .incident_says(pod, "Verified", "Unknown", "AwaitingProof")
        .await?;
    scene
        .log
        .answered(ip, Timestamp::now() + Duration::from_secs(5))
}

/// Waits until the suspension is in the record.
async fn noted(scene: &Scene, pod: &str) -> anyhow::Result<Incident> {
    scene
        .wait_incident(pod, "the suspension is noted", |incident| {
            results(incident, ActionKind::Suspend) == [ActionResult::Succeeded]
        })
        .await
}

#[tokio::test]
async fn a_pod_of_a_released_template_run_is_not_held_by_its_own_guard() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        let target = json!({ "template": { "pod": { "spec": {
            "containers": [{ "name": "agent", "image": "registry.invalid/agent:1" }],
        }}}});
        scene.run_over("made", target, json!({})).await?;
        let job = "yellowjack-run-made";
        let pod = scene.pod_of_job(job).await?;
        set_pod_ip(&scene.env.client, &scene.env.namespace, &pod, ROGUE_IP).await?;
        scene.settle().await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        survive(scene, &pod, ROGUE_IP).await?;
        let incident = noted(scene, &pod).await?;
        let jobs: Api<Job> = scene.env.api();
        let suspended = jobs.get(job).await?.spec.and_then(|spec| spec.suspend);
        assert_eq!(suspended, Some(true), "the controller let it run again");
        scene.decide(&incident, "Release").await?;
        scene
            .incident_says(&pod, "Closed", "True", "Released")
            .await?;
        let resumed = jobs.get(job).await?;
        assert_eq!(resumed.spec.and_then(|spec| spec.suspend), Some(false));
        let next = scene.pod_of_job(job).await?;
        let found = scene.pods().get(&next).await?;
        assert!(!found.labels().contains_key(labels::QUARANTINE));
        Ok(())
    })
    .await
}
