//! The fixture of every scenario: the node with a policy stand-in, a controller, an agent that reads the
//! kernel's log, and an honest run whose packets must all arrive.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use yellowjack::testing::api::{AgentRun, condition_of, labels};
use yellowjack_e2e::build;
use yellowjack_e2e::fixture::{Fixture, LIMIT, run_conditions};
use yellowjack_e2e::node::{
    Arrival, Engine, HUBBLE_LOG, NODE_NAME, POD_NETWORK, POD_NETWORK_V6, TestNode, agent_pod,
    agent_spec, running, skip_reason,
};
use yellowjack_e2e::proxy::{FaultProxy, Write};
use yellowjack_e2e::scenario::{Row, append};
use yellowjack_e2e::standin::{Standin, StandinMode, build};
use yellowjack_e2e::{Operator, TestEnv, wait_for, with_namespace};

use crate::clocks::Skewed;
use crate::escape::{forget_cluster_policies, serve_cluster_policies};
use crate::packets::{count_anew, dropped_by_cilium, is_new, seconds, sent_by};

/// A pod that tries on and gets nothing out for so long counts as stopped.
const QUIET: Duration = Duration::from_secs(5);
/// A network of which every host refuses: made for the scenarios.
pub const REFUSING_NETWORK: &str = "198.18.0.0/20";
/// A network of which nobody answers.
pub const SILENT_NETWORK: &str = "198.19.0.0/20";
/// How long connection tracking waits for an answer. With the kernel's own 120, 30 and 30 s a scan of
/// silent hosts is found that much later.
const TIMEOUTS_S: [(&str, &str); 3] = [
    ("tcp_timeout_syn_sent", "5"),
    ("udp_timeout", "10"),
    ("icmp_timeout", "5"),
];
/// The gate of a pod: it begins once somebody connects there.
const GATE_PORT: u16 = 9;
/// A second one, for what it does later.
pub const LATER_GATE_PORT: u16 = 10;
/// What an honest run does, over and over: packages, requests, names that do not exist, a dependency
/// that is dead, and pings of a host that lives and of one that does not.
const HONEST_SCRIPT: &str = "
ping 203.0.113.80 >/dev/null &
ping 203.0.113.99 >/dev/null &
toolbox get -count 0 -interval 1s -timeout 900ms http://203.0.113.99:8080/ http://203.0.113.90:8080/ &
while true; do
    toolbox get -count 3 http://index.pkg.example.org/bytes/20000 \
        http://files.pkg.example.org/bytes/300000 http://npm.pkg.example.org/bytes/5000
    toolbox get -count 3 http://nowhere.pkg.example.org/
    toolbox get -count 200 -interval 50ms http://203.0.113.80:8080/healthz
done";

/// A running operator on the node.
pub struct NodeFixture {
    pub env: TestEnv,
    pub node: TestNode,
    pub mode: StandinMode,
    /// The real engine of the node, if it has one in place of the stand-in.
    pub engine: Option<Engine>,
    pub proxy: FaultProxy,
    pub controller: Mutex<Option<Operator>>,
    pub agent: Mutex<Option<Operator>>,
    started: Timestamp,
    flags: Vec<String>,
    /// What the agent reads in place of the node's log, where that has another clock.
    skewed: Option<Skewed>,
    folder: tempfile::TempDir,
    _standin: Option<Standin>,
}

/// A pod that does wrong.
pub struct Rogue {
    pub pod: String,
    pub address: String,
    pub address_v6: String,
}

/// What is not the same in all scenarios.
#[derive(Clone, Copy)]
pub struct Setup<'a> {
    pub mode: StandinMode,
    /// Added to the agent's command line.
    pub flags: &'a [&'a str],
    /// How many seconds the log's clock is ahead.
    pub skew_s: i64,
    /// Whether the cluster serves ClusterNetworkPolicy.
    pub cluster_policies: bool,
    /// Whether a real engine of the other kind will do: nothing rests on what becomes of open connections.
    pub any_engine: bool,
}

impl<'a> Setup<'a> {
    /// A setup in which nothing else is unusual.
    pub const fn new(mode: StandinMode, flags: &'a [&'a str]) -> Self {
        Self {
            mode,
            flags,
            skew_s: 0,
            cluster_policies: false,
            any_engine: false,
        }
    }
}

