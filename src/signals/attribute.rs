//! Attribution: which pod had an address at a given time.
//!
//! A synchronous index without a clock or a client. The shell updates it from a watch of pods (`apply`,
//! `delete`, `reset`) and from the membership of runs (`enroll`), and queries it once per signal
//! (`attribute`); `replay` fills it from the log and a table of runs. The result of a query is the record that the
//! engine takes, which is built here and nowhere else. The index never guesses: where an address, a time and the
//! contents of the log do not identify exactly one pod, the result is [`Attribution::Unattributed`] with the reason. A
//! wrong result would quarantine an honest run, and an agent that can choose when its pods end could choose which pod
//! is blamed.
//!
//! A pod holds an address from its start to its end. A pod that has ended is kept for
//! [`limits::POD_RETENTION_SECONDS`], because lines arrive late. Both ends of a tenure are widened by
//! [`limits::CLOCK_SKEW_MICROS`], because the log and the API server use different clocks; where the widened tenures
//! of two pods overlap, no pod is identified.

mod address;
mod devices;
mod ended_elsewhere;
mod names;
mod neighbour;
mod record;
mod siblings;

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::fast::RandomState;

use crate::detect::Workload;
use crate::limits;
use crate::model::{EventTime, PodHint, PodKey, RunKey, Subject, Table};
use crate::observability::UnattributedReason;
use address::{Address, AddressTenure};
use names::matches_hint;
pub use record::PodLocator;

/// What the index stores about a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// The pod's UID.
    pub key: PodKey,
    /// Namespace.
    pub namespace: String,
    /// Name. An earlier pod may have had the same name.
    pub name: String,
    /// All of its addresses.
    pub ips: Vec<IpAddr>,
    /// Whether it uses the node's network, and therefore the node's address.
    pub host_network: bool,
    /// The node on which it runs.
    pub node: Option<String>,
    /// When its network came up: the transition of `PodReadyToStartContainers` where the cluster
    /// reports it, otherwise the start time. Not the creation time: a pending pod has no address,
    /// and would be blamed for the traffic of the previous holder in the meantime.
    pub since: EventTime,
    /// When its last container terminated (phase Succeeded or Failed), which frees its
    /// address long before the object is deleted.
    pub ended_at: Option<EventTime>,
    /// When its deletion was requested. From then on its containers stop, and refuse connections before they have
    /// terminated.
    pub terminating_since: Option<EventTime>,
    /// Kind and name of its owner, for display.
    pub workload: Option<String>,
}

/// The run that a pod belongs to, and the workload type that the owner of the run declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The run. `None` only in a replay, where the workload type can be known without the run.
    pub run: Option<RunKey>,
    /// The declared type of workload.
    pub workload: Workload,
}

/// What the engine receives about a pod with every signal.
#[derive(Clone, Debug)]
struct KnownPod {
    facts: PodFacts,
    subject: Subject,
    workload: Workload,
}

impl KnownPod {
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

/// The result of an attribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribution<'a> {
    /// Exactly one pod had the address at that time, and nothing contradicts it.
    Pod(&'a PodFacts),
    /// No pod can be identified.
    Unattributed(UnattributedReason),
}

/// Size of the index, and what was dropped because of its bounds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IndexStats {
    /// Pods, including those that have ended.
    pub pod_count: usize,
    /// Addresses.
    pub address_count: usize,
    /// Ended pods that were evicted early because the index was full.
    pub evicted_pods: u64,
    /// Earlier holders of an address that were evicted early.
    pub evicted_holders: u64,
    /// Pods, addresses of pods and addresses of nodes that were refused because of a bound.
    pub refused: u64,
}

#[derive(Clone, Debug)]
struct Pod {
    known: Arc<KnownPod>,
    /// Addresses that it has or had, at most [`limits::POD_HELD_ADDRESSES_MAX`].
    held: Vec<HeldAddress>,
    ended: Option<EventTime>,
    /// When it was first observed.
    seen_at: EventTime,
}

#[derive(Clone, Copy, Debug)]
struct HeldAddress {
    ip: IpAddr,
    is_open: bool,
}

