//! Scans: each pod scans on and on, and after its isolation nothing new gets out.

use yellowjack_e2e::node::REFUSING_IP;
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

/// Polite timing: nmap tries one port of a host every 0.4 s. One host that refuses makes that 35
/// failures in a quarter of a minute; many hosts would be tried side by side.
#[tokio::test]
async fn a_slow_scan_ends() -> anyhow::Result<()> {
    on_stage(StandinMode::Packet, &[], async |stage| {
        let command = format!("nmap -T2 -n -Pn -sT -p 1-1000 {REFUSING_IP}");
        scan(stage, "slow scan (nmap -T2)", &command).await
    })
    .await
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
