//! An AgentRun that cannot be read, as an older and looser CRD admits it. Under the CRD of this
//! build the API server refuses every write to such an object, a condition as well.

use anyhow::{Context, ensure};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::ApiResource;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use yellowjack::testing::api::AgentRun;
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::{ScanLines, install_crds, wait_for};

use crate::fixture::{FaultFixture, SCAN, in_cluster};

const SAID: &str = "Failed to parse an object; it is ignored until it changes.";

#[test]
fn a_malformed_run_is_told_so_and_stops_no_other() -> anyhow::Result<()> {
    in_cluster(async |client| {
        let mut fixture = FaultFixture::new(&client).await?;
        loosen_crd(&client).await?;
        let outcome = others_go_on(&mut fixture, &client).await;
        install_crds(&client).await?;
        outcome.with_context(|| fixture.operator_output())?;
        fixture.delete().await
    })
}

async fn others_go_on(fixture: &mut FaultFixture, client: &Client) -> anyhow::Result<()> {
    make_malformed(fixture, client).await?;
    fixture.start_operator().await?;
    fixture.until_guarded("rogue").await?;
    fixture.until_output(SAID, 1).await?;
    let runs = untyped(fixture, client);
    wait_for("the condition of the malformed run", LIMIT, async || {
        let run = runs.get("broken").await.map_err(|e| e.to_string())?;
        let conditions = run.data.pointer("/status/conditions").cloned();
        let is_told = conditions
            .iter()
            .filter_map(Value::as_array)
            .flatten()
            .any(|c| c["type"] == "Stalled" && c["status"] == "True" && c["reason"] == "Malformed");
        is_told
            .then_some(())
            .ok_or_else(|| format!("{conditions:?}"))
    })
    .await?;
    // A run that comes later is taken in as well.
    fixture.create_run_of_job("later", "missing").await?;
    fixture
        .run_condition("later", "Accepted", "True", "Valid")
        .await?;
    fixture.append(ScanLines::new(&fixture.address).take(SCAN))?;
    fixture.until_quarantined().await?;
    fixture.stop_operator().await?;
    let said = fixture.operator_output().matches(SAID).count();
    ensure!(said == 1, "it was said {said} times");
    Ok(())
}

fn untyped(fixture: &FaultFixture, client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource::erase::<AgentRun>(&());
    Api::namespaced_with(client.clone(), &fixture.namespace, &resource)
}

/// Lets `spec` of an AgentRun be anything.
async fn loosen_crd(client: &Client) -> anyhow::Result<()> {
    let crds = yellowjack::testing::api::crds();
    let found = crds
        .iter()
        .find(|crd| crd.name_any().starts_with("agentruns"));
    let found = found.context("no CRD of AgentRun")?;
    let name = found.name_any();
    let mut crd = serde_json::to_value(found)?;
    let spec = crd
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec")
        .context("the CRD has no schema of spec")?;
    *spec = json!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true });
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    api.patch(
        &name,
        &PatchParams::apply("yellowjack-e2e").force(),
        &Patch::Apply(&crd),
    )
    .await
    .context("failed to loosen the CRD")?;
    Ok(())
}

/// The server takes a moment to follow a changed CRD.
async fn make_malformed(fixture: &FaultFixture, client: &Client) -> anyhow::Result<()> {
    let resource = ApiResource::erase::<AgentRun>(&());
    let run =
        DynamicObject::new("broken", &resource).data(json!({ "spec": { "target": "everything" }}));
    let runs = untyped(fixture, client);
    wait_for("the loose CRD to take a malformed run", LIMIT, async || {
        let made = runs.create(&PostParams::default(), &run).await;
        made.map(drop).map_err(|error| error.to_string())
    })
    .await
}
