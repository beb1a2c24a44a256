//! Scenarios in which a part dies, is away or starts again, and one in which an honest pod gets the
//! address of a rogue one.

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::DeleteParams;
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::proxy::KillTime;
use yellowjack_e2e::standin::StandinMode;
use yellowjack_e2e::{Operator, wait_for};

use crate::fixture::{NodeFixture, REFUSING_NETWORK, Rogue, with_node_fixture};

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(30);

/// A scan that crosses the line after some 4 s: slow enough that something can happen meanwhile.
fn slow_scan() -> String {
    format!("while true; do nmap -n -Pn -sT --max-rate 10 -p 22 {REFUSING_NETWORK}; done")
}

/// The end of each of these: isolated, nothing more gets out though the pod tries, all honest packets
/// arrived.
async fn ends(fixture: &NodeFixture, name: &str, rogue: &Rogue) -> anyhow::Result<()> {
    fixture.until_verified(rogue).await?;
    let mut row = fixture.measure(name, rogue, |_| false)?;
    // The bar is for a whole operator: with a part away these times are what it was away.
    row.mode = format!("{}, disturbed", row.mode);
    fixture.conclude(row).await
}

/// Waits until the controller has died as it was told, and starts it again.
pub async fn revive(fixture: &NodeFixture) -> anyhow::Result<()> {
    wait_for("the controller's death", LIMIT, async || {
        if fixture.proxy.kill_pending() {
            Err("it lives".to_owned())
        } else {
            Ok(())
        }
    })
    .await?;
    fixture.start_controller().await
}

/// Waits until so many packets of a scan have arrived.
pub async fn scanning(fixture: &NodeFixture, rogue: &Rogue, count: usize) -> anyhow::Result<()> {
    wait_for("the scan to be under way", LIMIT, async || {
        let seen = fixture
            .arrivals_of(rogue)
            .map_err(|e| format!("{e:#}"))?
            .len();
        if seen >= count {
            Ok(())
        } else {
            Err(format!("{seen} packets"))
        }
    })
    .await
}

/// Deletes a pod at once, and starts an honest one with its address.
pub async fn successor(fixture: &NodeFixture, rogue: &Rogue) -> anyhow::Result<Rogue> {
    let pods: Api<Pod> = fixture.api();
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
    fixture.node.give_next(rogue.address.parse()?)?;
    fixture.create_run_to("second", "203.0.113.0/24").await?;
    let requests = "toolbox get -count 0 -interval 100ms http://203.0.113.10/bytes/1000";
    fixture
        .create_gated_pod("second", "second", requests)
        .await?;
    let second = fixture.addresses_of("second").await?;
    ensure!(
        second.address == rogue.address,
        "the address was not given again"
    );
    fixture.until_guarded("second", 1).await?;
    fixture.open_gate(&second.address).await?;
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
        with_node_fixture(StandinMode::Packet, &[], async |fixture| {
            let pid = fixture.controller.lock().await.as_ref().map(Operator::pid);
            let rogue = fixture.create_rogue_pod(&slow_scan()).await?;
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
            fixture
                .proxy
                .kill_at_write_of(&only, nth, time, pid.unwrap_or_default());
            fixture.open_gate(&rogue.address).await?;
            revive(fixture).await?;
            ends(fixture, &format!("controller killed {place}"), &rogue).await
        })
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn an_agent_restarted_during_a_scan_finds_it_all_the_same() -> anyhow::Result<()> {
    with_node_fixture(StandinMode::Packet, &[], async |fixture| {
        let rogue = fixture.start_rogue_pod(&slow_scan()).await?;
        scanning(fixture, &rogue, 10).await?;
        *fixture.agent.lock().await = None;
        scanning(fixture, &rogue, 20).await?;
        fixture.start_agent().await?;
        ends(fixture, "agent killed and restarted", &rogue).await
    })
    .await
}

#[tokio::test]
async fn a_log_rotated_during_a_scan_costs_nothing() -> anyhow::Result<()> {
    with_node_fixture(StandinMode::Packet, &[], async |fixture| {
        let rogue = fixture.start_rogue_pod(&slow_scan()).await?;
        scanning(fixture, &rogue, 15).await?;
        fixture.node.rotate_egress_log()?;
        ends(fixture, "log rotated", &rogue).await
    })
    .await
}

#[tokio::test]
async fn what_was_found_while_the_api_server_was_away_is_acted_on_after() -> anyhow::Result<()> {
    with_node_fixture(StandinMode::Packet, &[], async |fixture| {
        let rogue = fixture.start_rogue_pod(&slow_scan()).await?;
        scanning(fixture, &rogue, 10).await?;
        fixture.node.signal("kube-apiserver", "STOP")?;
        let away = wait_for("the API server's absence to pass", AWAY, async || {
            Err::<(), _>("it is away".to_owned())
        })
        .await;
        fixture.node.signal("kube-apiserver", "CONT")?;
        ensure!(away.is_err(), "the wait ended early");
        ends(fixture, "API server away for 30 s", &rogue).await
    })
    .await
}

#[tokio::test]
async fn an_honest_pod_with_the_address_of_a_rogue_one_is_left_alone() -> anyhow::Result<()> {
    with_node_fixture(StandinMode::Packet, &[], async |fixture| {
        let script = format!("while true; do nmap -n -Pn -sT -p 22 {REFUSING_NETWORK}; done");
        let rogue = fixture.start_rogue_pod(&script).await?;
        fixture.until_labelled(&rogue.pod).await?;
        let second = successor(fixture, &rogue).await?;
        let pods: Api<Pod> = fixture.api();
        let before = fixture.arrivals_of(&second)?.len();
        // Longer than the agent waits for late lines of the first pod.
        scanning(fixture, &second, before + 1000).await?;
        ensure!(
            fixture.incidents_of("second").await?.is_empty(),
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
        let lost = fixture.honest_packets_lost().await?;
        ensure!(lost == 0, "the honest run lost {lost} packets");
        Ok(())
    })
    .await
}
