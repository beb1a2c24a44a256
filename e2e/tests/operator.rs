//! The operator as a process: what it says of itself over HTTP.

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use kube::Api;
use kube::ResourceExt;
use kube::api::{ListParams, PostParams};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use yellowjack::testing::api::{AgentRun, Incident, condition_of};
use yellowjack_e2e::lines::EgressLog;
use yellowjack_e2e::{
    Operator, TestCluster, TestEnv, pod, set_pod_ip_since, wait_for, with_namespace,
};

const LIMIT: Duration = Duration::from_secs(30);

/// One GET; the whole answer.
async fn get(address: &str, path: &str) -> anyhow::Result<String> {
    let mut stream = tokio::net::TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// The address that the operator says it serves.
async fn served(operator: &Operator) -> anyhow::Result<String> {
    wait_for("the endpoints", LIMIT, async || {
        let log = operator.log().map_err(|error| error.to_string())?;
        let said = log.lines().find_map(|line| line.split_once("address="));
        said.map(|(_, address)| address.trim().to_owned())
            .ok_or(log)
    })
    .await
}

#[tokio::test]
async fn readiness_and_metrics_are_served_without_any_source() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("operator.log");
        let arguments = [
            "controller",
            "--namespace",
            &env.namespace,
            "--listen",
            "127.0.0.1:0",
        ];
        let kubeconfig = TestCluster::shared()?.kubeconfig().to_owned();
        let operator = Operator::start(&kubeconfig, &arguments, &log).await?;
        let address = served(&operator).await?;
        wait_for("readiness", LIMIT, async || {
            let answer = get(&address, "/readyz")
                .await
                .map_err(|error| error.to_string())?;
            if answer.starts_with("HTTP/1.1 200") {
                Ok(())
            } else {
                Err(answer)
            }
        })
        .await?;
        let metrics = get(&address, "/metrics")
            .await
            .context("failed to read the metrics")?;
        for line in [
            "yellowjack_lines_total{result=\"signal\"} 0",
            "yellowjack_runs 0",
        ] {
            anyhow::ensure!(metrics.contains(line), "{line} is not in {metrics}");
        }
        Ok(())
    })
    .await
}

/// What the counter of fetches says for this result, once it says more than nothing.
async fn fetches(address: &str, result: &str) -> anyhow::Result<()> {
    let wanted = format!("result=\"{result}\"}}");
    wait_for(&format!("fetches: {result}"), LIMIT, async || {
        let text = get(address, "/metrics")
            .await
            .map_err(|error| error.to_string())?;
        let lines = text
            .lines()
            .filter(|line| line.starts_with("yellowjack_scrapes_total"));
        let lines: Vec<_> = lines.collect();
        let is_there = |line: &&str| line.contains(&wanted) && !line.ends_with(" 0");
        if lines.iter().any(is_there) {
            Ok(())
        } else {
            Err(lines.join("; "))
        }
    })
    .await
}

/// The API server plays the kubelet: it wants the same credentials, shows a certificate of the same
/// authority, and gives text of the same form, though of nothing that is known.
#[tokio::test]
async fn a_kubelet_is_shown_credentials_over_tls_and_its_certificate_is_checked()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        let kubeconfig = TestCluster::shared()?.kubeconfig().to_owned();
        let known = kube::config::Kubeconfig::read_from(&kubeconfig)?;
        let cluster = known.clusters.into_iter().find_map(|named| named.cluster);
        let server = cluster.and_then(|cluster| cluster.server);
        let server = server.context("the kubeconfig names no server")?;
        let url = format!("kubelet={}/metrics", server.trim_end_matches('/'));
        let folder = tempfile::tempdir()?;
        let wrong = folder.path().join("wrong.crt");
        std::fs::write(&wrong, include_str!("operator/other_authority.pem"))?;
        let wrong = wrong.to_string_lossy();
        for (flags, result) in [
            (&[][..], "unchanged"),
            (&["--kubelet-insecure"][..], "unchanged"),
            (&["--kubelet-ca", &wrong][..], "failed"),
        ] {
            let mut arguments = vec!["controller", "--namespace", &env.namespace];
            arguments.extend(["--listen", "127.0.0.1:0", "--metrics", &url]);
            arguments.extend(["--metrics-interval", "200ms"]);
            arguments.extend_from_slice(flags);
            let log = folder.path().join(format!("{result}-{}.log", flags.len()));
            let operator = Operator::start(&kubeconfig, &arguments, &log).await?;
            fetches(&served(&operator).await?, result).await?;
        }
        Ok(())
    })
    .await
}

