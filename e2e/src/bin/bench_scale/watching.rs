//! Counts runs that are reconciled, as the API server tells it.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::{TryStreamExt, pin_mut};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use yellowjack::testing::api::AgentRun;

/// Waits until the guard of so many runs is said to stand.
pub async fn until_reconciled(client: &Client, runs: usize, limit: Duration) -> anyhow::Result<()> {
    let api: Api<AgentRun> = Api::all(client.clone());
    let seen = watcher(api, watcher::Config::default())
        .default_backoff()
        .applied_objects();
    pin_mut!(seen);
    let mut done = HashSet::new();
    let mut last = String::new();
    let watch = async {
        while let Some(run) = seen.try_next().await? {
            if is_reconciled(&run) {
                done.insert(run.uid().unwrap_or_default());
            } else {
                last = format!("{:?}", run.status);
            }
            if done.len() == runs {
                return anyhow::Ok(());
            }
        }
        bail!("the watch ended")
    };
    let result = tokio::time::timeout(limit, watch).await;
    result.with_context(|| {
        format!(
            "{} of {runs} are reconciled; one is not: {last}",
            done.len()
        )
    })?
}

fn is_reconciled(run: &AgentRun) -> bool {
    run.status.as_ref().is_some_and(|status| {
        let settled = |kind: &str| {
            let mut conditions = status.conditions.iter();
            conditions.any(|c| c.type_ == kind && c.status == "True")
        };
        status.observed_generation == run.metadata.generation
            && settled("NetworkGuarded")
            && settled("Ready")
    })
}
