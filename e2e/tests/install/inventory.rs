//! Everything that the API server holds, by kind and name.

use std::collections::BTreeSet;

use anyhow::Context;
use serde_json::Value;

use crate::site::{AGENTS, Site};

/// Kinds that come and go by themselves.
const RESTLESS: [&str; 4] = [
    "events",
    "events.events.k8s.io",
    "bindings",
    "componentstatuses",
];

/// What is there now: `KIND NAMESPACE/NAME`. The agents' own pods and accounts are left out.
pub async fn of(site: &Site) -> anyhow::Result<BTreeSet<String>> {
    let kinds = ["api-resources", "--verbs=list", "-o", "name"];
    let kinds = site.kubectl(&kinds).await?;
    let kinds: Vec<_> = kinds
        .lines()
        .filter(|kind| !RESTLESS.contains(kind))
        .collect();
    let all = site.get(&["-A", &kinds.join(",")]).await?;
    let items = all["items"].as_array().context("no list")?.iter();
    let foreign = |item: &&Value| {
        let own = item["metadata"]["namespace"] == AGENTS;
        !(own
            && ["Pod", "Role", "RoleBinding"]
                .iter()
                .any(|kind| item["kind"] == *kind))
    };
    Ok(items.filter(foreign).map(named).collect())
}

fn named(item: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &item["metadata"];
    let kind = text(&item["kind"]);
    format!(
        "{kind} {}/{}",
        text(&metadata["namespace"]),
        text(&metadata["name"])
    )
}