/// A run in this mode over one pod of the same name, which has had its address for ten minutes.
async fn run_with_pod(env: &TestEnv, name: &str, mode: &str, ip: &str) -> anyhow::Result<()> {
    let run: AgentRun = serde_json::from_value(json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "AgentRun",
        "metadata": { "name": name },
        "spec": {
            "target": { "selector": { "matchLabels": { "app": name } } },
            "detection": { "modes": { "scan": mode } },
        },
    }))?;
    let create = PostParams::default();
    env.api().create(&create, &run).await?;
    let pods: Api<k8s_openapi::api::core::v1::Pod> = env.api();
    pods.create(&create, &pod(name, &[("app", name)])?).await?;
    let since = Timestamp::now() - Duration::from_mins(10);
    set_pod_ip_since(&env.client, &env.namespace, name, ip, since).await?;
    Ok(())
}

/// Waits until the Incident of this pod has this reason for `Contained`.
async fn contained(env: &TestEnv, pod: &str, reason: &str) -> anyhow::Result<()> {
    let incidents: Api<Incident> = env.api();
    wait_for(&format!("{pod}: {reason}"), LIMIT, async || {
        let all = incidents.list(&ListParams::default()).await;
        let all = all.map_err(|error| error.to_string())?;
        let of_pod = all.iter().find(|one| one.spec.subject.name == pod);
        let incident = of_pod.ok_or("no Incident")?;
        let conditions = incident.status.iter().flat_map(|status| &status.conditions);
        let conditions: Vec<_> = conditions.cloned().collect();
        match condition_of(&conditions, "Contained") {
            Some(found) if found.reason == reason => Ok(()),
            _ => Err(format!("{}: {conditions:?}", incident.name_any())),
        }
    })
    .await
}

/// The lines are a minute older than the isolation, so a clock that starts anywhere but at the time in the log shows less.
/// The control is a pod of a run in mode Observe: the same lines, an Incident, and no isolation to measure.
#[tokio::test]
async fn the_time_from_the_log_line_to_the_isolation_is_measured() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let log = EgressLog::create()?;
        let source = log.source();
        let arguments = [
            "controller",
            "--namespace",
            &env.namespace,
            "--listen",
            "127.0.0.1:0",
            "--source",
            &source,
            "--start-at",
            "beginning",
        ];
        let kubeconfig = TestCluster::shared()?.kubeconfig().to_owned();
        let operator_log = log.path().with_extension("operator");
        let operator = Operator::start(&kubeconfig, &arguments, &operator_log).await?;
        let address = served(&operator).await?;
        let (observed, isolated) = ("10.244.1.66", "10.244.1.67");
        run_with_pod(&env, "observed", "Observe", observed).await?;
        run_with_pod(&env, "isolated", "Enforce", isolated).await?;
        let a_minute_ago = Timestamp::now() - Duration::from_mins(1);
        log.scan_hosts_at(observed, 0, 60, a_minute_ago)?;
        contained(&env, "observed", "ObserveOnly").await?;
        let value = async |line: &str| -> anyhow::Result<String> {
            let metrics = get(&address, "/metrics").await?;
            let name = format!("yellowjack_isolation_latency_seconds_{line} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
            let value = value.with_context(|| format!("no {name}in {metrics}"))?;
            Ok(value.to_owned())
        };
        let count = value("count").await?;
        anyhow::ensure!(count == "0", "counted {count} without an isolation");
        log.scan_hosts_at(isolated, 1, 60, a_minute_ago)?;
        contained(&env, "isolated", "Isolated").await?;
        let (count, sum) = (value("count").await?, value("sum").await?);
        anyhow::ensure!(count == "1", "counted {count} with one isolation");
        anyhow::ensure!(sum.parse::<f64>()? >= 60.0, "measured {sum} s");
        let early = value("bucket{le=\"30.0\"}").await?;
        let all = value("bucket{le=\"+Inf\"}").await?;
        anyhow::ensure!(
            (early.as_str(), all.as_str()) == ("0", "1"),
            "{early} of {all}"
        );
        Ok(())
    })
    .await
}