/// The index. It is owned by one task; no method blocks.
///
/// Its hashes are seeded but do not resist an adversary who chooses keys: the keys stored here are chosen by the
/// API server and the network plugin, and a lookup of a forged address stores nothing.
#[derive(Clone, Debug, Default)]
pub struct Index {
    pods: Table<PodKey, Pod, RandomState>,
    /// The members of runs, whether or not they have an address yet.
    members: Table<PodKey, Membership, RandomState>,
    addresses: Table<IpAddr, Address, RandomState>,
    nodes: HashSet<IpAddr, RandomState>,
    /// Names of the nodes, and names of nodes on which pods were observed since.
    node_names: HashSet<Box<str>, RandomState>,
    names: names::PodNames,
    siblings: siblings::Siblings,
    ended_elsewhere: ended_elsewhere::EndedElsewhere,
    /// Names of nodes that declare shared accelerators.
    sharing_nodes: HashSet<Box<str>, RandomState>,
    /// Ended pods, ordered by their end, the earliest first.
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

    /// Records the current state of a pod, as observed at `at`.
    ///
    /// The tenure of an address that the pod no longer has ends at `at`. The tenure of an address that replaces another
    /// one starts at `at`, because the API does not report when the address changed; the first addresses start with the
    /// pod.
    pub fn apply(&mut self, mut facts: PodFacts, at: EventTime) {
        // Run on every change, so that the index stays small without a separate task.
        self.expire(at);
        self.normalise(&mut facts);
        let key = facts.key.clone();
        if !self.pods.contains_key(&key) {
            let is_expired = |ended: EventTime| {
                ended.plus_micros(limits::POD_RETENTION_SECONDS * 1_000_000) < at
            };
            if facts.ended_at.is_some_and(is_expired) || !self.make_room() {
                return;
            }
            self.names.add(&facts.namespace, &facts.name, &key);
        }
        let known = || Arc::new(KnownPod::new(facts.clone(), self.members.get(&key)));
        let pod = self.pods.entry(key.clone()).or_insert_with(|| Pod {
            known: known(),
            held: Vec::new(),
            ended: None,
            seen_at: at,
        });
        if pod.ended.is_some() {
            // An end is final, but a run may still claim the pod, or its labels may change.
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
        self.end_tenures_except(&key, &ips, ended_at.unwrap_or(at));
        for ip in ips {
            self.start_tenure(&key, ip, from);
        }
        if let Some(ended_at) = ended_at {
            self.end(&key, ended_at);
        }
    }

    /// Records that the pod no longer exists since `at`. It can still be found for lines that arrive late.
    pub fn delete(&mut self, pod: &PodKey, at: EventTime) {
        self.expire(at);
        self.end(pod, at);
    }

    /// Replaces the set of live pods after a new list. Pods that are missing from it count as ended at
    /// `at`: they ended at some earlier time, and no other pod is blamed for the time in between.
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

    /// Sets all nodes: their names, as records may contain them, and their addresses. These addresses are
    /// never attributed to a pod: traffic that leaves through the node's address can come from any pod on
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

    /// Assigns the pod to this run from now on, or to none. Also called for pods that have no address.
    /// A pod that has ended keeps its run, because its last lines arrive after its end.
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

    /// The membership that [`Self::enroll`] set last for a pod.
    #[must_use]
    pub fn membership(&self, pod: &PodKey) -> Option<&Membership> {
        self.members.get(pod)
    }

    /// The pod that had `ip` at `time`. `hint` is the pod that the log itself names, if any;
    /// a hint can only make the result less certain, never more.
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

    /// Drops pods, and siblings on other nodes, that ended longer ago than lines can be late.
    pub fn expire(&mut self, now: EventTime) {
        let cutoff = now.plus_micros(-limits::POD_RETENTION_SECONDS * 1_000_000);
        while self.ended.first().is_some_and(|(ended, _)| *ended < cutoff) {
            self.evict_longest_ended();
        }
        self.pods.keep_room();
        self.members.keep_room();
        self.addresses.keep_room();
        self.siblings.expire(now);
    }

    /// The facts of a pod that is still in the index.
    #[must_use]
    pub fn pod(&self, key: &PodKey) -> Option<&PodFacts> {
        self.pods.get(key).map(|pod| &pod.known.facts)
    }

    /// Size, and what was dropped because of the bounds.
    #[must_use]
    pub fn stats(&self) -> IndexStats {
        IndexStats {
            pod_count: self.pods.len(),
            address_count: self.addresses.len(),
            ..self.stats
        }
    }

    /// Number of pods that are known to belong to a run.
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
    ) -> Result<&KnownPod, UnattributedReason> {
        let known = self.find(ip.to_canonical(), time)?;
        if hint.is_none_or(|hint| matches_hint(hint, &known.facts)) {
            Ok(known)
        } else {
            Err(UnattributedReason::HintContradicts)
        }
    }

