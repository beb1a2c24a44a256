//! `yellowjack held`: lists what Yellowjack holds in quarantine, and fails if there is anything. The chart
//! runs it before an uninstall, because afterwards nothing could release it. It only reads.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, Client, ResourceExt};
use tokio::time::timeout;

use crate::api::{Incident, labels};
use crate::cluster::connect;
use crate::limits::{HELD_LINES_MAX, HELD_PAGE, HELD_PAGES_MAX};

/// Time limit for one page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(30);

/// Arguments of `yellowjack held`.
#[derive(clap::Args, Debug)]
pub(super) struct HeldArgs {}

/// Runs the subcommand. Each held object is a line on standard output.
pub(super) fn run(_args: &HeldArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("failed to start a runtime")?;
    let lines = runtime.block_on(async { held(&connect().await?).await })?;
    let mut stdout = std::io::stdout().lock();
    for line in lines.iter().take(HELD_LINES_MAX) {
        writeln!(stdout, "{line}").context("failed to write to standard output")?;
    }
    if let Some(more) = lines.len().checked_sub(HELD_LINES_MAX).filter(|n| *n > 0) {
        writeln!(stdout, "and {more} more").context("failed to write to standard output")?;
    }
    if !lines.is_empty() {
        bail!(
            "Yellowjack holds {} objects, and only Yellowjack can release them: set \
             spec.disposition of their Incidents first, or delete the pods",
            lines.len()
        );
    }
    Ok(())
}

async fn held(client: &Client) -> anyhow::Result<BTreeSet<String>> {
    let pods: Api<Pod> = Api::all(client.clone());
    let labelled = ListParams::default().labels(labels::QUARANTINE);
    let mut lines = BTreeSet::new();
    pages(
        async |params| pods.list_metadata(&params).await,
        &labelled,
        |pod| {
            lines.extend(held_pod(pod));
        },
    )
    .await
    .context("failed to list the pods in quarantine")?;
    let incidents: Api<Incident> = Api::all(client.clone());
    let all = ListParams::default();
    let listed = pages(
        async |params| incidents.list(&params).await,
        &all,
        |incident| {
            lines.extend(held_by(incident));
        },
    )
    .await;
    match listed.as_ref().map_err(|error| error.downcast_ref()) {
        // Without the CRD there are no Incidents.
        Err(Some(kube::Error::Api(status))) if status.code == 404 => {}
        _ => listed.context("failed to list the Incidents")?,
    }
    Ok(lines)
}

/// Calls `each` for every object of a list, page by page.
async fn pages<K: Clone>(
    list: impl AsyncFn(ListParams) -> kube::Result<kube::core::ObjectList<K>>,
    params: &ListParams,
    mut each: impl FnMut(&K),
) -> anyhow::Result<()> {
    let mut params = params.clone().limit(HELD_PAGE);
    for _ in 0..HELD_PAGES_MAX {
        let page = timeout(PAGE_TIMEOUT, list(params.clone())).await;
        let page = page.context("the API server did not answer in time")??;
        page.items.iter().for_each(&mut each);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(()),
        }
    }
    bail!(
        "there are more than {} objects",
        HELD_PAGE as usize * HELD_PAGES_MAX
    )
}

/// A line for a pod with the quarantine label. The deny selects it, whatever the state of its Incident.
fn held_pod(pod: &PartialObjectMeta<Pod>) -> Option<String> {
    let incident = pod.labels().get(labels::QUARANTINE)?;
    let namespace = pod.namespace().unwrap_or_default();
    Some(format!(
        "pod {namespace}/{}: in quarantine, Incident {incident}",
        pod.name_any()
    ))
}

/// A line for each object that was changed for an open Incident and must be restored.
fn held_by(incident: &Incident) -> Vec<String> {
    let Some(status) = &incident.status else {
        return Vec::new();
    };
    if !incident.is_open() {
        return Vec::new();
    }
    let namespace = incident.namespace().unwrap_or_default();
    let name = incident.name_any();
    // The label of a pod is restored as well, but the pod has its own line.
    let others = status.restore.iter().filter(|e| e.target.kind != "Pod");
    others
        .map(|entry| {
            let kind = &entry.target.kind;
            let object = &entry.target.name;
            format!(
                "{kind} {namespace}/{object}: {} changed, Incident {name}",
                entry.field
            )
        })
        .collect()
}
