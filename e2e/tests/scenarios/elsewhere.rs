//! What makes sense on a cluster that is not ours: that its network policy engine cuts off a pod that
//! Yellowjack put into quarantine. The finding comes from a log that the test writes, for the nodes'
//! own logs and the packets outside cannot be seen from here.

use std::time::Duration;

use anyhow::Context;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{LogParams, PostParams};
use serde_json::json;
use yellowjack::testing::api::condition_is;
use yellowjack_e2e::fixture::{Fixture, LIMIT, incident_conditions};
use yellowjack_e2e::lines::EgressLog;
use yellowjack_e2e::node::running_elsewhere;
use yellowjack_e2e::{TestEnv, wait_for, with_namespace};

/// An image with a shell, `wget` and `httpd`, which the cluster's nodes have or can pull.
const IMAGE_VARIABLE: &str = "YELLOWJACK_TEST_IMAGE";
/// Failures in a row after which the pod counts as cut off; it tries twice a second.
const FAILURES: usize = 10;
const CUT_LIMIT: Duration = Duration::from_mins(2);
const HOSTS: u8 = 40;

/// The image, or why this cannot run.
fn image() -> Result<String, String> {
    if std::env::var_os("KUBECONFIG").is_none() {
        return Err("this is for a cluster that KUBECONFIG names".to_owned());
    }
    if !running_elsewhere() {
        return Err("the test node has scenarios of its own".to_owned());
    }
    let image = std::env::var(IMAGE_VARIABLE).unwrap_or_default();
    if image.is_empty() {
        return Err(format!(
            "set {IMAGE_VARIABLE} to an image with sh, wget and httpd that the cluster can run"
        ));
    }
    Ok(image)
}

async fn start(env: &TestEnv, image: &str, name: &str, script: &str) -> anyhow::Result<String> {
    let pod = json!({
        "metadata": { "name": name, "labels": { "app": name } },
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 1,
            "containers": [{
                "name": "agent",
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script],
            }],
        },
    });
    let pods: Api<Pod> = env.api();
    pods.create(&PostParams::default(), &serde_json::from_value(pod)?)
        .await?;
    let addresses = yellowjack_e2e::node::running(&pods, name).await?;
    let first = addresses.first().context("the pod has no address")?;
    Ok(first.to_string())
}

/// The words that the pod said, oldest first.
async fn said(env: &TestEnv) -> Result<Vec<String>, String> {
    let pods: Api<Pod> = env.api();
    let text = pods.logs("rogue", &LogParams::default()).await;
    let text = text.map_err(|error| error.to_string())?;
    Ok(text.lines().map(ToOwned::to_owned).collect())
}

/// Waits until the pod is contained, and then until it reaches the server no more.
async fn is_cut_off(env: &TestEnv) -> anyhow::Result<()> {
    env.until_any_incident("the pod to be contained", |incident| {
        condition_is(incident_conditions(incident), "Contained")
    })
    .await?;
    wait_for("the engine to cut the pod off", CUT_LIMIT, async || {
        let words = said(env).await?;
        let failed = words.iter().rev().take_while(|word| *word != "reached");
        let count = failed.count();
        if count >= FAILURES {
            Ok(())
        } else {
            Err(format!("{count} failures"))
        }
    })
    .await
}

#[tokio::test]
async fn the_clusters_own_engine_cuts_off_a_pod_in_quarantine() -> anyhow::Result<()> {
    let image = match image() {
        Ok(image) => image,
        Err(reason) => {
            println!("skipped: {reason}");
            return Ok(());
        }
    };
    with_namespace(async |env| {
        let serve = "echo here >/tmp/index.html; exec httpd -f -p 8080 -h /tmp";
        let server = start(&env, &image, "server", serve).await?;
        let spec = json!({ "network": { "egress": [{ "cidr": format!("{server}/32") }] } });
        env.create_run("rogue", spec).await?;
        let log = EgressLog::create()?;
        let source = log.source();
        let kubeconfig = env.cluster.kubeconfig().to_owned();
        let arguments = [
            "controller",
            "--namespace",
            &env.namespace,
            "--source",
            &source,
        ];
        let _operator = env.operator(&kubeconfig, &arguments).await?;
        // The second is for the test node's own image, whose static wget cannot connect.
        let ask = format!(
            "while true; do url=http://{server}:8080/; \
             if wget -q -T 1 -O /dev/null $url 2>/dev/null || \
             toolbox get -count 1 -timeout 1s $url 2>/dev/null | grep -q ' ok '; \
             then echo reached; else echo failed; fi; sleep 0.5; done"
        );
        let rogue = start(&env, &image, "rogue", &ask).await?;
        wait_for("the pod to reach the server", LIMIT, async || {
            let words = said(&env).await?;
            let last = words.last().map_or("", String::as_str);
            if last == "reached" {
                Ok(())
            } else {
                Err(format!("{words:?}"))
            }
        })
        .await?;
        log.scan_hosts(&rogue, 0, HOSTS)?;
        is_cut_off(&env).await
    })
    .await
}
