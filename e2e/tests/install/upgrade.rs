//! `helm upgrade` while one pod is in quarantine and another one is just being found.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::json;
use yellowjack_e2e::helm::{helm, root};

use crate::incident::{Rogue, begins, incident_of, is_contained, label_of, says};
use crate::release::{CHART, pods};
use crate::site::{AGENTS, SYSTEM, Site, run};

/// A field of AgentRuns that only the new chart's CRD has.
const NEW_FIELD: &str = "noteOfTheNextVersion";

/// Both parts are replaced, and their CRDs with them. What was held stays held by the same Incident, and
/// what happens meanwhile is found.
pub async fn in_the_middle_of_an_incident(
    site: &Site,
    held: &Rogue,
    new: &Rogue,
) -> anyhow::Result<()> {
    let before = uids(site).await?;
    let label = label_of(site, held).await?;
    let since = Timestamp::now();
    let chart = next_chart(site)?.display().to_string();
    begins(new).await?;
    let mut arguments = vec!["upgrade", "yellowjack", &chart, "--namespace", SYSTEM];
    arguments.extend(["--reuse-values", "--set", "log.filter=debug"]);
    arguments.extend(["--wait", "--timeout", "4m"]);
    helm(&arguments)?;

    let after = uids(site).await?;
    ensure!(!after.iter().any(|uid| before.contains(uid)), "{after:?}");
    for pod in pods(site, "").await? {
        let args = pod
            .spec
            .as_ref()
            .and_then(|spec| spec.containers.first()?.args.clone());
        let has = args.iter().flatten().any(|flag| flag == "--log=debug");
        ensure!(has, "{}: {args:?}", pod.name_any());
    }
    new_field_is_kept(site).await?;

    ensure!(label_of(site, held).await? == label, "another label");
    is_contained(site, new).await?;
    let all = site.get(&["-n", AGENTS, "incidents"]).await?;
    let count = all["items"].as_array().map_or(0, Vec::len);
    ensure!(count == 2, "{count} Incidents");
    let incident = incident_of(&all, held).context("no Incident")?;
    says(incident, "Verified", "True").map_err(anyhow::Error::msg)?;
    let out = site.node.arrivals_from(&held.address)?;
    let leaked = out.iter().filter(|a| a.time() >= since).count();
    ensure!(leaked == 0, "{leaked} packets got out during the upgrade");
    Ok(())
}

async fn uids(site: &Site) -> anyhow::Result<Vec<String>> {
    let mut all = pods(site, "controller").await?;
    all.extend(pods(site, "node").await?);
    let all: Vec<_> = all.iter().filter_map(ResourceExt::uid).collect();
    ensure!(all.len() >= 2, "{} pods", all.len());
    Ok(all)
}

/// The chart of the next version: with another field in the CRD of AgentRuns.
fn next_chart(site: &Site) -> anyhow::Result<std::path::PathBuf> {
    let chart = site.file("next");
    run(Command::new("cp")
        .arg("-r")
        .arg(root().join(CHART))
        .arg(&chart))?;
    let spec = "          spec:\n";
    let field = format!("              {NEW_FIELD}:\n                type: string\n");
    edit(&chart.join("files/crds/agentruns.yaml"), |text| {
        let spec = text.find(spec)?;
        let properties = "            properties:\n";
        let place = spec + text.get(spec..)?.find(properties)? + properties.len();
        Some(format!(
            "{}{field}{}",
            text.get(..place)?,
            text.get(place..)?
        ))
    })?;
    edit(&chart.join("Chart.yaml"), |text| {
        Some(text.replace("version: 0.", "version: 9."))
    })?;
    Ok(chart)
}

fn edit(file: &Path, how: impl Fn(&str) -> Option<String>) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(file).context("failed to read a file of the chart")?;
    let edited = how(&text).with_context(|| format!("{} is another", file.display()))?;
    std::fs::write(file, edited).context("failed to write a file of the chart")
}

async fn new_field_is_kept(site: &Site) -> anyhow::Result<()> {
    let run = json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "AgentRun",
        "metadata": { "name": "of-the-next-version" },
        "spec": { "target": { "selector": { "matchLabels": { "app": "none" } } }, NEW_FIELD: "kept" },
    });
    site.apply(&run).await?;
    let stored = ["-n", AGENTS, "agentrun", "of-the-next-version"];
    let stored = site.get(&stored).await?;
    ensure!(stored["spec"][NEW_FIELD] == "kept", "{stored}");
    Ok(())
}
