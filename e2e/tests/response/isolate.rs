//! From a scan to a contained pod, and who is left alone.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use yellowjack::testing::api::{
    ActionKind, ActionResult, AgentRun, Incident, condition_is, labels,
};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{
    Fixture, HONEST_IP, ROGUE_IP, SCANNED_HOSTS, action_results, run_conditions,
    sets_quarantine_label, stores_true_condition, with_fixture,
};

/// The address of a node, and so of its pods on the host's network.
const NODE_IP: &str = "192.0.2.7";

#[tokio::test]
async fn a_scan_before_the_pod_s_address_is_known_is_found_all_the_same() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture.create_run("rogue", json!({})).await?;
        fixture.sync().await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture.create_pod("rogue", "rogue", ROGUE_IP).await?;
        fixture.until_isolated("rogue").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_that_scans_is_isolated_with_evidence_and_its_neighbour_is_left_alone()
-> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture.create_rogue_pod(json!({})).await?;
        fixture.log.chatter(HONEST_IP, std::time::Duration::ZERO)?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;

        let incident = fixture.until_isolated("rogue").await?;
        fixture
            .until_quarantine_label("rogue", Some(&incident.name_any()))
            .await?;
        let evidence = &incident.spec.evidence[0];
        assert_eq!(evidence.signature, "HorizontalScan");
        assert_eq!(evidence.severity.name(), "Quarantine");
        assert!(evidence.score >= evidence.threshold, "{evidence:?}");
        assert!(evidence.contacts >= 35, "{evidence:?}");
        assert_eq!(evidence.examples[0].outcome, "Refused");
        assert_eq!(
            action_results(&incident, ActionKind::Isolate),
            [ActionResult::Succeeded]
        );
        let status = incident.status.clone().unwrap_or_default();
        assert_eq!(status.techniques, ["T1046"]);

        fixture
            .run_condition("rogue", "Suspicious", "True", "IncidentOpen")
            .await?;
        fixture
            .run_condition("rogue", "Quarantined", "True", "Isolated")
            .await?;
        fixture
            .run_condition("rogue", "Ready", "False", "PodsQuarantined")
            .await?;
        fixture
            .run_condition("honest", "Ready", "True", "GuardrailsInPlace")
            .await?;
        let honest = fixture.get::<AgentRun>("honest").await?;
        assert!(!condition_is(run_conditions(&honest), "Suspicious"));
        let quarantined = fixture.write_positions(|write| {
            write.path.contains("/pods/honest") && write.body.to_string().contains("quarantine")
        });
        assert!(quarantined.is_empty(), "the honest pod was written to");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn many_ports_of_one_host_are_a_scan_too() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture.create_rogue_pod(json!({})).await?;
        fixture.log.scan_ports(ROGUE_IP, 60)?;
        let incident = fixture.until_isolated("rogue").await?;
        assert_eq!(incident.spec.evidence[0].signature, "VerticalScan");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_incident_is_stored_before_the_label_and_the_label_before_contained()
-> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let incident = fixture.isolated_rogue_pod().await?;
        let name = incident.name_any();
        let recorded =
            fixture.write_positions(|write| write.path.ends_with(&format!("/incidents/{name}")));
        let labelled = fixture.write_positions(|write| sets_quarantine_label(write, &name));
        let contained = fixture
            .until_written("the write of Contained", |write| {
                write.path.ends_with(&format!("/incidents/{name}/status"))
                    && stores_true_condition(write, "Contained")
            })
            .await?;
        assert!(recorded[0] < labelled[0], "{recorded:?} {labelled:?}");
        assert!(labelled[0] < contained, "{labelled:?} {contained}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_run_that_is_deleted_takes_neither_quarantine_nor_incident_along() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let incident = fixture.isolated_rogue_pod().await?;
        let runs: Api<AgentRun> = fixture.api();
        runs.delete("rogue", &DeleteParams::default()).await?;
        // The guard is owned by the run and goes with it: by then everything has been heard of.
        let policies: Api<NetworkPolicy> = fixture.api();
        fixture
            .until_gone::<NetworkPolicy>("yellowjack-run-rogue")
            .await?;
        fixture.sync().await?;
        fixture
            .until_quarantine_label("rogue", Some(&incident.name_any()))
            .await?;
        let incidents: Api<Incident> = fixture.api();
        let kept = incidents.get(&incident.name_any()).await?;
        assert_eq!(kept.metadata.uid, incident.metadata.uid);
        assert!(kept.metadata.owner_references.is_none());
        assert!(policies.get_opt(labels::STANDING_DENY).await?.is_some());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_label_that_somebody_takes_off_comes_back_without_a_release() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let incident = fixture.isolated_rogue_pod().await?;
        let off = json!({ "metadata": { "labels": { labels::QUARANTINE: null } } });
        let written = fixture
            .pods()
            .patch("rogue", &PatchParams::default(), &Patch::Merge(off))
            .await?;
        assert!(!written.labels().contains_key(labels::QUARANTINE));
        fixture
            .until_quarantine_label("rogue", Some(&incident.name_any()))
            .await
    })
    .await
}

