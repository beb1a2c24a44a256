//! Scenarios in which a part dies, is away or starts again, and one in which an honest pod gets the
//! address of a rogue one.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use yellowjack_e2e::proxy::KillTime;
use yellowjack_e2e::standin::StandinMode;
use yellowjack_e2e::{Operator, wait_for};

use crate::stage::{LIMIT, REFUSING_NETWORK, Rogue, Stage, on_stage};

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(30);

/// A scan that crosses the line after some 4 s: slow enough that something can happen meanwhile.
fn slow_scan() -> String {
    format!("while true; do nmap -n -Pn -sT --max-rate 10 -p 22 {REFUSING_NETWORK}; done")
}

/// The end of each of these: isolated, nothing more gets out though the pod tries, all honest packets
/// arrived.
async fn ends(stage: &Stage, name: &str, rogue: &Rogue) -> anyhow::Result<()> {
    stage.isolated(&rogue.pod).await?;
    stage
        .incident_says(&rogue.pod, "Contained", "True", &["Isolated"])
        .await?;
    stage.quiet(rogue).await?;
    stage.tries_on(rogue).await?;
    stage
        .incident_says(&rogue.pod, "Verified", "True", &["Verified"])
        .await?;
    let mut row = stage.measure(name, rogue, |_| false)?;
    // The bar is for a whole operator: with a part away these times are what it was away.
    row.mode = format!("{}, disturbed", row.mode);
    stage.conclude(row).await
}

/// Waits until the controller has died as it was told, and starts it again.
pub async fn revive(stage: &Stage) -> anyhow::Result<()> {
    wait_for("the controller's death", LIMIT, async || {
        if stage.proxy.kill_pending() {
            Err("it lives".to_owned())
        } else {
            Ok(())
        }
    })
    .await?;
    stage.start_controller().await
}

/// Waits until so many packets of a scan have arrived.
pub async fn scanning(stage: &Stage, rogue: &Rogue, count: usize) -> anyhow::Result<()> {
    wait_for("the scan to be under way", LIMIT, async || {
        let seen = stage.arrivals(rogue).map_err(|e| format!("{e:#}"))?.len();
        if seen >= count {
            Ok(())
        } else {
            Err(format!("{seen} packets"))
        }
    })
    .await
}

/// Deletes a pod at once, and starts an honest one with its address.
pub async fn successor(stage: &Stage, rogue: &Rogue) -> anyhow::Result<Rogue> {
    let pods: Api<Pod> = stage.env.api();
    pods.delete(&rogue.pod, &DeleteParams::default().grace_period(0))
        .await?;
    wait_for("the address to be free", LIMIT, async || {
        let path = format!("/run/yellowjack-node/addresses/pods/{}", rogue.address);
        if std::path::Path::new(&path).exists() {
            Err(path)
        } else {
            Ok(())
        }
    })
    .await?;
    stage.node.give_next(rogue.address.parse()?)?;
    stage.run("second", "203.0.113.0/24").await?;
    let requests = "toolbox get -count 0 -interval 100ms http://203.0.113.10/bytes/1000";
    stage.pod("second", "second", requests).await?;
    let second = stage.addresses("second").await?;
    ensure!(
        second.address == rogue.address,
        "the address was not given again"
    );
    stage.guarded("second", 1).await?;
    stage.open_gate(&second.address).await?;
    Ok(second)
}

/// The controller dies right before or after its write to the pod or to the Incident, and is started
/// again.
#[tokio::test]
async fn a_controller_killed_on_the_ladder_goes_on_after_its_restart() -> anyhow::Result<()> {
    for (place, time, path) in [
        ("before the label", KillTime::Before, "/pods/rogue"),
        ("after the label", KillTime::After, "/pods/rogue"),
        ("after a record", KillTime::After, "/status"),
    ] {
        on_stage(StandinMode::Packet, &[], async |stage| {
            let pid = stage.controller.lock().await.as_ref().map(Operator::pid);
            let rogue = stage.rogue_pod_waiting(&slow_scan()).await?;
            let path = if path == "/status" {
                "/incidents/rogue".to_owned()
            } else {
                path.to_owned()
            };
            let only = [path];
            // The agent's write of the Incident is the first one to its path.
            let nth = if only.iter().any(|p| p.contains("incidents")) {
                2
            } else {
                1
            };
            stage
                .proxy
                .kill_at_write_of(&only, nth, time, pid.unwrap_or_default());
            stage.open_gate(&rogue.address).await?;
            revive(stage).await?;
            ends(stage, &format!("controller killed {place}"), &rogue).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_restarted_during_a_scan_finds_it_all_the_same() -> anyhow::Result<()> {
    on_stage(StandinMode::Packet, &[], async |stage| {
        let rogue = stage.rogue_pod(&slow_scan()).await?;
        scanning(stage, &rogue, 10).await?;
        *stage.agent.lock().await = None;
        scanning(stage, &rogue, 20).await?;
        stage.start_agent().await?;
        ends(stage, "agent killed and restarted", &rogue).await
    })
    .await
}

#[tokio::test]
async fn a_log_rotated_during_a_scan_costs_nothing() -> anyhow::Result<()> {
    on_stage(StandinMode::Packet, &[], async |stage| {
        let rogue = stage.rogue_pod(&slow_scan()).await?;
        scanning(stage, &rogue, 15).await?;
        stage.node.rotate_egress_log()?;
        ends(stage, "log rotated", &rogue).await
    })
    .await
}

#[tokio::test]
async fn what_was_found_while_the_api_server_was_away_is_acted_on_after() -> anyhow::Result<()> {
    on_stage(StandinMode::Packet, &[], async |stage| {
        let rogue = stage.rogue_pod(&slow_scan()).await?;
        scanning(stage, &rogue, 10).await?;
        stage.node.signal("kube-apiserver", "STOP")?;
        let away = wait_for("the API server's absence to pass", AWAY, async || {
            Err::<(), _>("it is away".to_owned())
        })
        .await;
        stage.node.signal("kube-apiserver", "CONT")?;
        ensure!(away.is_err(), "the wait ended early");
        ends(stage, "API server away for 30 s", &rogue).await
    })
    .await
}

#[tokio::test]
async fn an_honest_pod_with_the_address_of_a_rogue_one_is_left_alone() -> anyhow::Result<()> {
    on_stage(StandinMode::Packet, &[], async |stage| {
        let script = format!("while true; do nmap -n -Pn -sT -p 22 {REFUSING_NETWORK}; done");
        let rogue = stage.rogue_pod(&script).await?;
        stage.isolated(&rogue.pod).await?;
        let second = successor(stage, &rogue).await?;
        let pods: Api<Pod> = stage.env.api();
        let before = stage.arrivals(&second)?.len();
        // Longer than the agent waits for late lines of the first pod.
        scanning(stage, &second, before + 1000).await?;
        ensure!(
            stage.incidents_of("second").await?.is_empty(),
            "the honest pod has an Incident"
        );
        let labels = pods
            .get("second")
            .await?
            .metadata
            .labels
            .unwrap_or_default();
        ensure!(
            !labels.contains_key(yellowjack::testing::api::labels::QUARANTINE),
            "the honest pod is in quarantine"
        );
        let lost = stage.honest_lost().await?;
        ensure!(lost == 0, "the honest run lost {lost} packets");
        Ok(())
    })
    .await
}
