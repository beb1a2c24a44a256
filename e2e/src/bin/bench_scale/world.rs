//! Makes the cluster of the bench: nodes that KWOK plays, AgentRuns, pods, and an identity for the operator.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod, ServiceAccount};
use k8s_openapi::api::flowcontrol::v1::FlowSchema;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use yellowjack::testing::api::AgentRun;
use yellowjack_e2e::bench::pause;
use yellowjack_e2e::{Supervised, wait_for};

use super::measure::FLOW_SCHEMA;
use super::sizes::Sizes;

/// Objects that are made at the same time.
const CONCURRENCY: usize = 32;
const RUNNING_LIMIT: Duration = Duration::from_mins(20);
const IDENTITY: &str = "bench-operator";
/// The token outlives the bench.
const TOKEN_SECONDS: i64 = 6 * 3600;

/// A service account for the operator, whose requests the API server counts apart and, as in a real cluster, queues
/// behind the limits of its priority level. Returns its kubeconfig.
pub async fn identity(client: &Client, admin: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    create(&accounts, json!({ "metadata": { "name": IDENTITY } })).await?;
    let subject = json!({ "kind": "ServiceAccount", "name": IDENTITY, "namespace": "default" });
    let binding = json!({
        "metadata": { "name": IDENTITY },
        "roleRef": { "apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin" },
        "subjects": [subject],
    });
    create::<ClusterRoleBinding>(&Api::all(client.clone()), binding).await?;
    let account = json!({ "name": IDENTITY, "namespace": "default" });
    let schema = json!({
        "metadata": { "name": FLOW_SCHEMA },
        "spec": {
            "matchingPrecedence": 500,
            // Where service accounts are without this schema.
            "priorityLevelConfiguration": { "name": "workload-low" },
            "distinguisherMethod": { "type": "ByUser" },
            "rules": [{
                "subjects": [{ "kind": "ServiceAccount", "serviceAccount": account }],
                "resourceRules": [{
                    "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                    "clusterScope": true, "namespaces": ["*"],
                }],
                "nonResourceRules": [{ "verbs": ["*"], "nonResourceURLs": ["*"] }],
            }],
        },
    });
    create::<FlowSchema>(&Api::all(client.clone()), schema).await?;
    let request: TokenRequest = serde_json::from_value(json!({
        "metadata": {},
        "spec": { "audiences": [], "expirationSeconds": TOKEN_SECONDS },
    }))?;
    let params = PostParams::default();
    let request = accounts.create_token_request(IDENTITY, &params, &request);
    let token = request.await?.status.context("no token")?.token;
    let text = std::fs::read_to_string(admin).context("failed to read a kubeconfig")?;
    let mut config: Value = serde_json::from_str(&text).context("an odd kubeconfig")?;
    let user = config.pointer_mut("/users/0/user").context("no user")?;
    *user = json!({ "token": token });
    let path = folder.join("operator.kubeconfig");
    std::fs::write(&path, config.to_string()).context("failed to write a kubeconfig")?;
    Ok(path)
}

/// KWOK as the kubelet of every node.
pub fn start_kwok(kubeconfig: &Path, folder: &Path) -> anyhow::Result<Supervised> {
    let folder_of_kwok = Path::new(env!("CARGO_MANIFEST_DIR")).join("kwok");
    let script = folder_of_kwok.join("build.sh");
    let output = Command::new(&script)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("failed to run {}", script.display()))?;
    ensure!(output.status.success(), "failed to build KWOK; see above");
    let path = String::from_utf8(output.stdout).context("the build printed no path")?;
    let mut command = Command::new(path.trim());
    command
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!(
            "--config={}",
            folder_of_kwok.join("stages.yaml").display()
        ))
        .arg("--manage-all-nodes")
        .arg("--node-lease-duration-seconds=200")
        .arg("--server-address=127.0.0.1:0");
    Supervised::start(&command, &folder.join("kwok.log"), None)
}

