//! The controller dies around each step above isolation, while a tunnel survives the deny.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use yellowjack_e2e::node::{Arrival, SSH_IP};
use yellowjack_e2e::proxy::KillTime;
use yellowjack_e2e::standin::StandinMode;
use yellowjack_e2e::{Operator, wait_for};

use crate::disturbed::revive;
use crate::stage::{LATER_GATE_PORT, LIMIT, Stage, on_stage};
use crate::tunnel::{in_use, is_suspended, ssh, with_scan};

/// The pod's grace period, in seconds: long enough to be cut short.
const GRACE_S: i64 = 30;

async fn killed(stage: &Stage, place: &str, time: KillTime, step: Step) -> anyhow::Result<()> {
    let rogue = stage
        .rogue_job_with_grace(&with_scan(&ssh(SSH_IP)), GRACE_S)
        .await?;
    stage.open_gate(&rogue.address).await?;
    let is_open = |arrival: &Arrival| arrival.to == SSH_IP;
    in_use(stage, &rogue, is_open).await?;
    let pid = stage.controller.lock().await.as_ref().map(Operator::pid);
    let pid = pid.unwrap_or_default();
    match step {
        Step::Suspend => {
            let path = "/jobs/work".to_owned();
            stage.proxy.kill_at_write_of(&[path], 1, time, pid);
        }
        Step::Hasten => {
            let path = format!("/pods/{}", rogue.pod);
            stage.proxy.kill_at_delete_of(&path, time, pid);
        }
    }
    stage.open_gate_at(&rogue.address, LATER_GATE_PORT).await?;
    revive(stage).await?;
    let incident = stage
        .incident_says(&rogue.pod, "Contained", "True", &["PodGone"])
        .await?;
    let status = incident.status.unwrap_or_default();
    ensure!(status.capture.is_some(), "nothing was captured: {status:?}");
    ensure!(
        status.restore.len() == 1,
        "what was is not kept: {status:?}"
    );
    ensure!(is_suspended(stage).await?, "the Job is not suspended");
    let pods: Api<Pod> = stage.env.api();
    wait_for("the pod to be gone", LIMIT, async || {
        match pods.get_opt(&rogue.pod).await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|_| "it is there"))),
        }
    })
    .await?;
    stage.quiet(&rogue).await?;
    let mut row = stage.measure(&format!("controller killed {place}"), &rogue, is_open)?;
    row.mode = format!("{}, disturbed", row.mode);
    stage.conclude(row).await
}

#[derive(Clone, Copy)]
enum Step {
    Suspend,
    Hasten,
}

#[tokio::test]
async fn a_controller_killed_around_the_suspension_ends_the_pod_after_its_restart()
-> anyhow::Result<()> {
    for (place, time, step) in [
        ("before the suspension", KillTime::Before, Step::Suspend),
        ("after the suspension", KillTime::After, Step::Suspend),
        ("before it hastens the pod", KillTime::Before, Step::Hasten),
        ("after it hastened the pod", KillTime::After, Step::Hasten),
    ] {
        on_stage(StandinMode::Connection, &[], async |stage| {
            killed(stage, place, time, step).await
        })
        .await?;
    }
    Ok(())
}
