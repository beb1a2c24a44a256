//! The controller dies around each step above isolation, while a tunnel survives the deny.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::node::{Arrival, SSH_IP};
use yellowjack_e2e::proxy::KillTime;
use yellowjack_e2e::standin::StandinMode;
use yellowjack_e2e::{Operator, wait_for};

use crate::disturbed::revive;
use crate::fixture::{LATER_GATE_PORT, NodeFixture, with_node_fixture};
use crate::tunnel::{in_use, is_suspended, ssh, with_scan};

/// The pod's grace period, in seconds: long enough to be cut short.
const GRACE_S: i64 = 30;

async fn killed(
    fixture: &NodeFixture,
    place: &str,
    time: KillTime,
    step: Step,
) -> anyhow::Result<()> {
    let rogue = fixture
        .create_rogue_job(&with_scan(&ssh(SSH_IP)), GRACE_S)
        .await?;
    fixture.open_gate(&rogue.address).await?;
    let is_open = |arrival: &Arrival| arrival.to == SSH_IP;
    in_use(fixture, &rogue, is_open).await?;
    let pid = fixture.controller.lock().await.as_ref().map(Operator::pid);
    let pid = pid.unwrap_or_default();
    match step {
        Step::Suspend => {
            let path = "/jobs/work".to_owned();
            fixture.proxy.kill_at_write_of(&[path], 1, time, pid);
        }
        Step::Hasten => {
            let path = format!("/pods/{}", rogue.pod);
            fixture.proxy.kill_at_delete_of(&path, time, pid);
        }
    }
    fixture
        .open_gate_at(&rogue.address, LATER_GATE_PORT)
        .await?;
    revive(fixture).await?;
    let incident = fixture
        .incident_condition(&rogue.pod, "Contained", "True", "PodGone")
        .await?;
    let status = incident.status.unwrap_or_default();
    ensure!(status.capture.is_some(), "nothing was captured: {status:?}");
    ensure!(
        status.restore.len() == 1,
        "what was is not kept: {status:?}"
    );
    ensure!(is_suspended(fixture).await?, "the Job is not suspended");
    let pods: Api<Pod> = fixture.api();
    wait_for("the pod to be gone", LIMIT, async || {
        match pods.get_opt(&rogue.pod).await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|_| "it is there"))),
        }
    })
    .await?;
    fixture.until_silent(&rogue).await?;
    let mut row = fixture.measure(&format!("controller killed {place}"), &rogue, is_open)?;
    row.mode = format!("{}, disturbed", row.mode);
    fixture.conclude(row).await
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
        with_node_fixture(StandinMode::Connection, &[], async |fixture| {
            killed(fixture, place, time, step).await
        })
        .await?;
    }
    Ok(())
}
