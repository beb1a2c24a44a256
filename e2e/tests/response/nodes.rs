//! A run whose pods are spread over nodes, one agent process with a log of its own on each: what one
//! agent sees of the run counts on the others, and only for pods that did their part.

// The whole file is a test; clippy.toml allows this in test functions only, not in their helpers.
#![allow(clippy::indexing_slicing)]

use std::net::TcpListener;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams};
use serde_json::json;
use yellowjack::testing::api::{AgentRun, ContactReport, labels};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{ApiFixture, Fixture, LIMIT};
use yellowjack_e2e::lines::EgressLog;
use yellowjack_e2e::{Operator, http_get, wait_for, with_namespace};

const NODES: [&str; 4] = ["node-1", "node-2", "node-3", "node-4"];

/// Targets of each pod that scans: far fewer than the 35 that it takes for a pod alone.
const TARGETS: u8 = 12;

/// One node: its log, and its agent with the place of its metrics.
struct Node {
    name: &'static str,
    log: EgressLog,
    agent: Option<Operator>,
    port: u16,
}

impl Node {
    /// Waits until the agent knows so many pods of runs.
    async fn knows(&self, pods: usize) -> anyhow::Result<()> {
        let url = format!("127.0.0.1:{}", self.port);
        let wanted = format!("yellowjack_pods {pods}");
        wait_for(&format!("{}: {wanted}", self.name), LIMIT, async || {
            let text = http_get(&url, "/metrics")
                .await
                .map_err(|error| format!("{error:#}"))?;
            let line = text
                .lines()
                .find(|line| line.starts_with("yellowjack_pods"));
            if line == Some(&wanted) {
                Ok(())
            } else {
                Err(format!("{line:?}"))
            }
        })
        .await
    }
}

/// A controller without a log, and four nodes.
struct Nodes {
    fixture: ApiFixture,
    nodes: Vec<Node>,
}

impl Nodes {
    async fn start(env: yellowjack_e2e::TestEnv) -> anyhow::Result<Self> {
        // More pods are quarantined at once than the circuit breaker lets through.
        let flags = ["--breaker-pods", "100"];
        let fixture = ApiFixture::start_with_log(env, EgressLog::create()?, &flags).await?;
        let mut nodes = Vec::new();
        for name in NODES {
            let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
            nodes.push(Node {
                name,
                log: EgressLog::create()?,
                agent: None,
                port,
            });
        }
        let mut all = Self { fixture, nodes };
        for node in 0..NODES.len() {
            all.start_agent(node, "beginning").await?;
        }
        Ok(all)
    }

    /// Starts an agent that reads its log from here on: `beginning` or `end`.
    async fn start_agent(&mut self, node: usize, start_at: &str) -> anyhow::Result<()> {
        let Node {
            name, log, port, ..
        } = &self.nodes[node];
        let (namespace, source) = (&self.fixture.env.namespace, log.source());
        let listen = format!("127.0.0.1:{port}");
        let mut arguments = vec!["node", "--node-name", name, "--namespace", namespace];
        arguments.extend(["--source", &source, "--start-at", start_at]);
        arguments.extend(["--agent-namespace", namespace, "--listen", &listen]);
        let kubeconfig = self.fixture.proxy.kubeconfig();
        let agent = self.fixture.env.operator(&kubeconfig, &arguments).await?;
        self.nodes[node].agent = Some(agent);
        Ok(())
    }

    /// The address of a pod; the run's pods and those of no run differ in the third part.
    fn ip(node: usize, nth: usize) -> String {
        format!("10.244.{node}.{}", nth + 1)
    }

    /// A pod with this label on a node.
    async fn pod(&self, app: &str, node: usize, nth: usize) -> anyhow::Result<String> {
        let name = format!("{app}-{node}-{nth}");
        let pod = build::pod_on_node(&name, app, NODES[node])?;
        self.fixture.start_pod(&pod, &Self::ip(node, nth)).await?;
        Ok(name)
    }

    /// Waits until each agent knows so many pods of runs.
    async fn agents_know(&self, pods: usize) -> anyhow::Result<()> {
        for node in &self.nodes {
            node.knows(pods).await?;
        }
        Ok(())
    }

    /// Waits until the run's status names the addresses of so many pods.
    async fn addresses_known(&self, run: &str, pods: i32) -> anyhow::Result<()> {
        let runs = self.fixture.api::<AgentRun>();
        wait_for("the addresses of the run's pods", LIMIT, async || {
            let run = runs.get(run).await.map_err(|error| error.to_string())?;
            let list = run.status.and_then(|status| status.pod_addresses);
            match list {
                Some(list) if list.pods == pods => Ok(()),
                list => Err(format!("{list:?}")),
            }
        })
        .await
    }

