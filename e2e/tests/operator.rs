//! The operator as a process: what it says of itself over HTTP.

use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use yellowjack_e2e::{Operator, TestCluster, wait_for, with_namespace};

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
