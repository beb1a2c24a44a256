//! Contributions: the first contacts of a run's pods that one engine shares with the engines of the run's other nodes.
//!
//! The pods of a run may be on several nodes with one engine each. [`Ledger`] stores which contacts of this engine's
//! pods count in a walk of the run. [`Contribution`] is the part of it that other engines need: the failed contacts of
//! pods that have enough of them to count, and the answers that offset failures of the run. Called by `run`; `engine`
//! returns contributions and applies those of others.
//!
//! Contributions contain no addresses. A [`RunHash`] identifies a target instead: every engine derives its key from the
//! run, so that two nodes have the same hash for the same target. It keeps addresses out of the API server's storage
//! and audit log. It is no protection against a reader of both the contribution and the run's UID, because IPv4 has few
//! enough addresses to try them all.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::service::Service;
use crate::detect::origin::OriginId;
use crate::detect::scan::contacts::{ContactVerdict, Target, VerdictChange};
use crate::detect::scope::Scope;
use crate::detect::state::bounded;
use crate::limits;
use crate::model::{EventTime, Neighbour, Outcome, PodKey, RunKey, Transport};

/// A first contact of a pod, without the address of its target.
#[allow(clippy::struct_excessive_bools)] // independent facts about one contact
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedContact {
    /// Time of the contact.
    pub time: EventTime,
    /// Hash of the target: host, transport and port.
    pub target: u64,
    /// Hash of the host alone.
    pub host: u64,
    /// Scope of the host.
    pub scope: Scope,
    /// Transport protocol.
    pub transport: Transport,
    /// Port of the target; 0 where the transport has none.
    pub port: u16,
    /// The outcome: answered, one of the failures, or `Unseen` if the log shows no answers, so that it may have been
    /// answered.
    pub outcome: Outcome,
    /// Whether the host is a pod of the same run, or was a pod a short time ago.
    pub is_neighbour: bool,
    /// Whether the log contains names of the pod's targets.
    pub has_names: bool,
    /// Whether it failed over IPv6, over which no target ever answered the pod.
    pub is_v6_unproven: bool,
    /// Whether targets that had answered before failed at the same time.
    pub is_in_outage: bool,
    /// Whether it failed on a high port of a host that had answered as an FTP server.
    pub is_ftp_data: bool,
    /// Whether the log lost records at the time.
    pub is_lossy: bool,
    /// Whether the log had shown allowed flows. Otherwise successes may be missing beside this failure, so it counts
    /// only for an alert.
    pub is_shown: bool,
    /// Whether it looks like a server's answer to a request that the log does not contain.
    pub is_server_answer: bool,
}

impl SharedContact {
    /// The key of the horizontal walk that it belongs to.
    pub(super) const fn service(&self) -> Service {
        Service {
            scope: self.scope,
            transport: self.transport,
            port: self.port,
        }
    }

    /// The contact as a verdict for the walks, with the hash that it has in this engine.
    pub(super) fn verdict(&self, id: u64) -> ContactVerdict {
        ContactVerdict {
            target: Target {
                host: IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
                transport: self.transport,
                port: self.port,
            },
            id,
            time: self.time,
            origin: OriginId::default(),
            outcome: self.outcome,
            change: match self.outcome {
                Outcome::Answered => VerdictChange::Answered,
                Outcome::Unseen => VerdictChange::Unobserved,
                _ => VerdictChange::Failed,
            },
            is_remote: true,
            is_lossy: self.is_lossy,
            neighbour: if self.is_neighbour {
                Neighbour::Sibling
            } else {
                Neighbour::Stranger
            },
            domain: None,
            has_names: self.has_names,
            is_v6_unproven: self.is_v6_unproven,
            is_in_outage: self.is_in_outage,
            is_network_out: false,
            is_ftp_data: self.is_ftp_data,
            shown_since: self.is_shown.then_some(self.time),
            is_server_answer: self.is_server_answer,
        }
    }
}

/// The contribution of one engine to a run. At most [`limits::CONTRIBUTION_FAILED_MAX`] failed and
/// [`limits::CONTRIBUTION_ANSWERED_MAX`] answered contacts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contribution {
    /// Failed contacts, each with its pod, ordered by pod and time.
    pub failed: Vec<(PodKey, SharedContact)>,
    /// Contacts that were answered or may have been. An answer is attributed to no pod.
    pub answered: Vec<SharedContact>,
}

impl Contribution {
    /// Whether it contains no contacts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.failed.is_empty() && self.answered.is_empty()
    }
}

/// The key under which all engines hash the targets of one run.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct RunHash([u8; 16]);

impl std::fmt::Debug for RunHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("RunHash")
    }
}

impl RunHash {
    /// The key of a run.
    pub(super) fn of(run: &RunKey) -> Self {
        let digest = Sha256::digest(run.as_str());
        let mut key = [0; 16];
        key.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
        Self(key)
    }

