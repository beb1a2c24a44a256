//! The API server away, watches that end or fail, and CRDs that come late.

use anyhow::{Context, ensure};
use http::{Method, StatusCode};
use kube::Client;
use yellowjack_e2e::proxy::{Fault, Matcher};
use yellowjack_e2e::{ScanLines, TestCluster, install_crds};

use crate::world::{SCAN, World, alone, in_cluster};

/// As good as for ever: a test ends it.
const EVERY_TIME: usize = 1_000_000;
/// Tries of the recorder, doubled from 0.2 s: the fifth comes after 6 s, the sixth after 12 s.
const TRIES: usize = 5;

#[test]
fn a_scan_during_an_outage_of_the_api_server_is_answered_after_it() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut world = ready(&client).await?;
        world
            .proxy
            .fail_times(Matcher::any(), Fault::DropBefore, EVERY_TIME);
        world.proxy.close_watches();
        world.write(ScanLines::new(&world.address).take(SCAN))?;
        world
            .wait_until_printed("Failed to write an Incident; will retry.", TRIES)
            .await?;
        ensure!(world.incidents().await?.is_empty());
        world.proxy.clear();
        quarantined(&mut world).await?;
        world.end().await
    })
}

#[test]
fn watches_that_close_in_the_middle_of_a_scan_lose_nothing() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut world = ready(&client).await?;
        let mut scan = ScanLines::new(&world.address);
        world.write(scan.take(SCAN / 3))?;
        world.proxy.close_watches();
        world.write(scan.take(SCAN - SCAN / 3))?;
        quarantined(&mut world).await?;
        world.end().await
    })
}

#[test]
fn what_changed_while_a_watch_was_failing_is_noticed() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut world = ready(&client).await?;
        let runs = Matcher::method(Method::GET).containing("/agentruns?");
        let broken = Fault::Reply(StatusCode::INTERNAL_SERVER_ERROR);
        world.proxy.fail_times(runs, broken, EVERY_TIME);
        world.proxy.close_watches();
        world
            .wait_until_printed("The watch failed; will retry. kind=AgentRun", 1)
            .await?;
        world.make_run_of("late", "missing").await?;
        world.proxy.clear();
        world
            .wait_until_condition("late", "Accepted", "True")
            .await
            .with_context(|| world.printed())?;
        world.stop().await?;
        world.end().await
    })
}

#[test]
fn what_changed_before_a_watch_expired_is_noticed_in_the_list_that_follows() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut world = ready(&client).await?;
        let watch = || {
            Matcher::any()
                .containing("/agentruns?")
                .containing("watch=true")
        };
        let broken = Fault::Reply(StatusCode::INTERNAL_SERVER_ERROR);
        world.proxy.fail_times(watch(), broken, EVERY_TIME);
        world.proxy.close_watches();
        world
            .wait_until_printed("The watch failed; will retry. kind=AgentRun", 1)
            .await?;
        world.make_run_of("late", "missing").await?;
        world.proxy.clear();
        // Not from where it was: from the beginning.
        world.proxy.fail(watch(), Fault::Expired);
        world
            .wait_until_condition("late", "Accepted", "True")
            .await
            .with_context(|| world.printed())?;
        ensure!(world.proxy.faults_left() == 0, "the watch did not expire");
        world.stop().await?;
        world.end().await
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
        let mut world = World::empty(&client).await?;
        world.make_job().await?;
        world.start().await?;
        let hint = "install the CRDs with `yellowjack crds | kubectl apply -f -`";
        // AgentRun, GuardrailPolicy, Incident and ContactReport.
        world.wait_until_printed(hint, 4).await?;
        install_crds(&client).await?;
        world.wait_until_printed("Yellowjack is ready", 1).await?;
        world.make_run("rogue").await?;
        world.wait_until_ready("rogue").await?;
        world.write(ScanLines::new(&world.address).take(SCAN))?;
        quarantined(&mut world).await?;
        let said = world.printed().matches(hint).count();
        ensure!(said == 4, "it was said {said} times");
        Ok(())
    })
}

/// A world whose operator works and knows the rogue pod.
async fn ready(client: &Client) -> anyhow::Result<World> {
    let mut world = World::new(client).await?;
    world.start().await?;
    world.wait_until_ready("rogue").await?;
    world.wait_until_printed("state=Reading", 1).await?;
    Ok(world)
}

/// Waits for the quarantine, then ends the operator, which still lives.
async fn quarantined(world: &mut World) -> anyhow::Result<()> {
    let outcome = world.wait_for_quarantine().await;
    outcome.with_context(|| world.printed())?;
    world.stop().await
}
