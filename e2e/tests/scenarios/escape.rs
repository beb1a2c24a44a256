//! What could undo a quarantine or get around it: another team's wide policy, and the pod itself.

use anyhow::ensure;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::{Api, ResourceExt};
use yellowjack::testing::api::labels;
use yellowjack_e2e::cluster_policies::definition;
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::standin::StandinMode;
use yellowjack_e2e::{TestEnv, wait_for};

use crate::fixture::{
    LATER_GATE_PORT, REFUSING_NETWORK, Setup, gate, with_node_fixture, with_setup,
};

fn definitions(env: &TestEnv) -> Api<CustomResourceDefinition> {
    Api::all(env.client.clone())
}

/// Has the cluster serve ClusterNetworkPolicy.
pub async fn serve_cluster_policies(env: &TestEnv) -> anyhow::Result<()> {
    let made: CustomResourceDefinition = serde_json::from_value(definition())?;
    definitions(env)
        .create(&PostParams::default(), &made)
        .await?;
    wait_for("ClusterNetworkPolicy to be served", LIMIT, async || {
        env.kubectl(&["get", "clusternetworkpolicies"])
            .await
            .map(drop)
            .map_err(|error| format!("{error:#}"))
    })
    .await
}

/// Takes it away, and with it all that there is of the kind.
pub async fn forget_cluster_policies(env: &TestEnv) -> anyhow::Result<()> {
    let made: CustomResourceDefinition = serde_json::from_value(definition())?;
    let all = definitions(env);
    let name = made.name_any();
    all.delete(&name, &DeleteParams::default()).await?;
    wait_for(
        "ClusterNetworkPolicy to be gone",
        LIMIT,
        async || match all.get_opt(&name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{:?}", other.map(|_| "it is there"))),
        },
    )
    .await
}

