//! A cluster: how its log is set up, its nodes, and the groups of pods that share them. Small enough
//! that many of them can be played beside each other. Made from a seed; called by `part` and `attack`.

use super::faults::lose;
use super::group::{Origin, Plan};
use super::pod::Pod;
use super::random::Random;
use super::tape::{Answers, Event, Log, Outage};

/// Groups of one cluster.
pub const GROUPS: u64 = 8;

/// Nodes of one cluster: some seven pods of runs each.
const NODES: usize = 16;

/// Nodes of all clusters of a part together, which outages hit by number.
pub const NODE_NUMBERS: usize = 100;

/// How a cluster is set up.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub log: Log,
    /// Whether DNS answers are in the log at all.
    pub shows_dns: bool,
    /// Whether server names of TLS handshakes are.
    pub shows_tls: bool,
    /// Whether each node has an agent. Else a controller reads all logs.
    pub has_agents: bool,
    pub nodes: Vec<Node>,
}

/// One node, and its part of the log.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Its number among those that outages hit.
    pub number: usize,
    pub answers: Answers,
    /// Whether its part of the log loses records now and then, and says so.
    pub is_lossy: bool,
    /// Whether it declares that its accelerators are shared.
    pub declares_sharing: bool,
}

impl Cluster {
    /// The cluster that a group is in.
    pub fn draw(origin: Origin) -> Self {
        let number = origin.group / GROUPS;
        let mut random = Random::of(&[origin.seed, origin.part, number, 8]);
        let log = *random.pick(&Log::ALL).unwrap_or(&Log::Zeek);
        // More than a third of all logs show no name: NFLOG and VPC logs never do.
        let shows_dns = log != Log::Conntrack && random.chance(0.8) || random.chance(0.2);
        let first = usize::try_from(number).unwrap_or_default() * NODES;
        Self {
            log,
            shows_dns,
            shows_tls: log == Log::Zeek && random.chance(0.8),
            has_agents: random.chance(0.5),
            nodes: (first..first + NODES)
                .map(|number| Node {
                    number: number % NODE_NUMBERS,
                    answers: answers(&mut random, log),
                    is_lossy: random.chance(0.1),
                    declares_sharing: random.chance(0.5),
                })
                .collect(),
        }
    }
}

impl Cluster {
    /// Sets every node's log up so that it shows answers and loses nothing.
    pub fn see_answers(&mut self) {
        for node in &mut self.nodes {
            node.answers = Answers::Seen;
            node.is_lossy = false;
        }
    }
}

/// Of the logs that can be set up so, a third show no answers.
fn answers(random: &mut Random, log: Log) -> Answers {
    let blind = [Answers::VerdictsOnly, Answers::DropsOnly, Answers::OneSided];
    let possible: Vec<_> = blind
        .into_iter()
        .filter(|answers| answers.are_possible_in(log))
        .collect();
    match random.pick(&possible) {
        Some(answers) if random.chance(0.33) => *answers,
        _ => Answers::Seen,
    }
}

/// The groups of one cluster, whose pods are numbered one after the other.
#[derive(Clone, Debug)]
pub struct Cell {
    pub cluster: Cluster,
    pub plans: Vec<Plan>,
    seed: Origin,
}

impl Cell {
    /// These groups in the cluster of the first.
    pub fn of(mut plans: Vec<Plan>) -> Self {
        let mut first_pod = 0;
        for plan in &mut plans {
            plan.first_pod = first_pod;
            first_pod += plan.pod_count;
        }
        let seed = plans.first().map_or(Origin::default(), |plan| plan.origin);
        let cluster = plans
            .first()
            .map_or_else(|| Cluster::draw(seed), |plan| plan.cluster.clone());
        Self {
            cluster,
            plans,
            seed,
        }
    }

    /// The cluster that a group is in, with all of its groups.
    pub fn draw(origin: Origin) -> Self {
        let first = origin.group / GROUPS * GROUPS;
        let groups = (first..first + GROUPS).map(|group| Origin { group, ..origin });
        Self::of(groups.map(Plan::draw).collect())
    }

    pub fn pod_count(&self) -> usize {
        self.plans.iter().map(|plan| plan.pod_count).sum()
    }

    /// Each pod: its group, and its number there.
    pub fn pods(&self) -> impl Iterator<Item = (&Plan, usize)> {
        let plans = self.plans.iter();
        plans.flat_map(|plan| (0..plan.pod_count).map(move |index| (plan, index)))
    }

    /// Plays the honest lives of all pods, and has `extend` add to each. What comes is in the order in
    /// which the operator gets it.
    pub fn play(&self, outages: &[Outage], mut extend: impl FnMut(&Plan, &mut Pod)) -> Vec<Event> {
        let mut events = Vec::new();
        for plan in &self.plans {
            events.append(&mut plan.play(outages, |pod| extend(plan, pod)));
        }
        events.sort_by_key(|event| event.arrival);
        self.lose(&mut events);
        events
    }

    /// Lossy nodes lose some of what happened there.
    fn lose(&self, events: &mut Vec<Event>) {
        let nodes: Vec<usize> = self
            .pods()
            .filter_map(|(plan, index)| plan.nodes.get(index).copied())
            .collect();
        for (number, node) in self.cluster.nodes.iter().enumerate() {
            if node.is_lossy {
                let purpose = 9 + u64::try_from(number).unwrap_or_default();
                let mut random = self.seed.random(purpose << 32);
                lose(events, |pod| nodes.get(pod) == Some(&number), &mut random);
            }
        }
        events.sort_by_key(|event| event.arrival);
    }
}
