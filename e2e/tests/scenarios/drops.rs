//! Scans that the pod's own guard drops. Nothing of them gets out, and connection tracking has no entry: the
//! log shows first packets whose connections never begin.

use std::time::{Duration, Instant};

use anyhow::ensure;
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::standin::StandinMode;
use yellowjack_e2e::wait_for;

use crate::fixture::{NodeFixture, Rogue, with_node_fixture};
use crate::packets::{LogBeforePolicies, sent_by};

/// A private network that no run may reach. What a policy denies on the way to the Internet is an alert at
/// most.
const DENIED_NETWORK: &str = "172.20.0.0/20";
/// Packets that a scan sends while nothing logs what is dropped: far more than it takes to be found.
const UNSEEN_PACKETS: u64 = 300;
/// For so long a new log shows nothing about datagrams: each packet of a stream that began before looks like
/// a first one.
const DATAGRAMS_LIMIT: Duration = Duration::from_mins(5);

/// Waits until a pod has sent so many packets.
async fn has_sent(rogue: &Rogue, count: u64, limit: Duration) -> anyhow::Result<()> {
    wait_for("the scan to be under way", limit, async || {
        let sent = sent_by(&rogue.address).map_err(|error| format!("{error:#}"))?;
        if sent >= count {
            Ok(())
        } else {
            Err(format!("{sent} packets"))
        }
    })
    .await
}

/// Where the rule stands behind the policies, the scan is not in the log, and nobody is isolated. Once it
/// stands before them, as the recipe has it, the same pod is.
async fn denied_scan(fixture: &NodeFixture, name: &str, command: &str) -> anyhow::Result<()> {
    fixture.create_run_to("rogue", "203.0.113.0/24").await?;
    let script = format!("while true; do {command} {DENIED_NETWORK}; done");
    fixture.create_gated_pod("rogue", "rogue", &script).await?;
    fixture.until_guarded("rogue", 1).await?;
    let rogue = fixture.addresses_of("rogue").await?;
    fixture.open_gate(&rogue.address).await?;
    has_sent(&rogue, UNSEEN_PACKETS, LIMIT).await?;
    ensure!(
        fixture.incidents_of(&rogue.pod).await?.is_empty(),
        "the pod has an Incident although its packets are not in the log"
    );
    let started = Instant::now();
    let _moved = LogBeforePolicies::start()?;
    fixture
        .until_labelled_within(&rogue.pod, DATAGRAMS_LIMIT)
        .await?;
    println!(
        "figure drops.{name}_isolated {:.1} s",
        started.elapsed().as_secs_f64()
    );
    let incident = fixture.until_isolated(&rogue.pod).await?;
    let denied = incident.spec.evidence.iter().any(|entry| {
        let outcomes = entry.examples.iter().map(|example| &example.outcome);
        outcomes.into_iter().all(|outcome| outcome == "Denied") && !entry.examples.is_empty()
    });
    ensure!(
        denied,
        "no evidence of denials: {:?}",
        incident.spec.evidence
    );
    ensure!(
        fixture.arrivals_of(&rogue)?.is_empty(),
        "packets of the scan got out"
    );
    fixture.until_retry(&rogue).await?;
    fixture
        .incident_condition(&rogue.pod, "Verified", "True", "Verified")
        .await?;
    let lost = fixture.honest_packets_lost().await?;
    ensure!(lost == 0, "the honest run lost {lost} packets");
    Ok(())
}

#[tokio::test]
async fn a_connect_scan_that_the_guard_drops_is_isolated_where_the_log_shows_drops()
-> anyhow::Result<()> {
    with_node_fixture(StandinMode::Connection, &[], async |fixture| {
        denied_scan(fixture, "tcp", "nmap -n -Pn -sT -p 22").await
    })
    .await
}

#[tokio::test]
async fn a_udp_scan_that_the_guard_drops_is_isolated_where_the_log_shows_drops()
-> anyhow::Result<()> {
    with_node_fixture(StandinMode::Packet, &[], async |fixture| {
        let command = "nmap -n -Pn -sU --max-retries 1 -p 161";
        denied_scan(fixture, "udp", command).await
    })
    .await
}
