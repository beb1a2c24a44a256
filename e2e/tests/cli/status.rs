//! `yellowjack status` and `preview` of runs that an operator watches.

use kube::ResourceExt;
use serde_json::{Value, json};

use crate::called::{call, kubeconfig_of, yellowjack};
use yellowjack_e2e::binary;
use yellowjack_e2e::fixture::{Fixture, ROGUE_IP, SCANNED_HOSTS, with_fixture};

fn run_of<'v>(report: &'v Value, name: &str) -> &'v Value {
    let runs = report.get("runs").and_then(Value::as_array);
    runs.into_iter()
        .flatten()
        .find(|run| run.get("name") == Some(&json!(name)))
        .unwrap_or(&Value::Null)
}

#[tokio::test]
async fn an_honest_run_is_told_from_a_rogue_one() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let incident = fixture.isolated_rogue_pod().await?;
        fixture
            .run_condition("rogue", "Quarantined", "True", "Isolated")
            .await?;
        fixture
            .run_condition("honest", "SignalsFresh", "True", "SourcesFresh")
            .await?;
        let called = yellowjack(&fixture.env, &["status", "-o", "json"]).await?;
        assert_eq!(called.code, Some(10), "{called:?}");
        let report = called.json()?;
        let rogue = run_of(&report, "rogue");
        assert_eq!(rogue.get("state"), Some(&json!("Quarantined")), "{report}");
        assert_eq!(
            rogue.pointer("/incidents/0/name"),
            Some(&json!(incident.name_any())),
            "{report}"
        );
        let honest = run_of(&report, "honest");
        assert_eq!(honest.get("state"), Some(&json!("Guarded")), "{report}");

        let text = yellowjack(&fixture.env, &["status"]).await?;
        assert!(!text.stdout.contains('\u{1b}'), "{text:?}");
        let first = text.stdout.lines().nth(1).unwrap_or_default();
        assert!(
            first.contains("rogue") && first.contains("Quarantined"),
            "{text:?}"
        );
        assert!(
            text.stdout.contains("yellowjack release|confirm|terminate"),
            "{text:?}"
        );

        let honest = yellowjack(&fixture.env, &["status", "honest"]).await?;
        assert_eq!(honest.code, Some(0), "{honest:?}");
        assert!(honest.stdout.contains("NetworkGuarded=True"), "{honest:?}");
        let yaml = yellowjack(&fixture.env, &["status", "honest", "-o", "yaml"]).await?;
        assert!(yaml.stdout.contains("state: Guarded"), "{yaml:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_wrong_name_and_a_missing_right_are_said_with_a_hint() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let called = yellowjack(&fixture.env, &["status", "honset"]).await?;
        assert_eq!(called.code, Some(1), "{called:?}");
        assert!(called.stderr.contains("did you mean honest?"), "{called:?}");

        let folder = tempfile::tempdir()?;
        let nobody = kubeconfig_of(&fixture.env, "nobody@example.com", folder.path())?;
        let namespace = fixture.env.namespace.as_str();
        let called = call(&binary()?, &nobody, &["status", "-n", namespace]).await?;
        assert_eq!(called.code, Some(1), "{called:?}");
        assert!(called.stderr.contains("RBAC"), "{called:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_preview_says_whom_enforce_would_have_isolated_and_held() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let observe = json!({ "detection": { "modes": { "scan": "Observe" } } });
        let pod = fixture.create_rogue_job(json!({}), observe).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture
            .incident_condition(&pod, "Contained", "False", "ObserveOnly")
            .await?;
        let called = yellowjack(&fixture.env, &["preview", "rogue", "-o", "json"]).await?;
        assert_eq!(called.code, Some(0), "{called:?}");
        let preview = called.json()?;
        let found = preview.pointer("/findings/0").unwrap_or(&Value::Null);
        assert_eq!(
            found.get("incident"),
            Some(&json!(incident.name_any())),
            "{preview}"
        );
        assert_eq!(found.get("verdict"), Some(&json!("WouldAct")), "{preview}");
        let isolate = json!([format!("isolate pod {pod}")]);
        assert_eq!(found.get("steps"), Some(&isolate), "{preview}");
        let later = found.pointer("/ifTrafficGoesOn/0").and_then(Value::as_str);
        assert!(
            later.is_some_and(|step| step.starts_with("hold Job work")),
            "{preview}"
        );
        fixture.until_quarantine_label(&pod, None).await?;
        let text = yellowjack(&fixture.env, &["preview", "rogue"]).await?;
        assert!(text.stdout.contains("would act pod"), "{text:?}");
        assert!(text.stdout.contains("not known:"), "{text:?}");
        Ok(())
    })
    .await
}
