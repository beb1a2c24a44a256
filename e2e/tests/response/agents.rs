//! Node agents that detect, and a controller without sources that responds to what they write.

use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::json;
use yellowjack::testing::api::condition_is;
use yellowjack_e2e::set_pod_ip;

use crate::scene::{HONEST_IP, MANY, QUIET, ROGUE_IP, conditions, with_agents};

#[tokio::test]
async fn two_agents_that_see_one_scan_write_one_incident_with_the_evidence_of_both()
-> anyhow::Result<()> {
    with_agents(&["node-1", "node-2"], &["--all-pods"], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        let incident = scene
            .wait_incident("rogue", "the evidence of both nodes", |incident| {
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
        scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        scene.label_is("rogue", Some(&incident.name_any())).await?;
        assert_eq!(scene.incidents_of("rogue").await?.len(), 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn what_agents_see_of_an_isolated_pod_proves_its_stop_or_the_opposite() -> anyhow::Result<()>
{
    with_agents(&["node-1"], &["--all-pods"], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        // The log of a test jumps ahead of the clock; a real one does not.
        let watched = scene
            .wait_incident("rogue", "an observation", |incident| {
                !incident.spec.observations.is_empty()
            })
            .await?;
        assert!(
            !condition_is(conditions(&watched), "Verified"),
            "the log has said nothing since"
        );
        scene.log.chatter(HONEST_IP, QUIET)?;
        let incident = scene
            .wait_incident("rogue", "Verified", |incident| {
                condition_is(conditions(incident), "Verified")
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
    with_agents(&["node-1"], &[], async |scene| {
        scene.run("rogue", json!({})).await?;
        for (node, ip) in [("node-1", ROGUE_IP), ("node-2", "10.244.1.67")] {
            let mut pod = yellowjack_e2e::pod(&format!("rogue-{node}"), &[("app", "rogue")])?;
            if let Some(spec) = pod.spec.as_mut() {
                spec.node_name = Some(node.to_owned());
            }
            let name = pod.name_any();
            scene.pods().create(&PostParams::default(), &pod).await?;
            set_pod_ip(&scene.env.client, &scene.env.namespace, &name, ip).await?;
        }
        scene.settle().await?;
        scene.log.scan_hosts("10.244.1.67", 0, MANY)?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        scene
            .incident_says("rogue-node-1", "Contained", "True", "Isolated")
            .await?;
        assert!(scene.incidents_of("rogue-node-2").await?.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_run_says_which_node_of_its_pods_nobody_sees() -> anyhow::Result<()> {
    with_agents(&["node-1"], &[], async |scene| {
        scene.run("seen", json!({})).await?;
        scene.log.chatter(HONEST_IP, std::time::Duration::ZERO)?;
        scene
            .run_says("seen", "SignalsFresh", "True", "SourcesFresh")
            .await?;

        scene.run("unseen", json!({})).await?;
        let mut pod = yellowjack_e2e::pod("elsewhere", &[("app", "unseen")])?;
        if let Some(spec) = pod.spec.as_mut() {
            spec.node_name = Some("node-2".to_owned());
        }
        scene.pods().create(&PostParams::default(), &pod).await?;
        let said = scene
            .run_says("unseen", "SignalsFresh", "False", "FlowsStale")
            .await?;
        assert!(said.contains("node-2 (no agent)"), "{said}");
        Ok(())
    })
    .await
}
