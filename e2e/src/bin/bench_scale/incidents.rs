//! Many incidents at once: each is recorded, and the response keeps to its bounds.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::{TryStreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use yellowjack::testing::api::{Incident, labels};
use yellowjack_e2e::bench::{figure, pause, print_machine};
use yellowjack_e2e::{lines::EgressLog, wait_for};

use super::sizes::Sizes;

/// The cap on quarantines, below the number of incidents: the default.
pub const QUARANTINES_MAX: usize = 64;
/// The default of `--actions-per-second`, and what may be saved up for a burst.
const ACTIONS_PER_SECOND: f64 = 5.0;
/// Failed first contacts that cross the default line, and more.
const CONTACTS: u8 = 60;
const LIMIT: Duration = Duration::from_mins(5);
/// How long it is watched that no more pods are contained than may be.
const AFTER: Duration = Duration::from_secs(10);

/// Pods of as many runs begin to scan at the same moment.
pub async fn at_once(client: &Client, sizes: &Sizes, log: &EgressLog) -> anyhow::Result<()> {
    print_machine("incidents");
    let pods: Api<Pod> = Api::all(client.clone());
    let addresses = addresses(&pods, sizes.incidents).await?;
    let labelled = watcher(
        pods.clone(),
        watcher::Config::default().labels(labels::QUARANTINE),
    );
    let labelled = labelled.default_backoff().applied_objects();
    pin_mut!(labelled);
    let started = Instant::now();
    for address in &addresses {
        log.scan_hosts(address, 0, CONTACTS)?;
    }
    let wanted = sizes.incidents.min(QUARANTINES_MAX);
    let mut times = BTreeMap::new();
    let watch = async {
        while let Some(pod) = labelled.try_next().await? {
            times
                .entry(pod.name_any())
                .or_insert_with(|| started.elapsed().as_secs_f64());
            if times.len() == wanted {
                break;
            }
        }
        anyhow::Ok(())
    };
    let contained = tokio::time::timeout(LIMIT, watch).await;
    contained.with_context(|| format!("{} of {wanted} pods are contained", times.len()))??;
    figure(
        &format!("scale.quarantines_{wanted}"),
        started.elapsed().as_secs_f64(),
        "s",
    );
    wait_for("every incident to be recorded", LIMIT, async || {
        recorded(client, sizes.incidents).await
    })
    .await?;
    figure(
        &format!("scale.incidents_{}", sizes.incidents),
        started.elapsed().as_secs_f64(),
        "s",
    );
    check_pace(times.into_values().collect())?;
    pause(AFTER).await;
    let params = ListParams::default().labels(labels::QUARANTINE);
    let count = pods.list_metadata(&params).await?.items.len();
    ensure!(
        count == wanted,
        "{count} pods are in quarantine, and the cap is {QUARANTINES_MAX}"
    );
    Ok(())
}

/// Addresses of pods of different runs.
async fn addresses(pods: &Api<Pod>, count: usize) -> anyhow::Result<Vec<String>> {
    let mut found = BTreeMap::new();
    let mut params = ListParams::default().limit(500);
    while found.len() < count {
        let page = pods.list(&params).await?;
        for pod in &page.items {
            let ip = pod.status.as_ref().and_then(|s| s.pod_ip.clone());
            if let (Some(run), Some(ip)) = (pod.labels().get("run"), ip) {
                found.insert(run.clone(), ip);
            }
        }
        match page.metadata.continue_ {
            Some(next) if !next.is_empty() => params = params.continue_token(&next),
            _ => break,
        }
    }
    ensure!(found.len() >= count, "only {} runs have a pod", found.len());
    Ok(found.into_values().take(count).collect())
}

/// Whether each incident is there and says what came of it.
async fn recorded(client: &Client, wanted: usize) -> Result<(), String> {
    let incidents: Api<Incident> = Api::all(client.clone());
    let list = incidents.list(&ListParams::default()).await;
    let list = list.map_err(|error| error.to_string())?;
    let told = |incident: &&Incident| {
        let status = incident.status.as_ref();
        status.is_some_and(|status| !status.conditions.is_empty())
    };
    let count = list.items.iter().filter(told).count();
    if count == wanted {
        Ok(())
    } else {
        Err(format!("{count} of {wanted}"))
    }
}

/// No more quarantines in any span than the pace allows. The watch may bunch them a little, so one second is allowed.
fn check_pace(mut times: Vec<f64>) -> anyhow::Result<()> {
    times.sort_by(f64::total_cmp);
    let burst = ACTIONS_PER_SECOND;
    for (place, start) in times.iter().enumerate() {
        let mut count = 0.0;
        for end in times.iter().skip(place) {
            count += 1.0;
            let allowed = burst + ACTIONS_PER_SECOND * (end - start + 1.0);
            ensure!(
                count <= allowed,
                "{count} quarantines in {:.1} s, and the pace is {ACTIONS_PER_SECOND} per second",
                end - start
            );
        }
    }
    Ok(())
}
