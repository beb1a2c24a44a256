//! Both views against a real API server: a rogue pod scans, an Incident follows, and the views tell
//! it with what stands there. The binary is run as a person runs it.

use std::process::{Command, Output};

use anyhow::ensure;
use kube::ResourceExt;
use serde_json::{Value, json};
use yellowjack_e2e::binary;
use yellowjack_e2e::fixture::{
    ApiFixture, Fixture, HONEST_IP, ROGUE_IP, SCANNED_HOSTS, VERIFICATION_SPAN, with_fixture,
};

async fn yellowjack(fixture: &ApiFixture, arguments: &[&str]) -> anyhow::Result<Output> {
    let mut command = Command::new(binary()?);
    command
        .args(arguments)
        .args(["--namespace", &fixture.env.namespace])
        .env("KUBECONFIG", fixture.proxy.kubeconfig());
    // The proxy that it talks to runs on this runtime.
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}

async fn told(fixture: &ApiFixture, arguments: &[&str]) -> anyhow::Result<String> {
    let output = yellowjack(fixture, arguments).await?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?} failed: {errors}");
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rogue_run_is_told_with_what_was_seen_done_and_proven() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let trace = json!({ "trace": { "experiment": "tool-use-v3", "episode": "18" } });
        fixture.create_rogue_pod(trace).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture.until_isolated("rogue").await?;
        let name = incident.name_any();
        fixture.log.chatter(HONEST_IP, VERIFICATION_SPAN)?;
        let proven = fixture
            .incident_condition("rogue", "Verified", "True", "Verified")
            .await?;
        let course = &proven.spec.evidence[0].history;
        assert!(!course.is_empty(), "the evidence says how the score grew");
        assert!(
            course.is_sorted_by_key(|point| point.contacts),
            "{course:?}"
        );

        let text = told(fixture, &["explain", &name]).await?;
        assert!(
            text.starts_with(
                "✓ CONTAINED AND VERIFIED\nPod rogue scanned one port over many hosts."
            ),
            "{text}"
        );
        assert!(!text.contains('\u{1b}'), "no colour in a pipe");
        for wanted in [
            "tcp/22",
            "yellowjack-quarantine",
            "experiment tool-use-v3",
            "Isolate: Pod rogue",
            "What this report cannot show",
        ] {
            assert!(text.contains(wanted), "{wanted} in {text}");
        }

        let story: Value =
            serde_json::from_str(&told(fixture, &["explain", &name, "--output", "json"]).await?)?;
        assert_eq!(story["stance"], "Proven");
        let policies = story["policies"]["selecting"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let names: Vec<_> = policies.iter().map(|policy| &policy["name"]).collect();
        assert!(
            names.contains(&&json!("yellowjack-quarantine")),
            "{names:?}"
        );
        assert!(
            told(fixture, &["explain", &name, "--output", "yaml"])
                .await?
                .contains("stance: Proven")
        );

        let folder = tempfile::tempdir()?;
        let file = folder.path().join("incident.html");
        let silent = told(
            fixture,
            &["report", &name, "--file", &file.to_string_lossy()],
        )
        .await?;
        assert_eq!(silent, "");
        let page = std::fs::read_to_string(&file)?;
        assert!(page.starts_with("<!doctype html>") && page.contains("default-src 'none'"));
        assert!(page.contains("Contained and verified"), "{page}");
        assert!(
            told(fixture, &["report", &name, "--output", "markdown"])
                .await?
                .starts_with("# ✓ Contained and verified")
        );
        Ok(())
    })
    .await
}

/// The command that a report prints is one that the API server takes, and what follows is told too.
#[tokio::test(flavor = "multi_thread")]
async fn the_printed_release_works_and_a_pod_that_is_gone_is_told_as_gone() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let incident = fixture.isolated_rogue_pod().await?;
        let name = incident.name_any();
        let story: Value =
            serde_json::from_str(&told(fixture, &["explain", &name, "--output", "json"]).await?)?;
        let steps = story["next"].as_array().cloned().unwrap_or_default();
        let release = steps
            .iter()
            .filter_map(|step| step["command"].as_str())
            .find(|command| command.contains(" release "))
            .unwrap_or_default();
        let namespace = format!("-n {} ", fixture.env.namespace);
        assert!(release.contains(&namespace), "{release}");
        // `yellowjack` here names it anyway.
        let release = release.replace(&namespace, "");
        let mut words: Vec<&str> = release.split(' ').skip(1).collect();
        words.push("--yes");
        ensure!(
            yellowjack(fixture, &words).await?.status.success(),
            "{release}"
        );
        fixture.until_released("rogue").await?;
        fixture.delete_pod("rogue").await?;
        let text = told(fixture, &["explain", &name]).await?;
        assert!(text.starts_with("■ CLOSED\n"), "{text}");
        assert!(text.contains(": REASON"), "{text}");
        assert!(text.contains("It no longer exists."), "{text}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_incident_that_is_not_there_is_named_with_a_hint() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let output = yellowjack(fixture, &["explain", "nobody"]).await?;
        assert_eq!(output.status.code(), Some(1));
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            error.contains("wanted the Incident nobody") && error.contains("hint:"),
            "{error}"
        );
        Ok(())
    })
    .await
}