    /// Waits until there is a list of pods that ended, as soon as the controller knows of the agents. It is empty at first.
    async fn ended_pods_are_published(&self) -> anyhow::Result<()> {
        let maps = self.fixture.api::<ConfigMap>();
        wait_for("the list of pods that ended", LIMIT, async || {
            let list = maps.get("yellowjack-ended-pods").await;
            list.map(drop).map_err(|error| error.to_string())
        })
        .await
    }

    async fn labelled(&self) -> anyhow::Result<Vec<String>> {
        let selector = ListParams::default().labels(labels::QUARANTINE);
        let list = self.fixture.pods().list(&selector).await?;
        let mut names: Vec<_> = list.items.iter().map(ResourceExt::name_any).collect();
        names.sort();
        Ok(names)
    }

    /// Waits until exactly these pods are in quarantine.
    async fn quarantined(&self, mut expected: Vec<String>) -> anyhow::Result<()> {
        expected.sort();
        wait_for("the quarantine of those that scanned", LIMIT, async || {
            let found = self.labelled().await.map_err(|error| error.to_string())?;
            if found == expected {
                Ok(())
            } else {
                Err(format!("{} of {}: {found:?}", found.len(), expected.len()))
            }
        })
        .await
    }

    async fn reports(&self) -> anyhow::Result<Vec<ContactReport>> {
        let reports = self.fixture.api::<ContactReport>();
        Ok(reports.list(&ListParams::default()).await?.items)
    }

    /// Every agent has read its log up to now: a pod of its own run that is found shows it.
    async fn all_is_read(&self) -> anyhow::Result<()> {
        for node in &self.nodes {
            let url = format!("127.0.0.1:{}", node.port);
            let lines = std::fs::read_to_string(node.log.path())?.lines().count();
            wait_for(
                &format!("{}: {lines} lines", node.name),
                LIMIT,
                async || {
                    let text = http_get(&url, "/metrics")
                        .await
                        .map_err(|error| format!("{error:#}"))?;
                    let start = "yellowjack_lines_total{result=\"signal\"} ";
                    let count = text.lines().find_map(|line| line.strip_prefix(start));
                    if count.and_then(|count| count.parse().ok()) == Some(lines) {
                        Ok(())
                    } else {
                        Err(format!("{count:?}"))
                    }
                },
            )
            .await?;
        }
        Ok(())
    }
}

/// `per_node` pods on each of four nodes try 12 hosts each, of which none was tried before.
async fn scan(nodes: &Nodes, app: &str, per_node: usize) -> anyhow::Result<Vec<String>> {
    let mut names = Vec::new();
    for node in 0..NODES.len() {
        for nth in 0..per_node {
            names.push(nodes.pod(app, node, nth).await?);
        }
        // And one that does its work.
        nodes.pod(app, node, per_node).await?;
    }
    Ok(names)
}

fn write_scan(nodes: &Nodes, per_node: usize) -> anyhow::Result<()> {
    for (place, node) in nodes.nodes.iter().enumerate() {
        node.log
            .answered(&Nodes::ip(place, per_node), Timestamp::now())?;
        for nth in 0..per_node {
            let block = u8::try_from(place * per_node + nth)?;
            node.log
                .scan_hosts(&Nodes::ip(place, nth), block, TARGETS)?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_scan_of_240_hosts_by_20_pods_on_four_nodes_gets_every_pod_that_scanned_quarantined()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        let nodes = Nodes::start(env).await?;
        nodes.fixture.create_run("shared", json!({})).await?;
        let scanners = scan(&nodes, "shared", 5).await?;
        assert_eq!(scanners.len() * usize::from(TARGETS), 240);
        nodes.agents_know(6).await?;
        write_scan(&nodes, 5)?;
        nodes.quarantined(scanners).await
    })
    .await
}

