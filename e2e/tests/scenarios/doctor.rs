//! What `yellowjack doctor` says of a real engine's settings, beside what packets show with the same settings:
//! `YELLOWJACK_CILIUM_FLAGS` changes them.

use std::process::Stdio;

use anyhow::{Context, ensure};
use serde_json::Value;
use yellowjack_e2e::binary;
use yellowjack_e2e::fixture::Fixture;
use yellowjack_e2e::node::{Engine, FLAGS_VARIABLE};
use yellowjack_e2e::standin::StandinMode;

use crate::fixture::{NodeFixture, REFUSING_NETWORK, with_node_fixture};

/// The verdict and the sentence of one check of the doctor.
async fn check(fixture: &NodeFixture, name: &str) -> anyhow::Result<(String, String)> {
    let output = tokio::process::Command::new(binary()?)
        .args(["doctor", "-o", "json"])
        .env("KUBECONFIG", fixture.node.kubeconfig())
        .stdin(Stdio::null())
        .output()
        .await
        .context("failed to run the doctor")?;
    let report: Value = serde_json::from_slice(&output.stdout)
        .with_context(|| String::from_utf8_lossy(&output.stderr).into_owned())?;
    let checks = report.get("checks").and_then(Value::as_array);
    let found = checks
        .into_iter()
        .flatten()
        .find(|check| check.get("name").and_then(Value::as_str) == Some(name))
        .with_context(|| format!("no check {name}"))?;
    let text = |field: &str| {
        let value = found.get(field).and_then(Value::as_str);
        value.unwrap_or_default().to_owned()
    };
    println!("doctor: {name} {}: {}", text("verdict"), text("found"));
    Ok((text("verdict"), text("found")))
}

/// The time of a status of the Incident, if it has it.
fn cilium(status: &Value, field: &str) -> bool {
    status
        .pointer(&format!("/cilium/{field}"))
        .is_some_and(|value| !value.is_null())
}

#[tokio::test]
async fn the_doctor_tells_of_cilium_what_the_packets_show() -> anyhow::Result<()> {
    with_node_fixture(StandinMode::Packet, &[], async |fixture| {
        if fixture.engine != Some(Engine::Cilium) {
            println!("skipped: for Cilium");
            return Ok(());
        }
        let flags = std::env::var(FLAGS_VARIABLE).unwrap_or_default();
        let is_filtered = flags.contains("--labels=");
        let is_tuned = flags.contains("--identity-max-jitter=0s");
        let (verdict, _) = check(fixture, "cilium-labels").await?;
        ensure!(
            verdict == if is_filtered { "fail" } else { "ok" },
            "{verdict}"
        );
        let (verdict, _) = check(fixture, "cilium-waits").await?;
        ensure!(verdict == if is_tuned { "ok" } else { "warn" }, "{verdict}");
        let (verdict, _) = check(fixture, "cilium-flows").await?;
        ensure!(verdict == "ok", "{verdict}");
        let (verdict, found) = check(fixture, "deny").await?;
        ensure!(
            verdict == "ok" && found.contains("CiliumClusterwideNetworkPolicy"),
            "{verdict} {found}"
        );

        let scan = format!("while true; do nmap -n -Pn -sT -p 22 {REFUSING_NETWORK}; done");
        let rogue = fixture.start_rogue_pod(&scan).await?;
        fixture.until_verified(&rogue).await?;
        let incident = fixture
            .incident_condition(&rogue.pod, "Contained", "True", "Isolated")
            .await?;
        let status = serde_json::to_value(&incident.status)?;
        // With a filter without the labels of Yellowjack, the policy of the Incident is all that denies.
        if is_filtered {
            ensure!(!cilium(&status, "labelInForceSince"), "{status}");
        }
        ensure!(cilium(&status, "deniedSince"), "{status}");
        let row = fixture.measure("scan, as the doctor sees it", &rogue, |_| false)?;
        fixture.conclude(row).await
    })
    .await
}
