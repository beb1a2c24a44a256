//! Who may write the status of an AgentRun, from which node agents learn the addresses of a run's pods.

use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use yellowjack::testing::api::AgentRun;
use yellowjack_e2e::with_namespace;

use crate::admission::refused;
use crate::helm::install;
use crate::people::almighty;

#[tokio::test]
async fn nobody_but_the_controller_says_which_addresses_are_those_of_a_runs_pods()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        install(env.cluster).await?;
        let run = json!({
            "apiVersion": "yellowjack.dev/v1alpha1",
            "kind": "AgentRun",
            "metadata": { "name": "run" },
            "spec": { "target": { "selector": { "matchLabels": { "app": "agent" } } } },
        });
        let runs: Api<AgentRun> = env.api();
        runs.create(&PostParams::default(), &serde_json::from_value(run)?)
            .await?;
        // Who has every right that RBAC can give is not the controller.
        let anybody = almighty(env.cluster, "dev", &[]).await?;
        let runs: Api<AgentRun> = Api::namespaced(anybody, &env.namespace);
        let status = json!({
            "status": { "podAddresses": { "pods": 1, "addresses": ["10.0.0.1"] } },
        });
        let words = "only Yellowjack's controller writes the status of an AgentRun";
        refused("addresses by somebody", words, async || {
            let params = PatchParams::default().dry_run();
            let patch = Patch::Merge(&status);
            runs.patch_status("run", &params, &patch).await.map(drop)
        })
        .await
    })
    .await
}
