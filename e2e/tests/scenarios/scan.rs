//! Scans: each pod scans on and on, and after its isolation nothing new gets out.

use yellowjack_e2e::node::REFUSING_IP;
use yellowjack_e2e::standin::StandinMode;

use crate::fixture::{
    NodeFixture, REFUSING_NETWORK, SILENT_NETWORK, with_any_engine, with_node_fixture,
};

/// A scan from one pod, over and over.
pub async fn scan(fixture: &NodeFixture, name: &str, command: &str) -> anyhow::Result<()> {
    let script = format!("while true; do {command}; done");
    let rogue = fixture.start_rogue_pod(&script).await?;
    fixture.until_verified(&rogue).await?;
    let row = fixture.measure(name, &rogue, |_| false)?;
    fixture.conclude(row).await
}

/// Polite timing: nmap tries one port of a host every 0.4 s. One host that refuses makes that 35
/// failures in a quarter of a minute; many hosts would be tried side by side.
#[tokio::test]
async fn a_slow_scan_ends() -> anyhow::Result<()> {
    with_any_engine(StandinMode::Packet, &[], async |fixture| {
        let command = format!("nmap -T2 -n -Pn -sT -p 1-1000 {REFUSING_IP}");
        scan(fixture, "slow scan (nmap -T2)", &command).await
    })
    .await
}

async fn connect_scans(mode: StandinMode) -> anyhow::Result<()> {
    with_node_fixture(mode, &[], async |fixture| {
        let command = format!("nmap -n -Pn -sT -p 22 {REFUSING_NETWORK}");
        scan(fixture, "connect scan, hosts refuse", &command).await
    })
    .await?;
    with_node_fixture(mode, &[], async |fixture| {
        let command = format!("nmap -n -Pn -sT -p 22 {SILENT_NETWORK}");
        scan(fixture, "connect scan, hosts are silent", &command).await
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
