//! Attribution: which pod had an address at a time.
//!
//! A synchronous index without clock or client. The shell feeds it from a watch of pods (`apply`,
//! `delete`, `reset`) and from the membership of runs (`enroll`), and asks it once per signal
//! (`attribute`); `replay` feeds it from the log and a table of runs. What it answers is the record
//! that the engine takes, made here and nowhere else. It must never guess: where an address, a time and what the log says do not name exactly one pod,
//! the answer is [`Attribution::Unattributed`] with the reason. A wrong answer would quarantine an
//! honest run, and an agent that can choose when its pods die would choose whom to blame.
//!
//! A pod holds an address from its start to its end. An ended pod stays for
//! [`limits::POD_RETENTION_SECONDS`], because lines come late. Both ends of a hold are widened by
//! [`limits::CLOCK_SKEW_MICROS`], because a log and the API run on different clocks; where the
//! widened holds of two pods overlap, nobody is named.

mod address;
mod devices;
mod names;
mod neighbour;
mod record;
mod siblings;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::detect::Workload;
use crate::limits;
use crate::model::{EventTime, PodHint, PodKey, RunKey, Subject};
use crate::observability::UnattributedReason;
use address::{Address, Hold};
use names::agrees;
pub use record::Named;

/// What the index needs to know of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// The pod's UID.
    pub key: PodKey,
    /// Namespace.
    pub namespace: String,
    /// Name; another pod can have had it before.
    pub name: String,
    /// All of its addresses.
    pub ips: Vec<IpAddr>,
    /// Whether it uses the node's network, and so the node's address.
    pub host_network: bool,
    /// The node that it runs on.
    pub node: Option<String>,
    /// When its network came up: the transition of `PodReadyToStartContainers` where the cluster
    /// has it, else the start time. Not the time of creation: a pod that waits has no address,
    /// and would be blamed for what the earlier holder did meanwhile.
    pub since: EventTime,
    /// When its last container stopped for good (phase Succeeded or Failed), which frees its
    /// address long before the object is deleted.
    pub ended_at: Option<EventTime>,
    /// Kind and name of what owns it, for people.
    pub workload: Option<String>,
}

/// Which run a pod belongs to, and what the run's owner said about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The run. Only a replay has pods of which it knows the owner's word and not the run.
    pub run: Option<RunKey>,
    /// What it does.
    pub workload: Workload,
}

/// What the engine is given of a pod with every signal.
#[derive(Clone, Debug)]
struct Known {
    facts: PodFacts,
    subject: Subject,
    workload: Workload,
}

impl Known {
    fn new(facts: PodFacts, membership: Option<&Membership>) -> Self {
        Self {
            subject: Subject {
                pod: facts.key.clone(),
                run: membership.and_then(|membership| membership.run.clone()),
            },
            workload: membership.map_or(Workload::Standard, |membership| membership.workload),
            facts,
        }
    }
}

/// Whom a signal belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution<'a> {
    /// Exactly one pod had the address at that time, and nothing speaks against it.
    Pod(&'a PodFacts),
    /// Nobody can be named.
    Unattributed(UnattributedReason),
}

/// Size of the index, and what its bounds cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Pods, ended ones included.
    pub pod_count: usize,
    /// Addresses.
    pub address_count: usize,
    /// Ended pods that went before their time because the index was full.
    pub evicted_pods: u64,
    /// Earlier holders of an address that went before their time.
    pub evicted_holders: u64,
    /// Pods, addresses of pods and addresses of nodes that did not fit at all.
    pub refused: u64,
}

#[derive(Clone, Debug)]
struct Pod {
    known: Arc<Known>,
    /// Addresses that it has or had, at most [`limits::POD_HELD_ADDRESSES_MAX`].
    held: Vec<Held>,
    ended: Option<EventTime>,
    /// When it was seen first.
    seen_at: EventTime,
}

#[derive(Clone, Copy, Debug)]
struct Held {
    ip: IpAddr,
    is_open: bool,
}

