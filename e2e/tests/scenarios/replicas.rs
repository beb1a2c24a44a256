//! One of several replicas does wrong: it alone is cut off, and the others neither lose a packet nor their place. And what a
//! pod in quarantine still reaches on its own node.

use anyhow::{Context, ensure};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::node::{Engine, NODE_IP, agent_pod, agent_spec, running};
use yellowjack_e2e::standin::StandinMode;
use yellowjack_e2e::wait_for;

use crate::fixture::{LATER_GATE_PORT, NodeFixture, REFUSING_NETWORK, gate, with_node_fixture};

const REPLICAS: usize = 3;

/// Requests on and on, and a scan behind a gate: the test opens that of one replica.
fn script() -> String {
    format!(
        "( while true; do toolbox get -count 200 -interval 50ms http://203.0.113.80:8080/healthz; done ) &\n{}\n\
         while true; do nmap -n -Pn -sT -p 22 {REFUSING_NETWORK}; done",
        gate(LATER_GATE_PORT)
    )
}

/// The names and UIDs of the replicas that are not being deleted.
async fn replicas(fixture: &NodeFixture) -> anyhow::Result<Vec<(String, String)>> {
    let params = ListParams::default().labels("app=fleet");
    let pods = fixture.api::<Pod>().list(&params).await?;
    let mut names: Vec<_> = pods
        .iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .map(|pod| (pod.name_any(), pod.uid().unwrap_or_default()))
        .collect();
    names.sort();
    Ok(names)
}

async fn one_of_three(fixture: &NodeFixture) -> anyhow::Result<()> {
    fixture.create_run_to("fleet", "0.0.0.0/0").await?;
    let labels = json!({ "app": "fleet" });
    let fleet: Deployment = serde_json::from_value(json!({
        "metadata": { "name": "fleet" },
        "spec": {
            "replicas": REPLICAS,
            "selector": { "matchLabels": labels },
            "template": { "metadata": { "labels": labels }, "spec": agent_spec(&script())? },
        },
    }))?;
    let mut fleet = fleet;
    if let Some(spec) = fleet
        .spec
        .as_mut()
        .and_then(|spec| spec.template.spec.as_mut())
    {
        spec.restart_policy = Some("Always".to_owned());
    }
    fixture.create(&fleet).await?;
    wait_for("the replicas", LIMIT, async || {
        match replicas(fixture).await {
            Ok(found) if found.len() == REPLICAS => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let before = replicas(fixture).await?;
    let mut pods = Vec::new();
    for (name, _) in &before {
        running(&fixture.api(), name).await?;
        pods.push(fixture.addresses_of(name).await?);
    }
    fixture.until_guarded("fleet", REPLICAS.try_into()?).await?;
    fixture.until_settled(&pods).await?;
    let begun = Timestamp::now();
    let (rogue, honest) = pods.split_first().context("no replica")?;
    fixture
        .open_gate_at(&rogue.address, LATER_GATE_PORT)
        .await?;
    fixture.until_verified(rogue).await?;
    ensure!(
        replicas(fixture).await? == before,
        "replicas were deleted or replaced: {:?}, before {before:?}",
        replicas(fixture).await?
    );
    if let Some(engine) = fixture.engine {
        println!("figure {}.honest_scaled 0", engine.name());
    }
    for pod in honest {
        let gaps = fixture.longest_gap(pod, begun)?;
        println!("honest replica {}: longest gap {gaps:.2} s", pod.pod);
        ensure!(
            gaps < 2.0,
            "the honest replica {} was cut off for {gaps:.1} s",
            pod.pod
        );
    }
    let row = fixture.measure("one of three replicas scans", rogue, |a| {
        a.to == "203.0.113.80"
    })?;
    fixture.conclude(row).await
}

#[tokio::test]
async fn one_of_several_replicas_is_cut_off_alone() -> anyhow::Result<()> {
    with_node_fixture(StandinMode::Packet, &[], one_of_three).await?;
    with_node_fixture(StandinMode::Connection, &[], one_of_three).await
}

/// What a request from inside of a pod gives: the word of the tool, `ok` or why not.
async fn get_from(fixture: &NodeFixture, pod: &str, url: &str) -> anyhow::Result<String> {
    let answer = fixture
        .env
        .kubectl(&[
            "exec",
            pod,
            "--",
            "sh",
            "-c",
            &format!("toolbox get -count 1 -timeout 2s {url} 2>&1 || true"),
        ])
        .await?;
    Ok(answer)
}

/// Ranges of addresses match neither the node nor the API server on Cilium: its own deny names them.
#[tokio::test]
async fn on_cilium_a_pod_in_quarantine_reaches_neither_its_node_nor_the_api_server()
-> anyhow::Result<()> {
    with_node_fixture(StandinMode::Packet, &[], async |fixture| {
        if fixture.engine != Some(Engine::Cilium) {
            println!("skipped: for Cilium");
            return Ok(());
        }
        let free = agent_pod("free", &[("app", "free")], "sleep 1000")?;
        fixture.create(&free).await?;
        running(&fixture.api(), "free").await?;
        let scan = format!("while true; do nmap -n -Pn -sT -p 22 {REFUSING_NETWORK}; done");
        let rogue = fixture.start_rogue_pod(&scan).await?;
        fixture.until_verified(&rogue).await?;
        for url in [
            format!("http://{NODE_IP}:10250/"),
            "http://10.96.0.1:443/".to_owned(),
        ] {
            let open = get_from(fixture, "free", &url).await?;
            ensure!(
                open.contains("400"),
                "a pod without a policy gets no answer: {open}"
            );
            let held = get_from(fixture, "rogue", &url).await?;
            ensure!(
                !held.contains("400"),
                "a pod in quarantine reaches {url}: {held}"
            );
        }
        Ok(())
    })
    .await
}
