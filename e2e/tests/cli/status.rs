//! `yellowjack status` and `preview` of runs that an operator watches.

use kube::ResourceExt;
use serde_json::{Value, json};

use crate::called::{call, kubeconfig_of, yellowjack};
use crate::scene::{MANY, ROGUE_IP, with_scene};
use yellowjack_e2e::binary;

fn run_of<'v>(report: &'v Value, name: &str) -> &'v Value {
    let runs = report.get("runs").and_then(Value::as_array);
    runs.into_iter()
        .flatten()
        .find(|run| run.get("name") == Some(&json!(name)))
        .unwrap_or(&Value::Null)
}

#[tokio::test]
async fn an_honest_run_is_told_from_a_rogue_one() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        let incident = scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        scene
            .run_says("rogue", "Quarantined", "True", "Isolated")
            .await?;
        scene
            .run_says("honest", "SignalsFresh", "True", "SourcesFresh")
            .await?;
        let called = yellowjack(&scene.env, &["status", "-o", "json"]).await?;
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

        let text = yellowjack(&scene.env, &["status"]).await?;
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

        let honest = yellowjack(&scene.env, &["status", "honest"]).await?;
        assert_eq!(honest.code, Some(0), "{honest:?}");
        assert!(honest.stdout.contains("NetworkGuarded=True"), "{honest:?}");
        let yaml = yellowjack(&scene.env, &["status", "honest", "-o", "yaml"]).await?;
        assert!(yaml.stdout.contains("state: Guarded"), "{yaml:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_wrong_name_and_a_missing_right_are_said_with_a_hint() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        let called = yellowjack(&scene.env, &["status", "honset"]).await?;
        assert_eq!(called.code, Some(1), "{called:?}");
        assert!(called.stderr.contains("did you mean honest?"), "{called:?}");

        let folder = tempfile::tempdir()?;
        let nobody = kubeconfig_of(&scene.env, "nobody@example.com", folder.path())?;
        let namespace = scene.env.namespace.as_str();
        let called = call(&binary()?, &nobody, &["status", "-n", namespace]).await?;
        assert_eq!(called.code, Some(1), "{called:?}");
        assert!(called.stderr.contains("RBAC"), "{called:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_preview_says_whom_enforce_would_have_isolated_and_held() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        let observe = json!({ "detection": { "modes": { "scan": "Observe" } } });
        let pod = scene.rogue_job(json!({}), observe).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        let incident = scene
            .incident_says(&pod, "Contained", "False", "ObserveOnly")
            .await?;
        let called = yellowjack(&scene.env, &["preview", "rogue", "-o", "json"]).await?;
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
        scene.label_is(&pod, None).await?;
        let text = yellowjack(&scene.env, &["preview", "rogue"]).await?;
        assert!(text.stdout.contains("would act pod"), "{text:?}");
        assert!(text.stdout.contains("not known:"), "{text:?}");
        Ok(())
    })
    .await
}