#[tokio::test]
async fn the_standing_deny_is_empty_in_both_directions() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        fixture
            .run_condition("honest", "NetworkGuarded", "True", "PoliciesApplied")
            .await?;
        let policies: Api<NetworkPolicy> = fixture.api();
        let stored = policies.get(labels::STANDING_DENY).await?;
        // An empty list allows nothing, of IPv4 and of IPv6 alike.
        let spec = serde_json::to_value(stored.spec)?;
        let expected = json!({
            "podSelector": { "matchExpressions": [
                { "key": labels::QUARANTINE, "operator": "Exists" },
            ]},
            "policyTypes": ["Ingress", "Egress"],
        });
        let without_empty = |mut spec: serde_json::Value| {
            // The API server leaves empty lists out.
            for direction in ["ingress", "egress"] {
                if spec[direction] == json!([]) || spec[direction].is_null() {
                    spec.as_object_mut().map(|fields| fields.remove(direction));
                }
            }
            spec
        };
        assert_eq!(without_empty(spec), expected);
        let guard = policies.get("yellowjack-run-honest").await?;
        let chosen = serde_json::to_value(guard.spec)?["podSelector"].clone();
        assert_eq!(
            chosen["matchExpressions"],
            json!([{ "key": labels::QUARANTINE, "operator": "DoesNotExist" }]),
            "the guard must let go of a quarantined pod"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn lines_of_a_pod_on_the_hosts_network_are_held_against_nobody() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let mut on_host = build::pod("on-host", &[("app", "rogue")])?;
        on_host.spec.as_mut().expect("a spec").host_network = Some(true);
        fixture.start_pod(&on_host, NODE_IP).await?;
        fixture.create_run("rogue", json!({})).await?;
        fixture.create_pod("rogue", "rogue", ROGUE_IP).await?;
        fixture.sync().await?;
        fixture
            .run_condition("rogue", "NetworkGuarded", "False", "HostNetwork")
            .await?;
        fixture.log.scan_hosts(NODE_IP, 0, SCANNED_HOSTS)?;
        // Lines are read in order: this Incident comes after the other would have come.
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture.until_isolated("rogue").await?;
        assert!(fixture.incidents_of("on-host").await?.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_that_inherits_a_rogue_pods_address_is_not_blamed() -> anyhow::Result<()> {
    with_fixture(&[], async |fixture| {
        let incident = fixture.isolated_rogue_pod().await?;
        fixture.delete_pod("rogue").await?;
        fixture
            .incident_condition("rogue", "Contained", "True", "PodGone")
            .await?;
        fixture.create_run("heir", json!({})).await?;
        fixture.create_pod("heir", "heir", ROGUE_IP).await?;
        fixture.sync().await?;
        // A late line of the dead pod, from before its end, and then somebody else's scan.
        let before = incident.spec.evidence[0].last_seen.0;
        fixture
            .log
            .scan_hosts_at(ROGUE_IP, 1, SCANNED_HOSTS, before)?;
        fixture.create_pod("other", "rogue", "10.244.1.67").await?;
        fixture.sync().await?;
        fixture.log.scan_hosts("10.244.1.67", 2, SCANNED_HOSTS)?;
        fixture.until_isolated("other").await?;
        assert!(fixture.incidents_of("heir").await?.is_empty());
        fixture.until_quarantine_label("heir", None).await?;
        fixture
            .run_condition("heir", "Ready", "True", "GuardrailsInPlace")
            .await?;
        Ok(())
    })
    .await
}