/// Runs a scenario; `flags` are added to the agent's command line.
pub async fn with_node_fixture<F>(mode: StandinMode, flags: &[&str], test: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&NodeFixture) -> anyhow::Result<()>,
{
    with_setup(Setup::new(mode, flags), test).await
}

/// The same on whichever real engine the node has: nothing rests on what becomes of open connections.
pub async fn with_any_engine<F>(mode: StandinMode, flags: &[&str], test: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&NodeFixture) -> anyhow::Result<()>,
{
    let setup = Setup {
        any_engine: true,
        ..Setup::new(mode, flags)
    };
    with_setup(setup, test).await
}

/// Runs a scenario.
pub async fn with_setup<F>(setup: Setup<'_>, test: F) -> anyhow::Result<()>
where
    F: AsyncFnOnce(&NodeFixture) -> anyhow::Result<()>,
{
    if let Some(reason) = skip_reason() {
        println!("skipped: {reason}");
        return Ok(());
    }
    let engine = Engine::of_environment()?;
    if let Some(engine) = engine
        && ((engine.mode() != setup.mode && !setup.any_engine)
            || setup.cluster_policies
            || setup.skew_s != 0)
    {
        println!("skipped: {} is of another kind", engine.name());
        return Ok(());
    }
    if engine.is_none() {
        build("standin")?;
    }
    with_namespace(async |env| {
        if setup.cluster_policies {
            serve_cluster_policies(&env).await?;
        }
        let outcome = async {
            let fixture = NodeFixture::start(env.clone(), setup).await?;
            let outcome = test(&fixture).await;
            if outcome.is_err() {
                fixture.print_state().await;
            }
            outcome
        }
        .await;
        if setup.cluster_policies {
            forget_cluster_policies(&env).await?;
        }
        outcome
    })
    .await
}

impl Fixture for NodeFixture {
    fn client(&self) -> &Client {
        &self.env.client
    }

    fn namespace(&self) -> &str {
        &self.env.namespace
    }
}

impl NodeFixture {
    async fn start(env: TestEnv, setup: Setup<'_>) -> anyhow::Result<Self> {
        let mode = setup.mode;
        let engine = Engine::of_environment()?;
        let node = TestNode::find()?;
        let folder = tempfile::tempdir().context("failed to make a folder")?;
        for (name, seconds) in TIMEOUTS_S {
            node.set_network(&format!("netfilter/nf_conntrack_{name}"), seconds)?;
        }
        // Every address of a local network answers, and refuses.
        let status = node
            .outside("ip")
            .args(["route", "replace", "local", REFUSING_NETWORK, "dev", "lo"])
            .status()
            .context("failed to make hosts that refuse")?;
        ensure!(status.success(), "failed to make hosts that refuse");
        count_anew()?;
        let networks = [POD_NETWORK, POD_NETWORK_V6];
        let log = folder.path().join("standin.log");
        let standin = match engine {
            Some(_) => None,
            None => Some(Standin::start(mode, node.kubeconfig(), &networks, &log).await?),
        };
        let proxy = FaultProxy::start(env.client.clone()).await?;
        let skewed = (setup.skew_s != 0)
            .then(|| Skewed::start(&node, folder.path(), setup.skew_s))
            .transpose()?;
        let fixture = Self {
            env,
            node,
            mode,
            engine,
            proxy,
            controller: Mutex::default(),
            agent: Mutex::default(),
            started: Timestamp::now(),
            flags: setup.flags.iter().map(|flag| (*flag).to_owned()).collect(),
            skewed,
            folder,
            _standin: standin,
        };
        fixture.start_controller().await?;
        fixture.start_agent().await?;
        fixture.create_run_to("honest", "203.0.113.0/24").await?;
        fixture
            .create_gated_pod("honest", "honest", HONEST_SCRIPT)
            .await?;
        fixture.until_guarded("honest", 1).await?;
        fixture
            .open_gate(&fixture.addresses_of("honest").await?.address)
            .await?;
        Ok(fixture)
    }

    /// Starts the controller, which reads no log.
    pub async fn start_controller(&self) -> anyhow::Result<()> {
        let mut arguments = vec!["controller"];
        arguments.extend(self.common_flags());
        let operator = self.operator(&arguments).await?;
        *self.controller.lock().await = Some(operator);
        Ok(())
    }

    /// Starts the agent, where it stopped before.
    pub async fn start_agent(&self) -> anyhow::Result<()> {
        let skewed = self.skewed.as_ref().map(|skewed| skewed.file.as_path());
        let log = skewed.unwrap_or_else(|| self.node.egress_log());
        let source = match self.engine {
            Some(Engine::Cilium) => format!("hubble:{HUBBLE_LOG}"),
            _ => format!("ulogd:{}", log.display()),
        };
        let checkpoints = self.checkpoints();
        let mut arguments = vec!["node", "--node-name", NODE_NAME, "--source", &source];
        arguments.extend(["--checkpoint-dir", &checkpoints]);
        arguments.extend(self.common_flags());
        if self.engine == Some(Engine::Cilium) {
            arguments.push("--listen=127.0.0.1:0");
        }
        arguments.extend(self.flags.iter().map(String::as_str));
        let operator = self.operator(&arguments).await?;
        *self.agent.lock().await = Some(operator);
        Ok(())
    }

    fn checkpoints(&self) -> String {
        self.folder.path().join("checkpoints").display().to_string()
    }

    fn common_flags(&self) -> Vec<&str> {
        let mut flags = vec!["--namespace", &self.env.namespace];
        flags.extend(["--pod-cidr", POD_NETWORK, "--pod-cidr", POD_NETWORK_V6]);
        flags.extend(["--service-cidr", "10.96.0.0/16", "--node-cidr"]);
        // The link's whole network, for the API takes no single address with bits behind it.
        flags.push("192.0.2.0/30");
        flags
    }

    async fn operator(&self, arguments: &[&str]) -> anyhow::Result<Operator> {
        std::fs::create_dir_all(self.checkpoints()).context("failed to make a folder")?;
        self.env.operator(&self.proxy.kubeconfig(), arguments).await
    }

    /// Creates a run over the pods `app=NAME` that may reach this network, and all of IPv6.
    pub async fn create_run_to(&self, name: &str, network: &str) -> anyhow::Result<()> {
        let network = json!({ "network": { "egress": [{ "cidr": network }, { "cidr": "::/0" }] } });
        self.create_run(name, network).await.map(drop)
    }

    /// Creates a pod of a run that waits at its gate before it runs the script.
    pub async fn create_gated_pod(
        &self,
        name: &str,
        app: &str,
        script: &str,
    ) -> anyhow::Result<()> {
        self.create(&agent_pod(name, &[("app", app)], &gated(script))?)
            .await?;
        running(&self.api(), name).await?;
        Ok(())
    }

    /// Creates the run `rogue`, allowed to reach everything, and its one pod, which begins at once.
    pub async fn start_rogue_pod(&self, script: &str) -> anyhow::Result<Rogue> {
        let rogue = self.create_rogue_pod(script).await?;
        self.open_gate(&rogue.address).await?;
        Ok(rogue)
    }

    /// The same with a pod that waits at its gate.
    pub async fn create_rogue_pod(&self, script: &str) -> anyhow::Result<Rogue> {
        self.create_run_to("rogue", "0.0.0.0/0").await?;
        self.create_gated_pod("rogue", "rogue", script).await?;
        self.until_guarded("rogue", 1).await?;
        self.addresses_of("rogue").await
    }

    /// The same with the pod of a Job.
    pub async fn start_rogue_job(&self, script: &str) -> anyhow::Result<Rogue> {
        let rogue = self.create_rogue_job(script, 1).await?;
        self.open_gate(&rogue.address).await?;
        Ok(rogue)
    }

    /// The same with a grace period, in seconds, and a pod that waits at its gate.
    pub async fn create_rogue_job(&self, script: &str, grace: i64) -> anyhow::Result<Rogue> {
        let mut pod_spec = agent_spec(&gated(script))?;
        pod_spec.termination_grace_period_seconds = Some(grace);
        let template = json!({ "spec": pod_spec });
        self.create(&build::job("work", &template, json!({}))?)
            .await?;
        let everywhere =
            json!({ "network": { "egress": [{ "cidr": "0.0.0.0/0" }, { "cidr": "::/0" }] } });
        self.create_run_for("rogue", build::job_target("work"), everywhere)
            .await?;
        let name = self.pod_of_job("work").await?;
        running(&self.api(), &name).await?;
        self.until_guarded("rogue", 1).await?;
        self.addresses_of(&name).await
    }

    /// The addresses of a running pod.
    pub async fn addresses_of(&self, pod: &str) -> anyhow::Result<Rogue> {
        let addresses = running(&self.api(), pod).await?;
        let text = |index: usize| addresses.get(index).map(ToString::to_string);
        Ok(Rogue {
            pod: pod.to_owned(),
            address: text(0).context("no address")?,
            address_v6: text(1).context("no address of IPv6")?,
        })
    }

    /// Opens the first gate of a pod.
    pub async fn open_gate(&self, address: &str) -> anyhow::Result<()> {
        self.open_gate_at(address, GATE_PORT).await
    }

    /// Opens the gate of a pod at this port.
    pub async fn open_gate_at(&self, address: &str, port: u16) -> anyhow::Result<()> {
        wait_for("a pod's gate", LIMIT, async || {
            let connect = tokio::net::TcpStream::connect((address, port));
            connect.await.map(drop).map_err(|error| error.to_string())
        })
        .await
    }

    /// Waits until a run has so many pods and its policies are applied.
    pub async fn until_guarded(&self, run: &str, pods: i32) -> anyhow::Result<()> {
        let what = format!("{pods} guarded pods");
        self.until(run, &what, |run: &AgentRun| {
            let status = run.status.as_ref();
            let count = status.and_then(|status| status.pods.as_ref());
            let guarded = condition_of(run_conditions(run), "NetworkGuarded");
            count.is_some_and(|count| count.total == pods)
                && guarded.is_some_and(|c| c.status == "True" || c.reason == "UnionWidened")
        })
        .await
        .map(drop)
    }

    /// Waits until Cilium has given the pods of a run the identities that go with their labels.
    pub async fn until_settled(&self, pods: &[Rogue]) -> anyhow::Result<()> {
        if self.engine != Some(Engine::Cilium) {
            return Ok(());
        }
        for pod in pods {
            wait_for("the identity of a pod", LIMIT, async || {
                let arguments = [
                    "get",
                    "ciliumendpoint",
                    &pod.pod,
                    "-o",
                    "jsonpath={.status.identity.labels}",
                ];
                let labels = self.env.kubectl(&arguments).await;
                let labels = labels.map_err(|error| format!("{error:#}"))?;
                labels
                    .contains("yellowjack.dev/cell")
                    .then_some(())
                    .ok_or(labels)
            })
            .await?;
        }
        Ok(())
    }

    /// The longest time since a moment in which no packet of this pod arrived outside, in seconds.
    pub fn longest_gap(&self, pod: &Rogue, since: Timestamp) -> anyhow::Result<f64> {
        let mut last = since;
        let mut longest: f64 = 0.0;
        for arrival in self.node.arrivals_from(&pod.address)? {
            if arrival.time() > since {
                longest = longest.max(seconds(last, arrival.time()));
                last = arrival.time();
            }
        }
        Ok(longest.max(seconds(last, Timestamp::now())))
    }

    /// Waits until a pod is isolated, its packets end although it retries, and the Incident is verified.
    pub async fn until_verified(&self, rogue: &Rogue) -> anyhow::Result<()> {
        self.until_labelled(&rogue.pod).await?;
        self.until_isolated(&rogue.pod).await?;
        self.until_silent(rogue).await?;
        self.until_retry(rogue).await?;
        self.incident_condition(&rogue.pod, "Verified", "True", "Verified")
            .await
            .map(drop)
    }

    /// Waits until the API server has accepted the quarantine label of a pod.
    pub async fn until_labelled(&self, pod: &str) -> anyhow::Result<()> {
        self.until_labelled_within(pod, LIMIT).await
    }

    /// The same with a limit of its own.
    pub async fn until_labelled_within(&self, pod: &str, limit: Duration) -> anyhow::Result<()> {
        wait_for(&format!("the label of {pod}"), limit, async || {
            self.isolation_of(pod).map(drop).ok_or_else(|| {
                let writes = self.proxy.writes();
                let about: Vec<_> = writes.iter().map(|write| &write.path).collect();
                format!("{} writes, last to {:?}", about.len(), about.last())
            })
        })
        .await
    }

    /// When the API server had accepted the label of this pod.
    fn isolation_of(&self, pod: &str) -> Option<Timestamp> {
        let path = format!("/pods/{pod}");
        let label = format!("/metadata/labels/{}", labels::QUARANTINE.replace('/', "~1"));
        let is_label = |write: &Write| {
            write.status.is_success()
                && write.path.ends_with(&path)
                && write.body.pointer(&label).is_some_and(Value::is_string)
        };
        let mut writes = self.proxy.writes().into_iter();
        writes
            .find(|write| is_label(write))
            .map(|write| write.answered_at)
    }

    /// When the agent first wrote a finding of this pod with the severity of a quarantine.
    fn finding_of(&self, pod: &str) -> Option<Timestamp> {
        let is_finding = |write: &Write| {
            let subject = write.body.pointer("/spec/subject/name");
            let evidence = write
                .body
                .pointer("/spec/evidence")
                .and_then(Value::as_array);
            let crossed = |entry: &Value| entry.get("severity") == Some(&json!("Quarantine"));
            subject == Some(&json!(pod)) && evidence.is_some_and(|all| all.iter().any(crossed))
        };
        let mut writes = self.proxy.writes().into_iter();
        writes
            .find(|write| is_finding(write))
            .map(|write| write.asked_at)
    }

    /// The packets of a pod that arrived outside since this scenario began.
    pub fn arrivals_of(&self, rogue: &Rogue) -> anyhow::Result<Vec<Arrival>> {
        let mut all = self.node.arrivals()?;
        all.retain(|arrival| {
            (arrival.from == rogue.address || arrival.from == rogue.address_v6)
                && arrival.time() >= self.started
        });
        Ok(all)
    }

    /// Waits until no packet of a pod has arrived for a while.
    pub async fn until_silent(&self, rogue: &Rogue) -> anyhow::Result<()> {
        wait_for(&format!("{} to be silent", rogue.pod), LIMIT, async || {
            let seen = self
                .arrivals_of(rogue)
                .map_err(|error| format!("{error:#}"))?;
            let last = seen.last().map_or(self.started, Arrival::time);
            let age = Timestamp::now().duration_since(last);
            if age.unsigned_abs() >= QUIET {
                Ok(())
            } else {
                Err(format!("the last of {} packets is {age:#} old", seen.len()))
            }
        })
        .await
    }

    /// Waits until an isolated pod has sent another packet.
    pub async fn until_retry(&self, rogue: &Rogue) -> anyhow::Result<()> {
        let before = self.sent_by(rogue)?;
        wait_for("the pod to retry", LIMIT, async || {
            let now = self.sent_by(rogue).map_err(|error| format!("{error:#}"))?;
            if now > before {
                Ok(())
            } else {
                Err(format!("{now} packets sent"))
            }
        })
        .await
    }

    /// How many packets a pod has sent to the Internet over IPv4, whether or not they got there.
    fn sent_by(&self, pod: &Rogue) -> anyhow::Result<u64> {
        if self.engine != Some(Engine::Cilium) {
            return sent_by(&pod.address);
        }
        // Cilium drops a packet before the node's own counters see it, and logs it.
        let arrived = self.node.arrivals_from(&pod.address)?;
        let arrived = arrived.iter().filter(|a| a.time() >= self.started).count() as u64;
        Ok(arrived + dropped_by_cilium(&pod.address)?)
    }

    /// Ends the honest run, and returns how many of its packets did not arrive.
    pub async fn honest_packets_lost(&self) -> anyhow::Result<u64> {
        let honest = self.addresses_of("honest").await?;
        ensure!(
            self.incidents_of("honest").await?.is_empty(),
            "the honest pod has an Incident"
        );
        self.api::<Pod>()
            .delete("honest", &DeleteParams::default())
            .await?;
        self.until_gone::<Pod>("honest").await?;
        let sent = self.sent_by(&honest)?;
        ensure!(sent > 100, "the honest pod sent {sent} packets only");
        let mut arrived = 0;
        // The sniffer may be behind for a moment. What is missing after that is lost.
        let _all_there = wait_for("the honest packets", QUIET, async || {
            let seen = self
                .node
                .arrivals_from(&honest.address)
                .map_err(|e| format!("{e:#}"))?;
            arrived = seen.iter().filter(|a| a.time() >= self.started).count() as u64;
            if arrived >= sent {
                Ok(())
            } else {
                Err(format!("{arrived} of {sent}"))
            }
        })
        .await;
        println!("honest: {sent} packets sent, {arrived} arrived");
        Ok(sent.saturating_sub(arrived))
    }

    /// Measures a scenario whose pod has been isolated; `is_open` are the packets of the connection
    /// that was open before.
    pub fn measure(
        &self,
        scenario: &str,
        rogue: &Rogue,
        is_open: impl Fn(&Arrival) -> bool,
    ) -> anyhow::Result<Row> {
        let arrivals = self.arrivals_of(rogue)?;
        let finding = self
            .finding_of(&rogue.pod)
            .context("no finding was written")?;
        let accepted = self
            .isolation_of(&rogue.pod)
            .context("no isolation was accepted")?;
        let hostile = |arrival: &&Arrival| !is_open(arrival);
        let first = arrivals
            .iter()
            .find(hostile)
            .context("nothing arrived outside")?;
        let since = |arrival: &Arrival| seconds(finding, arrival.time());
        let new = arrivals.iter().rev().find(|a| is_new(a) && !is_open(a));
        Ok(Row {
            scenario: scenario.to_owned(),
            mode: self
                .engine
                .map_or(self.mode.name(), Engine::name)
                .to_owned(),
            finding_s: seconds(first.time(), finding),
            accepted_s: seconds(finding, accepted),
            last_new_s: new.map(since),
            last_s: arrivals.last().map(since),
            open_dead_s: arrivals.iter().rev().find(|a| is_open(a)).map(since),
            after_count: arrivals.iter().filter(|a| a.time() > finding).count(),
            honest_lost: None,
        })
    }

    /// Every line of a real flow log was read: none was malformed or of a kind that is not known.
    async fn every_line_was_read(&self) -> anyhow::Result<()> {
        let agent = self.agent.lock().await;
        let agent = agent.as_ref().context("no agent runs")?;
        let metrics = agent.http_get("/metrics").await?;
        let count = |name: &str| {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|value| value.trim().parse::<u64>().ok())
                .with_context(|| format!("no metric {name}"))
        };
        let read = count(r#"yellowjack_lines_total{result="signal"}"#)?;
        let malformed = count(r#"yellowjack_lines_total{result="malformed"}"#)?;
        let unknown = count(r#"yellowjack_lines_total{result="unknown"}"#)?;
        println!("lines: {read} signals, {malformed} malformed, {unknown} unknown");
        ensure!(
            read > 0 && malformed == 0 && unknown == 0,
            "lines of the log were not read: {read} signals, {malformed} malformed, {unknown} unknown"
        );
        Ok(())
    }

    /// Ends a scenario: the honest run has lost nothing, and the row is kept.
    pub async fn conclude(&self, mut row: Row) -> anyhow::Result<()> {
        if self.engine == Some(Engine::Cilium) {
            self.every_line_was_read().await?;
        }
        row.honest_lost = Some(self.honest_packets_lost().await?);
        println!("{row:?}");
        append(&row)?;
        ensure!(
            row.honest_lost == Some(0),
            "the honest run lost packets: {row:?}"
        );
        Ok(())
    }

    /// Prints the state of a scenario that failed.
    async fn print_state(&self) {
        let kinds = "incidents,agentruns,pods,jobs,networkpolicies";
        for form in ["wide", "yaml"] {
            let text = self.env.kubectl(&["get", kinds, "-o", form]).await;
            eprintln!("{}", text.unwrap_or_else(|error| format!("{error:#}")));
        }
        // The node's files are gone with it.
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/e2e-logs");
        let kept = folder.join(format!("{}-egress.jsonl", self.env.namespace));
        match std::fs::copy(self.node.egress_log(), &kept) {
            Ok(_) => eprintln!("the egress log is kept: {}", kept.display()),
            Err(error) => eprintln!("failed to keep the egress log: {error}"),
        }
    }

    /// A file of this scenario.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Keeps a row.
pub fn keep(row: &Row) -> anyhow::Result<()> {
    println!("{row:?}");
    append(row)
}

/// The script behind a gate.
fn gated(script: &str) -> String {
    format!("{}\n{script}", gate(GATE_PORT))
}

/// A line of a script that waits until somebody connects to this port.
pub fn gate(port: u16) -> String {
    format!("socat -u TCP6-LISTEN:{port},ipv6only=0 /dev/null")
}
