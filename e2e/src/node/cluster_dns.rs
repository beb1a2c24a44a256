//! The cluster's DNS where policies expect it: pods `k8s-app=kube-dns` in `kube-system` behind the
//! Service `kube-dns`. Called by `inside` once the node is ready.
//!
//! It knows no Services but the API server's, and asks the Internet's DNS server for the rest.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

use super::layout::{CLUSTER_DNS_IP, DNS_IP, IMAGE};
use super::pods::running;
use crate::wait::wait_for;

/// The controllers make the namespace's account, without which no pod is taken.
const ACCOUNT_LIMIT: Duration = Duration::from_secs(30);
const NAMESPACE: &str = "kube-system";

/// Starts it and waits until it runs.
pub(super) async fn start(client: &Client) -> anyhow::Result<()> {
    let labels = json!({ "k8s-app": "kube-dns" });
    let service: Service = serde_json::from_value(json!({
        "metadata": { "name": "kube-dns", "labels": labels },
        "spec": {
            "clusterIP": CLUSTER_DNS_IP,
            "selector": labels,
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP" },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP" },
            ],
        },
    }))?;
    let services: Api<Service> = Api::namespaced(client.clone(), NAMESPACE);
    services.create(&PostParams::default(), &service).await?;
    let command = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
        "--user=root",
        "--pid-file=",
        "--log-facility=-",
        "--local=/cluster.local/",
        "--host-record=kubernetes.default.svc.cluster.local,10.96.0.1",
    ];
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "kube-dns", "labels": labels },
        "spec": {
            "dnsPolicy": "Default",
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "dns",
                "image": IMAGE,
                "imagePullPolicy": "Never",
                "command": command,
                "args": [format!("--server={DNS_IP}")],
            }],
        },
    }))?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    wait_for("the DNS pod to be taken", ACCOUNT_LIMIT, async || {
        let created = pods.create(&PostParams::default(), &pod).await;
        created.map(|_| ()).map_err(|error| error.to_string())
    })
    .await?;
    running(&pods, "kube-dns").await.map(|_| ())
}