/// No node sees more than 24 failed contacts of the run, and 35 is what it takes.
#[tokio::test]
async fn what_no_node_sees_enough_of_adds_up_within_seconds_and_survives_a_restart()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        let mut nodes = Nodes::start(env).await?;
        nodes.fixture.create_run("shared", json!({})).await?;
        let scanners = scan(&nodes, "shared", 2).await?;
        nodes.agents_know(3).await?;
        // One node alone is not enough.
        nodes.nodes[0]
            .log
            .scan_hosts(&Nodes::ip(0, 0), 0, TARGETS)?;
        nodes.nodes[0]
            .log
            .scan_hosts(&Nodes::ip(0, 1), 1, TARGETS)?;
        let reports = wait_for("the report of the first node", LIMIT, async || {
            let reports = nodes.reports().await.map_err(|error| error.to_string())?;
            let verified = reports.iter().filter(|report| {
                let status = report.status.as_ref();
                status.is_some_and(|status| status.verified_pods.len() == 2)
            });
            if verified.count() == 1 {
                Ok(reports)
            } else {
                Err(format!("{reports:?}"))
            }
        })
        .await?;
        assert!(nodes.labelled().await?.is_empty());
        let text = serde_json::to_string(&reports)?;
        assert!(
            !text.contains("10.99."),
            "no address leaves the node: {text}"
        );
        // The agent forgets all and reads nothing of it again. What it contributed is in the API.
        nodes.nodes[0].agent = None;
        nodes.start_agent(0, "end").await?;
        nodes.agents_know(3).await?;
        for (place, node) in nodes.nodes.iter().enumerate().skip(1) {
            for nth in 0..2 {
                let block = u8::try_from(place * 2 + nth)?;
                node.log
                    .scan_hosts(&Nodes::ip(place, nth), block, TARGETS)?;
            }
        }
        let started = std::time::Instant::now();
        nodes.quarantined(scanners).await?;
        println!(
            "figure nodes.shared_scan_s {:.1}",
            started.elapsed().as_secs_f64()
        );
        let count = nodes.reports().await?.len();
        assert_eq!(count, NODES.len(), "one report per node");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_same_contacts_by_pods_of_no_run_or_of_a_run_per_node_get_nobody_quarantined()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        let nodes = Nodes::start(env).await?;
        // A run of its own per node, so that nothing may add up.
        for (place, name) in NODES.into_iter().enumerate() {
            nodes.fixture.create_run(name, json!({})).await?;
            nodes.pod(name, place, 0).await?;
            nodes.pod(name, place, 1).await?;
        }
        nodes.fixture.create_run("alone", json!({})).await?;
        let mut alone = Vec::new();
        for place in 0..NODES.len() {
            alone.push(nodes.pod("alone", place, 50).await?);
        }
        for place in 0..NODES.len() {
            for nth in 2..7 {
                nodes.pod("loose", place, nth).await?;
            }
        }
        nodes.agents_know(3).await?;
        for (place, node) in nodes.nodes.iter().enumerate() {
            for nth in 0..7 {
                let block = u8::try_from(place * 7 + nth)?;
                node.log
                    .scan_hosts(&Nodes::ip(place, nth), block, TARGETS)?;
            }
        }
        nodes.all_is_read().await?;
        wait_for("a report of each run", LIMIT, async || {
            let reports = nodes.reports().await.map_err(|error| error.to_string())?;
            let is_verified = |report: &&ContactReport| report.status.is_some();
            match reports.iter().filter(is_verified).count() {
                4 => Ok(()),
                count => Err(format!("{count}")),
            }
        })
        .await?;
        // Pods that scan alone are found after all that, so the agents have judged it.
        for (place, node) in nodes.nodes.iter().enumerate() {
            let block = u8::try_from(100 + place)?;
            node.log.scan_hosts(&Nodes::ip(place, 50), block, 40)?;
        }
        nodes.quarantined(alone).await
    })
    .await
}

#[tokio::test]
async fn an_honest_run_on_four_nodes_writes_no_report() -> anyhow::Result<()> {
    with_namespace(async |env| {
        let nodes = Nodes::start(env).await?;
        nodes.fixture.create_run("shared", json!({})).await?;
        scan(&nodes, "shared", 2).await?;
        nodes.agents_know(3).await?;
        for (place, node) in nodes.nodes.iter().enumerate() {
            for nth in 0..3 {
                let ip = Nodes::ip(place, nth);
                // Three neighbours that do not listen yet, and work.
                let block = u8::try_from(place * 3 + nth)?;
                node.log.scan_hosts(&ip, block, 3)?;
                node.log.chatter(&ip, Duration::from_secs(5))?;
            }
        }
        nodes.all_is_read().await?;
        // A report would have been written by the time that another run's is.
        nodes.fixture.create_run("other", json!({})).await?;
        nodes.pod("other", 0, 50).await?;
        let known = async || {
            let reports = nodes.reports().await.map_err(|error| error.to_string())?;
            let runs: Vec<_> = reports.iter().map(|r| r.spec.run.name.clone()).collect();
            if runs == ["other"] {
                Ok(())
            } else {
                Err(format!("{runs:?}"))
            }
        };
        nodes.nodes[0]
            .log
            .scan_hosts(&Nodes::ip(0, 50), 200, TARGETS)?;
        wait_for("the report of the other run alone", LIMIT, known).await?;
        assert!(nodes.labelled().await?.is_empty());
        Ok(())
    })
    .await
}

