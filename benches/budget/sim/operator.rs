//! The operator as it is put together: the index as the watches fill it, one engine in a controller or
//! one in each node's agent, and the product's own functions between them. Called by `judge`.
//!
//! Pods and AgentRuns are API objects here, so that what becomes of them on their way into the index is
//! the product's work too. Nothing here knows whether a pod is honest.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use serde_json::json;
use yellowjack::testing::api::AgentRun;
use yellowjack::testing::cluster::Pod;
use yellowjack::testing::detect::{Engine, EngineConfig, Scopes};
use yellowjack::testing::model::{
    EventTime, Finding, Flow, LostEvents, Outcome, PodKey, Signal, Transport,
};
use yellowjack::testing::pipeline::{
    EndedPods, expire_pods, membership_of, parse_ended_pods, pod_facts, process_loss,
    process_sample, process_signal,
};
use yellowjack::testing::signals::Index;

use super::cluster::Cell;
use super::group::Plan;
use super::tape::{Answers, Event, Log, MINUTE, Word, event_time};

/// Time between two answers to other pods of a node, which nobody judges here: a log shows some all
/// day, and only then is silence a failure.
const NEIGHBOURS_EVERY: i64 = 5 * MINUTE;

/// Time between two sweeps of what is gone.
const SWEEP_EVERY: i64 = 10 * MINUTE;

/// The number of the source of node metrics.
const METRICS: u16 = 1_000;

/// What is wired. With all of it, this is what the operator does; without one, a control.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a wire that a control cuts alone"
)]
pub struct Wires {
    /// Which run a pod belongs to.
    pub runs: bool,
    /// Which node a pod or a loss is on.
    pub nodes: bool,
    /// What the log shows of pods that belong to nobody.
    pub others: bool,
    /// Which addresses a run's pods on other nodes have.
    pub siblings: bool,
    /// Which pods ended on other nodes.
    pub ended: bool,
}

impl Default for Wires {
    fn default() -> Self {
        Self {
            runs: true,
            nodes: true,
            others: true,
            siblings: true,
            ended: true,
        }
    }
}

/// One process: the controller, or the agent of a node.
struct Process {
    index: Index,
    engine: Engine,
}

/// See the module.
pub struct Operator<'a> {
    cell: &'a Cell,
    wires: Wires,
    processes: Vec<Process>,
    /// Group and number there, by number in the cluster.
    pods: Vec<(&'a Plan, usize)>,
    living: BTreeSet<usize>,
    /// What the controller publishes for agents.
    ended: EndedPods,
    answered: i64,
    swept: i64,
}

impl<'a> Operator<'a> {
    pub fn new(cell: &'a Cell, wires: Wires) -> Self {
        let process_count = if cell.cluster.has_agents {
            cell.cluster.nodes.len()
        } else {
            1
        };
        let config = EngineConfig {
            shares_runs: cell.cluster.has_agents,
            ..config()
        };
        let process = |number: usize| {
            let mut index = Index::new();
            let names = node_names(cell);
            if wires.nodes {
                index.set_nodes(names.iter().map(String::as_str), []);
                let nodes = cell.cluster.nodes.iter().zip(names);
                let is_known = |at: usize| !cell.cluster.has_agents || at == number;
                let sharing = nodes
                    .enumerate()
                    .filter(|(at, (node, _))| node.declares_sharing && is_known(*at));
                let sharing = sharing.map(|(_, (_, name))| name.into_boxed_str());
                index.set_nodes_sharing_devices(sharing);
            }
            Process {
                index,
                engine: Engine::new(config.clone()),
            }
        };
        Self {
            cell,
            wires,
            processes: (0..process_count).map(process).collect(),
            pods: cell.pods().collect(),
            living: BTreeSet::new(),
            ended: EndedPods::default(),
            answered: 0,
            swept: 0,
        }
    }

