//! Pods that come and go: 100,000 within an hour, beside all that stay. What the operator keeps of a pod
//! that is gone must not add up. Called by the bench at its end, because those pods would be in the way of
//! everything else.
//!
//! The operator keeps what ended for ten minutes, since lines come late. So its memory rises for that long
//! and must then stay where it is: it is compared after a quarter of the pods and at the end, when all of
//! them came and went at the same rate.

use std::time::Duration;

use kube::Client;
use yellowjack_e2e::bench::{figure, pause, print_machine};
use yellowjack_e2e::lines::EgressLog;

use super::measure::Watched;
use super::sizes::Sizes;
use super::world;

/// How long each pod lives.
const LIFE_S: usize = 20;

/// From when on a pod has an address: KWOK gives it one at once.
const ADDRESS_AFTER_S: usize = 5;

pub struct Churn<'a> {
    pub client: &'a Client,
    pub sizes: &'a Sizes,
    pub log: &'a EgressLog,
}

impl Churn<'_> {
    pub async fn run(&self, with_sources: &Watched, without: &Watched) -> anyhow::Result<()> {
        print_machine("pods come and go");
        let seconds = usize::try_from(self.sizes.churn_s)?;
        let mut before = (0.0, 0.0);
        for second in 0..seconds + LIFE_S {
            let next = tokio::time::Instant::now() + Duration::from_secs(1);
            if second == seconds / 4 {
                before = (with_sources.memory_mib()?, without.memory_mib()?);
            }
            if second < seconds {
                world::make_pods(self.client, self.sizes, self.of_second(second)).await?;
            }
            if let Some(second) = second.checked_sub(ADDRESS_AFTER_S) {
                self.speak(second).await?;
            }
            if let Some(second) = second.checked_sub(LIFE_S) {
                world::delete_pods(self.client, self.sizes, self.of_second(second)).await?;
            }
            pause(next.saturating_duration_since(tokio::time::Instant::now())).await;
        }
        let after = (with_sources.memory_mib()?, without.memory_mib()?);
        let grown = |before: f64, after: f64| 100.0 * (after / before - 1.0);
        figure("scale.churn_pods", count(self.sizes.churn), "pods");
        figure("scale.churn_mib", after.0, "MiB");
        figure("scale.churn_rss", grown(before.0, after.0), "percent");
        figure("scale.churn_mib_without_sources", after.1, "MiB");
        figure(
            "scale.churn_rss_without_sources",
            grown(before.1, after.1),
            "percent",
        );
        Ok(())
    }

    /// The numbers of the pods that are made in this second, after those that stay.
    fn of_second(&self, second: usize) -> std::ops::Range<usize> {
        let seconds = usize::try_from(self.sizes.churn_s).unwrap_or(1);
        let until =
            |second: usize| self.sizes.pods + self.sizes.churn * second.min(seconds) / seconds;
        until(second)..until(second + 1)
    }

    /// One of them makes a contact, so that detection has state of it too.
    async fn speak(&self, second: usize) -> anyhow::Result<()> {
        let Some(number) = self.of_second(second).next() else {
            return Ok(());
        };
        if let Some(address) = world::address_of(self.client, self.sizes, number).await? {
            self.log.scan_hosts(&address, 0, 1)?;
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss)] // a figure for people
fn count(pods: usize) -> f64 {
    pods as f64
}