/// Where the cluster has a deny that no NetworkPolicy can widen, isolation is enough.
#[tokio::test]
async fn where_the_cluster_has_a_deny_that_wins_a_wide_policy_changes_nothing() -> anyhow::Result<()>
{
    let setup = Setup {
        cluster_policies: true,
        ..Setup::new(StandinMode::Connection, &[])
    };
    with_setup(setup, async |fixture| {
        fixture.allow_all_egress().await?;
        wait_for("the cluster-wide deny", LIMIT, async || {
            let found = fixture
                .env
                .kubectl(&["get", "clusternetworkpolicies", "-o", "name"])
                .await;
            match found {
                Ok(text) if !text.trim().is_empty() => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await?;
        let script = format!("while true; do nmap -n -Pn -sT -p 22 {REFUSING_NETWORK}; done");
        let rogue = fixture.start_rogue_job(&script).await?;
        fixture.until_verified(&rogue).await?;
        let job = fixture.get::<Job>("work").await?;
        ensure!(
            job.spec.and_then(|spec| spec.suspend) != Some(true),
            "the Job was suspended for nothing"
        );
        let name = "another team allows 0.0.0.0/0, cluster-wide deny";
        let row = fixture.measure(name, &rogue, |_| false)?;
        fixture.conclude(row).await
    })
    .await
}

async fn union_trap(mode: StandinMode) -> anyhow::Result<()> {
    with_node_fixture(mode, &[], async |fixture| {
        fixture.allow_all_egress().await?;
        let script = format!("while true; do nmap -n -Pn -sT -p 22 {REFUSING_NETWORK}; done");
        let rogue = fixture.create_rogue_job(&script, 1).await?;
        let message = fixture
            .run_condition("rogue", "NetworkGuarded", "False", "UnionWidened")
            .await?;
        ensure!(message.contains("theirs"), "{message}");
        fixture.open_gate(&rogue.address).await?;
        fixture.until_labelled(&rogue.pod).await?;
        let incident = fixture
            .incident_condition_in(
                &rogue.pod,
                "Contained",
                "True",
                &["PodGone", "OwnerSuspended"],
            )
            .await?;
        let said = incident.status.unwrap_or_default();
        ensure!(
            said.capture.is_some(),
            "suspended without a capture: {said:?}"
        );
        let job = fixture.get::<Job>("work").await?;
        ensure!(
            job.spec.and_then(|spec| spec.suspend) == Some(true),
            "the Job runs"
        );
        fixture.until_silent(&rogue).await?;
        let mut row = fixture.measure("another team allows 0.0.0.0/0", &rogue, |_| false)?;
        // The deny cannot win here, so the bar is that of connections that survive.
        row.mode = format!("{}, widened", row.mode);
        fixture.conclude(row).await
    })
    .await
}

#[tokio::test]
async fn where_another_team_allows_everything_the_ladder_goes_on() -> anyhow::Result<()> {
    union_trap(StandinMode::Connection).await?;
    union_trap(StandinMode::Packet).await
}

/// What the pod tries with its own account, once it is in quarantine. The test asks on its behalf, for
/// from inside the pod the API server cannot even be reached.
#[tokio::test]
async fn the_pods_own_account_cannot_lift_its_quarantine() -> anyhow::Result<()> {
    with_node_fixture(StandinMode::Connection, &[], async |fixture| {
        let scan = format!("nmap -n -Pn -sT -p 22 {REFUSING_NETWORK}");
        let script = format!(
            "timeout 5 {scan}\n{}\ntoolbox get -timeout 3s -bearer \
             /var/run/secrets/kubernetes.io/serviceaccount/token \
             https://$KUBERNETES_SERVICE_HOST/api/v1/namespaces/{}/pods/rogue; echo done; \
             while true; do {scan}; done",
            gate(LATER_GATE_PORT),
            fixture.env.namespace
        );
        let rogue = fixture.start_rogue_pod(&script).await?;
        fixture.until_labelled(&rogue.pod).await?;
        let incident = fixture.until_isolated(&rogue.pod).await?;
        let account = format!(
            "--as=system:serviceaccount:{}:default",
            fixture.env.namespace
        );
        let label = format!("{}-", labels::QUARANTINE);
        let incident = format!("incident/{}", incident.name_any());
        let release = r#"{"spec":{"disposition":{"verdict":"Release","decidedBy":"me","justification":"please"}}}"#;
        let attempts: [&[&str]; 6] = [
            &["label", "pod", "rogue", &label],
            &["delete", "networkpolicy", labels::STANDING_DENY],
            &["annotate", "networkpolicy", labels::STANDING_DENY, "a=b"],
            &["patch", &incident, "--type=merge", "-p", release],
            &["delete", &incident],
            &["delete", "agentrun", "rogue"],
        ];
        for attempt in attempts {
            let mut all = vec![account.as_str()];
            all.extend_from_slice(attempt);
            let answer = fixture.env.kubectl(&all).await;
            let error = answer.err().map(|error| format!("{error:#}"));
            ensure!(
                error.as_ref().is_some_and(|text| text.contains("orbidden")),
                "{attempt:?} was not refused: {error:?}"
            );
        }
        // From inside the pod not even the question gets through.
        fixture
            .open_gate_at(&rogue.address, LATER_GATE_PORT)
            .await?;
        let pods: Api<Pod> = fixture.api();
        let text = wait_for("the pod's attempt to end", LIMIT, async || {
            let logs = pods.logs("rogue", &LogParams::default()).await;
            let text = logs.map_err(|error| error.to_string())?;
            if text.contains("\ndone") {
                Ok(text)
            } else {
                Err(text)
            }
        })
        .await?;
        ensure!(
            text.contains("failed https://") && !text.contains("ok https://"),
            "{text}"
        );
        fixture.until_retry(&rogue).await?;
        fixture.until_silent(&rogue).await?;
        let row = fixture.measure("the pod's own account tries to undo it", &rogue, |_| false)?;
        fixture.conclude(row).await
    })
    .await
}
