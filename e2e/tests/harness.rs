//! The harness against the real API server: the control plane does what tests rely on, and the
//! fault proxy forwards faithfully and fails exactly as it is told.

use std::time::Duration;

use anyhow::{Context, bail};
use futures::{StreamExt, TryStreamExt};
use http::{Method, StatusCode};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{
    DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, PropagationPolicy,
    WatchEvent, WatchParams,
};
use kube::{Api, Client};
use serde_json::json;
use yellowjack_e2e::proxy::{Fault, FaultProxy, KillTime, Matcher};
use yellowjack_e2e::{
    RequestCounts, TestCluster, TestEnv, client_of, delete_pod, pod, set_pod_ip, wait_for,
    with_namespace,
};

const LIMIT: Duration = Duration::from_secs(30);

/// A proxy, a client that goes through it, and the test's ConfigMaps behind it.
async fn through_proxy(env: &TestEnv) -> anyhow::Result<(FaultProxy, Api<ConfigMap>)> {
    let proxy = FaultProxy::start(env.client.clone()).await?;
    let client: Client = client_of(&proxy.kubeconfig()).await?;
    Ok((proxy, Api::namespaced(client, &env.namespace)))
}

fn config_map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

fn code_of<T>(outcome: Result<T, kube::Error>) -> anyhow::Result<u16> {
    match outcome {
        Err(kube::Error::Api(status)) => Ok(status.code),
        Err(other) => Err(other).context("expected an answer of the API"),
        Ok(_) => bail!("expected a failure"),
    }
}

#[tokio::test]
async fn a_job_gets_pods_and_takes_them_along_when_it_goes() -> anyhow::Result<()> {
    with_namespace(async |env| {
        if !env.cluster.has_controllers() {
            println!("skipped: KUBEBUILDER_ASSETS has no kube-controller-manager");
            return Ok(());
        }
        let job: Job = serde_json::from_value(json!({
            "metadata": { "name": "work" },
            "spec": { "template": { "spec": {
                "restartPolicy": "Never",
                "containers": [{ "name": "agent", "image": "registry.invalid/agent:1" }],
            }}},
        }))?;
        let jobs: Api<Job> = env.api();
        jobs.create(&PostParams::default(), &job).await?;
        let pods: Api<Pod> = env.api();
        let count_is = async |wanted: usize| {
            wait_for(&format!("{wanted} pods"), LIMIT, async || {
                let list = pods.list(&ListParams::default()).await;
                let count = list.map_err(|error| error.to_string())?.items.len();
                if count == wanted {
                    Ok(())
                } else {
                    Err(format!("{count} pods"))
                }
            })
            .await
        };
        count_is(1).await?;
        let background = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        jobs.delete("work", &background).await?;
        count_is(0).await
    })
    .await
}

