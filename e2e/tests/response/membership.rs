//! Pods that somebody takes out of a run, puts into another one, or puts into a run that did not make them.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::ResourceExt;
use serde_json::json;
use yellowjack::testing::api::{AgentRun, labels};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{Fixture, ROGUE_IP, SCANNED_HOSTS, with_fixture};

fn has_pods(run: &AgentRun, count: i32) -> bool {
    let pods = run.status.as_ref().and_then(|status| status.pods.as_ref());
    pods.is_some_and(|pods| pods.total == count)
}

#[tokio::test]
async fn a_pod_without_the_label_that_its_run_selects_stays_in_the_run_and_is_isolated()
-> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        // Older, and with the label that the pod will have.
        fixture.create_run("lax", json!({})).await?;
        fixture.create_rogue_pod(json!({})).await?;
        let uid = fixture.get::<AgentRun>("rogue").await?.uid();
        fixture
            .until::<AgentRun>("rogue", "one pod", |run| has_pods(run, 1))
            .await?;
        let change = json!({ "metadata": { "labels": { "app": "lax" } } });
        fixture.patch::<Pod>("rogue", &change).await?;
        fixture
            .run_condition("rogue", "NetworkGuarded", "False", "PodLeft")
            .await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture.until_isolated("rogue").await?;
        assert_eq!(incident.spec.run.map(|run| run.uid), uid);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_second_run_over_the_same_pods_widens_nothing() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture.create_run("narrow", json!({})).await?;
        fixture.create_pod("agent", "narrow", ROGUE_IP).await?;
        fixture
            .until::<AgentRun>("narrow", "one pod", |run| has_pods(run, 1))
            .await?;
        let target = json!({ "selector": { "matchLabels": { "app": "narrow" } } });
        let wide = json!({ "network": { "egress": [{ "cidr": "198.51.100.0/24" }] } });
        fixture.create_run_for("wide", target, wide).await?;
        let message = fixture
            .run_condition("wide", "TargetResolved", "False", "Overlap")
            .await?;
        assert!(message.contains("belongs to narrow"), "{message}");
        fixture
            .until::<Pod>("agent", "the label of the older run", |pod| {
                pod.labels()
                    .get(labels::RUN)
                    .is_some_and(|run| run == "narrow")
            })
            .await?;
        fixture
            .until::<NetworkPolicy>(
                "yellowjack-run-wide",
                "the policy of the second run",
                |policy| {
                    let selector = policy
                        .spec
                        .as_ref()
                        .and_then(|spec| spec.pod_selector.as_ref());
                    let rules = selector.and_then(|selector| selector.match_expressions.as_ref());
                    rules.is_some_and(|rules| rules.iter().any(|rule| rule.operator == "NotIn"))
                },
            )
            .await?;
        fixture
            .run_condition("narrow", "NetworkGuarded", "True", "PoliciesApplied")
            .await
            .map(drop)
    })
    .await
}

#[tokio::test]
async fn a_pod_of_a_template_without_owner_and_run_label_gets_the_label_back_and_is_isolated()
-> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture
            .create_run_for("rogue", build::template_target(), json!({}))
            .await?;
        let name = fixture.pod_of_job("yellowjack-run-rogue").await?;
        fixture.set_pod_ip(&name, ROGUE_IP).await?;
        fixture.sync().await?;
        fixture
            .until::<AgentRun>("rogue", "one pod", |run| has_pods(run, 1))
            .await?;
        // Without the first two, the controller of Jobs would take the pod back.
        let change = json!({ "metadata": { "ownerReferences": null, "labels": {
            "batch.kubernetes.io/controller-uid": null, "controller-uid": null, labels::RUN: "another",
        } } });
        fixture.patch::<Pod>(&name, &change).await?;
        fixture
            .until::<Pod>(&name, "the run label", |pod| {
                pod.labels().get(labels::RUN).is_some_and(|run| run == "rogue")
            })
            .await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture.until_isolated(&name).await.map(drop)
    })
    .await
}

#[tokio::test]
async fn a_pod_that_names_a_run_as_its_owner_does_not_join_it() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let run = fixture
            .create_run_for("rogue", build::template_target(), json!({}))
            .await?;
        let own = fixture.pod_of_job("yellowjack-run-rogue").await?;
        let mut joiner = build::pod("joiner", &[])?;
        joiner.metadata.owner_references = Some(serde_json::from_value(json!([{
            "apiVersion": "yellowjack.dev/v1alpha1", "kind": "AgentRun", "name": "rogue", "uid": run.uid(), "controller": true,
        }]))?);
        fixture.start_pod(&joiner, ROGUE_IP).await?;
        fixture.set_pod_ip(&own, "10.244.1.70").await?;
        fixture.sync().await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture.log.scan_hosts("10.244.1.70", 1, SCANNED_HOSTS)?;
        fixture.until_isolated(&own).await?;
        let run = fixture.get::<AgentRun>("rogue").await?;
        assert!(has_pods(&run, 1), "{:?}", run.status);
        assert!(fixture.incidents_of("joiner").await?.is_empty());
        Ok(())
    })
    .await
}
