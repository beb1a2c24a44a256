//! Node agents that detect, and a controller without sources that responds to what they write.

use kube::ResourceExt;
use serde_json::json;
use yellowjack::testing::api::condition_is;
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{
    Fixture, HONEST_IP, ROGUE_IP, SCANNED_HOSTS, VERIFICATION_SPAN, incident_conditions,
    with_node_agents,
};

#[tokio::test]
async fn two_agents_that_see_one_scan_write_one_incident_with_the_evidence_of_both()
-> anyhow::Result<()> {
    with_node_agents(&["node-1", "node-2"], &["--all-pods"], async |fixture| {
        fixture.create_rogue_pod(json!({})).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture
            .until_incident("rogue", "the evidence of both nodes", |incident| {
                let nodes = incident
                    .spec
                    .evidence
                    .iter()
                    .map(|entry| entry.observer.as_str());
                let mut nodes: Vec<_> = nodes.collect();
                nodes.sort_unstable();
                nodes == ["node-1", "node-2"]
            })
            .await?;
        fixture.until_isolated("rogue").await?;
        fixture
            .until_quarantine_label("rogue", Some(&incident.name_any()))
            .await?;
        assert_eq!(fixture.incidents_of("rogue").await?.len(), 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_agents_see_of_an_isolated_pod_proves_its_stop_or_the_opposite() -> anyhow::Result<()>
{
    with_node_agents(&["node-1"], &["--all-pods"], async |fixture| {
        fixture.isolated_rogue_pod().await?;
        // The log of a test jumps ahead of the clock; a real one does not.
        let watched = fixture
            .until_incident("rogue", "an observation", |incident| {
                !incident.spec.observations.is_empty()
            })
            .await?;
        assert!(
            !condition_is(incident_conditions(&watched), "Verified"),
            "the log has said nothing since"
        );
        fixture.log.chatter(HONEST_IP, VERIFICATION_SPAN)?;
        let incident = fixture
            .until_incident("rogue", "Verified", |incident| {
                condition_is(incident_conditions(incident), "Verified")
            })
            .await?;
        let [observation] = &incident.spec.observations[..] else {
            panic!("one node observed: {:?}", incident.spec.observations);
        };
        assert_eq!(observation.node, "node-1");
        assert_eq!(observation.last_passed, None);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn an_agent_knows_the_pods_of_its_own_node_only() -> anyhow::Result<()> {
    with_node_agents(&["node-1"], &[], async |fixture| {
        fixture.create_run("rogue", json!({})).await?;
        for (node, ip) in [("node-1", ROGUE_IP), ("node-2", "10.244.1.67")] {
            let pod = build::pod_on_node(&format!("rogue-{node}"), "rogue", node)?;
            fixture.start_pod(&pod, ip).await?;
        }
        fixture.sync().await?;
        fixture.log.scan_hosts("10.244.1.67", 0, SCANNED_HOSTS)?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture.until_isolated("rogue-node-1").await?;
        assert!(fixture.incidents_of("rogue-node-2").await?.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_run_says_which_node_of_its_pods_nobody_sees() -> anyhow::Result<()> {
    with_node_agents(&["node-1"], &[], async |fixture| {
        fixture.create_run("seen", json!({})).await?;
        fixture.log.chatter(HONEST_IP, std::time::Duration::ZERO)?;
        fixture
            .run_condition("seen", "SignalsFresh", "True", "SourcesFresh")
            .await?;

        fixture.create_run("unseen", json!({})).await?;
        fixture
            .create(&build::pod_on_node("elsewhere", "unseen", "node-2")?)
            .await?;
        let said = fixture
            .run_condition("unseen", "SignalsFresh", "False", "FlowsStale")
            .await?;
        assert!(said.contains("node-2 (no agent)"), "{said}");
        Ok(())
    })
    .await
}
