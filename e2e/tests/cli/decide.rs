//! A human's word by command: what it does, and when it is refused.

use kube::ResourceExt;
use serde_json::{Value, json};

use crate::called::{call, kubeconfig_of, yellowjack};
use yellowjack_e2e::binary;
use yellowjack_e2e::fixture::{Fixture, with_fixture};

#[tokio::test]
async fn a_release_by_command_restores_and_says_so() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let incident = fixture.isolated_rogue_pod().await?;
        let name = incident.name_any();
        fixture.until_quarantine_label("rogue", Some(&name)).await?;
        let why = ["--why", "a port check of our own"];

        let asked = yellowjack(&fixture.env, &["release", &name, why[0], why[1]]).await?;
        assert_eq!(asked.code, Some(2), "{asked:?}");
        assert!(asked.stderr.contains("--yes"), "{asked:?}");

        let by_pod = yellowjack(&fixture.env, &["release", "rogue", why[0], why[1]]).await?;
        assert_eq!(by_pod.code, Some(1), "{by_pod:?}");
        assert!(by_pod.stderr.contains(&name), "{by_pod:?}");

        let folder = tempfile::tempdir()?;
        let nobody = kubeconfig_of(&fixture.env, "nobody@example.com", folder.path())?;
        let namespace = fixture.env.namespace.as_str();
        let refused = ["release", &name, why[0], why[1], "--yes", "-n", namespace];
        let refused = call(&binary()?, &nobody, &refused).await?;
        assert_eq!(refused.code, Some(1), "{refused:?}");
        fixture.until_quarantine_label("rogue", Some(&name)).await?;

        let confirmed = [
            "confirm",
            &name,
            "--why",
            "it was right",
            "--yes",
            "-o",
            "json",
        ];
        let confirmed = yellowjack(&fixture.env, &confirmed).await?;
        assert_eq!(confirmed.json()?.get("outcome"), Some(&json!("Stored")));
        fixture.until_quarantine_label("rogue", Some(&name)).await?;

        let released = ["release", &name, why[0], why[1], "--yes", "-o", "json"];
        let released = yellowjack(&fixture.env, &released).await?;
        assert_eq!(released.code, Some(0), "{released:?}");
        let tale = released.json()?;
        assert_eq!(tale.get("outcome"), Some(&json!("Done")), "{tale}");
        let by = tale
            .pointer("/disposition/decidedBy")
            .and_then(Value::as_str);
        assert!(by.is_some_and(|by| !by.is_empty()), "{tale}");
        let actions = tale.get("actions").and_then(Value::as_array);
        let restored = actions.into_iter().flatten().any(|action| {
            action.get("action") == Some(&json!("Restore"))
                && action.get("target") == Some(&json!("Pod rogue"))
        });
        assert!(restored, "{tale}");
        fixture.until_quarantine_label("rogue", None).await?;

        let again = yellowjack(&fixture.env, &["release", &name, why[0], why[1], "--yes"]).await?;
        assert_eq!(again.code, Some(1), "{again:?}");
        assert!(again.stderr.contains("it is closed"), "{again:?}");
        Ok(())
    })
    .await
}
