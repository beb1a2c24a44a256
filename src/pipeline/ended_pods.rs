//! The list of the addresses of pods that ended, or are terminating, which the controller publishes for node agents
//! (`controller/ended_pods`), and its text.
//!
//! A node agent watches only the pods of its own node. Without this list, a client with a stale list of peers would
//! look like a scanner to it: each peer that ended on another node refuses once.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use jiff::Timestamp;
use kube::ResourceExt;

use super::pod_facts::{own_addresses, terminating_since};
use crate::cluster::Pod;
use crate::limits;
use crate::model::EventTime;

/// Addresses of pods that ended or are terminating, at most [`limits::ENDED_PODS_MAX`].
#[derive(Debug, Default)]
pub struct EndedPods {
    ended: HashMap<IpAddr, Ended>,
    /// Whether the list differs from what was published last.
    is_changed: bool,
    left_out_count: u64,
}

#[derive(Debug)]
struct Ended {
    since: EventTime,
    namespace: Box<str>,
    /// UID of the living pod that has the address now. The end of the former holder may be observed after it.
    holder: Option<String>,
}

impl EndedPods {
    /// Observes the current state of a pod, at `now`. An address that a living pod has is not in the list.
    pub fn observe(&mut self, pod: &Pod, now: EventTime) {
        match terminating_since(pod).or_else(|| pod.has_ended().then_some(now)) {
            Some(since) => self.add(pod, since, now),
            None => {
                for ip in own_addresses(pod) {
                    if let Some(ended) = self.ended.get_mut(&ip) {
                        self.is_changed |= ended.holder.is_none();
                        ended.holder = pod.uid();
                    }
                }
            }
        }
    }

    /// Observes that a pod is gone.
    pub fn observe_deleted(&mut self, pod: &Pod, now: EventTime) {
        self.add(pod, terminating_since(pod).unwrap_or(now), now);
    }

    fn add(&mut self, pod: &Pod, since: EventTime, now: EventTime) {
        let (uid, namespace) = (pod.uid(), pod.namespace().unwrap_or_default());
        for ip in own_addresses(pod) {
            let is_listed = |known: &Ended| {
                !known.is_old(now) && (known.holder.is_none() || known.holder != uid)
            };
            if self.ended.get(&ip).is_some_and(is_listed) {
                continue;
            }
            let ended = Ended {
                since,
                namespace: namespace.as_str().into(),
                holder: None,
            };
            if ended.is_old(now) {
                continue;
            }
            self.ended.insert(ip, ended);
            self.is_changed = true;
            if self.ended.len() > limits::ENDED_PODS_MAX {
                self.evict(now);
            }
        }
    }