/// More than the 35 that it takes.
const SIBLINGS: usize = 40;

/// One worker asks its siblings on another node, and another one asks the same pods as a stranger.
#[tokio::test]
async fn a_worker_whose_siblings_on_another_node_refuse_is_honest_and_one_that_asks_strangers_is_not()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        let nodes = Nodes::start(env).await?;
        nodes.fixture.create_run("grid", json!({})).await?;
        nodes.fixture.create_run("alone", json!({})).await?;
        let mut siblings = Vec::new();
        for nth in 0..SIBLINGS {
            nodes.pod("grid", 1, nth).await?;
            siblings.push(Nodes::ip(1, nth));
        }
        nodes.pod("grid", 0, 0).await?;
        let scanner = nodes.pod("grid", 0, 1).await?;
        let stranger = nodes.pod("alone", 0, 2).await?;
        nodes
            .addresses_known("grid", i32::try_from(SIBLINGS + 2)?)
            .await?;
        let log = &nodes.nodes[0].log;
        log.answered(&Nodes::ip(0, 0), Timestamp::now())?;
        log.ask_hosts(&Nodes::ip(0, 0), &siblings)?;
        // What is read after the worker's lines is judged after them.
        log.ask_hosts(&Nodes::ip(0, 2), &siblings)?;
        log.scan_hosts(&Nodes::ip(0, 1), 0, 60)?;
        nodes.quarantined(vec![scanner, stranger]).await?;
        let run = nodes.fixture.api::<AgentRun>().get("alone").await?;
        let list = run.status.and_then(|status| status.pod_addresses);
        assert_eq!(list, None, "a run on one node needs no list");
        Ok(())
    })
    .await
}

/// Pods of no run end on another node: one half is gone, the other is still terminating. A client that goes on trying them
/// is honest, and one that tries as many addresses that no pod had is not.
#[tokio::test]
async fn a_client_of_pods_that_ended_on_another_node_is_honest_and_one_of_strangers_is_not()
-> anyhow::Result<()> {
    with_namespace(async |env| {
        let nodes = Nodes::start(env).await?;
        nodes.ended_pods_are_published().await?;
        nodes.fixture.create_run("clients", json!({})).await?;
        let mut ended = Vec::new();
        for nth in 0..SIBLINGS {
            ended.push((nodes.pod("server", 1, nth).await?, Nodes::ip(1, nth)));
        }
        nodes.pod("clients", 0, 0).await?;
        let scanner = nodes.pod("clients", 0, 1).await?;
        nodes.nodes[0].knows(2).await?;
        let log = &nodes.nodes[0].log;
        log.answered(&Nodes::ip(0, 0), Timestamp::now())?;
        for (nth, (pod, _)) in ended.iter().enumerate() {
            if nth % 2 == 0 {
                nodes.fixture.delete_pod(pod).await?;
            } else {
                let delete = DeleteParams::default();
                nodes.fixture.pods().delete(pod, &delete).await?;
            }
        }
        // At once: the list of pods that ended may not have reached the agent yet.
        let hosts: Vec<String> = ended.into_iter().map(|(_, ip)| ip).collect();
        log.ask_hosts(&Nodes::ip(0, 0), &hosts)?;
        // What is read after the client's lines is judged after them.
        let strangers: Vec<String> = (0..SIBLINGS).map(|nth| Nodes::ip(7, nth)).collect();
        log.ask_hosts(&Nodes::ip(0, 1), &strangers)?;
        nodes.quarantined(vec![scanner]).await?;
        let maps = nodes.fixture.api::<ConfigMap>();
        let list = maps
            .get("yellowjack-ended-pods")
            .await?
            .data
            .unwrap_or_default();
        let lines = list.get("addresses").map_or(0, |text| text.lines().count());
        assert_eq!(lines, SIBLINGS);
        Ok(())
    })
    .await
}