/// Makes nodes, namespaces, runs and pods, and waits until KWOK runs every pod.
pub async fn make(client: &Client, sizes: &Sizes, kwok: &mut Supervised) -> anyhow::Result<()> {
    let nodes: Api<Node> = Api::all(client.clone());
    each(0..sizes.nodes, async |number| {
        create(&nodes, node(number)).await
    })
    .await?;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    each(0..sizes.namespaces.min(sizes.runs), async |number| {
        let metadata = json!({ "name": sizes.namespace_of(number) });
        create(&namespaces, json!({ "metadata": metadata })).await
    })
    .await?;
    wait_for_accounts(client, sizes).await?;
    each(0..sizes.runs, async |number| {
        let runs: Api<AgentRun> = Api::namespaced(client.clone(), &sizes.namespace_of(number));
        create(&runs, run(number)).await
    })
    .await?;
    make_pods(client, sizes, 0..sizes.pods).await?;
    let pods: Api<Pod> = Api::all(client.clone());
    let waiting = ListParams::default()
        .fields("status.phase=Pending")
        .limit(1);
    wait_for("every pod to run", RUNNING_LIMIT, async || {
        pause(Duration::from_millis(500)).await;
        if matches!(kwok.exited(), Ok(Some(_))) {
            return Ok(Err(anyhow!("KWOK ended:\n{}", kwok.log_tail(10))));
        }
        match pods.list_metadata(&waiting).await {
            Ok(list) if list.items.is_empty() => Ok(Ok(())),
            Ok(_) => Err("some wait".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?
}

/// A pod is refused as long as its namespace has no service account.
async fn wait_for_accounts(client: &Client, sizes: &Sizes) -> anyhow::Result<()> {
    let accounts: Api<ServiceAccount> = Api::all(client.clone());
    let params = ListParams::default().fields("metadata.name=default");
    wait_for("service accounts", RUNNING_LIMIT, async || {
        let list = accounts.list(&params).await.map_err(|e| e.to_string())?;
        let count = list.items.len();
        if count >= sizes.namespaces.min(sizes.runs) {
            Ok(())
        } else {
            Err(format!("{count}"))
        }
    })
    .await
}

/// Makes pods of these numbers, beside those that stay.
pub async fn make_pods(
    client: &Client,
    sizes: &Sizes,
    numbers: std::ops::Range<usize>,
) -> anyhow::Result<()> {
    each(numbers, async |number| {
        let of_run = sizes.run_of(number);
        let pods = pods_of(client, sizes, number);
        create(&pods, pod(number, of_run, number % sizes.nodes)).await
    })
    .await
}

/// Deletes them.
pub async fn delete_pods(
    client: &Client,
    sizes: &Sizes,
    numbers: std::ops::Range<usize>,
) -> anyhow::Result<()> {
    each(numbers, async |number| {
        let pods = pods_of(client, sizes, number);
        let params = DeleteParams::default().grace_period(0);
        let deleted = pods.delete(&pod_name(sizes, number), &params).await;
        deleted.context("failed to delete a pod of the bench")?;
        Ok(())
    })
    .await
}

/// The address of a pod, once it has one.
pub async fn address_of(
    client: &Client,
    sizes: &Sizes,
    number: usize,
) -> anyhow::Result<Option<String>> {
    let pods = pods_of(client, sizes, number);
    let pod = pods.get_opt(&pod_name(sizes, number)).await?;
    Ok(pod.and_then(|pod| pod.status?.pod_ip))
}

fn pods_of(client: &Client, sizes: &Sizes, number: usize) -> Api<Pod> {
    Api::namespaced(client.clone(), &sizes.namespace_of(sizes.run_of(number)))
}

fn pod_name(sizes: &Sizes, number: usize) -> String {
    format!("run-{}-{number}", sizes.run_of(number))
}

async fn each(
    numbers: std::ops::Range<usize>,
    make: impl AsyncFn(usize) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let all = stream::iter(numbers).map(|number| make(number));
    all.buffer_unordered(CONCURRENCY)
        .try_collect::<Vec<()>>()
        .await?;
    Ok(())
}

async fn create<K>(api: &Api<K>, object: Value) -> anyhow::Result<()>
where
    K: Resource + Clone + Serialize + DeserializeOwned + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object)?;
    let created = api.create(&PostParams::default(), &object).await;
    created.context("failed to make an object of the bench")?;
    Ok(())
}

fn node(number: usize) -> Value {
    // Below the ranges that tests scan: 10.128.0.0/16 and on, 256 nodes in each.
    let range = format!("10.{}.{}.0/24", 128 + number / 256, number % 256);
    json!({
        "metadata": {
            "name": format!("node-{number}"),
            "annotations": { "kwok.x-k8s.io/node": "fake" },
        },
        "spec": { "podCIDR": range, "podCIDRs": [range] },
    })
}

fn run(number: usize) -> Value {
    let name = format!("run-{number}");
    json!({
        "metadata": { "name": name },
        "spec": {
            "target": { "selector": { "matchLabels": { "run": name } } },
            "network": { "egress": [
                { "cidr": "203.0.113.0/24", "ports": [{ "port": 443 }] },
                { "cidr": "198.51.100.0/24", "ports": [{ "port": 5432 }] },
            ]},
        },
    })
}

/// As large as pods are: a chart's labels and annotations, two containers with their environment.
fn pod(number: usize, of_run: usize, node: usize) -> Value {
    let run = format!("run-{of_run}");
    let environment: Vec<Value> = (0..12)
        .map(
            |n| json!({ "name": format!("SETTING_{n}"), "value": format!("value of setting {n}") }),
        )
        .collect();
    let container = |name: &str| {
        json!({
            "name": name,
            "image": format!("registry.invalid/{name}:1"),
            "args": ["--listen=0.0.0.0:8080", "--log-level=info"],
            "env": environment,
            "ports": [{ "containerPort": 8080 }],
            "resources": {
                "requests": { "cpu": "100m", "memory": "128Mi" },
                "limits": { "cpu": "1", "memory": "512Mi" },
            },
            "readinessProbe": { "httpGet": { "path": "/ready", "port": 8080 } },
        })
    };
    json!({
        "metadata": {
            "name": format!("{run}-{number}"),
            "labels": {
                "run": run,
                "app.kubernetes.io/name": "agent",
                "app.kubernetes.io/version": "1.0.0",
                "app.kubernetes.io/managed-by": "bench",
            },
            "annotations": { "example.com/checksum": "3f786850e387550fdab836ed7e6dc881de23001b" },
        },
        "spec": {
            "nodeName": format!("node-{node}"),
            "containers": [container("agent"), container("tools")],
            "terminationGracePeriodSeconds": 0,
        },
    })
}