/// The index. One task owns it; nothing in it blocks.
///
/// Its hashes are seeded, but not proof against somebody who chooses keys: what is stored here the
/// API server and the network plugin choose, and a look-up of a forged address stores nothing.
#[derive(Clone, Debug, Default)]
pub struct Index {
    pods: HashMap<PodKey, Pod, RandomState>,
    /// The members of runs, whether they have an address yet or not.
    members: HashMap<PodKey, Membership, RandomState>,
    addresses: HashMap<IpAddr, Address, RandomState>,
    nodes: HashSet<IpAddr, RandomState>,
    /// Names of the nodes, and of those that pods are on since.
    node_names: HashSet<Box<str>, RandomState>,
    names: names::Names,
    siblings: siblings::Siblings,
    /// Names of nodes that declare shared accelerators.
    sharing_nodes: HashSet<Box<str>, RandomState>,
    /// Ended pods, the longest ended first.
    ended: BTreeSet<(EventTime, PodKey)>,
    stats: IndexStats,
}

fn covers(from: EventTime, until: Option<EventTime>, time: EventTime) -> bool {
    let skew = limits::CLOCK_SKEW_MICROS;
    let begun = time >= from.plus_micros(-skew);
    begun && until.is_none_or(|until| time <= until.plus_micros(skew))
}

impl Index {
    /// An empty index.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes in a pod as it is now; `at` is when this was seen.
    ///
    /// Addresses that it no longer has end at `at`. An address that replaces another starts at
    /// `at`, because the API does not say when it changed; first ones start with the pod.
    pub fn apply(&mut self, mut facts: PodFacts, at: EventTime) {
        // With each change, so that nothing else has to run for the index to stay small.
        self.expire(at);
        self.normalise(&mut facts);
        let key = facts.key.clone();
        if !self.pods.contains_key(&key) {
            let forgotten = |ended: EventTime| {
                ended.plus_micros(limits::POD_RETENTION_SECONDS * 1_000_000) < at
            };
            if facts.ended_at.is_some_and(forgotten) || !self.make_room() {
                return;
            }
            self.names.add(&facts.namespace, &facts.name, &key);
        }
        let known = || Arc::new(Known::new(facts.clone(), self.members.get(&key)));
        let pod = self.pods.entry(key.clone()).or_insert_with(|| Pod {
            known: known(),
            held: Vec::new(),
            ended: None,
            seen_at: at,
        });
        if pod.ended.is_some() {
            // An end is final; but a run may still claim the pod, or its labels change.
            facts.ended_at = pod.known.facts.ended_at.or(facts.ended_at);
            self.set_facts(facts);
            return;
        }
        if let Some(node) = &facts.node
            && !self.node_names.contains(node.as_str())
            && self.node_names.len() < limits::NODES_MAX
        {
            self.node_names.insert(node.as_str().into());
        }
        let from = if pod.held.is_empty() { facts.since } else { at };
        let (ips, ended_at) = (facts.ips.clone(), facts.ended_at);
        self.set_facts(facts);
        self.release_all_but(&key, &ips, ended_at.unwrap_or(at));
        for ip in ips {
            self.hold(&key, ip, from);
        }
        if let Some(ended_at) = ended_at {
            self.end(&key, ended_at);
        }
    }

    /// The pod is gone since `at`. It can still be found for lines that come late.
    pub fn delete(&mut self, pod: &PodKey, at: EventTime) {
        self.expire(at);
        self.end(pod, at);
    }

    /// All pods that live, after a new list. Those that are no longer there count as gone at
    /// `at`: they went some time before, and for that time nobody else is blamed either.
    pub fn reset(&mut self, live: impl Iterator<Item = PodFacts>, at: EventTime) {
        let mut seen = HashSet::new();
        for facts in live {
            seen.insert(facts.key.clone());
            self.apply(facts, at);
        }
        let is_gone = |(key, pod): (&PodKey, &Pod)| {
            (pod.ended.is_none() && !seen.contains(key)).then(|| key.clone())
        };
        let gone: Vec<PodKey> = self.pods.iter().filter_map(is_gone).collect();
        for key in gone {
            self.end(&key, at);
        }
    }