    /// Hash of a host.
    pub(super) fn host(self, ip: IpAddr) -> u64 {
        self.word(ip, u64::MAX)
    }

    /// Hash of a target.
    pub(super) fn target(self, target: Target) -> u64 {
        self.word(target.host, target.service_word())
    }

    /// A contact of this engine's pod in the form for other engines.
    pub(super) fn shared(self, contact: &ContactVerdict, scope: Scope) -> SharedContact {
        SharedContact {
            time: contact.time,
            target: self.target(contact.target),
            host: self.host(contact.target.host),
            scope,
            transport: contact.target.transport,
            port: contact.target.port,
            outcome: contact.outcome,
            is_neighbour: contact.neighbour != Neighbour::Stranger,
            has_names: contact.has_names,
            is_v6_unproven: contact.is_v6_unproven,
            is_in_outage: contact.is_in_outage,
            is_ftp_data: contact.is_ftp_data,
            is_lossy: contact.is_lossy,
            is_shown: contact.shown_since.is_some(),
            is_server_answer: contact.is_server_answer,
        }
    }

    fn word(self, ip: IpAddr, service: u64) -> u64 {
        let bits = match ip {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let mut hasher = Sha256::new();
        hasher.update(self.0);
        hasher.update(bits.to_be_bytes());
        hasher.update(service.to_be_bytes());
        let mut word = [0; 8];
        let digest = hasher.finalize();
        word.iter_mut()
            .zip(digest)
            .for_each(|(to, from)| *to = from);
        u64::from_be_bytes(word)
    }
}

/// A failed contact of this engine's pod, and the walks in which it counts.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Entry {
    pod: PodKey,
    contact: SharedContact,
    /// Whether it counts in the walk of its service over hosts.
    horizontal: bool,
    /// Whether it counts in the walk of its host over ports.
    vertical: bool,
}

/// The contacts of this engine's pods that count in walks of the run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Ledger {
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::CONTRIBUTION_FAILED_MAX }>")]
    failed: Vec<Entry>,
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::CONTRIBUTION_ANSWERED_MAX }>")]
    answered: Vec<SharedContact>,
    /// Services and hosts with failed contacts that other engines reported, and the time of the last one.
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::RUN_SERVICES_MAX }>")]
    contested_services: Vec<(Service, EventTime)>,
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::RUN_SERVICES_MAX }>")]
    contested_hosts: Vec<(u64, EventTime)>,
    has_changed: bool,
}

impl Ledger {
    /// Marks everything as not contributed, because it is unknown whether it was.
    pub(super) fn repeat(&mut self) {
        self.has_changed = true;
    }

    /// Adds a failed contact of this engine's pod that counts in these walks.
    pub(super) fn fail(
        &mut self,
        pod: &PodKey,
        contact: &SharedContact,
        (horizontal, vertical): (bool, bool),
        member_min: usize,
    ) {
        if !horizontal && !vertical {
            return;
        }
        if self.failed.len() >= limits::CONTRIBUTION_FAILED_MAX && !self.make_room(member_min) {
            return;
        }
        // It may be stored as a contact of unknown outcome.
        self.answered.retain(|known| known.target != contact.target);
        self.failed.push(Entry {
            pod: pod.clone(),
            contact: *contact,
            horizontal,
            vertical,
        });
        self.has_changed = true;
    }

    /// Adds a failed contact that was contributed before a restart, unless it is stored already.
    pub(super) fn restore(
        &mut self,
        pod: &PodKey,
        contact: &SharedContact,
        counts: (bool, bool),
        member_min: usize,
    ) {
        let mut known = self.failed.iter().map(|entry| entry.contact.target);
        if !known.any(|target| target == contact.target) {
            self.fail(pod, contact, counts, member_min);
        }
    }

    /// Records that a target answered this engine's pod, or may have (`Unseen`).
    pub(super) fn answer(&mut self, contact: &SharedContact) {
        self.failed
            .retain(|entry| entry.contact.target != contact.target);
        self.answered.retain(|known| known.target != contact.target);
        if self.answered.len() >= limits::CONTRIBUTION_ANSWERED_MAX {
            self.answered.remove(0);
        }
        self.answered.push(*contact);
        self.has_changed = true;
    }

    /// Removes a target that failed for this engine's pod and answered a pod of another engine.
    pub(super) fn forget(&mut self, target: u64) {
        let before = self.failed.len();
        self.failed.retain(|entry| entry.contact.target != target);
        self.has_changed |= self.failed.len() != before;
    }

    /// Removes the contacts of a pod that was released: they no longer count against it.
    pub(super) fn withdraw_pod(&mut self, pod: &PodKey) {
        let before = self.failed.len();
        self.failed.retain(|entry| entry.pod != *pod);
        self.has_changed |= self.failed.len() != before;
    }

