//! Contacts: the first attempts of a pod to reach a target, and their outcome.
//!
//! Called by `pod` for every flow. Retries of one target, and the several records that a log contains about one
//! connection, are one contact. A contact without an outcome in the log fails when its answer is overdue in event time.
//! A contact with a target that a name explains counts for the name's domain (see `named`).

mod networks;
mod pending;
mod verdict;

use std::collections::VecDeque;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::named::domain_of;
use super::outage::Outage;
use crate::detect::config::EngineConfig;
use crate::detect::origin::visibility::Shown;
use crate::detect::origin::{OriginId, ReadProgress};
use crate::detect::scope::plain;
use crate::detect::state::generational_cache::{DomainCache, DomainId, TargetCache, TargetState};
use crate::detect::state::{HashKey, bounded};
use crate::limits;
use crate::model::{EventTime, Flow, Neighbour, Outcome, Transport};

use networks::AnsweringNetworks;
use pending::PendingContact;
pub(in crate::detect) use verdict::{ContactVerdict, Target, VerdictChange};
use verdict::{
    FTP_DATA_PORT_MIN, FTP_PORT, QUIC_PORT, WEB_PORTS, is_inconclusive, is_quic, is_server_answer,
    needs_proof,
};

/// While contacts are pending, the time between two records of a pod rarely exceeds this. If it does, either the pod
/// was quiet or the clock was set, and pending contacts get one more [`ANSWER_WAIT_US`] from then on, because answers
/// may carry the new time. Only once, so that a scanner with one target per hour is detected too.
pub(in crate::detect) const CLOCK_JUMP_US: i64 = 60_000_000;

/// The same for the time up to which the caller has read the logs, which also advances for quiet pods: a log that was
/// interrupted for a day shows no answers from that day.
pub(in crate::detect) const LOG_GAP_US: i64 = 86_400_000_000;

/// The contacts of a pod, and the addresses from its DNS answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::detect) struct Contacts {
    targets: TargetCache,
    /// The domains of hosts in DNS answers.
    resolved: DomainCache,
    #[serde(deserialize_with = "bounded::queue::<_, _, { limits::PENDING_MAX }>")]
    pending: VecDeque<PendingContact>,
    #[serde(deserialize_with = "bounded::count::<_, { limits::PENDING_MAX + 1 }>")]
    pending_open_count: usize,
    /// Contacts that wait until their log shows answers.
    #[serde(deserialize_with = "bounded::queue::<_, _, { limits::UNSHOWN_MAX }>")]
    unobserved: VecDeque<PendingContact>,
    /// Number of contacts with an outcome that the log has not shown.
    unobserved_count: u32,
    /// The time of the last call of [`Contacts::advance_to`].
    now: EventTime,
    has_dns: bool,
    has_names: bool,
    has_v6: bool,
    outage: Outage,
    networks: AnsweringNetworks,
}

impl Default for Contacts {
    fn default() -> Self {
        Self {
            targets: TargetCache::new(limits::CONTACTS_GENERATION_MAX),
            resolved: DomainCache::new(limits::DNS_GENERATION_MAX),
            pending: VecDeque::new(),
            pending_open_count: 0,
            unobserved: VecDeque::new(),
            unobserved_count: 0,
            now: EventTime::MIN,
            has_dns: false,
            has_names: false,
            has_v6: false,
            outage: Outage::default(),
            networks: AnsweringNetworks::default(),
        }
    }
}

impl Contacts {
    /// Stores the addresses of a DNS answer to the pod, unless the name explains nothing about them.
    pub(in crate::detect) fn resolved(
        &mut self,
        name: &str,
        answers: &[IpAddr],
        config: &EngineConfig,
    ) {
        self.has_dns |= !answers.is_empty();
        let key = config.hash_key;
        for ip in answers.iter().take(limits::DNS_ANSWERS_MAX) {
            let host = plain(*ip);
            if let Some(domain) = domain_of(name, host, config.scopes.classify(host), key) {
                self.resolved.insert(key.host(host), domain);
            }
        }
    }

    /// Whether any DNS answer of this pod was seen.
    pub(in crate::detect) fn has_dns(&self) -> bool {
        self.has_dns
    }

