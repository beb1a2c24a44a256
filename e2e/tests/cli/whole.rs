//! What needs no run: completion, kubectl's plugin, a server without the CRDs.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::ListParams;
use serde_json::Value;
use yellowjack_e2e::{TestCluster, binary, install_crds, wait_for, with_namespace};

use crate::called::call;

const LIMIT: Duration = Duration::from_mins(1);

#[test]
fn completion_scripts_are_there_and_bash_takes_its_own() -> anyhow::Result<()> {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(binary()?)
            .args(["completion", shell])
            .output()?;
        assert!(output.status.success(), "{shell}");
        let script = String::from_utf8(output.stdout)?;
        assert!(
            script.contains("yellowjack") && script.contains("release"),
            "{shell}"
        );
        if shell != "bash" {
            continue;
        }
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("script");
        std::fs::write(&path, script)?;
        let parsed = Command::new("bash").arg("-n").arg(&path).status()?;
        assert!(parsed.success(), "bash does not take its script");
    }
    Ok(())
}

#[tokio::test]
async fn kubectl_finds_the_program_as_its_plugin() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let folder = tempfile::tempdir()?;
        std::os::unix::fs::symlink(binary()?, folder.path().join("kubectl-yellowjack"))?;
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = tokio::process::Command::from(env.cluster.kubectl_command());
        let output = command
            .args(["yellowjack", "status", "--namespace", &env.namespace])
            .env("PATH", format!("{}:{path}", folder.path().display()))
            .env("KUBECONFIG", env.cluster.kubeconfig())
            .stdin(Stdio::null())
            .output()
            .await
            .context("failed to run kubectl")?;
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        assert!(said.contains("no AgentRun here"), "{output:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_cluster_without_the_crds_and_no_cluster_at_all_are_said() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let nothing = folder.path().join("kubeconfig");
    let called = call(&binary()?, &nothing, &["status"]).await?;
    assert_eq!(called.code, Some(1), "{called:?}");
    assert!(called.stderr.contains("--kubeconfig"), "{called:?}");

    let own = tokio::task::spawn_blocking(TestCluster::own).await??;
    let called = call(&binary()?, own.kubeconfig(), &["status"]).await?;
    assert_eq!(called.code, Some(1), "{called:?}");
    assert!(called.stderr.contains("CRDs"), "{called:?}");
    let called = call(&binary()?, own.kubeconfig(), &["doctor", "-o", "json"]).await?;
    assert_eq!(called.code, Some(1), "{called:?}");
    assert_eq!(verdict(&called.json()?, "crd"), "fail", "{called:?}");
    a_doctor_says_what_it_cannot_know(&own).await
}

/// There is no network, no node and no controller of the chart here, and that is no failure.
async fn a_doctor_says_what_it_cannot_know(own: &TestCluster) -> anyhow::Result<()> {
    let client = own.client().await?;
    install_crds(&client).await?;
    let probe = [
        "doctor",
        "--probe",
        "--probe-image",
        "registry.invalid/yellowjack:1",
    ];
    let mut arguments = probe.to_vec();
    arguments.extend(["--probe-limit", "3s", "-o", "json"]);
    let called = call(&binary()?, own.kubeconfig(), &arguments).await?;
    assert_eq!(called.code, Some(0), "{called:?}");
    let report = called.json()?;
    for (check, expected) in [
        ("api-server", "ok"),
        ("clock", "ok"),
        ("node-clocks", "unknown"),
        ("crd", "ok"),
        ("controller", "unknown"),
        ("rbac", "unknown"),
        ("you", "ok"),
        ("admission", "warn"),
        ("node-agents", "unknown"),
        ("flows", "unknown"),
        ("network-plug-in", "unknown"),
        ("deny", "warn"),
        ("probe", "unknown"),
    ] {
        assert_eq!(verdict(&report, check), expected, "{check}: {report:#}");
    }
    let namespaces: Api<Namespace> = Api::all(client);
    let left = namespaces
        .list(&ListParams::default().labels("yellowjack.dev/probe=true"))
        .await?;
    let living = left
        .items
        .iter()
        .filter(|one| one.metadata.deletion_timestamp.is_none());
    assert_eq!(living.count(), 0, "the namespace of the probe is left");
    Ok(())
}

fn verdict<'v>(report: &'v Value, check: &str) -> &'v str {
    let checks = report.get("checks").and_then(Value::as_array);
    let found = checks
        .into_iter()
        .flatten()
        .find(|one| one.get("name").and_then(Value::as_str) == Some(check));
    let verdict = found.and_then(|one| one.get("verdict")?.as_str());
    verdict.unwrap_or("missing")
}
