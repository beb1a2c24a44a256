//! Who may write which ContactReport: an agent that of its own node, and nobody else but the controller.

use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use yellowjack::testing::api::ContactReport;
use yellowjack_e2e::{TestEnv, with_namespace};

use crate::admission::{Answer, refused};
use crate::helm::{NAMESPACE, install};
use crate::people::{agent_on_node, almighty};

fn report(node: Option<&str>) -> Value {
    let mut report = json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "ContactReport",
        "metadata": { "name": "report" },
        "spec": { "run": { "name": "run", "uid": "uid" }, "pods": [] },
    });
    if let Some(node) = node {
        report["spec"]["node"] = json!(node);
    }
    report
}

/// What an agent does with a report, as a dry run or in earnest.
async fn apply(client: &Client, env: &TestEnv, node: Option<&str>, is_dry: bool) -> Answer {
    let reports: Api<ContactReport> = Api::namespaced(client.clone(), &env.namespace);
    let params = PatchParams::apply("yellowjack/contacts-test").force();
    let params = if is_dry { params.dry_run() } else { params };
    let report = report(node);
    reports
        .patch("report", &params, &Patch::Apply(report))
        .await
        .map(drop)
}

#[tokio::test]
async fn an_agent_reports_contacts_of_its_own_node_alone_and_verifies_and_deletes_nothing()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        install(env.cluster).await?;
        let name = format!("reporter-{}", env.namespace);
        let bound = agent_on_node(&env, &name, "node-1").await?;
        let words = "an agent reports contacts of its own node alone";
        for node in [Some("node-2"), None] {
            let what = format!("a report of {node:?}");
            refused(&what, words, async || apply(&bound, &env, node, true).await).await?;
        }
        apply(&bound, &env, Some("node-1"), false).await?;
        let reports: Api<ContactReport> = Api::namespaced(bound.clone(), &env.namespace);
        let status = json!({ "status": { "verifiedPods": ["uid"], "hasPods": true } });
        let verified = reports
            .patch_status("report", &PatchParams::default(), &Patch::Merge(&status))
            .await;
        assert!(verified.is_err(), "RBAC lets no agent verify: {verified:?}");
        let deleted = reports.delete("report", &DeleteParams::default()).await;
        assert!(deleted.is_err(), "RBAC lets no agent delete: {deleted:?}");
        // Who has every right that RBAC can give is no observer.
        let anybody = almighty(env.cluster, "dev", &[]).await?;
        let words = "only Yellowjack writes ContactReports";
        refused("a report by somebody", words, async || {
            apply(&anybody, &env, Some("node-1"), true).await
        })
        .await?;
        yellowjack_e2e::delete_pod(&env.client, NAMESPACE, &name).await
    })
    .await
}
