//! The operator as a process: what it says of itself over HTTP.

use std::time::Duration;

use anyhow::Context;
use jiff::Timestamp;
use serde_json::json;
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{Fixture, LIMIT};
use yellowjack_e2e::lines::EgressLog;
use yellowjack_e2e::{Operator, TestCluster, TestEnv, wait_for, with_namespace};

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
        wait_for("readiness", LIMIT, async || {
            let ready = operator.http_get("/readyz").await;
            ready.map(drop).map_err(|error| format!("{error:#}"))
        })
        .await?;
        let metrics = operator.http_get("/metrics").await?;
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
async fn fetches(operator: &Operator, result: &str) -> anyhow::Result<()> {
    let wanted = format!("result=\"{result}\"}}");
    wait_for(&format!("fetches: {result}"), LIMIT, async || {
        let text = operator.http_get("/metrics").await;
        let text = text.map_err(|error| format!("{error:#}"))?;
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
            fetches(&operator, result).await?;
        }
        Ok(())
    })
    .await
}

/// A run in this mode over one pod of the same name, which has had its address for ten minutes.
async fn run_with_pod(env: &TestEnv, name: &str, mode: &str, ip: &str) -> anyhow::Result<()> {
    let spec = json!({ "detection": { "modes": { "scan": mode } } });
    env.create_run(name, spec).await?;
    let since = Timestamp::now() - Duration::from_mins(10);
    let pod = build::pod(name, &[("app", name)])?;
    env.start_pod_since(&pod, ip, since).await
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
        let (observed, isolated) = ("10.244.1.66", "10.244.1.67");
        run_with_pod(&env, "observed", "Observe", observed).await?;
        run_with_pod(&env, "isolated", "Enforce", isolated).await?;
        let a_minute_ago = Timestamp::now() - Duration::from_mins(1);
        log.scan_hosts_at(observed, 0, 60, a_minute_ago)?;
        env.incident_condition("observed", "Contained", "False", "ObserveOnly")
            .await?;
        let value = async |line: &str| -> anyhow::Result<String> {
            let metrics = operator.http_get("/metrics").await?;
            let name = format!("yellowjack_isolation_latency_seconds_{line} ");
            let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
            let value = value.with_context(|| format!("no {name}in {metrics}"))?;
            Ok(value.to_owned())
        };
        let count = value("count").await?;
        anyhow::ensure!(count == "0", "counted {count} without an isolation");
        log.scan_hosts_at(isolated, 1, 60, a_minute_ago)?;
        env.until_isolated("isolated").await?;
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
