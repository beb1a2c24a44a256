//! Scans of other kinds than TCP connect, one that is spread over the pods of a run, and mining.

use std::io::Write as _;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use yellowjack_e2e::fixture::Fixture;
use yellowjack_e2e::node::{POOL_IP, POOL_PORT, POOL_TLS_PORT, REFUSING_IP};
use yellowjack_e2e::standin::StandinMode;

use crate::fixture::{NodeFixture, REFUSING_NETWORK, SILENT_NETWORK, keep, with_any_engine};
use crate::scan::scan;

#[tokio::test]
async fn a_syn_scan_ends() -> anyhow::Result<()> {
    with_any_engine(StandinMode::Connection, &[], async |fixture| {
        let command = format!("nmap -n -Pn -sS -p 22 {REFUSING_NETWORK}");
        scan(fixture, "SYN scan", &command).await
    })
    .await
}

#[tokio::test]
async fn a_scan_of_one_hosts_ports_ends() -> anyhow::Result<()> {
    with_any_engine(StandinMode::Packet, &[], async |fixture| {
        let command = format!("nmap -n -Pn -sT -p 1-65535 {REFUSING_IP}");
        scan(fixture, "vertical scan of one host", &command).await
    })
    .await
}

#[tokio::test]
async fn a_udp_scan_ends() -> anyhow::Result<()> {
    with_any_engine(StandinMode::Packet, &[], async |fixture| {
        let command = format!("nmap -n -Pn -sU --max-retries 1 -p 161 {REFUSING_NETWORK}");
        scan(fixture, "UDP scan", &command).await
    })
    .await
}

/// Silence is a failure only where the log shows that pings are answered. One host of the sweep answers,
/// but comes late: the honest pod's ping, which goes on, shows it before that.
#[tokio::test]
async fn a_ping_sweep_ends() -> anyhow::Result<()> {
    with_any_engine(StandinMode::Connection, &[], async |fixture| {
        let command = format!("nmap -n -sn -PE --max-retries 1 203.0.113.80 {SILENT_NETWORK}");
        scan(fixture, "ping sweep", &command).await
    })
    .await
}

/// Four pods of one run, each with a quarter of the hosts and a pace of its own.
#[tokio::test]
async fn a_scan_spread_over_the_pods_of_a_run_ends() -> anyhow::Result<()> {
    with_any_engine(StandinMode::Packet, &[], async |fixture| {
        fixture.create_run_to("rogue", "0.0.0.0/0").await?;
        let pods: Vec<String> = (0..4).map(|number| format!("rogue-{number}")).collect();
        for (number, name) in pods.iter().enumerate() {
            let networks = format!("198.18.{number}.0/24 198.18.{}.0/24", number + 4);
            let script =
                format!("while true; do nmap -n -Pn -sT --max-rate 5 -p 22 {networks}; done");
            fixture.create_gated_pod(name, "rogue", &script).await?;
        }
        fixture.until_guarded("rogue", 4).await?;
        let mut rogues = Vec::new();
        for name in &pods {
            rogues.push(fixture.addresses_of(name).await?);
        }
        for rogue in &rogues {
            fixture.open_gate(&rogue.address).await?;
        }
        for rogue in &rogues {
            fixture.until_labelled(&rogue.pod).await?;
        }
        for rogue in &rogues {
            fixture.until_silent(rogue).await?;
        }
        let first = rogues.first().context("no pod")?;
        let row = fixture.measure("spread over four pods", first, |_| false)?;
        for rogue in rogues.iter().skip(1) {
            keep(&fixture.measure("spread over four pods", rogue, |_| false)?)?;
        }
        fixture.conclude(row).await
    })
    .await
}

/// A list of pools with the pool's address.
fn pool_list() -> anyhow::Result<tempfile::NamedTempFile> {
    let mut list = tempfile::NamedTempFile::new().context("failed to make a list of pools")?;
    writeln!(list, "{POOL_IP}").context("failed to write the list of pools")?;
    Ok(list)
}

