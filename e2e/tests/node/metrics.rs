//! Node metrics of a real kubelet: its text, its certificate and its word on who may read it.

use anyhow::Context;
use yellowjack_e2e::{LIMIT, wait_for};

use super::{on_node, start};

fn value_of(text: &str, series: &str) -> u64 {
    let value = text.lines().find_map(|line| line.strip_prefix(series));
    value
        .and_then(|value| value.trim().parse().ok())
        .unwrap_or(0)
}

#[tokio::test]
async fn samples_of_a_real_kubelet_are_attributed_to_the_pods_that_they_are_about()
-> anyhow::Result<()> {
    on_node(async |env, _node| {
        start(&env, "busy", "toolbox burn -share 0.5").await?;
        let kubeconfig = std::env::var_os("KUBECONFIG").context("no KUBECONFIG")?;
        let arguments = [
            "controller",
            "--namespace",
            &env.namespace,
            "--listen",
            "127.0.0.1:0",
            "--metrics",
            "kubelet=https://127.0.0.1:10250",
            "--kubelet-insecure",
            "--metrics-interval",
            "1s",
        ];
        let operator = env.operator(kubeconfig.as_ref(), &arguments).await?;
        wait_for("a sample of the pod", LIMIT, async || {
            let text = operator
                .http_get("/metrics")
                .await
                .map_err(|error| format!("{error:#}"))?;
            let of = |result: &str| {
                value_of(
                    &text,
                    &format!("yellowjack_samples_total{{result=\"{result}\"}}"),
                )
            };
            if of("attributed") > 0 && of("malformed") == 0 {
                return Ok(());
            }
            let lines = text.lines().filter(|line| line.starts_with("yellowjack_s"));
            Err(lines.collect::<Vec<_>>().join("; "))
        })
        .await
    })
    .await
}