    /// Takes in what comes; returns what is found.
    pub fn take(&mut self, event: &Event) -> Vec<Finding> {
        self.answer_others(event.arrival);
        self.sweep(event.arrival);
        let now = event_time(event.arrival);
        let node = self.node_of(event.pod);
        let source = self.source_of(node);
        let number = self.process_of(node);
        match &event.word {
            Word::Started(since) => {
                self.start(event.pod, *since, now);
                self.living.insert(event.pod);
                self.tell_siblings(event.pod, now);
            }
            Word::Came(address) => self.come(*address, now),
            Word::Left(address) => self.leave(*address, now),
            _ => {}
        }
        let names_nodes = self.names_nodes();
        let Some(Process { index, engine }) = self.processes.get_mut(number) else {
            return Vec::new();
        };
        match &event.word {
            Word::Ended => {
                index.delete(&pod_key(event.pod), now);
                self.living.remove(&event.pod);
                self.tell_siblings(event.pod, now);
                let (address, key) = (Plan::address(event.pod), pod_key(event.pod));
                self.ended
                    .observe_deleted(&pod(("runs", ""), key.as_str(), address, None, now), now);
                self.tell_ended(now);
            }
            Word::Signal(signal) => {
                let named = node
                    .filter(|_| names_nodes)
                    .and_then(|node| with_node(signal, node));
                let signal = named.as_ref().unwrap_or(signal);
                let taken = process_signal(engine, index, source, signal, |_, _| false);
                return taken.map_or_else(|_| Vec::new(), |(_, found)| found.unwrap_or_default());
            }
            Word::Sample(sample) => {
                let taken = process_sample(engine, index, METRICS, sample);
                return taken.map_or_else(|_| Vec::new(), |taken| taken.findings);
            }
            Word::Lost(count) => {
                let lost = LostEvents {
                    time: now,
                    count: *count,
                    node: node.filter(|_| names_nodes).map(node_name).map(Cow::Owned),
                };
                process_loss(engine, index, source, &lost);
            }
            Word::Started(_) | Word::Came(_) | Word::Left(_) | Word::Attack => {}
        }
        Vec::new()
    }

    /// Judges pods that fell silent, and lets the agents exchange what they saw of runs.
    pub fn settle(&mut self, read_up_to: EventTime) -> Vec<Finding> {
        let mut findings = Vec::new();
        for process in &mut self.processes {
            findings.extend(process.engine.expire_pending(|_| Some(read_up_to)));
        }
        if !self.cell.cluster.has_agents {
            return findings;
        }
        for number in 0..self.processes.len() {
            let process = self.processes.get_mut(number);
            let said = process.map(|process| process.engine.take_contributions(read_up_to));
            for (run, contribution) in said.into_iter().flatten() {
                let all = self.processes.iter_mut().enumerate();
                for (_, other) in all.filter(|(other, _)| *other != number) {
                    let found = other.engine.apply_contribution(&run, &contribution, false);
                    findings.extend(found.unwrap_or_default());
                }
            }
        }
        findings
    }

    /// The number in the cluster of the pod that a finding is about.
    pub fn number_of(finding: &Finding) -> usize {
        let key = finding.subject.pod.as_str();
        let number = key.rsplit_once('-').and_then(|(_, text)| text.parse().ok());
        number.unwrap_or_default()
    }

    fn node_of(&self, pod: usize) -> Option<usize> {
        let (plan, index) = self.pods.get(pod)?;
        plan.nodes.get(*index).copied()
    }

    fn process_of(&self, node: Option<usize>) -> usize {
        node.filter(|_| self.cell.cluster.has_agents)
            .unwrap_or_default()
    }

    /// Relay is one source, which names nodes; other logs are a file on each node.
    fn source_of(&self, node: Option<usize>) -> u16 {
        let is_file = self.cell.cluster.log != Log::Hubble && !self.cell.cluster.has_agents;
        let node = node.filter(|_| is_file).unwrap_or_default();
        u16::try_from(node).unwrap_or_default()
    }

    /// Whether records of this log name their node.
    fn names_nodes(&self) -> bool {
        self.cell.cluster.log == Log::Hubble && self.wires.nodes
    }