    /// Number of contacts with an outcome that the log has not, or not yet, shown.
    pub(in crate::detect) fn unjudged_count(&self) -> usize {
        let unobserved = usize::try_from(self.unobserved_count).unwrap_or(usize::MAX);
        let waits = |waiting: &&PendingContact| !waiting.is_reported_unobserved;
        unobserved.saturating_add(self.pending.iter().filter(waits).count())
    }

    /// Processes a flow. Returns the verdict if it changed.
    pub(in crate::detect) fn observe(
        &mut self,
        flow: &Flow<'_>,
        (neighbour, origin): (Neighbour, OriginId),
        read: &ReadProgress<'_>,
        config: &EngineConfig,
    ) -> Option<ContactVerdict> {
        let key = config.hash_key;
        if !flow.outcome.is_attempt() || is_inconclusive(flow, origin, read) {
            return None;
        }
        self.keep_waiting_targets();
        let target = Target::of(flow);
        let domain = if let Some(name) = &flow.destination_name {
            // A name in the record itself results from the pod's DNS answers too (Hubble).
            self.has_names = true;
            let scope = config.scopes.classify(target.host);
            domain_of(name, target.host, scope, key)
        } else {
            self.domain_of(target.host, key)
        };
        let id = target.id(key);
        let waiting = PendingContact {
            target,
            origin,
            neighbour,
            domain,
            id,
            time: flow.time,
            since: flow.time,
            is_server_answer: is_server_answer(flow),
            is_reported_unobserved: false,
            answers_were_shown: false,
        };
        let Some(success) = flow.outcome.success() else {
            return self.await_answer(waiting, flow, read, key);
        };
        let before = self.targets.touch(id);
        // The remote side can send a SYN-ACK to any host.
        if flow.is_inferred && before.is_none() {
            return None;
        }
        if !success
            && needs_proof(flow)
            && read.answers(origin, target.transport, flow.time) != Shown::Yes
        {
            return self.await_proof(waiting, before, read);
        }
        if before == Some(TargetState::Good) {
            self.outage.retry_finished(id, flow.time, success);
        }
        let change = match (before, success) {
            (Some(TargetState::Good), _) | (Some(TargetState::Failed), false) => return None,
            (Some(TargetState::Failed), true) => VerdictChange::Recovered,
            (Some(TargetState::Open) | None, true) => VerdictChange::Answered,
            (Some(TargetState::Open) | None, false) => VerdictChange::Failed,
        };
        if before == Some(TargetState::Open) {
            self.pending_open_count = self.pending_open_count.saturating_sub(1);
            self.mark_observed(id);
        }
        let verdict = ContactVerdict {
            // A denial is certain, but successes beside it must be visible too.
            shown_since: read
                .allowed_since(origin, target.transport, flow.time)
                .or(flow.forwarded.then_some(flow.time)),
            ..self.verdict(&waiting, flow.outcome, change)
        };
        if success {
            Some(self.answered(verdict, key))
        } else {
            self.failed(verdict, key)
        }
    }

    /// Returns the verdict on an answer.
    fn answered(&mut self, contact: ContactVerdict, key: HashKey) -> ContactVerdict {
        let target = contact.target;
        self.has_v6 |= target.host.is_ipv6();
        self.targets.insert(contact.id, TargetState::Good);
        self.network_answered(target, key);
        ContactVerdict {
            neighbour: Neighbour::Stranger,
            ..contact
        }
    }

    /// The domain of a host, if a DNS answer explains it.
    fn domain_of(&mut self, host: IpAddr, key: HashKey) -> Option<DomainId> {
        if self.has_dns {
            self.resolved.touch(key.host(host))
        } else {
            None
        }
    }

    fn network_answered(&mut self, target: Target, key: HashKey) {
        if target.is_web() && !self.has_dns && !self.has_names {
            self.networks.answered(target, key);
        }
    }

    /// Records that the outcome of an open contact became known.
    fn mark_observed(&mut self, id: u64) {
        if self.unobserved_count == 0 {
            return;
        }
        let mut waiting = self.pending.iter().chain(&self.unobserved);
        if waiting
            .find(|w| w.id == id)
            .is_none_or(|w| w.is_reported_unobserved)
        {
            self.unobserved_count = self.unobserved_count.saturating_sub(1);
        }
    }

