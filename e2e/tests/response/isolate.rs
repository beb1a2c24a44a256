//! From a scan to a contained pod, and who is left alone.

use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use yellowjack::testing::api::{
    ActionKind, ActionResult, AgentRun, Incident, condition_is, labels,
};
use yellowjack_e2e::{delete_pod, pod, set_pod_ip, wait_for};

use crate::scene::{
    HONEST_IP, LIMIT, MANY, ROGUE_IP, conditions_of_run, results, says_true, sets_label, with_scene,
};

/// The address of a node, and so of its pods on the host's network.
const NODE_IP: &str = "192.0.2.7";

#[tokio::test]
async fn a_scan_before_the_pod_s_address_is_known_is_found_all_the_same() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        scene.run("rogue", json!({})).await?;
        scene.settle().await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        scene.pod("rogue", "rogue", ROGUE_IP).await?;
        scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_that_scans_is_isolated_with_evidence_and_its_neighbour_is_left_alone()
-> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.log.chatter(HONEST_IP, std::time::Duration::ZERO)?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;

        let incident = scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        scene.label_is("rogue", Some(&incident.name_any())).await?;
        let evidence = &incident.spec.evidence[0];
        assert_eq!(evidence.signature, "HorizontalScan");
        assert_eq!(evidence.severity.name(), "Quarantine");
        assert!(evidence.score >= evidence.threshold, "{evidence:?}");
        assert!(evidence.contacts >= 35, "{evidence:?}");
        assert_eq!(evidence.examples[0].outcome, "Refused");
        assert_eq!(
            results(&incident, ActionKind::Isolate),
            [ActionResult::Succeeded]
        );
        let status = incident.status.clone().unwrap_or_default();
        assert_eq!(status.techniques, ["T1046"]);

        scene
            .run_says("rogue", "Suspicious", "True", "IncidentOpen")
            .await?;
        scene
            .run_says("rogue", "Quarantined", "True", "Isolated")
            .await?;
        scene
            .run_says("rogue", "Ready", "False", "PodsQuarantined")
            .await?;
        scene
            .run_says("honest", "Ready", "True", "GuardrailsInPlace")
            .await?;
        let honest = scene.get_run("honest").await?;
        assert!(!condition_is(conditions_of_run(&honest), "Suspicious"));
        let quarantined = scene.places(|write| {
            write.path.contains("/pods/honest") && write.body.to_string().contains("quarantine")
        });
        assert!(quarantined.is_empty(), "the honest pod was written to");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn many_ports_of_one_host_are_a_scan_too() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.log.scan_ports(ROGUE_IP, 60)?;
        let incident = scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        assert_eq!(incident.spec.evidence[0].signature, "VerticalScan");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_incident_is_stored_before_the_label_and_the_label_before_contained()
-> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        let incident = scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        let name = incident.name_any();
        let recorded = scene.places(|write| write.path.ends_with(&format!("/incidents/{name}")));
        let labelled = scene.places(|write| sets_label(write, &name));
        // The proxy notes a write when it is answered, a moment after a reader may see it.
        let told = wait_for("the note of the status write", LIMIT, async || {
            let told = scene.places(|write| {
                write.path.ends_with(&format!("/incidents/{name}/status"))
                    && says_true(write, "Contained")
            });
            told.first()
                .copied()
                .ok_or_else(|| "not noted yet".to_owned())
        })
        .await?;
        assert!(recorded[0] < labelled[0], "{recorded:?} {labelled:?}");
        assert!(labelled[0] < told, "{labelled:?} {told}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_run_that_is_deleted_takes_neither_quarantine_nor_incident_along() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        let incident = scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        let runs: Api<AgentRun> = scene.env.api();
        runs.delete("rogue", &DeleteParams::default()).await?;
        // The guard is owned by the run and goes with it: by then everything has been heard of.
        let policies: Api<NetworkPolicy> = scene.env.api();
        wait_for("the guard to go", LIMIT, async || {
            match policies.get_opt("yellowjack-run-rogue").await {
                Ok(None) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        scene.settle().await?;
        scene.label_is("rogue", Some(&incident.name_any())).await?;
        let incidents: Api<Incident> = scene.env.api();
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
    with_scene(&[], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        let incident = scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        let off = json!({ "metadata": { "labels": { labels::QUARANTINE: null } } });
        let written = scene
            .pods()
            .patch("rogue", &PatchParams::default(), &Patch::Merge(off))
            .await?;
        assert!(!written.labels().contains_key(labels::QUARANTINE));
        scene.label_is("rogue", Some(&incident.name_any())).await
    })
    .await
}

#[tokio::test]
async fn the_standing_deny_is_empty_in_both_directions() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        scene
            .run_says("honest", "NetworkGuarded", "True", "PoliciesApplied")
            .await?;
        let policies: Api<NetworkPolicy> = scene.env.api();
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
    with_scene(&[], async |scene| {
        let mut on_host = pod("on-host", &[("app", "rogue")])?;
        on_host.spec.as_mut().expect("a spec").host_network = Some(true);
        scene
            .pods()
            .create(&PostParams::default(), &on_host)
            .await?;
        set_pod_ip(&scene.env.client, &scene.env.namespace, "on-host", NODE_IP).await?;
        scene.run("rogue", json!({})).await?;
        scene.pod("rogue", "rogue", ROGUE_IP).await?;
        scene.settle().await?;
        scene
            .run_says("rogue", "NetworkGuarded", "False", "HostNetwork")
            .await?;
        scene.log.scan_hosts(NODE_IP, 0, MANY)?;
        // Lines are read in order: this Incident comes after the other would have come.
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        assert!(scene.incidents_of("on-host").await?.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_that_inherits_a_rogue_pods_address_is_not_blamed() -> anyhow::Result<()> {
    with_scene(&[], async |scene| {
        scene.rogue_pod(json!({})).await?;
        scene.log.scan_hosts(ROGUE_IP, 0, MANY)?;
        let incident = scene
            .incident_says("rogue", "Contained", "True", "Isolated")
            .await?;
        delete_pod(&scene.env.client, &scene.env.namespace, "rogue").await?;
        scene
            .incident_says("rogue", "Contained", "True", "PodGone")
            .await?;
        scene.run("heir", json!({})).await?;
        scene.pod("heir", "heir", ROGUE_IP).await?;
        scene.settle().await?;
        // A late line of the dead pod, from before its end, and then somebody else's scan.
        let before = incident.spec.evidence[0].last_seen.0;
        scene.log.scan_hosts_at(ROGUE_IP, 1, MANY, before)?;
        scene.pod("other", "rogue", "10.244.1.67").await?;
        scene.settle().await?;
        scene.log.scan_hosts("10.244.1.67", 2, MANY)?;
        scene
            .incident_says("other", "Contained", "True", "Isolated")
            .await?;
        assert!(scene.incidents_of("heir").await?.is_empty());
        scene.label_is("heir", None).await?;
        scene
            .run_says("heir", "Ready", "True", "GuardrailsInPlace")
            .await?;
        Ok(())
    })
    .await
}
