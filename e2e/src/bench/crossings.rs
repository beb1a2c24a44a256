//! Pods that cross the default threshold by failed first contacts, and the time until the quarantine label is in the API
//! server. A pod without a label after [`LABEL_LIMIT`] is an error; no time is asserted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::{TryStreamExt, pin_mut};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use yellowjack::testing::api::{AgentRun, labels};

use super::pause;
use crate::lines::EgressLog;
use crate::{pod, set_pod_ip};

/// Failed first contacts that the default line takes: ln(5e8) / ln(0.9 / 0.5), rounded up.
const CONTACTS_TO_CROSS: u8 = 35;

/// The reader has processed the first contacts when the last one comes, as in a scan at 20 per second.
const BEFORE_LAST: Duration = Duration::from_millis(50);

/// Ends a bench in which a label does not come.
const LABEL_LIMIT: Duration = Duration::from_mins(10);

/// A pod that is alone in its AgentRun, which has the same name.
#[derive(Debug, Clone)]
pub struct AgentPod {
    /// Namespace of pod and run.
    pub namespace: String,
    /// Name of pod and run.
    pub name: String,
    /// The pod's address.
    pub address: String,
}

impl AgentPod {
    /// Creates the AgentRun.
    pub async fn create_run(&self, client: &Client) -> anyhow::Result<()> {
        let run: AgentRun = serde_json::from_value(json!({
            "apiVersion": "yellowjack.dev/v1alpha1",
            "kind": "AgentRun",
            "metadata": { "name": self.name },
            "spec": {
                "target": { "selector": { "matchLabels": { "run": self.name } } },
                "network": { "egress": [{ "cidr": "203.0.113.0/24", "ports": [{ "port": 443 }] }] },
            },
        }))?;
        let runs: Api<AgentRun> = Api::namespaced(client.clone(), &self.namespace);
        runs.create(&kube::api::PostParams::default(), &run).await?;
        Ok(())
    }

    /// Creates the pod, and gives it an address as its kubelet would. Returns it as created.
    pub async fn create_pod(&self, client: &Client) -> anyhow::Result<Pod> {
        let pods: Api<Pod> = Api::namespaced(client.clone(), &self.namespace);
        let new = pod(&self.name, &[("run", &self.name)])?;
        let params = kube::api::PostParams::default();
        pods.create(&params, &new).await?;
        set_pod_ip(client, &self.namespace, &self.name, &self.address).await
    }
}

/// One pod after another makes all contacts but the last, then the one that crosses the threshold. Returns the times from
/// that line to the label, in ms. `pods` is what is watched: it must include all of them.
pub async fn one_after_another(
    pods: Api<Pod>,
    log: &EgressLog,
    crossing: &[AgentPod],
) -> anyhow::Result<Vec<f64>> {
    let labelled = labelled(pods);
    pin_mut!(labelled);
    let mut times_ms = Vec::with_capacity(crossing.len());
    for agent in crossing {
        log.scan_hosts(&agent.address, 0, CONTACTS_TO_CROSS - 1)?;
        pause(BEFORE_LAST).await;
        let written = Instant::now();
        log.scan_hosts(&agent.address, 1, 1)?;
        let is_labelled = async {
            while let Some(pod) = labelled.try_next().await? {
                if pod.name_any() == agent.name {
                    return anyhow::Ok(written.elapsed());
                }
            }
            anyhow::bail!("the watch ended")
        };
        let took = tokio::time::timeout(LABEL_LIMIT, is_labelled)
            .await
            .with_context(|| format!("{} has no label after {LABEL_LIMIT:?}", agent.name))??;
        times_ms.push(took.as_secs_f64() * 1000.0);
    }
    Ok(times_ms)
}

/// All pods cross the threshold at the same time. Returns the times from the last line to each label, in ms.
pub async fn at_once(
    pods: Api<Pod>,
    log: &EgressLog,
    crossing: &[AgentPod],
) -> anyhow::Result<Vec<f64>> {
    let labelled = labelled(pods);
    pin_mut!(labelled);
    for agent in crossing {
        log.scan_hosts(&agent.address, 0, CONTACTS_TO_CROSS - 1)?;
    }
    pause(BEFORE_LAST).await;
    for agent in crossing {
        log.scan_hosts(&agent.address, 1, 1)?;
    }
    let written = Instant::now();
    let mut times_ms = BTreeMap::new();
    let all_labelled = async {
        while times_ms.len() < crossing.len() {
            let pod = labelled.try_next().await?.context("the watch ended")?;
            let name = pod.name_any();
            if crossing.iter().any(|agent| agent.name == name) {
                let took = written.elapsed().as_secs_f64() * 1000.0;
                times_ms.entry(name).or_insert(took);
            }
        }
        anyhow::Ok(())
    };
    let ended = tokio::time::timeout(LABEL_LIMIT, all_labelled).await;
    ended.with_context(|| format!("not every pod has a label after {LABEL_LIMIT:?}"))??;
    Ok(times_ms.into_values().collect())
}

fn labelled(
    pods: Api<Pod>,
) -> impl futures::Stream<Item = Result<Pod, kube::runtime::watcher::Error>> {
    let config = watcher::Config::default().labels(labels::QUARANTINE);
    watcher(pods, config).default_backoff().applied_objects()
}
