//! From a scan to a contained pod, and who is left alone.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use yellowjack::api::{ActionKind, ActionResult, AgentRun, Incident, condition_is, labels};
use yellowjack_e2e::{delete_pod, set_pod_ip};

use crate::scene::{
    HONEST_IP, MANY, QUIET, ROGUE_IP, conditions_of_run, results, says_true, sets_label, with_scene,
};

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
        assert_eq!(evidence.severity, "Quarantine");
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
            .run_says("honest", "Ready", "True", "GuardrailsStand")
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
        let told = scene.places(|write| {
            write.path.ends_with(&format!("/incidents/{name}/status"))
                && says_true(write, "Contained")
        });
        assert!(recorded[0] < labelled[0], "{recorded:?} {labelled:?}");
        assert!(labelled[0] < told[0], "{labelled:?} {told:?}");
        assert_eq!(labelled.len(), 1, "the label was written more than once");
        Ok(())
    })
    .await
}