    /// The watches show the pod, and which run it belongs to.
    fn start(&mut self, number: usize, since: i64, now: EventTime) {
        let Some((plan, _)) = self.pods.get(number).copied() else {
            return;
        };
        let node = self.node_of(number).filter(|_| self.wires.nodes);
        let facts = pod_facts(&pod(
            ("runs", &number.to_string()),
            pod_key(number).as_str(),
            Plan::address(number),
            node,
            event_time(since),
        ));
        let process = self.process_of(self.node_of(number));
        let Some(process) = self.processes.get_mut(process) else {
            return;
        };
        let membership = run(plan)
            .as_ref()
            .and_then(|run| membership_of(run, run.spec.detection.profile));
        let (Some(facts), Some(membership)) = (facts, membership) else {
            return;
        };
        if self.wires.runs {
            process.index.enroll(&pod_key(number), Some(membership));
        }
        process.index.apply(facts, now);
    }

    /// The agents learn from the AgentRun which addresses the pods of the run have, where those are on several nodes
    /// (`controller/addresses`). Here they learn it at once.
    fn tell_siblings(&mut self, pod: usize, now: EventTime) {
        let is_told = self.cell.cluster.has_agents && self.wires.runs && self.wires.siblings;
        let Some((plan, _)) = self.pods.get(pod).copied().filter(|_| is_told) else {
            return;
        };
        let membership = run(plan)
            .as_ref()
            .and_then(|run| membership_of(run, run.spec.detection.profile));
        let Some(key) = membership.and_then(|membership| membership.run) else {
            return;
        };
        let pods = plan.first_pod..plan.first_pod.saturating_add(plan.pod_count);
        let living: Vec<usize> = self.living.range(pods).copied().collect();
        let nodes: BTreeSet<usize> = living.iter().filter_map(|pod| self.node_of(*pod)).collect();
        let is_spread = nodes.len() > 1;
        for (number, process) in self.processes.iter_mut().enumerate() {
            let is_here = nodes.contains(&number);
            let addresses = living.iter().map(|pod| Plan::address(*pod));
            let addresses = addresses.filter(|_| is_here && is_spread);
            if is_here || process.index.has_siblings(&key) {
                process.index.set_siblings(&key, addresses, true, now);
            }
        }
    }

    /// A pod of somebody else, on another node. An agent knows the pods of its own node alone, and they are on none of
    /// these.
    fn come(&mut self, address: IpAddr, now: EventTime) {
        let other = other(address, now);
        if self.cell.cluster.has_agents {
            self.ended.observe(&other, now);
            self.tell_ended(now);
            return;
        }
        let facts = pod_facts(&other);
        if let Some((process, facts)) = self.processes.first_mut().zip(facts) {
            process.index.apply(facts, now);
        }
    }

    /// That pod is gone.
    fn leave(&mut self, address: IpAddr, now: EventTime) {
        if self.cell.cluster.has_agents {
            self.ended.observe_deleted(&other(address, now), now);
            self.tell_ended(now);
        } else if let Some(process) = self.processes.first_mut() {
            process.index.delete(&other_key(address), now);
        }
    }

    /// The agents learn from the list that the controller publishes which pods ended (`controller/ended_pods`). Here
    /// they learn it at once; in a real cluster failing contacts wait for it.
    fn tell_ended(&mut self, now: EventTime) {
        if !self.cell.cluster.has_agents || !self.wires.ended {
            return;
        }
        if let Some(list) = self.ended.take_unpublished(now) {
            for process in &mut self.processes {
                process
                    .index
                    .set_ended_elsewhere(Some(parse_ended_pods(&list)));
            }
        }
    }

    /// Shows answers to other pods of each node whose log shows any.
    fn answer_others(&mut self, now: i64) {
        while now.saturating_sub(self.answered) >= NEIGHBOURS_EVERY {
            self.answered = self.answered.saturating_add(NEIGHBOURS_EVERY);
            for node in 0..self.cell.cluster.nodes.len() {
                let shown = self.cell.cluster.nodes.get(node);
                if self.wires.others && shown.is_some_and(|node| node.answers == Answers::Seen) {
                    self.answer_other(node);
                }
            }
        }
    }

