//! The release: installed, ready, reachable where it should be, shut in otherwise, and its own test.

use std::process::Command;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use yellowjack_e2e::helm::helm;
use yellowjack_e2e::node::{HEALTH_URL, POD_NETWORK, POD_NETWORK_V6, agent_pod};
use yellowjack_e2e::wait_for;

use crate::site::{INSTANCE, LIMIT, SYSTEM, Site, run};

/// The chart of this repository.
pub const CHART: &str = "charts/yellowjack";

/// Installs the chart with the ulogd preset, pointed at the log of the node.
pub async fn install(site: &Site) -> anyhow::Result<()> {
    let file = site.file("values.json");
    std::fs::write(&file, values(site)?.to_string()).context("failed to write the values")?;
    let file = file.display().to_string();
    let mut arguments = vec!["install", "yellowjack", CHART, "--namespace", SYSTEM];
    arguments.extend(["--create-namespace", "--values", &file]);
    arguments.extend(["--wait", "--timeout", "4m"]);
    let notes = helm(&arguments)?;
    println!("{notes}");
    ensure!(notes.contains("is installed in"), "no notes: {notes}");
    for pod in pods(site, "").await? {
        let restarts = pod.status.iter().flat_map(|s| &s.container_statuses);
        let restarts: i32 = restarts.flatten().map(|c| c.restart_count).sum();
        ensure!(restarts == 0, "{} restarted", pod.name_any());
    }
    Ok(())
}

fn values(site: &Site) -> anyhow::Result<Value> {
    let log = site.node.egress_log();
    let folder = log.parent().context("the log is in a folder")?;
    let file = log.file_name().context("the log has a name")?;
    // The API server of the node listens where a port was free, and policies are judged behind the
    // Service's translation.
    let config = std::fs::read_to_string(site.node.kubeconfig()).context("no kubeconfig")?;
    let port = config
        .split("https://")
        .nth(1)
        .and_then(|rest| rest.split(['"', '\n']).next()?.rsplit(':').next())
        .and_then(|port| port.parse::<u16>().ok())
        .context("the kubeconfig names no port")?;
    Ok(json!({
        "image": { "repository": "yellowjack.test/yellowjack", "tag": "e2e", "pullPolicy": "Never" },
        "source": { "preset": "ulogd", "directory": folder, "file": file.to_string_lossy() },
        "cluster": {
            "podCidrs": [POD_NETWORK, POD_NETWORK_V6],
            "serviceCidrs": ["10.96.0.0/16"],
            "nodeCidrs": ["192.0.2.0/30"],
        },
        "networkPolicy": { "apiServerPorts": [443, port] },
        // The kubelet of the node signs its certificate itself.
        "nodeMetrics": { "source": "kubelet", "kubeletInsecure": true },
    }))
}

/// The release's pods of a component; of all where it is empty.
pub async fn pods(site: &Site, component: &str) -> anyhow::Result<Vec<Pod>> {
    let mut selector = INSTANCE.to_owned();
    if !component.is_empty() {
        selector = format!("{selector},app.kubernetes.io/component={component}");
    }
    let pods: Api<Pod> = Api::namespaced(site.client.clone(), SYSTEM);
    let mut found = pods.list(&ListParams::default().labels(&selector)).await?;
    found
        .items
        .retain(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(found.items)
}

/// Everybody may read the metrics of both parts, as the values say; and neither part reaches anything
/// but the API server and DNS.
pub async fn answers_and_is_shut_in(site: &Site) -> anyhow::Result<()> {
    let mut script = format!("toolbox get {HEALTH_URL}");
    let all = pods(site, "").await?;
    ensure!(all.len() >= 2, "{} pods", all.len());
    for pod in &all {
        let address = pod.status.as_ref().and_then(|s| s.pod_ip.as_deref());
        let address = address.context("a ready pod has an address")?;
        script = format!("{script}; toolbox get http://{address}:8080/metrics");
    }
    let asker: Api<Pod> = site.api();
    let pod = agent_pod("asker", &[], &format!("{script}; echo done"))?;
    asker.create(&PostParams::default(), &pod).await?;
    let text = wait_for("a pod's answers", LIMIT, async || {
        let text = asker.logs("asker", &LogParams::default()).await;
        let text = text.map_err(|error| error.to_string())?;
        if text.contains("done") {
            Ok(text)
        } else {
            Err(text)
        }
    })
    .await?;
    ensure!(text.matches(" ok http").count() == all.len() + 1, "{text}");
    for pod in &all {
        let pid = process_of(pod)?;
        let net = format!("--net=/proc/{pid}/ns/net");
        let mut ask = Command::new("nsenter");
        ask.args([&net, "toolbox", "get", "-timeout", "2s", HEALTH_URL]);
        let said = run(&mut ask)?;
        ensure!(
            said.contains("0 worked, 1 failed"),
            "{}: {said}",
            pod.name_any()
        );
    }
    site.kubectl(&["delete", "pod", "-n", "agents", "asker"])
        .await?;
    Ok(())
}

/// The process of a pod's container, as the node numbers it.
pub fn process_of(pod: &Pod) -> anyhow::Result<u32> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_ref());
    let container = statuses.and_then(|all| all.first()?.container_id.as_deref());
    let container = container.context("the pod has no container")?;
    let container = container.trim_start_matches("containerd://");
    let tasks = run(Command::new("ctr").args(["tasks", "list"]))?;
    let mut lines = tasks.lines().map(|line| line.split_whitespace());
    lines
        .find_map(|mut words| (words.next() == Some(container)).then(|| words.next())?)
        .and_then(|pid| pid.parse().ok())
        .with_context(|| format!("no process of {container}: {tasks}"))
}

/// The agent reaches the kubelet of its node, past the policy and with the chart's role.
pub async fn reads_the_kubelet(site: &Site) -> anyhow::Result<()> {
    let agents = pods(site, "node").await?;
    let agent = agents.first().context("no agent")?.name_any();
    let path = format!("/api/v1/namespaces/{SYSTEM}/pods/{agent}:8080/proxy/metrics");
    wait_for("the kubelet's metrics", LIMIT, async || {
        let text = site.kubectl(&["get", "--raw", &path]).await;
        let text = text.map_err(|error| format!("{error:#}"))?;
        let mut scrapes = text.lines().filter(|l| l.starts_with("yellowjack_scrapes"));
        let news = scrapes.find(|l| l.contains("\"news\"") && !l.ends_with(" 0"));
        news.map(drop)
            .ok_or_else(|| text.lines().filter(|l| l.contains("scrapes")).collect())
    })
    .await
}

/// `helm test` passes.
pub fn passes_its_own_test(_site: &Site) -> anyhow::Result<()> {
    let said = helm(&[
        "test",
        "yellowjack",
        "--namespace",
        SYSTEM,
        "--timeout",
        "2m",
    ])?;
    ensure!(said.contains("Succeeded"), "{said}");
    Ok(())
}