    /// Makes room: drops what is old, or else the earliest entry of the namespace that has the most, so that a namespace
    /// in which many pods end does not displace the others.
    fn evict(&mut self, now: EventTime) {
        self.ended.retain(|_, ended| !ended.is_old(now));
        if self.ended.len() <= limits::ENDED_PODS_MAX {
            return;
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for ended in self.ended.values() {
            *counts.entry(&ended.namespace).or_default() += 1;
        }
        let largest = counts
            .into_iter()
            .max_by_key(|(name, count)| (*count, *name));
        let largest = largest.map(|(name, _)| name);
        let candidates = self
            .ended
            .iter()
            .filter(|(_, ended)| Some(&*ended.namespace) == largest);
        let earliest = candidates.min_by_key(|(ip, ended)| (ended.since, **ip));
        if let Some(ip) = earliest.map(|(ip, _)| *ip) {
            self.ended.remove(&ip);
            self.left_out_count += 1;
        }
    }

    /// Number of addresses that were left out because the list was full.
    #[must_use]
    pub(crate) const fn left_out_count(&self) -> u64 {
        self.left_out_count
    }

    /// The list as text, if it changed since the last call. Entries that became too old are left out, but are no
    /// change: readers ignore them.
    pub fn take_unpublished(&mut self, now: EventTime) -> Option<String> {
        std::mem::take(&mut self.is_changed).then(|| {
            let is_listed = |ended: &Ended| ended.holder.is_none() && !ended.is_old(now);
            let ended = self.ended.iter().filter(|(_, ended)| is_listed(ended));
            let mut lines: Vec<String> = ended
                .map(|(ip, ended)| format!("{ip} {}\n", ended.since))
                .collect();
            lines.sort_unstable();
            lines.concat()
        })
    }

    /// Takes over a published list, if there is one. What has been observed since is newer, and an address that one of the
    /// `living` pods has is not in the list.
    pub(crate) fn continue_list(
        &mut self,
        list: Option<&str>,
        living: &HashSet<IpAddr>,
        now: EventTime,
    ) {
        for (ip, since) in list.into_iter().flat_map(parse) {
            let ended = Ended {
                since,
                namespace: Box::default(),
                holder: None,
            };
            let is_known = self.ended.contains_key(&ip) || living.contains(&ip);
            if is_known || ended.is_old(now) || self.ended.len() >= limits::ENDED_PODS_MAX {
                continue;
            }
            self.ended.insert(ip, ended);
        }
        self.is_changed = true;
    }

    /// Records that the list could not be published.
    pub const fn set_unpublished(&mut self) {
        self.is_changed = true;
    }
}

impl Ended {
    fn is_old(&self, now: EventTime) -> bool {
        now.micros_since(self.since) > limits::POD_RETENTION_SECONDS * 1_000_000
    }
}

/// Reads the text of a list. Lines that cannot be read are skipped: their addresses count as those of strangers.
pub fn parse(text: &str) -> impl Iterator<Item = (IpAddr, EventTime)> {
    let lines = text.lines().take(limits::ENDED_PODS_MAX);
    lines.filter_map(|line| {
        let (ip, since) = line.split_once(' ')?;
        let since: Timestamp = since.parse().ok()?;
        Some((ip.parse().ok()?, EventTime::from(since)))
    })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use serde_json::json;

    use super::*;

    fn at(seconds: i64) -> EventTime {
        EventTime::from_seconds(1_700_000_000 + seconds, 0)
    }

    fn pod(namespace: &str, ip: IpAddr) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": format!("p-{ip}"), "namespace": namespace, "uid": format!("u-{ip}") },
            "spec": { "nodeName": "n" },
            "status": { "phase": "Running", "podIP": ip },
        }))
        .unwrap()
    }

    fn ip(number: usize) -> IpAddr {
        let [.., high, low] = number.to_be_bytes();
        Ipv4Addr::new(10, 0, high, low).into()
    }

    fn listed(pods: &mut EndedPods, now: EventTime) -> Vec<(IpAddr, EventTime)> {
        let text = pods.take_unpublished(now).unwrap_or_default();
        parse(&text).collect()
    }

    #[test]
    fn the_list_has_pods_that_ended_or_are_terminating_and_not_those_that_live() {
        let mut pods = EndedPods::default();
        let mut terminating = pod("a", ip(1));
        terminating.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!(at(30).to_string())).unwrap());
        terminating.metadata.deletion_grace_period_seconds = Some(30);
        pods.observe(&pod("a", ip(0)), at(1));
        assert_eq!(pods.take_unpublished(at(1)), None, "nothing to publish");
        pods.observe(&terminating, at(1));
        pods.observe_deleted(&pod("a", ip(2)), at(5));
        assert_eq!(listed(&mut pods, at(5)), [(ip(1), at(0)), (ip(2), at(5))]);
        pods.observe_deleted(&terminating, at(20));
        assert_eq!(
            pods.take_unpublished(at(20)),
            None,
            "the earlier time stays"
        );
    }

    #[test]
    fn an_address_that_a_new_pod_has_leaves_the_list_which_is_a_change() {
        let mut pods = EndedPods::default();
        pods.observe_deleted(&pod("a", ip(1)), at(0));
        assert!(pods.take_unpublished(at(0)).is_some());
        assert_eq!(pods.take_unpublished(at(1)), None);
        pods.observe(&pod("b", ip(1)), at(2));
        assert_eq!(pods.take_unpublished(at(2)).as_deref(), Some(""));
    }

    #[test]
    fn the_late_end_of_a_former_holder_does_not_list_an_address_again() {
        let mut pods = EndedPods::default();
        let former = pod("a", ip(1));
        let mut latter = pod("b", ip(1));
        latter.metadata.uid = Some("latter".to_owned());
        let mut terminating = former.clone();
        terminating.metadata.deletion_timestamp =
            Some(serde_json::from_value(json!(at(0).to_string())).unwrap());
        pods.observe(&terminating, at(0));
        pods.observe(&latter, at(5));
        pods.observe_deleted(&terminating, at(6));
        assert_eq!(listed(&mut pods, at(6)), []);
        pods.observe_deleted(&latter, at(9));
        assert_eq!(listed(&mut pods, at(9)), [(ip(1), at(9))]);
    }

    #[test]
    fn the_list_of_the_former_leader_goes_on_without_addresses_that_living_pods_have() {
        let mut former = EndedPods::default();
        for nth in 1..=3 {
            former.observe_deleted(&pod("a", ip(nth)), at(0));
        }
        let list = former.take_unpublished(at(0));
        let mut pods = EndedPods::default();
        pods.observe_deleted(&pod("a", ip(3)), at(5));
        pods.continue_list(list.as_deref(), &HashSet::from([ip(2)]), at(10));
        assert_eq!(listed(&mut pods, at(10)), [(ip(1), at(0)), (ip(3), at(5))]);
    }

    #[test]
    fn an_empty_list_is_published_at_the_start_so_that_agents_know_of_one() {
        let mut pods = EndedPods::default();
        assert_eq!(pods.take_unpublished(at(0)), None);
        pods.continue_list(None, &HashSet::new(), at(0));
        assert_eq!(pods.take_unpublished(at(0)).as_deref(), Some(""));
    }

    #[test]
    fn an_entry_leaves_the_list_after_ten_minutes_without_a_change() {
        let mut pods = EndedPods::default();
        pods.observe_deleted(&pod("a", ip(1)), at(0));
        assert!(pods.take_unpublished(at(0)).is_some());
        assert_eq!(pods.take_unpublished(at(700)), None);
        pods.observe_deleted(&pod("a", ip(2)), at(700));
        assert_eq!(listed(&mut pods, at(700)), [(ip(2), at(700))]);
    }

    #[test]
    fn a_namespace_that_ends_many_pods_does_not_displace_the_pods_of_others() {
        let mut pods = EndedPods::default();
        pods.observe_deleted(&pod("quiet", ip(0)), at(0));
        for number in 1..2 * limits::ENDED_PODS_MAX {
            pods.observe_deleted(&pod("churning", ip(number)), at(1));
        }
        let list = listed(&mut pods, at(2));
        assert_eq!(list.len(), limits::ENDED_PODS_MAX);
        let left_out = u64::try_from(limits::ENDED_PODS_MAX).unwrap();
        assert_eq!(pods.left_out_count(), left_out);
        assert!(list.contains(&(ip(0), at(0))));
    }

    #[test]
    fn unreadable_lines_are_skipped() {
        let text = "nonsense\n10.0.0.1 2023-11-14T22:13:20Z\n10.0.0.2 yesterday\n";
        assert_eq!(
            parse(text).collect::<Vec<_>>(),
            [(IpAddr::from([10, 0, 0, 1]), at(0))]
        );
    }
}
