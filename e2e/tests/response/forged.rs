//! Incidents that somebody with a node agent's token writes about pods of others.

use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::{Value, json};
use yellowjack::testing::api::{Incident, labels};
use yellowjack::testing::respond::incident_name;
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{Fixture, ROGUE_IP, SCANNED_HOSTS, with_fixture};

fn incident(name: &str, subject: &Value, node: &str) -> anyhow::Result<Incident> {
    Ok(serde_json::from_value(json!({
        "apiVersion": "yellowjack.dev/v1alpha1", "kind": "Incident", "metadata": { "name": name },
        "spec": { "subject": subject, "evidence": [{
            "observer": node, "signature": "HorizontalScan", "severity": "Quarantine", "score": 40.0, "threshold": 20.0,
            "firstSeen": "2026-01-05T10:00:00Z", "lastSeen": "2026-01-05T10:00:00Z", "contacts": 40, "summary": "invented",
        }] },
    }))?)
}

#[tokio::test]
async fn evidence_by_the_agent_of_another_node_leads_to_nothing_and_the_honest_finding_does()
-> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture.create_run("rogue", json!({})).await?;
        let pod = build::pod_on_node("rogue", "rogue", "node-b")?;
        fixture.start_pod(&pod, ROGUE_IP).await?;
        fixture.sync().await?;
        let uid = fixture.pods().get("rogue").await?.uid().unwrap_or_default();
        let incidents = fixture.api::<Incident>();
        let subject = json!({ "name": "rogue", "uid": uid, "node": "node-a" });
        let forged = incident("forged", &subject, "node-a")?;
        incidents.create(&PostParams::default(), &forged).await?;
        fixture
            .incident_condition("rogue", "Contained", "False", "NodeMismatch")
            .await?;
        let pod = fixture.pods().get("rogue").await?;
        assert_eq!(pod.labels().get(labels::QUARANTINE), None);

        // The name is predictable, and taken by an Incident about another pod.
        let name = incident_name("rogue", &uid, 0);
        let other = json!({ "name": "other", "uid": "u-other", "node": "node-a" });
        let squatter = incident(&name, &other, "node-a")?;
        incidents.create(&PostParams::default(), &squatter).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let isolated = fixture.until_isolated("rogue").await?;
        assert_eq!(isolated.name_any(), incident_name("rogue", &uid, 1));
        assert_eq!(isolated.spec.subject.node.as_deref(), Some("node-b"));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn evidence_by_the_agent_of_the_pods_own_node_leads_to_a_quarantine() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture.create_run("rogue", json!({})).await?;
        let pod = build::pod_on_node("rogue", "rogue", "node-b")?;
        fixture.start_pod(&pod, ROGUE_IP).await?;
        fixture.sync().await?;
        let uid = fixture.pods().get("rogue").await?.uid().unwrap_or_default();
        let subject = json!({ "name": "rogue", "uid": uid, "node": "node-b" });
        let written = incident("by-the-agent", &subject, "node-b")?;
        let incidents = fixture.api::<Incident>();
        incidents.create(&PostParams::default(), &written).await?;
        fixture.until_isolated("rogue").await.map(drop)
    })
    .await
}
