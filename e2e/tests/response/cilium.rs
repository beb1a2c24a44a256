//! On Cilium a pod keeps its security identity for a while after its labels change. A policy of the Incident denies that
//! identity before the label is set, and until the identity has it. The test writes the CiliumEndpoints; with the real Cilium
//! the scenarios on the node show the packets. In clusters of their own, because what they serve holds for all namespaces.

use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};
use yellowjack::testing::api::{AgentRun, Incident, labels};
use yellowjack_e2e::cilium::{api, serve, set_identity};
use yellowjack_e2e::fixture::{
    ApiFixture, Fixture, LIMIT, ROGUE_IP, SCANNED_HOSTS, sets_quarantine_label,
};
use yellowjack_e2e::proxy::{Fault, Matcher, Write};
use yellowjack_e2e::{wait_for, with_own_cluster};

const POLICY: &str = "CiliumNetworkPolicy";

/// An operator in a cluster with Cilium's kinds, whose standing deny is stored.
async fn with_cilium<F>(test: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&ApiFixture) -> anyhow::Result<()>,
{
    with_own_cluster(async |env| {
        serve(&env.client).await?;
        let fixture = ApiFixture::start(env, &[]).await?;
        let denies = api(fixture.client(), "", "CiliumClusterwideNetworkPolicy");
        let deny = wait_for("the standing deny", LIMIT, async || {
            let found = denies.get_opt(labels::STANDING_DENY).await;
            found
                .map_err(|error| error.to_string())?
                .ok_or_else(|| "not there".to_owned())
        })
        .await?;
        let key = "/spec/endpointSelector/matchExpressions/0/key";
        assert_eq!(
            deny.data.pointer(key),
            Some(&json!("k8s:yellowjack.dev/quarantine"))
        );
        test(&fixture).await
    })
    .await
}

/// The policies of Incidents.
async fn policies(fixture: &ApiFixture) -> anyhow::Result<Vec<DynamicObject>> {
    let all = api(fixture.client(), fixture.namespace(), POLICY);
    Ok(all.list(&ListParams::default()).await?.items)
}

