//! Node metrics as evidence: a session that nobody would act on, and a processor that lives with it.

use std::time::Duration;
use yellowjack::testing::api::AgentRun;

use jiff::Timestamp;
use serde_json::json;
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{
    ApiFixture, Fixture, HONEST_IP, LIMIT, ROGUE_IP, SCANNED_HOSTS, has_condition, run_conditions,
    with_fixture, with_node_agents,
};
use yellowjack_e2e::{BusyPod, KubeletMetrics, Story, wait_for};

/// The pods run since then, the metrics begin, and the processor steps up.
const STARTED_AGO: Duration = Duration::from_hours(1);
const STORY_AGO: Duration = Duration::from_mins(40);
const STEP_S: u32 = 15;
const IDLE_LOOKS: u32 = 10;
const LOOKS: u32 = 100;

/// No usual port of a pool and no name: shape alone is no finding there. On a port of the web the log
/// would have to hold names for more than an alert.
const POOL: (&str, u16) = ("198.51.100.77", 7012);
const CLIENT_IP: &str = "10.244.1.71";
const WORKER_IP: &str = "10.244.1.72";

/// The rogue pod; one that has the same session and rests; one that computes and has no session.
async fn three_pods(fixture: &ApiFixture) -> anyhow::Result<()> {
    fixture.create_run("rogue", json!({})).await?;
    fixture.create_run("work", json!({})).await?;
    let since = Timestamp::now() - STARTED_AGO;
    for (name, app, ip) in [
        ("rogue", "rogue", ROGUE_IP),
        ("client", "work", CLIENT_IP),
        ("worker", "work", WORKER_IP),
    ] {
        let pod = build::pod(name, &[("app", app)])?;
        fixture.start_pod_since(&pod, ip, since).await?;
    }
    fixture.sync().await
}

fn story(fixture: &ApiFixture, start: Timestamp) -> Story {
    let busy = |name: &str, cores| BusyPod {
        namespace: fixture.env.namespace.clone(),
        name: name.to_owned(),
        cores,
    };
    Story {
        start,
        step_s: STEP_S,
        change_at: IDLE_LOOKS,
        end_at: LOOKS,
        pods: vec![
            busy("rogue", [0.07, 0.52]),
            busy("client", [0.01, 0.01]),
            busy("worker", [0.07, 0.52]),
        ],
    }
}

/// Both sessions are in the log, and nothing has come of them; then the metrics speak.
async fn let_them_mine(fixture: &ApiFixture, kubelet: &KubeletMetrics) -> anyhow::Result<()> {
    three_pods(fixture).await?;
    let start = Timestamp::now() - STORY_AGO;
    let stepped_up = start + Duration::from_secs(u64::from(IDLE_LOOKS * STEP_S));
    for ip in [ROGUE_IP, CLIENT_IP] {
        let span = Duration::from_secs(u64::from((LOOKS - IDLE_LOOKS) * STEP_S));
        fixture.log.session(ip, POOL, stepped_up, span)?;
    }
    // Lines are read in their order: once the scan of the last line is known, so are the sessions.
    fixture
        .create_pod("scanner", "honest", "10.244.1.73")
        .await?;
    fixture.log.scan_hosts("10.244.1.73", 0, SCANNED_HOSTS)?;
    fixture
        .until_incident("scanner", "the scan", |_| true)
        .await?;
    for honest in ["rogue", "client"] {
        let known = fixture.incidents_of(honest).await?;
        assert!(known.is_empty(), "a session alone is no incident: {honest}");
    }
    kubelet.tell(story(fixture, start));
    Ok(())
}

async fn assert_only_the_miner_is_found(
    fixture: &ApiFixture,
    kubelet: &KubeletMetrics,
) -> anyhow::Result<()> {
    let incident = fixture.until_isolated("rogue").await?;
    let [evidence] = &incident.spec.evidence[..] else {
        anyhow::bail!("one piece of evidence, got {:?}", incident.spec.evidence);
    };
    let summary = &evidence.summary;
    assert_eq!(evidence.signature, "Mining");
    assert!(
        summary.contains("processor use stepped up to 0.520"),
        "{summary}"
    );
    wait_for("the end of the story", LIMIT, async || {
        kubelet
            .is_told()
            .then_some(())
            .ok_or_else(|| "it goes on".to_owned())
    })
    .await?;
    for honest in ["client", "worker"] {
        assert!(fixture.incidents_of(honest).await?.is_empty(), "{honest}");
    }
    Ok(())
}

#[tokio::test]
async fn a_session_and_a_plateau_of_the_kubelets_metrics_isolate_a_miner_and_nobody_else()
-> anyhow::Result<()> {
    let kubelet = KubeletMetrics::start().await?;
    let flags = ["--metrics", &kubelet.flag(), "--metrics-interval", "20ms"];
    with_fixture(&flags, async |fixture| {
        let_them_mine(fixture, &kubelet).await?;
        assert_only_the_miner_is_found(fixture, &kubelet).await
    })
    .await
}