#[tokio::test]
async fn a_pod_gets_the_address_that_a_kubelet_would_write() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let pods: Api<Pod> = env.api();
        pods.create(&PostParams::default(), &pod("agent", &[("app", "agent")])?)
            .await?;
        set_pod_ip(&env.client, &env.namespace, "agent", "10.244.0.9").await?;
        let wide = env
            .kubectl(&["get", "pod", "agent", "--output=wide", "--no-headers"])
            .await?;
        assert!(wide.contains("Running"), "{wide}");
        assert!(wide.contains("10.244.0.9"), "{wide}");
        delete_pod(&env.client, &env.namespace, "agent").await?;
        assert!(
            pods.get_opt("agent").await?.is_none(),
            "the pod waits for a kubelet"
        );
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_server_counts_writes() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let before = RequestCounts::read(&env.client).await?;
        let maps: Api<ConfigMap> = env.api();
        maps.create(&PostParams::default(), &config_map("one"))
            .await?;
        let after = RequestCounts::read(&env.client).await?;
        // Other tests write at the same time: at least ours is counted.
        let created = |counts: &RequestCounts| counts.total(&["POST"], Some("configmaps"));
        assert!(created(&after) > created(&before), "{before:?} {after:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_proxy_forwards_and_records_writes() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let (proxy, maps) = through_proxy(&env).await?;
        maps.create(&PostParams::default(), &config_map("one"))
            .await?;
        let data = json!({ "apiVersion": "v1", "kind": "ConfigMap", "data": { "key": "value" }});
        maps.patch("one", &PatchParams::apply("tester"), &Patch::Apply(&data))
            .await?;
        let stored = maps.get("one").await?;
        assert_eq!(
            stored
                .data
                .and_then(|data| data.get("key").cloned())
                .as_deref(),
            Some("value")
        );
        let writes = proxy.writes();
        let seen: Vec<_> = writes
            .iter()
            .map(|write| {
                (
                    &write.method,
                    write.status.as_u16(),
                    write.field_manager.as_deref(),
                )
            })
            .collect();
        assert_eq!(
            seen,
            [
                (&Method::POST, 201, None),
                (&Method::PATCH, 200, Some("tester"))
            ]
        );
        let patch = writes.last().context("no write")?;
        assert!(patch.path.ends_with("/configmaps/one"), "{}", patch.path);
        assert_eq!(patch.body, data);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_proxy_answers_for_the_server_where_a_test_says_so() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let (proxy, maps) = through_proxy(&env).await?;
        let posts = Matcher::method(Method::POST).containing("/configmaps");
        for status in [StatusCode::CONFLICT, StatusCode::INTERNAL_SERVER_ERROR] {
            proxy.fail(posts.clone(), Fault::Reply(status));
            let outcome = maps
                .create(&PostParams::default(), &config_map("one"))
                .await;
            assert_eq!(code_of(outcome)?, status.as_u16());
        }
        assert!(
            maps.get_opt("one").await?.is_none(),
            "a failed write reached the server"
        );
        // The client tries again by itself after a 429.
        proxy.fail(posts, Fault::Reply(StatusCode::TOO_MANY_REQUESTS));
        maps.create(&PostParams::default(), &config_map("one"))
            .await?;
        let statuses: Vec<_> = proxy
            .writes()
            .iter()
            .map(|write| write.status.as_u16())
            .collect();
        assert_eq!(statuses, [409, 500, 429, 201]);
        assert_eq!(proxy.faults_left(), 0);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_dropped_request_never_arrives_and_a_dropped_reply_did() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let (proxy, maps) = through_proxy(&env).await?;
        let posts = Matcher::method(Method::POST).containing("/configmaps");
        proxy.fail(posts.clone(), Fault::DropBefore);
        assert!(
            maps.create(&PostParams::default(), &config_map("before"))
                .await
                .is_err()
        );
        assert!(maps.get_opt("before").await?.is_none());
        proxy.fail(posts, Fault::DropAfter);
        assert!(
            maps.create(&PostParams::default(), &config_map("after"))
                .await
                .is_err()
        );
        assert!(maps.get_opt("after").await?.is_some());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_delayed_request_is_late_and_served() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let (proxy, maps) = through_proxy(&env).await?;
        let delay = Duration::from_millis(300);
        proxy.fail(
            Matcher::any().containing("/configmaps"),
            Fault::Delay(delay),
        );
        let started = std::time::Instant::now();
        maps.create(&PostParams::default(), &config_map("one"))
            .await?;
        assert!(started.elapsed() >= delay);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_watch_streams_through_the_proxy_until_it_is_closed() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let (proxy, maps) = through_proxy(&env).await?;
        let version = maps.list(&ListParams::default()).await?.metadata.resource_version;
        let params = WatchParams::default();
        let mut events = maps.watch(&params, &version.unwrap_or_default()).await?.boxed();
        maps.create(&PostParams::default(), &config_map("seen")).await?;
        let next = tokio::time::timeout(LIMIT, events.try_next()).await??;
        assert!(
            matches!(&next, Some(WatchEvent::Added(map)) if map.metadata.name.as_deref() == Some("seen")),
            "{next:?}"
        );
        proxy.close_watches();
        let next = tokio::time::timeout(LIMIT, events.try_next()).await??;
        assert!(next.is_none(), "the watch goes on: {next:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_process_is_killed_right_before_or_after_the_kth_write() -> anyhow::Result<()> {
    with_namespace(async |env| {
        for (time, second_is_stored) in [(KillTime::Before, false), (KillTime::After, true)] {
            let (proxy, maps) = through_proxy(&env).await?;
            let mut victim = tokio::process::Command::new("tail")
                .args(["-f", "/dev/null"])
                .spawn()?;
            proxy.kill_at(2, time, victim.id().context("it ended by itself")?);
            let first = format!("first-{second_is_stored}");
            let second = format!("second-{second_is_stored}");
            maps.create(&PostParams::default(), &config_map(&first))
                .await?;
            assert!(proxy.kill_pending());
            assert!(
                maps.create(&PostParams::default(), &config_map(&second))
                    .await
                    .is_err()
            );
            assert!(!proxy.kill_pending());
            let ended = tokio::time::timeout(LIMIT, victim.wait()).await??;
            assert!(!ended.success(), "{ended}");
            assert_eq!(
                maps.get_opt(&second).await?.is_some(),
                second_is_stored,
                "{time:?}"
            );
        }
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_operators_binary_runs_as_a_child_with_a_log() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let mut operator = env.operator(env.cluster.kubeconfig(), &["crds"]).await?;
        assert_eq!(operator.ended(LIMIT).await?, Some(0));
        let log = operator.log()?;
        assert!(log.contains("name: agentruns.yellowjack.dev"), "{log}");
        Ok(())
    })
    .await
}

#[test]
fn the_cluster_tells_what_it_costs() -> anyhow::Result<()> {
    let cluster = TestCluster::shared()?;
    let Some(time) = cluster.start_time() else {
        println!("skipped: the cluster is not this process's own");
        return Ok(());
    };
    println!("figure cluster.start {:.1} s", time.as_secs_f64());
    for (part, bytes) in cluster.resident_bytes() {
        println!("figure cluster.rss.{part} {} MiB", bytes / (1024 * 1024));
        assert!(bytes > 0, "{part} is not running");
    }
    Ok(())
}
