//! Who may keep which Lease: an agent that of its node, and never the leader's.

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use yellowjack_e2e::with_namespace;

use crate::admission::{Answer, refused};
use crate::helm::{NAMESPACE, install};
use crate::people::agent_on_node;

/// A dry run of what an agent does with its Lease.
async fn keep(client: &Client, lease: &str) -> Answer {
    let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
    let params = PatchParams::apply("yellowjack/agent-test").dry_run();
    let object = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": lease },
        "spec": { "holderIdentity": "forged" },
    });
    leases
        .patch(lease, &params, &Patch::Apply(object))
        .await
        .map(drop)
}

#[tokio::test]
async fn an_agent_keeps_the_lease_of_its_own_node_and_cannot_take_the_leaders() -> anyhow::Result<()>
{
    with_namespace(async |env| {
        install(env.cluster).await?;
        let name = format!("keeper-{}", env.namespace);
        let bound = agent_on_node(&env, &name, "node-1").await?;
        for lease in ["yellowjack-controller", "yellowjack-node-node-2"] {
            let words = "keeps the Lease of its own node alone";
            refused(lease, words, async || keep(&bound, lease).await).await?;
        }
        keep(&bound, "yellowjack-node-node-1").await?;
        yellowjack_e2e::delete_pod(&env.client, NAMESPACE, &name).await
    })
    .await
}
