//! The product as its users get it: the image that `deploy/image.sh` builds and the chart, installed by
//! Helm on the test node. One test, for one release: each step stands on the one before. Runs inside
//! `with-node` (`make e2e-install`); elsewhere it says that it is skipped.

#![allow(
    clippy::indexing_slicing,
    reason = "reading a JSON value by a missing key gives null"
)]

mod agent;
mod failover;
mod incident;
mod inventory;
mod release;
mod site;
mod uninstall;
mod upgrade;

use crate::site::on_site;

#[tokio::test]
async fn helm_installs_upgrades_and_removes_yellowjack_and_incidents_live_through_it()
-> anyhow::Result<()> {
    on_site(async |site| {
        let before = inventory::of(site).await?;
        release::install(site).await?;
        release::answers_and_is_shut_in(site).await?;
        release::passes_its_own_test(site)?;
        release::reads_the_kubelet(site).await?;

        let rogue = incident::starts(site, "rogue").await?;
        incident::is_contained(site, &rogue).await?;
        incident::can_be_reported(site, &rogue).await?;
        agent::cannot_free_itself(site, &rogue).await?;

        let second = incident::waits_at_its_gate(site, "second").await?;
        upgrade::in_the_middle_of_an_incident(site, &rogue, &second).await?;
        incident::is_released(site, &rogue).await?;

        uninstall::is_refused_while_something_is_held(site, &second).await?;
        failover::the_other_controller_releases(site, &second).await?;
        incident::is_released(site, &second).await?;
        uninstall::leaves_what_the_documents_say(site, &before).await
    })
    .await
}