    fn find(&self, ip: IpAddr, time: EventTime) -> Result<&KnownPod, UnattributedReason> {
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
        if address.is_ambiguous {
            return Err(UnattributedReason::Ambiguous);
        }
        let mut found: Option<&KnownPod> = None;
        let mut why = if address.tenures.is_empty() {
            UnattributedReason::UnknownAddress
        } else {
            UnattributedReason::BeforePod
        };
        for tenure in &address.tenures {
            if covers(tenure.from, tenure.until, time) {
                if found.is_some_and(|other| other.facts.key != tenure.known.facts.key) {
                    return Err(UnattributedReason::Ambiguous);
                }
                found = Some(&tenure.known);
            } else if time > tenure.from {
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
        pod.known = Arc::new(KnownPod::new(facts, membership));
        for held in &pod.held {
            let address = self.addresses.get_mut(&held.ip);
            let tenures = address.into_iter().flat_map(|address| &mut address.tenures);
            for tenure in tenures.filter(|tenure| tenure.known.facts.key == pod.known.facts.key) {
                tenure.known = Arc::clone(&pod.known);
            }
        }
    }

    /// Converts each address to one form, removes duplicates, and drops addresses beyond the bound.
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
            // A live pod is more valuable than a new one: the new one is not attributed.
            self.stats.refused += 1;
            return false;
        }
        self.evict_longest_ended();
        self.stats.evicted_pods += 1;
        true
    }

    fn start_tenure(&mut self, key: &PodKey, ip: IpAddr, from: EventTime) {
        let Some(pod) = self.pods.get_mut(key) else {
            return;
        };
        if pod.held.iter().any(|held| held.ip == ip && held.is_open) {
            return;
        }
        let address = self.addresses.entry(ip).or_default();
        if pod.held.len() >= limits::POD_HELD_ADDRESSES_MAX {
            address.is_ambiguous = true;
            self.stats.refused += 1;
            return;
        }
        pod.held.push(HeldAddress { ip, is_open: true });
        if pod.known.facts.host_network {
            address.add_host(from);
            return;
        }
        if address.tenures.len() >= limits::ADDRESS_HOLDERS_MAX {
            if !address.evict_holder() {
                address.is_ambiguous = true;
                self.stats.refused += 1;
                return;
            }
            self.stats.evicted_holders += 1;
        }
        address.tenures.push(AddressTenure {
            known: Arc::clone(&pod.known),
            from,
            until: None,
        });
    }

    /// Ends the open tenures of a pod, except those of the addresses in `kept`.
    fn end_tenures_except(&mut self, key: &PodKey, kept: &[IpAddr], at: EventTime) {
        let Some(pod) = self.pods.get_mut(key) else {
            return;
        };
        let is_ending = |held: &&mut HeldAddress| held.is_open && !kept.contains(&held.ip);
        for held in pod.held.iter_mut().filter(is_ending) {
            held.is_open = false;
            let Some(address) = self.addresses.get_mut(&held.ip) else {
                continue;
            };
            if pod.known.facts.host_network {
                address.remove_host(at);
            }
            let is_open = |tenure: &&mut AddressTenure| {
                tenure.known.facts.key == *key && tenure.until.is_none()
            };
            for tenure in address.tenures.iter_mut().filter(is_open) {
                tenure.until = Some(at);
            }
        }
    }

    fn end(&mut self, key: &PodKey, at: EventTime) {
        self.end_tenures_except(key, &[], at);
        if !self.pods.contains_key(key) {
            // It never had an address, so no line can belong to it.
            self.members.remove(key);
        }
        if let Some(pod) = self.pods.get_mut(key)
            && pod.ended.is_none()
        {
            pod.ended = Some(at);
            self.ended.insert((at, key.clone()));
        }
    }

    fn evict_longest_ended(&mut self) {
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
            address
                .tenures
                .retain(|tenure| tenure.known.facts.key != key);
            if address.tenures.is_empty() && address.host.is_none_or(|host| host.live_count == 0) {
                self.addresses.remove(&held.ip);
            }
        }
    }
}

#[cfg(test)]
mod tests;