#[tokio::test]
async fn an_agent_reads_its_kubelet_and_the_controller_acts_on_what_it_found() -> anyhow::Result<()>
{
    let kubelet = KubeletMetrics::start().await?;
    let metrics = kubelet.flag();
    let flags = [
        "--all-pods",
        "--metrics",
        &metrics,
        "--metrics-interval",
        "20ms",
    ];
    with_node_agents(&["node-1"], &flags, async |fixture| {
        let_them_mine(fixture, &kubelet).await?;
        assert_only_the_miner_is_found(fixture, &kubelet).await
    })
    .await
}

/// What an operator finds about a session with a host that a list names, given the option for the list.
async fn judged_by_list(option: Option<&str>) -> anyhow::Result<Vec<(String, bool)>> {
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("list.txt");
    std::fs::write(&list, format!("{} # the pool\n", POOL.0))?;
    let list = list.display().to_string();
    let flags: Vec<&str> = option
        .iter()
        .copied()
        .flat_map(|option| [option, &list])
        .collect();
    let mut found = Vec::new();
    let out = &mut found;
    with_fixture(&flags, async |fixture| {
        fixture.create_run("rogue", json!({})).await?;
        let pod = build::pod("rogue", &[("app", "rogue")])?;
        let since = Timestamp::now() - STARTED_AGO;
        fixture.start_pod_since(&pod, ROGUE_IP, since).await?;
        fixture.sync().await?;
        let begin = Timestamp::now() - STORY_AGO;
        fixture
            .log
            .session(ROGUE_IP, POOL, begin, Duration::from_mins(20))?;
        // Lines are read in their order: once the scan of the last line is known, so is the session.
        fixture
            .create_pod("scanner", "honest", "10.244.1.73")
            .await?;
        fixture.log.scan_hosts("10.244.1.73", 0, SCANNED_HOSTS)?;
        fixture
            .until_incident("scanner", "the scan", |_| true)
            .await?;
        for incident in fixture.incidents_of("rogue").await? {
            for evidence in &incident.spec.evidence {
                let is_starter = evidence.summary.contains("starter list");
                out.push((evidence.severity.name().to_owned(), is_starter));
            }
        }
        Ok(())
    })
    .await?;
    Ok(found)
}

#[tokio::test]
async fn a_starter_list_leads_to_an_alert_and_a_list_of_ones_own_to_a_quarantine()
-> anyhow::Result<()> {
    assert_eq!(judged_by_list(None).await?, vec![]);
    let starter = judged_by_list(Some("--starter-pool-list")).await?;
    assert_eq!(starter, [("Alert".to_owned(), true)]);
    let own = judged_by_list(Some("--pool-list")).await?;
    assert_eq!(own, [("Quarantine".to_owned(), false)]);
    Ok(())
}

/// Waits for this word on the signals of the run `honest`, while the log goes on speaking.
async fn signals_say(fixture: &ApiFixture, status: &str, reason: &str) -> anyhow::Result<()> {
    wait_for(reason, LIMIT, async || {
        let said = |error: anyhow::Error| format!("{error:#}");
        let now = Timestamp::now();
        fixture.log.answered(HONEST_IP, now).map_err(said)?;
        let run = fixture.get::<AgentRun>("honest").await.map_err(said)?;
        let conditions = run_conditions(&run);
        if has_condition(conditions, "SignalsFresh", status, reason) {
            Ok(())
        } else {
            Err(format!("{conditions:?}"))
        }
    })
    .await
}

#[tokio::test]
async fn a_kubelet_that_falls_silent_is_a_condition_until_it_speaks_again() -> anyhow::Result<()> {
    let kubelet = KubeletMetrics::start().await?;
    let metrics = kubelet.flag();
    let flags = [
        "--metrics",
        &metrics,
        "--metrics-interval",
        "100ms",
        "--stale-after",
        "3s",
    ];
    with_fixture(&flags, async |fixture| {
        fixture.sync().await?;
        signals_say(fixture, "True", "SourcesFresh").await?;
        let address = kubelet.address();
        kubelet.stop().await;
        signals_say(fixture, "False", "MetricsStale").await?;
        let _kubelet = KubeletMetrics::start_at(address).await?;
        signals_say(fixture, "True", "SourcesFresh").await
    })
    .await
}

#[tokio::test]
async fn a_cluster_without_the_metrics_api_is_said_to_have_stale_metrics() -> anyhow::Result<()> {
    let flags = ["--metrics", "metrics-api", "--stale-after", "3s"];
    with_fixture(&flags, async |fixture| {
        fixture.sync().await?;
        signals_say(fixture, "False", "MetricsStale").await?;
        let message = fixture
            .run_condition("honest", "SignalsFresh", "False", "MetricsStale")
            .await?;
        assert!(message.contains("metrics.k8s.io"), "{message}");
        Ok(())
    })
    .await
}