    fn answer_other(&mut self, node: usize) {
        let source = self.source_of(Some(node));
        let name = Some(node_name(node)).filter(|_| self.names_nodes());
        let process = self.process_of(Some(node));
        let Some(Process { index, engine }) = self.processes.get_mut(process) else {
            return;
        };
        for transport in [Transport::Tcp, Transport::Udp] {
            let answer = answer(self.answered, transport, name.as_deref());
            // It is nobody's; it shows what the log shows.
            let _ = process_signal(engine, index, source, &answer, |_, _| false);
        }
    }

    fn sweep(&mut self, now: i64) {
        if now.saturating_sub(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        for Process { index, engine } in &mut self.processes {
            expire_pods(engine, index, event_time(now));
        }
    }
}

/// A flow as Relay shows it, with the name of its node: also after its pod has ended.
fn with_node<'a>(signal: &Signal<'a>, node: usize) -> Option<Signal<'a>> {
    let Signal::Flow(flow) = signal else {
        return None;
    };
    Some(Signal::Flow(Flow {
        node: Some(Cow::Owned(node_name(node))),
        ..flow.clone()
    }))
}

/// The engine's settings in the simulated cluster; the lines are the defaults.
pub fn config() -> EngineConfig {
    let nets = |texts: &[&str]| -> Vec<IpNet> {
        texts.iter().filter_map(|text| text.parse().ok()).collect()
    };
    let cluster = nets(&["10.96.0.0/12", "10.244.0.0/15", "fd00:10:244::/56"]);
    EngineConfig {
        scopes: Scopes::new(&cluster, &nets(&["192.168.0.0/24"])),
        ..EngineConfig::default()
    }
}

fn node_name(number: usize) -> String {
    format!("node-{number}")
}

fn node_names(cell: &Cell) -> Vec<String> {
    (0..cell.cluster.nodes.len()).map(node_name).collect()
}

fn pod_key(number: usize) -> PodKey {
    PodKey::from(format!("pod-{number:05}").as_str())
}

fn other_key(address: IpAddr) -> PodKey {
    PodKey::from(format!("other-{address}").as_str())
}

/// A pod of somebody else.
fn other(address: IpAddr, now: EventTime) -> Pod {
    let name = format!("other-{address}");
    pod(
        ("others", &name),
        other_key(address).as_str(),
        address,
        None,
        now,
    )
}

/// A pod as the API server tells it.
fn pod(
    (namespace, name): (&str, &str),
    uid: &str,
    address: IpAddr,
    node: Option<usize>,
    since: EventTime,
) -> Pod {
    let since = since.to_timestamp().map(|time| time.to_string());
    let pod = json!({
        "metadata": { "namespace": namespace, "name": name, "uid": uid },
        "spec": { "nodeName": node.map(node_name) },
        "status": { "phase": "Running", "startTime": since, "podIP": address },
    });
    serde_json::from_value(pod).unwrap_or_default()
}

/// The run as the API server tells it: all are called the same, and their UIDs tell them apart.
fn run(plan: &Plan) -> Option<AgentRun> {
    let profile = if plan.is_declared_crawler {
        "Crawler"
    } else {
        "Standard"
    };
    let run = json!({
        "apiVersion": "yellowjack.dev/v1alpha1",
        "kind": "AgentRun",
        "metadata": {
            "namespace": "runs",
            "name": "agents",
            "uid": format!("run-{}", plan.origin.group),
        },
        "spec": {
            "target": { "selector": { "matchLabels": { "run": "agents" } } },
            "detection": { "profile": profile },
        },
    });
    serde_json::from_value(run).ok()
}

/// A record of a pod that is not of a run: its contact was answered.
fn answer(at: i64, transport: Transport, node: Option<&str>) -> Signal<'_> {
    let address = |last| IpAddr::V4(Ipv4Addr::new(192, 168, 0, last));
    Signal::Flow(Flow {
        time: event_time(at),
        source: address(1),
        source_port: 40_000,
        destination: address(2),
        destination_port: 443,
        transport,
        outcome: Outcome::Answered,
        forwarded: true,
        volume: None,
        destination_name: None,
        pod: None,
        is_inferred: false,
        node: node.map(Cow::Borrowed),
    })
}
