//! The test node itself: pods run, their packets arrive outside, and the kernel's log tells of them.
//! Runs inside `with-node`; elsewhere each test says that it is skipped.

mod metrics;
mod probe;

use std::path::Path;

use anyhow::Context;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::api::{DeleteParams, LogParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use yellowjack_e2e::node::{
    CLOSED_HOST, POOL_IP, POOL_TLS_PORT, SERVER_IP_V6, SSH_IP, TestNode, agent_pod, running,
    skip_reason,
};
use yellowjack_e2e::{LIMIT, TestEnv, client_of, wait_for, with_namespace};

/// Runs a test on the node, with what its parts said last where it fails.
async fn on_node<F>(test: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(TestEnv, TestNode) -> anyhow::Result<()>,
{
    if let Some(reason) = skip_reason() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let node = TestNode::find()?;
    let outcome = with_namespace(async |env| test(env, node.clone()).await).await;
    if outcome.is_err() {
        for (log, tail) in node.log_tails(6) {
            eprintln!("{log} ends with:\n{tail}");
        }
    }
    outcome
}

/// Starts a pod and tells its IPv4 and IPv6 addresses.
async fn start(env: &TestEnv, name: &str, script: &str) -> anyhow::Result<(String, String)> {
    let pods: Api<Pod> = env.api();
    let pod = agent_pod(name, &[("app", name)], script)?;
    pods.create(&PostParams::default(), &pod).await?;
    let addresses = running(&pods, name).await?;
    let text = |index: usize| addresses.get(index).map(ToString::to_string);
    Ok((
        text(0).context("no address")?,
        text(1).context("no address of IPv6")?,
    ))
}

/// Waits until a pod has said this.
async fn said(env: &TestEnv, name: &str, words: &str) -> anyhow::Result<String> {
    let pods: Api<Pod> = env.api();
    wait_for(&format!("{name} to say {words:?}"), LIMIT, async || {
        let logs = pods.logs(name, &LogParams::default()).await;
        let text = logs.map_err(|error| error.to_string())?;
        if text.contains(words) {
            Ok(text)
        } else {
            Err(text)
        }
    })
    .await
}

/// Waits until the kernel's log has a line with all of these.
async fn logged(node: &TestNode, words: &[&str]) -> anyhow::Result<serde_json::Value> {
    wait_for(&format!("a log line with {words:?}"), LIMIT, async || {
        // Another test may rotate the log meanwhile.
        let older = node.egress_log().with_extension("jsonl.1");
        let read = |log: &Path| std::fs::read_to_string(log).unwrap_or_default();
        let text = read(&older) + &read(node.egress_log());
        let mut lines = text.lines();
        let line = lines.find(|line| words.iter().all(|word| line.contains(word)));
        let line = line.ok_or_else(|| format!("{} other lines", text.lines().count()))?;
        serde_json::from_str(line).map_err(|error| error.to_string())
    })
    .await
}

#[tokio::test]
async fn a_packet_of_a_pod_arrives_outside_and_is_in_the_kernels_log() -> anyhow::Result<()> {
    on_node(async |env, node| {
        let script = "toolbox get http://index.pkg.example.org/bytes/1000; echo done";
        let (address, _) = start(&env, "honest", script).await?;
        said(
            &env,
            "honest",
            "ok http://index.pkg.example.org/bytes/1000 1000 bytes",
        )
        .await?;
        let arrivals = wait_for("the packets outside", LIMIT, async || {
            let seen = node
                .arrivals_from(&address)
                .map_err(|error| format!("{error:#}"))?;
            if seen.iter().any(|arrival| arrival.to_port == 80) {
                Ok(seen)
            } else {
                Err(format!("{seen:?}"))
            }
        })
        .await?;
        let begun = arrivals.iter().filter(|arrival| arrival.syn);
        assert_eq!(begun.count(), 1, "{arrivals:?}");
        let source = format!("\"src_ip\": \"{address}\"");
        // The cluster's DNS asked outside for the pod.
        logged(&node, &["oob.prefix", &source, "\"dest_port\": 53"]).await?;
        assert!(
            arrivals.iter().all(|arrival| arrival.to_port != 53),
            "{arrivals:?}"
        );
        // One line of each kind: the packet that opened the connection, and its begin.
        let opened = logged(&node, &["oob.prefix", &source, "\"dest_port\": 80"]).await?;
        assert_eq!(opened.get("dest_ip"), Some(&json!("203.0.113.10")));
        let begun = logged(
            &node,
            &["\"ct.event\": 1", &source, "\"orig.l4.dport\": 80"],
        )
        .await?;
        assert_eq!(begun.get("dest_ip"), Some(&json!("203.0.113.10")));
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_reaches_the_servers_of_the_internet_and_no_others() -> anyhow::Result<()> {
    on_node(async |env, node| {
        let script = format!(
            "toolbox connect -ports 22 {CLOSED_HOST} {SSH_IP}; toolbox get http://[{SERVER_IP_V6}]/; \
             timeout 3 toolbox mine -tls {POOL_IP}:{POOL_TLS_PORT}; \
             nmap -n -sS -Pn -p 1-20 {CLOSED_HOST}; echo done"
        );
        let (address, address_v6) = start(&env, "walker", &script).await?;
        let text = said(&env, "walker", "done").await?;
        for words in [
            "closed 198.51.100.7:22",
            "open 203.0.113.22:22",
            "ok http://[2001:db8:113::10]/",
            "mining.notify",
            "Nmap done: 1 IP address (1 host up)",
        ] {
            assert!(text.contains(words), "{words} is missing:\n{text}");
        }
        assert!(!node.arrivals_from(&address_v6)?.is_empty());
        let arrivals = node.arrivals_from(&address)?;
        let scanned = arrivals
            .iter()
            .filter(|arrival| arrival.syn && arrival.to == CLOSED_HOST && arrival.to_port <= 20);
        assert_eq!(scanned.count(), 20, "{arrivals:?}");
        let source = format!("\"src_ip\": \"{address_v6}\"");
        logged(&node, &["oob.prefix", &source, "\"dest_port\": 80"]).await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_connection_from_outside_reaches_a_pod() -> anyhow::Result<()> {
    on_node(async |env, node| {
        let script = "toolbox hold -listen :7000";
        let (address, address_v6) = start(&env, "listener", script).await?;
        said(&env, "listener", "listening").await?;
        let folder = tempfile::tempdir()?;
        for (number, target) in [address, format!("[{address_v6}]")].into_iter().enumerate() {
            let mut caller = node.outside("toolbox");
            caller.args(["hold", &format!("{target}:7000")]);
            let log = folder.path().join(format!("{number}.log"));
            let _caller = node.keep_outside(&caller, &log)?;
            wait_for("an answer of the pod", LIMIT, async || {
                let text = std::fs::read_to_string(&log).unwrap_or_default();
                if text.contains("answered line 3") {
                    Ok(())
                } else {
                    Err(text)
                }
            })
            .await?;
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_kubelet_tells_the_processor_time_of_a_pod_to_whom_it_may() -> anyhow::Result<()> {
    on_node(async |env, node| {
        start(&env, "burner", "toolbox burn -share 0.5").await?;
        let account = "reader";
        let accounts: Api<ServiceAccount> = env.api();
        let made = serde_json::from_value(json!({ "metadata": { "name": account } }))?;
        accounts.create(&PostParams::default(), &made).await?;
        let request = TokenRequest {
            spec: TokenRequestSpec::default(),
            ..TokenRequest::default()
        };
        let token = accounts
            .create_token_request(account, &PostParams::default(), &request)
            .await?
            .status
            .context("no token")?
            .token;
        let kubelet = node.kubelet_client(&token)?;
        let refused = metrics(&kubelet).await;
        assert!(
            refused.is_err(),
            "a stranger reads the metrics: {refused:?}"
        );
        let name = format!("--serviceaccount={}:{account}", env.namespace);
        let role = format!("metrics-{}", env.namespace);
        env.kubectl(&[
            "create",
            "clusterrole",
            &role,
            "--verb=get",
            "--resource=nodes/metrics",
        ])
        .await?;
        let binding = [
            "create",
            "clusterrolebinding",
            &role,
            "--clusterrole",
            &role,
            &name,
        ];
        env.kubectl(&binding).await?;
        let wanted = format!(
            "container=\"agent\",namespace=\"{}\",pod=\"burner\"",
            env.namespace
        );
        wait_for("half a second of processor time", LIMIT, async || {
            let text = metrics(&kubelet)
                .await
                .map_err(|error| format!("{error:#}"))?;
            let line = text.lines().find(|line| {
                line.starts_with("container_cpu_usage_seconds_total") && line.contains(&wanted)
            });
            let seconds = line.and_then(|line| line.split(' ').nth(1)?.parse::<f64>().ok());
            match seconds {
                Some(seconds) if seconds > 0.5 => Ok(()),
                _ => Err(format!("{line:?}")),
            }
        })
        .await
    })
    .await
}

async fn metrics(kubelet: &Client) -> anyhow::Result<String> {
    let request = http::Request::get("/metrics/resource").body(Vec::new())?;
    Ok(kubelet.request_text(request).await?)
}

#[tokio::test]
async fn a_new_pod_can_be_given_the_address_of_one_that_has_gone() -> anyhow::Result<()> {
    on_node(async |env, node| {
        let pods: Api<Pod> = env.api();
        let (address, _) = start(&env, "first", "toolbox pause").await?;
        pods.delete("first", &DeleteParams::default().grace_period(0))
            .await?;
        // A force-deleted pod keeps its address until its sandbox is gone.
        wait_for("the address to be free", LIMIT, async || {
            let path = format!("/run/yellowjack-node/addresses/pods/{address}");
            if std::path::Path::new(&path).exists() {
                Err(path)
            } else {
                Ok(())
            }
        })
        .await?;
        node.give_next(address.parse()?)?;
        let (next, _) = start(&env, "second", "toolbox pause").await?;
        assert_eq!(next, address);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_rotated_log_goes_on_in_a_new_file() -> anyhow::Result<()> {
    on_node(async |env, node| {
        let script = "toolbox get -count 0 -interval 100ms http://203.0.113.10/";
        let (address, _) = start(&env, "busy", script).await?;
        let source = format!("\"src_ip\": \"{address}\"");
        logged(&node, &["oob.prefix", &source]).await?;
        node.rotate_egress_log()?;
        wait_for("the pod's lines in the new log", LIMIT, async || {
            let text = std::fs::read_to_string(node.egress_log()).unwrap_or_default();
            if text.contains(&source) {
                Ok(())
            } else {
                Err(text)
            }
        })
        .await
    })
    .await
}

#[tokio::test]
async fn a_program_of_this_machine_runs_as_a_pod() -> anyhow::Result<()> {
    on_node(async |env, node| {
        let image = "yellowjack.test/operator:test";
        node.import_program(image, &yellowjack_e2e::binary()?)?;
        let mut pod = agent_pod("operator", &[], "")?;
        let containers = pod.spec.as_mut().map(|spec| &mut spec.containers);
        for container in containers.into_iter().flatten() {
            container.image = Some(image.to_owned());
            container.command = None;
            container.args = Some(vec!["--version".to_owned()]);
        }
        let pods: Api<Pod> = env.api();
        pods.create(&PostParams::default(), &pod).await?;
        running(&pods, "operator").await?;
        said(&env, "operator", "yellowjack 0.").await?;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_pod_talks_to_the_api_server_as_its_own_account() -> anyhow::Result<()> {
    on_node(async |env, node| {
        // It may not read pods, and hears so from the server: 403, not a broken connection.
        let script = "toolbox get -bearer /var/run/secrets/kubernetes.io/serviceaccount/token \
            https://$KUBERNETES_SERVICE_HOST/api/v1/pods; echo done";
        start(&env, "curious", script).await?;
        let text = said(&env, "curious", "done").await?;
        assert!(text.contains("403 Forbidden"), "{text}");
        let client = client_of(node.kubeconfig()).await?;
        let pods: Api<Pod> = Api::namespaced(client, &env.namespace);
        assert!(pods.get("curious").await.is_ok());
        Ok(())
    })
    .await
}