    /// Records a failed contact that another engine reported: answers of the same service matter to that engine.
    pub(super) fn contest(&mut self, contact: &SharedContact) {
        let (time, max) = (contact.time, limits::RUN_SERVICES_MAX);
        self.has_changed |=
            remember_key(&mut self.contested_services, (contact.service(), time), max);
        self.has_changed |= remember_key(&mut self.contested_hosts, (contact.host, time), max);
    }

    /// Removes the contacts of the walk of a service that has ended: they no longer count.
    pub(super) fn service_ended(&mut self, service: Service) {
        for entry in &mut self.failed {
            entry.horizontal &= entry.contact.service() != service;
        }
        self.drop_ended();
    }

    /// Removes the contacts of the walk of a host that has ended.
    pub(super) fn host_ended(&mut self, host: u64) {
        for entry in &mut self.failed {
            entry.vertical &= entry.contact.host != host;
        }
        self.drop_ended();
    }

    /// The contribution to other engines, if it may have changed since the last call. `is_left_out` returns whether the
    /// contacts of a service look like peer-to-peer traffic, which leads to no quarantine.
    pub(super) fn take_changed(
        &mut self,
        now: EventTime,
        member_min: usize,
        is_left_out: impl Fn(Service) -> bool,
    ) -> Option<Contribution> {
        self.expire(now);
        if !std::mem::take(&mut self.has_changed) {
            return None;
        }
        let counts = |entry: &Entry| {
            let contact = &entry.contact;
            let is_same_walk = |other: &&Entry| {
                let is_horizontal = entry.horizontal
                    && other.horizontal
                    && other.contact.service() == contact.service();
                let is_vertical =
                    entry.vertical && other.vertical && other.contact.host == contact.host;
                other.pod == entry.pod && (is_horizontal || is_vertical)
            };
            !is_left_out(contact.service())
                && self
                    .failed
                    .iter()
                    .filter(is_same_walk)
                    .take(member_min)
                    .count()
                    >= member_min
        };
        let counting = self.failed.iter().filter(|entry| counts(entry));
        let mut failed: Vec<_> = counting
            .map(|entry| (entry.pod.clone(), entry.contact))
            .collect();
        let matters = |answer: &&SharedContact| {
            let is_own = |(_, contact): &(PodKey, SharedContact)| {
                contact.service() == answer.service() || contact.host == answer.host
            };
            failed.iter().any(is_own) || self.is_contested(answer)
        };
        let answered = self.answered.iter().filter(matters).copied().collect();
        failed.sort_by(|(a, x), (b, y)| (a, x.time, x.target).cmp(&(b, y.time, y.target)));
        Some(Contribution { failed, answered })
    }

    fn is_contested(&self, answer: &SharedContact) -> bool {
        let service = answer.service();
        self.contested_services
            .iter()
            .any(|(known, _)| *known == service)
            || self
                .contested_hosts
                .iter()
                .any(|(known, _)| *known == answer.host)
    }

    fn drop_ended(&mut self) {
        let before = self.failed.len();
        self.failed
            .retain(|entry| entry.horizontal || entry.vertical);
        self.has_changed |= self.failed.len() != before;
    }

    fn expire(&mut self, now: EventTime) {
        let is_kept = |time: EventTime| now.micros_since(time) < limits::CONTRIBUTION_KEPT_US;
        let before = self.failed.len() + self.answered.len();
        self.failed.retain(|entry| is_kept(entry.contact.time));
        self.answered.retain(|contact| is_kept(contact.time));
        self.contested_services.retain(|(_, time)| is_kept(*time));
        self.contested_hosts.retain(|(_, time)| is_kept(*time));
        self.has_changed |= before != self.failed.len() + self.answered.len();
    }

    /// Removes the oldest contact of the pod with the most contacts, so that every pod keeps as many as it needs to
    /// count.
    fn make_room(&mut self, member_min: usize) -> bool {
        let count_of = |pod: &PodKey| self.failed.iter().filter(|entry| entry.pod == *pod).count();
        let counts = self.failed.iter().map(|entry| count_of(&entry.pod));
        // If several have the same count, the first one, which is the oldest.
        let most = counts
            .enumerate()
            .min_by_key(|(_, count)| std::cmp::Reverse(*count));
        let Some((position, count)) = most else {
            return false;
        };
        if count <= member_min {
            return false;
        }
        self.failed.remove(position);
        true
    }
}

/// Stores a key with its time in place of the oldest key if necessary. Returns whether the key is new.
fn remember_key<K: PartialEq>(
    known: &mut Vec<(K, EventTime)>,
    (key, time): (K, EventTime),
    max: usize,
) -> bool {
    if let Some((_, last)) = known.iter_mut().find(|(other, _)| *other == key) {
        *last = time.max(*last);
        return false;
    }
    if known.len() >= max {
        known.remove(0);
    }
    known.push((key, time));
    true
}
