//! `yellowjack doctor --probe` with real packets: without a policy engine, with one that lets established
//! connections be, and with one that judges every packet.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;
use yellowjack_e2e::node::{POD_NETWORK, POD_NETWORK_V6, TestNode};
use yellowjack_e2e::standin::{Standin, StandinMode, build};
use yellowjack_e2e::{TestEnv, binary, wait_for};

use super::on_node;

const IMAGE: &str = "yellowjack.test/probe:test";
const LIMIT: Duration = Duration::from_mins(1);

/// What the probe says: its verdict and its sentence.
async fn probe(node: &TestNode, limit: &str) -> anyhow::Result<(String, String)> {
    let arguments = [
        "doctor",
        "--probe",
        "--probe-image",
        IMAGE,
        "--probe-limit",
        limit,
    ];
    let output = tokio::process::Command::new(binary()?)
        .args(arguments)
        .args(["-o", "json"])
        .env("KUBECONFIG", node.kubeconfig())
        .stdin(Stdio::null())
        .output()
        .await
        .context("failed to run the doctor")?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let report: Value = serde_json::from_slice(&output.stdout).with_context(|| said.clone())?;
    let checks = report.get("checks").and_then(Value::as_array);
    let found = checks
        .into_iter()
        .flatten()
        .find(|check| check.get("name").and_then(Value::as_str) == Some("probe"))
        .context("no check of the probe")?;
    let text = |field: &str| {
        found
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    println!("probe: {} {}", text("verdict"), text("found"));
    Ok((text("verdict"), text("found")))
}

/// Nothing of a probe is left: neither its namespace nor, with it, its pods.
async fn nothing_left(env: &TestEnv) -> anyhow::Result<()> {
    let namespaces: Api<Namespace> = Api::all(env.client.clone());
    let ours = ListParams::default().labels("yellowjack.dev/probe=true");
    wait_for("the probe's namespace to be gone", LIMIT, async || {
        let left = namespaces
            .list(&ours)
            .await
            .map_err(|error| error.to_string())?;
        if left.items.is_empty() {
            Ok(())
        } else {
            Err(format!("{} are left", left.items.len()))
        }
    })
    .await
}

#[tokio::test]
async fn a_probe_tells_whether_a_deny_takes_effect_and_cuts_what_stands() -> anyhow::Result<()> {
    on_node(async |env, node| {
        node.import_program(IMAGE, &binary()?)?;
        build("standin")?;
        let (verdict, found) = probe(&node, "20s").await?;
        assert_eq!(verdict, "fail", "{found}");
        assert!(found.contains("connections still succeeded"), "{found}");
        nothing_left(&env).await?;
        for (mode, expected) in [
            (StandinMode::Connection, "warn"),
            (StandinMode::Packet, "ok"),
        ] {
            let folder = tempfile::tempdir()?;
            let log = folder.path().join("standin.log");
            let networks = [POD_NETWORK, POD_NETWORK_V6];
            let standin = Standin::start(mode, node.kubeconfig(), &networks, &log).await?;
            let (verdict, found) = probe(&node, "60s").await?;
            assert_eq!(verdict, expected, "{mode:?}: {found}");
            nothing_left(&env).await?;
            // Its rules outlive it: they must be those of no pod.
            wait_for("rules of no pod of the probe", LIMIT, async || {
                let generations = standin.generations().map_err(|error| error.to_string())?;
                match generations.last() {
                    Some(last) if last.pods == 0 => Ok(()),
                    last => Err(format!("{last:?}")),
                }
            })
            .await?;
        }
        Ok(())
    })
    .await
}