    fn verdict(
        &self,
        waiting: &PendingContact,
        outcome: Outcome,
        change: VerdictChange,
    ) -> ContactVerdict {
        ContactVerdict {
            target: waiting.target,
            id: waiting.id,
            time: waiting.time,
            origin: waiting.origin,
            outcome,
            change,
            is_remote: false,
            is_lossy: false,
            neighbour: waiting.neighbour,
            domain: waiting.domain,
            has_names: self.has_dns || self.has_names,
            is_v6_unproven: false,
            is_in_outage: false,
            is_network_out: false,
            is_ftp_data: false,
            shown_since: Some(waiting.time),
            is_server_answer: waiting.is_server_answer,
        }
    }

    /// Returns the verdict on a failure, unless other facts about the host explain it.
    fn failed(&mut self, mut contact: ContactVerdict, key: HashKey) -> Option<ContactVerdict> {
        let target = contact.target;
        if is_quic(target) {
            let mut is_good = |port| self.is_good(target.host, port, key);
            if WEB_PORTS.into_iter().any(&mut is_good) {
                self.targets.insert(contact.id, TargetState::Good);
                return None;
            }
        }
        contact.is_ftp_data = target.transport == Transport::Tcp
            && target.port >= FTP_DATA_PORT_MIN
            && self.is_good(target.host, FTP_PORT, key);
        contact.is_v6_unproven = target.host.is_ipv6() && !self.has_v6;
        contact.is_in_outage = self.outage.covers(contact.time);
        if target.is_web() && !contact.has_names {
            contact.is_network_out = self.networks.failed(target, key);
        }
        self.targets.insert(contact.id, TargetState::Failed);
        Some(contact)
    }

    fn is_good(&mut self, host: IpAddr, port: u16, key: HashKey) -> bool {
        let target = Target {
            host,
            transport: Transport::Tcp,
            port,
        };
        self.targets.touch(target.id(key)) == Some(TargetState::Good)
    }

    /// The verdict that an answer changes for another contact: a host that answers as a web server and had not answered
    /// QUIC is no unused address. A network or host that drops UDP explains the earlier failure.
    pub(in crate::detect) fn cleared_by_answer(
        &mut self,
        answered: &ContactVerdict,
        key: HashKey,
    ) -> Option<ContactVerdict> {
        let Target {
            host,
            transport,
            port,
        } = answered.target;
        let is_web = transport == Transport::Tcp && WEB_PORTS.contains(&port);
        if !matches!(
            answered.change,
            VerdictChange::Answered | VerdictChange::Recovered
        ) || !is_web
        {
            return None;
        }
        let target = Target {
            host,
            transport: Transport::Udp,
            port: QUIC_PORT,
        };
        let id = target.id(key);
        if self.targets.touch(id) != Some(TargetState::Failed) {
            return None;
        }
        self.targets.insert(id, TargetState::Good);
        Some(ContactVerdict {
            target,
            id,
            change: VerdictChange::Recovered,
            ..*answered
        })
    }

    /// Number of contacts in the queue: those that wait for an answer, and answered ones that are not removed yet.
    pub(in crate::detect) fn pending_count(&self) -> usize {
        self.pending.len()
    }

    /// The logs in which contacts wait for an answer.
    pub(in crate::detect) fn pending_origins(&self) -> impl Iterator<Item = OriginId> {
        let waiting = self.pending.iter().chain(&self.unobserved);
        waiting.map(|waiting| waiting.origin)
    }

    /// Drops the contacts that wait for an answer: they count when they are tried again.
    pub(in crate::detect) fn discard_pending(&mut self) {
        for waiting in std::mem::take(&mut self.pending) {
            if self.targets.touch(waiting.id) == Some(TargetState::Open) {
                self.targets.remove(waiting.id);
            }
        }
        self.pending_open_count = 0;
        self.outage.discard_retries();
    }

    /// Drops also the contacts that wait until their log shows answers.
    pub(in crate::detect) fn forget_logs(&mut self) {
        self.discard_pending();
        for waiting in std::mem::take(&mut self.unobserved) {
            if self.targets.touch(waiting.id) == Some(TargetState::Open) {
                self.targets.remove(waiting.id);
            }
        }
    }
}
