//! Addresses of a run's pods: the controller publishes them in the status of the AgentRun, and node agents read them
//! there.
//!
//! A node agent watches only the pods of its own node. Without the addresses of the others, a contact with a pod of the
//! same run on another node would count as one with an unrelated host. The addresses are published only if there are
//! agents and the run has pods on several nodes, at most once in [`limits::RUN_ADDRESSES_PAUSE`].

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use parking_lot::Mutex;

use super::Controller;
use super::dereference::Observed;
use super::validate::Validated;
use crate::api::{AgentRun, AgentRunStatus, PodAddresses};
use crate::cluster::Pod;
use crate::limits;
use crate::model::EventTime;
use crate::pipeline::pod_facts::{own_addresses, run_key};

/// When the addresses of each run were last changed, by UID of the run.
#[derive(Debug, Default)]
pub(super) struct ChangeTimes(Mutex<HashMap<String, Instant>>);

impl ChangeTimes {
    /// How long to wait before the addresses of a run may change again. `None` permits the change, and records it.
    fn wait(&self, run_uid: &str, now: Instant) -> Option<Duration> {
        let mut changes = self.0.lock();
        let pause = limits::RUN_ADDRESSES_PAUSE;
        changes.retain(|_, last| now.saturating_duration_since(*last) < pause);
        if let Some(last) = changes.get(run_uid) {
            return Some(pause.saturating_sub(now.saturating_duration_since(*last)));
        }
        changes.insert(run_uid.to_owned(), now);
        None
    }
}

impl Controller {
    /// Sets the addresses of the run's pods in its status. Returns the delay if this must be done later.
    pub(super) fn publish_addresses(
        &self,
        observed: &Observed,
        validated: &Validated,
        status: &mut AgentRunStatus,
    ) -> Option<Duration> {
        let desired = (!observed.agents.is_empty())
            .then(|| addresses_of(validated))
            .flatten();
        if status.pod_addresses == desired {
            return None;
        }
        let uid = observed.run.metadata.uid.as_deref().unwrap_or_default();
        let wait = self.address_changes.wait(uid, Instant::now());
        if wait.is_none() {
            status.pod_addresses = desired;
        }
        wait
    }

    /// In a node agent: passes the addresses of the run's pods on other nodes to attribution.
    pub(super) fn update_siblings(&self, run: &AgentRun, validated: &Validated) {
        let Some(key) = run_key(run) else {
            return;
        };
        let published = run.status.as_ref().and_then(|s| s.pod_addresses.as_ref());
        let addresses = published.into_iter().flat_map(|list| &list.addresses);
        let addresses = addresses.filter_map(|text| text.parse::<IpAddr>().ok());
        let now = EventTime::from(Timestamp::now());
        let mut index = self.index.write();
        if !validated.enrolled.is_empty() {
            index.set_siblings(&key, addresses, is_complete(run, validated), now);
        } else if index.has_siblings(&key) {
            index.set_siblings(&key, [], true, now);
        }
    }
}

/// Addresses of the run's pods. `None` if they are not on several nodes.
pub(super) fn addresses_of(validated: &Validated) -> Option<PodAddresses> {
    let pods = || {
        validated
            .members
            .iter()
            .filter(|member| member.is_attributed)
    };
    let nodes: BTreeSet<&str> = pods().filter_map(|member| node_of(&member.pod)).collect();
    if nodes.len() < 2 {
        return None;
    }
    let mut list = PodAddresses::default();
    for member in pods() {
        let addresses = own_addresses(&member.pod);
        let has_room = list.addresses.len() + addresses.len() <= limits::RUN_ADDRESSES_MAX;
        if !addresses.is_empty() && has_room {
            list.pods += 1;
            list.addresses
                .extend(addresses.iter().map(ToString::to_string));
        }
    }
    list.addresses.sort_unstable();
    Some(list)
}

/// Whether the agent knows an address of every pod of the run: from the published list, or, if all pods are on this
/// node, from the pods themselves.
fn is_complete(run: &AgentRun, validated: &Validated) -> bool {
    let Some(status) = &run.status else {
        return false;
    };
    let total = status.pods.as_ref().map_or(0, |pods| pods.total);
    let known = if let Some(list) = &status.pod_addresses {
        list.pods
    } else {
        let members = validated.members.iter();
        let with_address = members.filter(|member| !own_addresses(&member.pod).is_empty());
        i32::try_from(with_address.count()).unwrap_or(i32::MAX)
    };
    known >= total
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec.as_ref()?.node_name.as_deref()
}
