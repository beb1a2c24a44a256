//! Where the cluster serves ClusterNetworkPolicy: the deny that wins, and what it cannot name. In a
//! cluster of its own, because what it serves holds for all namespaces.

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use yellowjack::testing::api::{ActionKind, condition_of, labels};
use yellowjack_e2e::build;
use yellowjack_e2e::cluster_policies::definition;
use yellowjack_e2e::fixture::{
    ApiFixture, Fixture, LIMIT, ROGUE_IP, SCANNED_HOSTS, action_results, incident_conditions,
};
use yellowjack_e2e::{TestEnv, wait_for, with_own_cluster};

fn cluster_policies(env: &TestEnv) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk(
        "policy.networking.k8s.io",
        "v1alpha2",
        "ClusterNetworkPolicy",
    );
    let resource = ApiResource::from_gvk_with_plural(&kind, "clusternetworkpolicies");
    Api::all_with(env.client.clone(), &resource)
}

async fn serve_cluster_policies(env: &TestEnv) -> anyhow::Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(env.client.clone());
    definitions
        .create(
            &PostParams::default(),
            &serde_json::from_value(definition())?,
        )
        .await?;
    let policies = cluster_policies(env);
    wait_for("ClusterNetworkPolicy to be served", LIMIT, async || {
        let list = policies.list(&kube::api::ListParams::default()).await;
        list.map(drop).map_err(|error| error.to_string())
    })
    .await
}

async fn standing_deny(env: &TestEnv) -> anyhow::Result<Value> {
    let policies = cluster_policies(env);
    let stored = wait_for("the cluster-wide deny", LIMIT, async || {
        let found = policies.get_opt(labels::STANDING_DENY).await;
        found
            .map_err(|error| error.to_string())?
            .ok_or_else(|| "not there".to_owned())
    })
    .await?;
    stored
        .data
        .get("spec")
        .cloned()
        .context("the deny has no spec")
}

#[tokio::test]
async fn the_cluster_wide_deny_beats_a_wide_egress_policy_but_not_an_ingress_from_outside()
-> anyhow::Result<()> {
    with_own_cluster(async |env| {
        serve_cluster_policies(&env).await?;
        let fixture = ApiFixture::start(env.clone(), &[]).await?;
        let spec = standing_deny(&env).await?;
        assert_eq!(spec["tier"], "Admin");
        assert_eq!(spec["egress"][0]["action"], "Deny");
        assert_eq!(spec["ingress"][0]["action"], "Deny");
        let networks = &spec["egress"][0]["to"][1]["networks"];
        assert_eq!(*networks, json!(["0.0.0.0/0", "::/0"]));
        let chosen = &spec["subject"]["pods"]["podSelector"]["matchExpressions"][0];
        assert_eq!(
            *chosen,
            json!({ "key": labels::QUARANTINE, "operator": "Exists" })
        );

        fixture.create_rogue_pod(json!({})).await?;
        // Others' policies of this kind can widen a guard too, and are not read.
        let message = fixture
            .run_condition("rogue", "NetworkGuarded", "True", "PoliciesApplied")
            .await?;
        assert!(message.contains("not read"), "{message}");
        assert!(message.contains("ClusterNetworkPolicy"), "{message}");
        fixture
            .create_network_policy("wide-out", build::allow_all_egress())
            .await?;
        fixture
            .run_condition("rogue", "NetworkGuarded", "False", "UnionWidened")
            .await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture.until_isolated("rogue").await?;
        assert!(action_results(&incident, ActionKind::Suspend).is_empty());
        assert!(incident.status.unwrap_or_default().widened_by.is_empty());
        // Traffic that passes all the same: the policy is named that the cluster-wide deny should override.
        fixture
            .log
            .answered(ROGUE_IP, Timestamp::now() + Duration::from_secs(5))?;
        let incident = fixture
            .incident_condition("rogue", "Verified", "False", "ConnectionsSurvive")
            .await?;
        let verified = condition_of(incident_conditions(&incident), "Verified");
        let message = &verified.context("no condition")?.message;
        assert!(message.contains("wide-out"), "{message}");

        let within = json!({
            "policyTypes": ["Ingress"],
            "ingress": [{ "from": [{ "ipBlock": { "cidr": "198.51.100.0/24" } }] }],
        });
        fixture.create_network_policy("wide-in", within).await?;
        let incident = fixture
            .incident_condition("rogue", "Contained", "False", "UnionWidened")
            .await?;
        fixture
            .until_quarantine_label("rogue", Some(&incident.name_any()))
            .await?;
        assert_eq!(incident.status.unwrap_or_default().widened_by, ["wide-in"]);
        Ok(())
    })
    .await
}