    /// The nodes, all of them: their names, as records may name them, and their addresses. These are
    /// never attributed to a pod: traffic that leaves through the node's address can be anybody's on
    /// that node.
    pub fn set_nodes<'n>(
        &mut self,
        names: impl IntoIterator<Item = &'n str>,
        addresses: impl IntoIterator<Item = IpAddr>,
    ) {
        self.node_names.clear();
        for name in names.into_iter().take(limits::NODES_MAX) {
            self.node_names.insert(name.into());
        }
        self.nodes.clear();
        for address in addresses {
            if self.nodes.len() < limits::NODE_ADDRESSES_MAX {
                self.nodes.insert(address.to_canonical());
            } else {
                self.stats.refused += 1;
            }
        }
    }

    /// The pod belongs to this run from now on, or to none. Said for pods without an address too.
    /// A pod that has ended keeps the run that it had: its last lines come later than its end.
    pub fn enroll(&mut self, pod: &PodKey, membership: Option<Membership>) {
        match membership {
            Some(membership) => {
                if self.members.len() >= limits::INDEX_PODS_MAX && !self.members.contains_key(pod) {
                    self.stats.refused += 1;
                    return;
                }
                self.members.insert(pod.clone(), membership);
            }
            None if self.pods.get(pod).is_some_and(|pod| pod.ended.is_some()) => return,
            None => drop(self.members.remove(pod)),
        }
        if let Some(known) = self.pods.get(pod) {
            let facts = known.known.facts.clone();
            self.set_facts(facts);
        }
    }

    /// What [`Self::enroll`] said last of a pod.
    #[must_use]
    pub fn membership(&self, pod: &PodKey) -> Option<&Membership> {
        self.members.get(pod)
    }

    /// The pod that had `ip` at `time`. `hint` is the pod that the log itself names, if it does;
    /// it can only take away certainty, never add it.
    #[must_use]
    pub fn lookup(
        &self,
        ip: IpAddr,
        time: EventTime,
        hint: Option<&PodHint<'_>>,
    ) -> Attribution<'_> {
        match self.find_hinted(ip, time, hint) {
            Ok(known) => Attribution::Pod(&known.facts),
            Err(why) => Attribution::Unattributed(why),
        }
    }

    /// Forgets what ended longer ago than lines can be late: pods, and siblings on other nodes.
    pub fn expire(&mut self, now: EventTime) {
        let line = now.plus_micros(-limits::POD_RETENTION_SECONDS * 1_000_000);
        while self.ended.first().is_some_and(|(ended, _)| *ended < line) {
            self.forget_longest_ended();
        }
        self.siblings.expire(now);
    }

    /// The facts of a pod that the index still knows.
    #[must_use]
    pub fn pod(&self, key: &PodKey) -> Option<&PodFacts> {
        self.pods.get(key).map(|pod| &pod.known.facts)
    }

    /// Size, and what the bounds cost.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        IndexStats {
            pod_count: self.pods.len(),
            address_count: self.addresses.len(),
            ..self.stats
        }
    }

    /// Pods of which it is known that they belong to a run.
    #[must_use]
    pub fn member_count(&self) -> usize {
        self.members.len()
    }

    fn knows_node(&self, name: &str) -> bool {
        self.node_names.contains(name)
    }

    fn find_hinted(
        &self,
        ip: IpAddr,
        time: EventTime,
        hint: Option<&PodHint<'_>>,
    ) -> Result<&Known, UnattributedReason> {
        let known = self.find(ip.to_canonical(), time)?;
        if hint.is_none_or(|hint| agrees(hint, &known.facts)) {
            Ok(known)
        } else {
            Err(UnattributedReason::HintContradicts)
        }
    }

    fn find(&self, ip: IpAddr, time: EventTime) -> Result<&Known, UnattributedReason> {
        if self.nodes.contains(&ip) {
            return Err(UnattributedReason::HostNetwork);
        }
        let address = self
            .addresses
            .get(&ip)
            .ok_or(UnattributedReason::UnknownAddress)?;
        if address
            .host
            .is_some_and(|host| covers(host.from, host.until, time))
        {
            return Err(UnattributedReason::HostNetwork);
        }
        if address.is_contested {
            return Err(UnattributedReason::Ambiguous);
        }
        let mut found: Option<&Known> = None;
        let mut why = if address.holds.is_empty() {
            UnattributedReason::UnknownAddress
        } else {
            UnattributedReason::BeforePod
        };
        for hold in &address.holds {
            if covers(hold.from, hold.until, time) {
                if found.is_some_and(|other| other.facts.key != hold.known.facts.key) {
                    return Err(UnattributedReason::Ambiguous);
                }
                found = Some(&hold.known);
            } else if time > hold.from {
                why = UnattributedReason::AfterPod;
            }
        }
        found.ok_or(why)
    }

    fn set_facts(&mut self, facts: PodFacts) {
        let Some(pod) = self.pods.get_mut(&facts.key) else {
            return;
        };
        let membership = self.members.get(&facts.key);
        pod.known = Arc::new(Known::new(facts, membership));
        for held in &pod.held {
            let address = self.addresses.get_mut(&held.ip);
            let holds = address.into_iter().flat_map(|address| &mut address.holds);
            for hold in holds.filter(|hold| hold.known.facts.key == pod.known.facts.key) {
                hold.known = Arc::clone(&pod.known);
            }
        }
    }

    /// One form for each address, none twice, and not more than a pod can have.
    fn normalise(&mut self, facts: &mut PodFacts) {
        let mut ips: Vec<IpAddr> =
            Vec::with_capacity(facts.ips.len().min(limits::POD_ADDRESSES_MAX));
        for ip in facts.ips.drain(..).map(|ip| ip.to_canonical()) {
            if ips.contains(&ip) {
                continue;
            }
            if ips.len() == limits::POD_ADDRESSES_MAX {
                self.stats.refused += 1;
                break;
            }
            ips.push(ip);
        }
        facts.ips = ips;
    }

    fn make_room(&mut self) -> bool {
        if self.pods.len() < limits::INDEX_PODS_MAX {
            return true;
        }
        if self.ended.is_empty() {
            // A pod that lives is worth more than one that is new: the new one is not attributed.
            self.stats.refused += 1;
            return false;
        }
        self.forget_longest_ended();
        self.stats.evicted_pods += 1;
        true
    }

    fn hold(&mut self, key: &PodKey, ip: IpAddr, from: EventTime) {
        let Some(pod) = self.pods.get_mut(key) else {
            return;
        };
        if pod.held.iter().any(|held| held.ip == ip && held.is_open) {
            return;
        }
        let address = self.addresses.entry(ip).or_default();
        if pod.held.len() >= limits::POD_HELD_ADDRESSES_MAX {
            address.is_contested = true;
            self.stats.refused += 1;
            return;
        }
        pod.held.push(Held { ip, is_open: true });
        if pod.known.facts.host_network {
            address.add_host(from);
            return;
        }
        if address.holds.len() >= limits::ADDRESS_HOLDERS_MAX {
            if !address.evict_holder() {
                address.is_contested = true;
                self.stats.refused += 1;
                return;
            }
            self.stats.evicted_holders += 1;
        }
        address.holds.push(Hold {
            known: Arc::clone(&pod.known),
            from,
            until: None,
        });
    }

    /// Closes the open holds of a pod, but for those of `kept`.
    fn release_all_but(&mut self, key: &PodKey, kept: &[IpAddr], at: EventTime) {
        let Some(pod) = self.pods.get_mut(key) else {
            return;
        };
        let is_released = |held: &&mut Held| held.is_open && !kept.contains(&held.ip);
        for held in pod.held.iter_mut().filter(is_released) {
            held.is_open = false;
            let Some(address) = self.addresses.get_mut(&held.ip) else {
                continue;
            };
            if pod.known.facts.host_network {
                address.remove_host(at);
            }
            let is_open = |hold: &&mut Hold| hold.known.facts.key == *key && hold.until.is_none();
            for hold in address.holds.iter_mut().filter(is_open) {
                hold.until = Some(at);
            }
        }
    }

    fn end(&mut self, key: &PodKey, at: EventTime) {
        self.release_all_but(key, &[], at);
        if !self.pods.contains_key(key) {
            // It never had an address, so no line can be its own.
            self.members.remove(key);
        }
        if let Some(pod) = self.pods.get_mut(key)
            && pod.ended.is_none()
        {
            pod.ended = Some(at);
            self.ended.insert((at, key.clone()));
        }
    }

    fn forget_longest_ended(&mut self) {
        let Some((_, key)) = self.ended.pop_first() else {
            return;
        };
        self.members.remove(&key);
        let Some(pod) = self.pods.remove(&key) else {
            return;
        };
        let facts = &pod.known.facts;
        self.names.remove(&facts.namespace, &facts.name, &key);
        for held in pod.held {
            let Some(address) = self.addresses.get_mut(&held.ip) else {
                continue;
            };
            address.holds.retain(|hold| hold.known.facts.key != key);
            if address.holds.is_empty() && address.host.is_none_or(|host| host.live_count == 0) {
                self.addresses.remove(&held.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests;
