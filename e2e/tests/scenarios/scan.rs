//! Scans: each pod scans on and on, and after its isolation nothing new gets out.

use yellowjack_e2e::standin::StandinMode;

use crate::stage::{REFUSING_NETWORK, SILENT_NETWORK, Stage, on_stage};

/// A scan from one pod, over and over.
pub async fn scan(stage: &Stage, name: &str, command: &str) -> anyhow::Result<()> {
    let script = format!("while true; do {command}; done");
    let rogue = stage.rogue_pod(&script).await?;
    stage.isolated(&rogue.pod).await?;
    stage
        .incident_says(&rogue.pod, "Contained", "True", &["Isolated"])
        .await?;
    stage.quiet(&rogue).await?;
    stage.tries_on(&rogue).await?;
    stage
        .incident_says(&rogue.pod, "Verified", "True", &["Verified"])
        .await?;
    let row = stage.measure(name, &rogue, |_| false)?;
    stage.conclude(row).await
}

async fn connect_scans(mode: StandinMode) -> anyhow::Result<()> {
    on_stage(mode, &[], async |stage| {
        let command = format!("nmap -n -Pn -sT -p 22 {REFUSING_NETWORK}");
        scan(stage, "connect scan, hosts refuse", &command).await
    })
    .await?;
    on_stage(mode, &[], async |stage| {
        let command = format!("nmap -n -Pn -sT -p 22 {SILENT_NETWORK}");
        scan(stage, "connect scan, hosts are silent", &command).await
    })
    .await
}

#[tokio::test]
async fn a_connect_scan_ends_where_established_connections_survive() -> anyhow::Result<()> {
    connect_scans(StandinMode::Connection).await
}

#[tokio::test]
async fn a_connect_scan_ends_where_every_packet_is_judged() -> anyhow::Result<()> {
    connect_scans(StandinMode::Packet).await
}
