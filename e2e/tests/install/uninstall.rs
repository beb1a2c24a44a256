//! `helm uninstall`, and what is there afterwards.

use std::collections::BTreeSet;
use std::process::Command;

use anyhow::{Context, ensure};
use yellowjack_e2e::helm::{helm, root};
use yellowjack_e2e::wait_for;

use crate::incident::{Rogue, label_of};
use crate::inventory;
use crate::site::{AGENTS, LIMIT, SYSTEM, Site, run};

/// The page that a person follows. Its second block of commands removes what is left.
const PAGE: &str = "docs/uninstall.md";
/// What the page says stays, as `inventory` names it. A star stands for the rest of a name.
const STAYS: [&str; 11] = [
    "CustomResourceDefinition /agentruns.yellowjack.dev",
    "CustomResourceDefinition /contactreports.yellowjack.dev",
    "CustomResourceDefinition /guardrailpolicies.yellowjack.dev",
    "CustomResourceDefinition /incidents.yellowjack.dev",
    "APIService /v1alpha1.yellowjack.dev",
    "Namespace /yellowjack-system",
    "AgentRun agents/*",
    "Incident agents/*",
    "NetworkPolicy agents/yellowjack-*",
    "Lease yellowjack-system/yellowjack-*",
    "ConfigMap yellowjack-system/yellowjack-ended-pods",
];
/// What every namespace has.
const IN_EACH_NAMESPACE: [&str; 2] = ["ConfigMap", "ServiceAccount"];

/// It fails, names the pod, and nothing is gone. A rollback takes the attempt back.
pub async fn is_refused_while_something_is_held(site: &Site, held: &Rogue) -> anyhow::Result<()> {
    let uninstalled = [
        "uninstall",
        "yellowjack",
        "--namespace",
        SYSTEM,
        "--timeout",
        "2m",
    ];
    let refused = helm(&uninstalled).err().context("it was uninstalled")?;
    let refused = format!("{refused:#}");
    let pod = format!("pod {AGENTS}/{}: in quarantine", held.name);
    let log = site
        .kubectl(&["logs", "-n", SYSTEM, "job/yellowjack-uninstall"])
        .await?;
    ensure!(log.contains(&pod), "{log}");
    ensure!(refused.contains(&pod), "helm does not say it: {refused}");
    ensure!(label_of(site, held).await?.is_string(), "the label is gone");
    let deployment = ["-n", SYSTEM, "deployment", "yellowjack-controller"];
    site.get(&deployment).await?;
    helm(&[
        "rollback",
        "yellowjack",
        "--namespace",
        SYSTEM,
        "--wait",
        "--timeout",
        "4m",
    ])?;
    let status = helm(&["status", "yellowjack", "--namespace", SYSTEM])?;
    ensure!(status.contains("STATUS: deployed"), "{status}");
    Ok(())
}

/// After it, there is what the page says, and after the page's commands nothing.
pub async fn leaves_what_the_documents_say(
    site: &Site,
    before: &BTreeSet<String>,
) -> anyhow::Result<()> {
    helm(&[
        "uninstall",
        "yellowjack",
        "--namespace",
        SYSTEM,
        "--wait",
        "--timeout",
        "4m",
    ])?;
    let left = |object: &String| !before.contains(object) && !is_natural(object);
    let unknown = wait_for("only what the page names to be left", LIMIT, async || {
        let now = inventory::of(site).await.map_err(|e| format!("{e:#}"))?;
        let now: Vec<_> = now.into_iter().filter(left).collect();
        let unknown: Vec<_> = now.iter().filter(|object| !stays(object)).collect();
        let gone = STAYS.iter().filter(|p| !now.iter().any(|o| fits(o, p)));
        let gone: Vec<_> = gone.collect();
        if unknown.is_empty() {
            Ok(gone.len())
        } else {
            Err(format!("{unknown:?}"))
        }
    });
    let gone = unknown.await?;
    ensure!(gone == 0, "{gone} kinds that the page says stay are gone");

    let page = std::fs::read_to_string(root().join(PAGE)).context("no page")?;
    let commands = page.split("```").nth(3).context("no second block")?;
    run(Command::new("sh").args(["-euc", commands.trim_start_matches("sh\n")]))?;
    wait_for("nothing to be left", LIMIT, async || {
        let now = inventory::of(site).await.map_err(|e| format!("{e:#}"))?;
        let now: Vec<_> = now.into_iter().filter(left).collect();
        if now.is_empty() {
            Ok(())
        } else {
            Err(format!("{now:?}"))
        }
    })
    .await
}

fn stays(object: &str) -> bool {
    STAYS.iter().any(|pattern| fits(object, pattern))
}

fn fits(object: &str, pattern: &str) -> bool {
    let start = pattern.strip_suffix('*');
    start.map_or(object == pattern, |start| object.starts_with(start))
}

fn is_natural(object: &str) -> bool {
    // Kubernetes' own, of nodes and of API servers, come when they like.
    object.starts_with("Lease kube-")
        || IN_EACH_NAMESPACE.iter().any(|kind| {
            let rest = object.strip_prefix(kind);
            rest.is_some_and(|rest| {
                rest.ends_with("/default") || rest.ends_with("/kube-root-ca.crt")
            })
        })
}
