//! What the docs tell people to type and to apply is understood: manifests by the real API server, commands by
//! kubectl, Helm, make and the program itself.

use std::collections::BTreeSet;

use anyhow::{Context, ensure};
use yellowjack_e2e::cluster_policies::definition;
use yellowjack_e2e::{TestCluster, TestEnv, with_own_cluster};

use crate::helm::{apply, helm, install, root};
use crate::pages::{Command, blocks, commands, files};

/// The namespace in the docs' examples.
const AGENTS: &str = "agents";

/// What the examples assume: the chart, other projects' kinds, a run and an incident.
async fn prepare(cluster: &TestCluster) -> anyhow::Result<()> {
    install(cluster).await?;
    let owners = std::fs::read_to_string(root().join("e2e/crds/owners.yaml"))?;
    apply(cluster, &owners, &[]).await?;
    apply(cluster, &definition().to_string(), &[]).await?;
    cluster.kubectl(&["create", "namespace", AGENTS]).await?;
    let wait = [
        "wait",
        "--for=condition=Established",
        "crd",
        "--all",
        "--timeout=60s",
    ];
    cluster.kubectl(&wait).await?;
    apply(cluster, SCENE, &[]).await?;
    let ready = r#"{"status":{"conditions":[{"type":"Ready","status":"True","reason":"GuardrailsInPlace","message":"","lastTransitionTime":"2026-01-05T10:00:00Z"}]}}"#;
    let patch = [
        "patch",
        "agentrun/my-agents",
        "--namespace",
        AGENTS,
        "--subresource=status",
    ];
    cluster
        .kubectl(&[&patch[..], &["--type=merge", "--patch", ready]].concat())
        .await?;
    Ok(())
}

const SCENE: &str = "
apiVersion: yellowjack.dev/v1alpha1
kind: AgentRun
metadata: { name: my-agents, namespace: agents }
spec: { target: { selector: { matchLabels: { app: my-agents } } } }
---
apiVersion: yellowjack.dev/v1alpha1
kind: Incident
metadata: { name: my-incident, namespace: agents }
spec:
  subject: { name: my-agents-0, uid: u-1 }
  evidence: []
---
apiVersion: coordination.k8s.io/v1
kind: Lease
metadata: { name: yellowjack-controller, namespace: yellowjack-system }
spec: { holderIdentity: yellowjack-controller-0 }
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: { name: yellowjack-quarantine }
";

#[tokio::test]
async fn every_manifest_and_every_kubectl_command_of_the_docs_is_accepted() -> anyhow::Result<()> {
    with_own_cluster(async |env: TestEnv| {
        prepare(env.cluster).await?;
        let mut count = 0;
        for (place, text) in manifests()? {
            apply(
                env.cluster,
                &text,
                &["--dry-run=server", "--namespace", AGENTS],
            )
            .await
            .with_context(|| format!("in {place}"))?;
            count += 1;
        }
        ensure!(count >= 12, "only {count} manifests were found");
        let overlay = ["kustomize", "docs/examples/gitops"].map(absolute);
        let overlay: Vec<&str> = overlay.iter().map(String::as_str).collect();
        let rendered = env.cluster.kubectl(&overlay).await?;
        ensure!(
            rendered.matches("--observe-all").count() == 2,
            "the overlay does not make both parts observe"
        );
        apply(env.cluster, &rendered, &["--dry-run=server"]).await?;
        let kubectl = commands(&["kubectl"])?;
        ensure!(kubectl.len() >= 10, "only {} commands", kubectl.len());
        for command in kubectl {
            try_kubectl(env.cluster, &command)
                .await
                .with_context(|| format!("in {}: {:?}", command.place, command.words))?;
        }
        Ok(())
    })
    .await
}

/// Blocks of YAML that are whole objects, and the examples.
fn manifests() -> anyhow::Result<Vec<(String, String)>> {
    let mut found: Vec<_> = blocks()?
        .into_iter()
        .filter(|block| block.language == "yaml" && block.text.contains("\nkind: "))
        .map(|block| (block.place, block.text))
        .collect();
    for path in files(&root().join("docs/examples"), "yaml")? {
        found.push((path.display().to_string(), std::fs::read_to_string(&path)?));
    }
    Ok(found)
}

/// A path in the repository as one that holds from any folder; any other word as it is.
fn absolute(word: &str) -> String {
    let path = root().join(word);
    if word.contains(['/', '.']) && path.exists() {
        path.display().to_string()
    } else {
        word.to_owned()
    }
}

