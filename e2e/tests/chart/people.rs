//! Who asks the API server in a test: clients that speak as somebody else.

use anyhow::Context;
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use serde_json::json;
use yellowjack_e2e::build;
use yellowjack_e2e::{TestCluster, TestEnv};

use crate::helm::{NAMESPACE, apply};

/// The group that the chart's defaults let release.
pub const RESPONSE_GROUP: &str = "yellowjack:incident-response";

/// A group that RBAC lets do everything, so that a refusal is the admission policies'.
const ALMIGHTY_GROUP: &str = "test:almighty";

/// Somebody whom RBAC lets do everything, and who is in these groups as well.
pub async fn almighty(
    cluster: &TestCluster,
    user: &str,
    groups: &[&str],
) -> anyhow::Result<Client> {
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRoleBinding",
        "metadata": { "name": "test-almighty" },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [{ "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": ALMIGHTY_GROUP }],
    });
    apply(cluster, &binding.to_string(), &[]).await?;
    let groups: Vec<_> = groups.iter().copied().chain([ALMIGHTY_GROUP]).collect();
    person(cluster, user, &groups).await
}

/// Somebody with the rights that RBAC gives to this name and these groups.
pub async fn person(cluster: &TestCluster, user: &str, groups: &[&str]) -> anyhow::Result<Client> {
    let mut config = config(cluster).await?;
    let all = groups.iter().copied().chain(["system:authenticated"]);
    config.auth_info.impersonate = Some(user.to_owned());
    config.auth_info.impersonate_groups = Some(all.map(str::to_owned).collect());
    Client::try_from(config).context("failed to make a client")
}

/// The service account of an agent whose pods are watched, with every right that RBAC can give.
pub async fn agent(env: &TestEnv) -> anyhow::Result<Client> {
    let user = format!("system:serviceaccount:{}:default", env.namespace);
    almighty(env.cluster, &user, &["system:serviceaccounts"]).await
}

/// A service account of the chart with its own token, bound to a pod where one is named.
pub async fn account(
    env: &TestEnv,
    name: &str,
    pod: Option<(&str, &str)>,
) -> anyhow::Result<Client> {
    let accounts: Api<ServiceAccount> = Api::namespaced(env.client.clone(), NAMESPACE);
    let bound = pod
        .map(|(name, uid)| json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid }));
    let request = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenRequest",
        "metadata": {},
        "spec": { "audiences": [], "expirationSeconds": 3600, "boundObjectRef": bound },
    });
    let request = serde_json::from_value(request)?;
    let made = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await;
    let made = made.with_context(|| format!("failed to get a token of {name}"))?;
    let token = made.status.context("no token")?.token;
    let mut config = config(env.cluster).await?;
    config.auth_info = kube::config::AuthInfo {
        token: Some(token.into()),
        ..kube::config::AuthInfo::default()
    };
    Client::try_from(config).context("failed to make a client")
}

/// The service account of the chart's agent, with the token of a pod that this call creates on a node.
pub async fn agent_on_node(env: &TestEnv, pod: &str, node: &str) -> anyhow::Result<Client> {
    let mut agent = build::pod_on_node(pod, "agent", node)?;
    if let Some(spec) = agent.spec.as_mut() {
        spec.service_account_name = Some("yellowjack-node".to_owned());
    }
    let pods: Api<Pod> = Api::namespaced(env.client.clone(), NAMESPACE);
    let created = pods.create(&PostParams::default(), &agent).await;
    let created = created.context("failed to create the agent's pod")?;
    let uid = created.metadata.uid.unwrap_or_default();
    account(env, "yellowjack-node", Some((pod, &uid))).await
}

async fn config(cluster: &TestCluster) -> anyhow::Result<Config> {
    let parsed = Kubeconfig::read_from(cluster.kubeconfig()).context("no kubeconfig")?;
    let config = Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await;
    config.context("failed to use the kubeconfig")
}