async fn mine(fixture: &NodeFixture, arguments: &str) -> anyhow::Result<()> {
    let script = format!(
        "toolbox burn -share 0.5 &\nwhile true; do toolbox mine {arguments}; sleep 1; done"
    );
    let rogue = fixture.start_rogue_pod(&script).await?;
    let finding = fixture
        .incident_condition_in(
            &rogue.pod,
            "Detected",
            "True",
            &["AlertOnly", "FindingCrossed"],
        )
        .await?;
    let signatures: Vec<_> = finding
        .spec
        .evidence
        .iter()
        .map(|e| e.signature.as_str())
        .collect();
    anyhow::ensure!(signatures.contains(&"Mining"), "{signatures:?}");
    // An alert does nothing to a pod: one family of evidence never acts alone.
    let pods: Api<Pod> = fixture.api();
    pods.get(&rogue.pod).await?;
    let missing = fixture.honest_packets_lost().await?;
    anyhow::ensure!(missing == 0, "the honest run lost {missing} packets");
    Ok(())
}

#[tokio::test]
async fn a_session_with_a_listed_pool_is_an_alert_at_once() -> anyhow::Result<()> {
    let list = pool_list()?;
    let list = list.path().display().to_string();
    let flags = ["--pool-list", list.as_str()];
    with_any_engine(StandinMode::Packet, &flags, async |fixture| {
        mine(fixture, &format!("{POOL_IP}:{POOL_PORT}")).await
    })
    .await?;
    with_any_engine(StandinMode::Packet, &flags, async |fixture| {
        mine(fixture, &format!("-tls {POOL_IP}:{POOL_TLS_PORT}")).await
    })
    .await
}

/// Asks for the scenarios that take long.
const SLOW_VARIABLE: &str = "YELLOWJACK_SLOW_SCENARIOS";
/// A session of 330 s, its end in the log, and a finding.
const MINING_LIMIT: Duration = Duration::from_mins(15);

/// A session is judged when it ends, in the log of connection tracking; one of five minutes is a
/// second family of evidence beside the list.
#[tokio::test]
async fn miners_are_isolated_after_a_session_of_five_minutes() -> anyhow::Result<()> {
    if std::env::var_os(SLOW_VARIABLE).is_none() {
        println!("skipped: mining for 6 minutes; set {SLOW_VARIABLE}=1 for it");
        return Ok(());
    }
    let list = pool_list()?;
    let list = list.path().display().to_string();
    with_any_engine(
        StandinMode::Packet,
        &["--pool-list", &list],
        async |fixture| {
            fixture.create_run_to("rogue", "0.0.0.0/0").await?;
            let kinds = [
                (
                    "rogue-plain",
                    "Stratum on 3333",
                    format!("{POOL_IP}:{POOL_PORT}"),
                ),
                (
                    "rogue-tls",
                    "Stratum in TLS on 443",
                    format!("-tls {POOL_IP}:{POOL_TLS_PORT}"),
                ),
            ];
            for (name, _, arguments) in &kinds {
                let script = format!(
                    "toolbox burn -share 0.5 &\n\
                 while true; do timeout 330 toolbox mine {arguments}; sleep 1; done"
                );
                fixture.create_gated_pod(name, "rogue", &script).await?;
            }
            fixture.until_guarded("rogue", 2).await?;
            let mut rogues = Vec::new();
            for (name, ..) in &kinds {
                let rogue = fixture.addresses_of(name).await?;
                fixture.open_gate(&rogue.address).await?;
                rogues.push(rogue);
            }
            for rogue in &rogues {
                fixture
                    .until_labelled_within(&rogue.pod, MINING_LIMIT)
                    .await?;
            }
            for (rogue, (_, scenario, _)) in rogues.iter().zip(&kinds) {
                fixture.until_silent(rogue).await?;
                fixture.until_retry(rogue).await?;
                keep(&fixture.measure(scenario, rogue, |_| false)?)?;
            }
            let missing = fixture.honest_packets_lost().await?;
            anyhow::ensure!(missing == 0, "the honest run lost {missing} packets");
            Ok(())
        },
    )
    .await
}