async fn try_kubectl(cluster: &TestCluster, command: &Command) -> anyhow::Result<()> {
    let mut words: Vec<String> = command
        .words
        .iter()
        .skip(1)
        .map(|word| filled(word))
        .collect();
    if words.first().is_some_and(|word| word == "yellowjack") {
        return Ok(()); // The plugin's commands are the program's own; see below.
    }
    let has = |verbs: &[&str]| {
        command
            .words
            .iter()
            .any(|word| verbs.contains(&word.as_str()))
    };
    let needs_a_kubelet = has(&["exec", "logs", "rollout", "port-forward", "cp"]);
    if has(&["apply", "patch", "delete", "create", "label", "annotate"]) {
        words.push("--dry-run=server".to_owned());
    }
    if has(&["rollout"]) {
        words.push("--watch=false".to_owned());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match cluster.kubectl(&words).await {
        Err(error) if needs_a_kubelet => {
            let said = format!("{error:#}");
            // What it says where the command is right and no node runs the pod.
            let is_understood = [
                "not found",
                "no pods",
                "timed out",
                "does not have a host assigned",
            ]
            .iter()
            .any(|words| said.contains(words));
            ensure!(is_understood, "{said}");
            Ok(())
        }
        outcome => outcome.map(drop),
    }
}

/// A placeholder of the docs as what the scene has.
fn filled(word: &str) -> String {
    match word {
        "INCIDENT" | "NAME" => "my-incident".to_owned(),
        "RUN" => "my-agents".to_owned(),
        "NAMESPACE" => AGENTS.to_owned(),
        word => absolute(word),
    }
}

#[test]
fn every_helm_command_of_the_docs_renders() -> anyhow::Result<()> {
    let found = commands(&["helm"])?;
    ensure!(found.len() >= 2, "only {} commands", found.len());
    for command in found {
        let mut words = command.words.iter().skip(1).map(String::as_str);
        let verb = words.next().unwrap_or_default();
        if !["install", "upgrade"].contains(&verb) {
            continue;
        }
        // What a rendering has no use for.
        let only_for_a_cluster = [
            "--create-namespace",
            "--reuse-values",
            "--reset-then-reuse-values",
            "--install",
            "--wait",
        ];
        let rest: Vec<&str> = words
            .filter(|word| !only_for_a_cluster.contains(word))
            .collect();
        helm(&[&["template"], &rest[..]].concat())
            .with_context(|| format!("in {}: {:?}", command.place, command.words))?;
    }
    Ok(())
}

#[test]
fn every_command_of_the_program_in_the_docs_is_understood() -> anyhow::Result<()> {
    let mut found = commands(&["yellowjack"])?;
    for command in commands(&["kubectl"])? {
        if command
            .words
            .get(1)
            .is_some_and(|word| word == "yellowjack")
        {
            let words = command.words.into_iter().skip(1).collect();
            let place = command.place;
            found.push(Command { place, words });
        }
    }
    ensure!(found.len() >= 15, "only {} commands", found.len());
    for command in found {
        if let Err(error) = yellowjack::testing::cli::check(&command.words) {
            anyhow::bail!("in {}: {:?}: {error}", command.place, command.words);
        }
    }
    Ok(())
}

#[test]
fn every_make_target_of_the_docs_exists() -> anyhow::Result<()> {
    let makefile = std::fs::read_to_string(root().join("Makefile"))?;
    let targets: BTreeSet<&str> = makefile
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(target, _)| target)
        .collect();
    for command in commands(&["make"])? {
        for word in command.words.iter().skip(1) {
            if word == "#" {
                break;
            }
            let is_known = word.contains('=') || targets.contains(word.as_str());
            ensure!(is_known, "in {}: make has no target {word}", command.place);
        }
    }
    Ok(())
}

/// An alert leads to a section that says what to do.
#[test]
fn every_alert_has_a_section_in_the_runbook() -> anyhow::Result<()> {
    let runbook = std::fs::read_to_string(root().join("docs/runbook.md"))?;
    let rules =
        std::fs::read_to_string(root().join("charts/yellowjack/templates/monitoring.yaml"))?;
    let alerts: BTreeSet<&str> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    let sections: BTreeSet<&str> = runbook
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    ensure!(
        alerts == sections,
        "alerts {alerts:?}, sections {sections:?}"
    );
    Ok(())
}

/// A link in the docs leads to a file that is there.
#[test]
fn every_link_of_the_docs_leads_somewhere() -> anyhow::Result<()> {
    let mut broken = Vec::new();
    for page in crate::pages::pages()? {
        let text = std::fs::read_to_string(&page)?;
        let folder = page.parent().context("no folder")?;
        for part in text.split("](").skip(1) {
            let Some((target, _)) = part.split_once(')') else {
                continue;
            };
            let file = target.split('#').next().unwrap_or_default();
            if file.is_empty() || file.contains("://") || folder.join(file).exists() {
                continue;
            }
            broken.push(format!("{}: {target}", page.display()));
        }
    }
    ensure!(broken.is_empty(), "links lead nowhere: {broken:#?}");
    Ok(())
}
