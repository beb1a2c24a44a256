//! A group: the pods of one run on their nodes, with the outages that hit them, and what happens to
//! them. Made from a seed; called by `cluster` and `attack`.

use std::net::{IpAddr, Ipv4Addr};

use super::accelerator;
use super::cluster::{Cluster, NODE_NUMBERS, Node};
use super::honest::Profile;
use super::pod::{Pod, V6};
use super::random::Random;
use super::tape::{Answers, Broken, DAY, Event, HOUR, MINUTE, Outage, Tape, View};

/// What names a group: the same numbers give the same group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin {
    pub seed: u64,
    pub part: u64,
    pub group: u64,
}

impl Origin {
    pub fn random(self, purpose: u64) -> Random {
        Random::of(&[self.seed, self.part, self.group, purpose])
    }
}

/// How a group is composed; see the module.
#[derive(Clone, Debug)]
pub struct Plan {
    pub origin: Origin,
    pub profile: Profile,
    pub pod_count: usize,
    pub day_count: usize,
    /// The cluster that it is in.
    pub cluster: Cluster,
    /// Number of its first pod in the cluster.
    pub first_pod: usize,
    pub v6: V6,
    /// Whether its owner declared it a crawler.
    pub is_declared_crawler: bool,
    /// Whether its pods share an accelerator with a neighbour that mines.
    pub shares_accelerator: bool,
    /// Node of each pod, among those of the cluster.
    pub nodes: Vec<usize>,
}

impl Plan {
    /// Draws a group.
    pub fn draw(origin: Origin) -> Self {
        let mut random = origin.random(1);
        let profile = Profile::draw(&mut random);
        let pod_count = profile.pod_count(&mut random);
        Self::of(origin, profile, pod_count)
    }

    /// A group of this profile and size; the rest is drawn.
    pub fn of(origin: Origin, profile: Profile, pod_count: usize) -> Self {
        let mut random = origin.random(2);
        let cluster = Cluster::draw(origin);
        let last_node = cluster.nodes.len().saturating_sub(1);
        let day_count = if random.chance(0.1) { 7 } else { 1 };
        let v6 = match (profile, random.count(0, 9)) {
            (Profile::BrokenV6, 0..=4) => V6::BrokenEyeballs,
            (Profile::BrokenV6, _) => V6::BrokenSerial,
            (_, 0..=6) => V6::None,
            _ => V6::Works,
        };
        Self {
            origin,
            profile,
            pod_count,
            day_count,
            cluster,
            first_pod: 0,
            v6,
            is_declared_crawler: profile == Profile::Crawler && random.chance(0.5),
            shares_accelerator: origin.random(5).chance(0.1),
            nodes: (0..pod_count).map(|_| random.count(0, last_node)).collect(),
        }
    }

    /// Pod-days of the group.
    pub fn pod_day_count(&self) -> usize {
        self.pod_count.saturating_mul(self.day_count)
    }

    /// The node of a pod.
    pub fn node(&self, index: usize) -> Option<&Node> {
        self.cluster.nodes.get(*self.nodes.get(index)?)
    }

    /// What the log shows of a pod.
    pub fn view(&self, index: usize) -> View {
        let Cluster {
            log,
            shows_dns,
            shows_tls,
            ..
        } = self.cluster;
        let answers = self.node(index).map_or(Answers::Seen, |node| node.answers);
        View {
            log,
            answers,
            // What comes back is what names are learned from.
            shows_dns: shows_dns && answers == Answers::Seen,
            shows_tls,
        }
    }

    /// The address of a pod by its number in the cluster.
    pub fn address(pod: usize) -> IpAddr {
        let [.., high, low] = pod.to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 244, high, low))
    }

    /// Plays the honest lives of all pods, and has `extend` add to each. In no order.
    pub fn play(&self, outages: &[Outage], mut extend: impl FnMut(&mut Pod)) -> Vec<Event> {
        let mut events = Vec::new();
        for index in 0..self.pod_count {
            let mut pod = self.pod(index, outages);
            pod.tape.live(pod.start, pod.end);
            self.profile.play(&mut pod);
            if self.shares_accelerator {
                accelerator::track(&mut pod);
            }
            extend(&mut pod);
            events.append(&mut pod.tape.events);
        }
        if self.shares_accelerator {
            events.append(&mut accelerator::looks(self));
        }
        events
    }

    fn pod(&self, index: usize, outages: &[Outage]) -> Pod {
        let node = self.node(index).map(|node| node.number);
        let hits = |outage: &&Outage| outage.node.is_none() || outage.node == node;
        let outages = outages.iter().filter(hits).copied().collect();
        let purpose = 1_000_u64.saturating_add(u64::try_from(index).unwrap_or_default());
        let mut random = self.origin.random(purpose);
        let start = random.between(0, HOUR);
        let pods = self.first_pod..self.first_pod.saturating_add(self.pod_count);
        let days = i64::try_from(self.day_count).unwrap_or(1);
        let number = self.first_pod.saturating_add(index);
        Pod {
            tape: Tape::new(
                random,
                self.view(index),
                number,
                Self::address(number),
                outages,
            ),
            index,
            start,
            end: days.saturating_mul(DAY),
            v6: self.v6,
            group: self.origin.random(3),
            siblings: pods.map(Self::address).collect(),
        }
    }
}

/// The outages of a part, drawn for a week: on an ordinary day one of the cluster's DNS or of its way
/// out, and two nodes whose network plug-in restarts. Real clusters see each monthly at most.
pub fn outages(seed: u64, part: u64) -> Vec<Outage> {
    let mut random = Random::of(&[seed, part, 7]);
    let mut outages = Vec::new();
    for day in 0..7 {
        let mut draw = |broken, node, probability| {
            if random.chance(probability) {
                let from = day * DAY + random.between(HOUR, DAY - HOUR);
                let until = from.saturating_add(random.between(MINUTE, 10 * MINUTE));
                outages.push(Outage {
                    broken,
                    from,
                    until,
                    node,
                });
            }
        };
        draw(Broken::Dns, None, 0.5);
        draw(Broken::Egress, None, 0.3);
        for step in 0..2 {
            let node = (part_node(part, day).saturating_add(step * 37)) % NODE_NUMBERS;
            draw(Broken::Everything, Some(node), 1.0);
        }
    }
    outages
}

fn part_node(part: u64, day: i64) -> usize {
    let node = Random::of(&[part, day.unsigned_abs()]).count(0, NODE_NUMBERS - 1);
    node % NODE_NUMBERS
}