async fn until_no_policy(fixture: &ApiFixture) -> anyhow::Result<()> {
    wait_for(
        "the policy of the Incident to go",
        LIMIT,
        async || match policies(fixture).await {
            Ok(found) if found.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await
}

fn is_policy(write: &Write) -> bool {
    write.path.contains("/ciliumnetworkpolicies/")
}

/// The labels that a policy of one rule selects.
fn selected(policy: &DynamicObject) -> Value {
    let place = "/specs/0/endpointSelector/matchLabels";
    policy.data.pointer(place).cloned().unwrap_or_default()
}

#[tokio::test]
async fn an_identity_is_denied_before_the_label_is_set_and_until_it_has_the_label()
-> anyhow::Result<()> {
    with_cilium(async |fixture| {
        fixture.create_rogue_pod(json!({})).await?;
        let (client, namespace) = (fixture.client(), fixture.namespace());
        let own = [("app", "rogue"), (labels::RUN, "rogue")];
        set_identity(client, namespace, "rogue", &own).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture.until_isolated("rogue").await?;
        let name = incident.name_any();
        let labelled = fixture
            .until_written("the label", |write| sets_quarantine_label(write, &name))
            .await?;
        let denied = fixture.until_written("the policy", is_policy).await?;
        assert!(denied < labelled, "the label came before the policy");
        let found = policies(fixture).await?;
        assert_eq!(
            selected(&found[0]),
            json!({ "k8s:app": "rogue", "k8s:yellowjack.dev/run": "rogue" })
        );
        let known = incident.status.and_then(|status| status.cilium);
        let known = known.unwrap_or_default();
        assert_eq!(
            known.interim_identities,
            ["app=rogue,yellowjack.dev/run=rogue"]
        );
        assert!(known.denied_since.is_some() && known.label_in_force_since.is_none());

        let new = [own[0], own[1], (labels::QUARANTINE, &name)];
        set_identity(client, namespace, "rogue", &new).await?;
        until_no_policy(fixture).await?;
        let settled = fixture
            .until::<Incident>(&name, "a settled isolation", |incident| {
                let known = incident.status.as_ref().and_then(|s| s.cilium.as_ref());
                known.is_some_and(|known| {
                    known.label_in_force_since.is_some() && known.interim_identities.is_empty()
                })
            })
            .await?;
        assert!(settled.is_contained());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn pods_that_share_an_identity_with_others_wait_for_their_own_and_nobody_else_is_denied()
-> anyhow::Result<()> {
    with_cilium(async |fixture| {
        // A pod outside of the run, with the same labels as far as Cilium knows them.
        fixture.create_pod("other", "shared", "10.244.9.9").await?;
        fixture.create_rogue_pod(json!({})).await?;
        let (client, namespace) = (fixture.client(), fixture.namespace());
        set_identity(client, namespace, "rogue", &[]).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture
            .incident_condition("rogue", "Contained", "False", "EnforcementPending")
            .await?;
        let name = incident.name_any();
        fixture.until_quarantine_label("rogue", Some(&name)).await?;
        assert!(policies(fixture).await?.is_empty());
        set_identity(client, namespace, "rogue", &[(labels::QUARANTINE, &name)]).await?;
        fixture.until_isolated("rogue").await?;
        assert!(policies(fixture).await?.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn each_pod_of_a_small_run_has_a_cell_of_its_own_and_only_that_is_denied()
-> anyhow::Result<()> {
    with_cilium(async |fixture| {
        fixture.create_run("rogue", json!({})).await?;
        for (name, ip) in [("rogue", ROGUE_IP), ("sibling", "10.244.1.67")] {
            fixture.create_pod(name, "rogue", ip).await?;
        }
        let mut cells = Vec::new();
        let (client, namespace) = (fixture.client(), fixture.namespace());
        for name in ["rogue", "sibling"] {
            let pod = fixture
                .until::<Pod>(name, "a cell", |pod| {
                    pod.labels().contains_key(labels::CELL)
                })
                .await?;
            let cell = pod.labels()[labels::CELL].clone();
            let own = [
                ("app", "rogue"),
                (labels::RUN, "rogue"),
                (labels::CELL, &cell),
            ];
            set_identity(client, namespace, name, &own).await?;
            cells.push(cell);
        }
        assert_ne!(cells[0], cells[1]);
        fixture.sync().await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture.until_isolated("rogue").await?;
        let found = policies(fixture).await?;
        assert_eq!(found.len(), 1);
        assert_eq!(selected(&found[0])["k8s:yellowjack.dev/cell"], cells[0]);
        fixture
            .until(
                "rogue",
                "one of two pods in quarantine",
                |run: &AgentRun| {
                    let pods = run.status.as_ref().and_then(|status| status.pods.as_ref());
                    pods.is_some_and(|pods| (pods.total, pods.quarantined) == (2, 1))
                },
            )
            .await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_release_takes_the_policy_back_first() -> anyhow::Result<()> {
    with_cilium(async |fixture| {
        fixture.create_rogue_pod(json!({})).await?;
        let (client, namespace) = (fixture.client(), fixture.namespace());
        set_identity(client, namespace, "rogue", &[("app", "rogue")]).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture.until_isolated("rogue").await?;
        assert_eq!(policies(fixture).await?.len(), 1);
        fixture.decide(&incident, "Release").await?;
        until_no_policy(fixture).await?;
        fixture.until_quarantine_label("rogue", None).await
    })
    .await
}

#[tokio::test]
async fn a_policy_of_an_incident_goes_with_its_pod() -> anyhow::Result<()> {
    with_cilium(async |fixture| {
        fixture.create_rogue_pod(json!({})).await?;
        let (client, namespace) = (fixture.client(), fixture.namespace());
        set_identity(client, namespace, "rogue", &[("app", "rogue")]).await?;
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        fixture.until_isolated("rogue").await?;
        assert_eq!(policies(fixture).await?.len(), 1);
        fixture.delete_pod("rogue").await?;
        until_no_policy(fixture).await
    })
    .await
}

#[tokio::test]
async fn a_policy_that_is_refused_does_not_keep_the_pod_from_its_quarantine() -> anyhow::Result<()>
{
    with_cilium(async |fixture| {
        fixture.create_rogue_pod(json!({})).await?;
        let (client, namespace) = (fixture.client(), fixture.namespace());
        set_identity(client, namespace, "rogue", &[("app", "rogue")]).await?;
        let matcher = Matcher::any().containing("/ciliumnetworkpolicies/");
        let refusal = Fault::Reply(http::StatusCode::FORBIDDEN);
        fixture.proxy.fail_times(matcher, refusal, usize::MAX);
        fixture.log.scan_hosts(ROGUE_IP, 0, SCANNED_HOSTS)?;
        let incident = fixture
            .incident_condition("rogue", "Contained", "False", "EnforcementPending")
            .await?;
        let name = incident.name_any();
        fixture.until_quarantine_label("rogue", Some(&name)).await?;
        fixture.proxy.clear();
        fixture.until_isolated("rogue").await?;
        assert_eq!(policies(fixture).await?.len(), 1);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn kinds_of_cilium_without_its_agent_change_nothing() -> anyhow::Result<()> {
    with_cilium(async |fixture| {
        let incident = fixture.isolated_rogue_pod().await?;
        assert!(policies(fixture).await?.is_empty());
        assert_eq!(incident.status.and_then(|status| status.cilium), None);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_policy_of_cilium_that_allows_more_than_the_guard_is_named() -> anyhow::Result<()> {
    with_own_cluster(async |env| {
        serve(&env.client).await?;
        let wide = json!({
            "apiVersion": "cilium.io/v2",
            "kind": POLICY,
            "metadata": { "name": "wide" },
            "spec": { "endpointSelector": {}, "egress": [{ "toEntities": ["all"] }] },
        });
        let wide: DynamicObject = serde_json::from_value(wide)?;
        api(&env.client, &env.namespace, POLICY)
            .create(&PostParams::default(), &wide)
            .await?;
        let fixture = ApiFixture::start(env.clone(), &[]).await?;
        fixture.create_rogue_pod(json!({})).await?;
        let message = fixture
            .run_condition("rogue", "NetworkGuarded", "False", "UnionWidened")
            .await?;
        assert!(message.contains("CiliumNetworkPolicy/wide"), "{message}");
        // The same cluster without it: read, and nothing is found. The kinds are read every 30 seconds.
        api(&env.client, &env.namespace, POLICY)
            .delete("wide", &DeleteParams::default())
            .await?;
        let message = fixture
            .run_condition("rogue", "NetworkGuarded", "True", "PoliciesApplied")
            .await?;
        assert!(!message.contains("CiliumNetworkPolicy"), "{message}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_run_says_that_its_guard_does_not_hold_until_cilium_selects_its_pods()
-> anyhow::Result<()> {
    with_cilium(async |fixture| {
        let (client, namespace) = (fixture.client(), fixture.namespace());
        // The pod runs before the run exists, so its identity has no label of the run.
        let pod = fixture.create_rogue_job(json!({}), json!({})).await?;
        set_identity(client, namespace, &pod, &[("app", "work")]).await?;
        let message = fixture
            .run_condition("rogue", "NetworkGuarded", "Unknown", "EnforcementPending")
            .await?;
        assert!(message.contains(&pod), "{message}");
        let own = [("app", "work"), (labels::RUN, "rogue")];
        set_identity(client, namespace, &pod, &own).await?;
        fixture
            .run_condition("rogue", "NetworkGuarded", "True", "PoliciesApplied")
            .await?;
        Ok(())
    })
    .await
}
