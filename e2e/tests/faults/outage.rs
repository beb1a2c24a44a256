//! The API server away, watches that end or fail, and CRDs that come late.

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use yellowjack_e2e::fixture::Fixture;
use yellowjack_e2e::proxy::{Fault, Matcher};
use yellowjack_e2e::{ScanLines, TestCluster, install_crds};

use crate::fixture::{FaultFixture, ROGUE_JOB, SCAN, alone, in_cluster};

/// As good as for ever: a test ends it.
const EVERY_TIME: usize = 1_000_000;
/// Tries of the recorder, doubled from 0.2 s: the fifth comes after 6 s, the sixth after 12 s.
const TRIES: usize = 5;

#[test]
fn a_scan_during_an_outage_of_the_api_server_is_answered_after_it() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut fixture = FaultFixture::started(&client).await?;
        fixture
            .proxy
            .fail_times(Matcher::any(), Fault::DropBefore, EVERY_TIME);
        fixture.proxy.close_watches();
        fixture.append(ScanLines::new(&fixture.address).take(SCAN))?;
        fixture
            .until_output("Failed to write an Incident; will retry.", TRIES)
            .await?;
        ensure!(fixture.incidents().await?.is_empty());
        fixture.proxy.clear();
        fixture.stop_after_quarantine().await?;
        fixture.delete().await
    })
}

#[test]
fn watches_that_close_in_the_middle_of_a_scan_lose_nothing() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut fixture = FaultFixture::started(&client).await?;
        let mut scan = ScanLines::new(&fixture.address);
        fixture.append(scan.take(SCAN / 3))?;
        fixture.proxy.close_watches();
        fixture.append(scan.take(SCAN - SCAN / 3))?;
        fixture.stop_after_quarantine().await?;
        fixture.delete().await
    })
}

#[test]
fn what_changed_while_a_watch_was_failing_is_noticed() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut fixture = FaultFixture::started(&client).await?;
        let runs = Matcher::method(Method::GET).containing("/agentruns?");
        let broken = Fault::Reply(StatusCode::INTERNAL_SERVER_ERROR);
        fixture.proxy.fail_times(runs, broken, EVERY_TIME);
        fixture.proxy.close_watches();
        fixture
            .until_output("The watch failed; will retry. kind=AgentRun", 1)
            .await?;
        fixture.create_run_of_job("late", "missing").await?;
        fixture.proxy.clear();
        fixture
            .run_condition("late", "Accepted", "True", "Valid")
            .await
            .with_context(|| fixture.operator_output())?;
        fixture.stop_operator().await?;
        fixture.delete().await
    })
}

#[test]
fn what_changed_before_a_watch_expired_is_noticed_in_the_list_that_follows() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut fixture = FaultFixture::started(&client).await?;
        let watch = || {
            Matcher::any()
                .containing("/agentruns?")
                .containing("watch=true")
        };
        let broken = Fault::Reply(StatusCode::INTERNAL_SERVER_ERROR);
        fixture.proxy.fail_times(watch(), broken, EVERY_TIME);
        fixture.proxy.close_watches();
        fixture
            .until_output("The watch failed; will retry. kind=AgentRun", 1)
            .await?;
        fixture.create_run_of_job("late", "missing").await?;
        fixture.proxy.clear();
        // Not from where it was: from the beginning.
        fixture.proxy.fail(watch(), Fault::Expired);
        fixture
            .run_condition("late", "Accepted", "True", "Valid")
            .await
            .with_context(|| fixture.operator_output())?;
        ensure!(fixture.proxy.faults_left() == 0, "the watch did not expire");
        fixture.stop_operator().await?;
        fixture.delete().await
    })
}

#[test]
fn crds_that_are_missing_are_named_once_and_used_as_soon_as_they_come() -> anyhow::Result<()> {
    let _alone = alone();
    if std::env::var_os("KUBECONFIG").is_some_and(|value| !value.is_empty()) {
        println!("skipped: the cluster is not this process's own, and has the CRDs already");
        return Ok(());
    }
    let cluster = TestCluster::start()?;
    tokio::runtime::Runtime::new()?.block_on(async {
        let client = cluster.client().await?;
        let mut fixture = FaultFixture::empty(&client).await?;
        fixture.create_rogue_job().await?;
        fixture.start_operator().await?;
        let hint = "install the CRDs with `yellowjack crds | kubectl apply -f -`";
        // AgentRun, GuardrailPolicy, Incident and ContactReport.
        fixture.until_output(hint, 4).await?;
        install_crds(&client).await?;
        fixture.until_output("Yellowjack is ready", 1).await?;
        fixture.create_run_of_job("rogue", ROGUE_JOB).await?;
        fixture.until_guarded("rogue").await?;
        fixture.append(ScanLines::new(&fixture.address).take(SCAN))?;
        fixture.stop_after_quarantine().await?;
        let said = fixture.operator_output().matches(hint).count();
        ensure!(said == 4, "it was said {said} times");
        Ok(())
    })
}
