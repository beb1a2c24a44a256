//! Contacts: the first attempts of a pod to reach a target, and their outcome.
//!
//! Called by `pod` for every flow. Retries of one target, and the several records that a log contains about one
//! connection, are one contact. A contact without an outcome in the log fails when its answer is overdue in event time.
//! An address from a DNS answer is no evidence for a scan: a scanner enumerates addresses, an honest client looks up
//! names.

mod verdict;

use std::collections::VecDeque;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::outage::Outage;
use crate::detect::config::ANSWER_WAIT_US;
use crate::detect::origin::visibility::{KEPT_US, Shown};
use crate::detect::origin::{OriginId, ReadProgress};
use crate::detect::scope::plain;
use crate::detect::state::generational_cache::{GenerationalCache, TargetState};
use crate::detect::state::{HashKey, bounded};
use crate::limits;
use crate::model::{EventTime, Flow, Neighbour, Outcome, Transport};

pub(in crate::detect) use verdict::{ContactVerdict, Target, VerdictChange};
use verdict::{
    FTP_DATA_PORT_MIN, FTP_PORT, QUIC_PORT, WEB_PORTS, is_inconclusive, is_quic, is_server_answer,
    needs_proof, proves_an_answer,
};

/// A pending contact from further in the future than this dates from before the clock was set back, and is dropped.
/// Records of several logs, or of the start of a connection, may be earlier by less than this.
const CLOCK_SLACK_US: i64 = 60_000_000;

/// While contacts are pending, the time between two records of a pod rarely exceeds this. If it does, either the pod
/// was quiet or the clock was set, and pending contacts get one more [`ANSWER_WAIT_US`] from then on, because answers
/// may carry the new time. Only once, so that a scanner with one target per hour is detected too.
pub(in crate::detect) const CLOCK_JUMP_US: i64 = 60_000_000;

/// The same for the time up to which the caller has read the logs, which also advances for quiet pods: a log that was
/// interrupted for a day shows no answers from that day.
pub(in crate::detect) const LOG_GAP_US: i64 = 86_400_000_000;

/// A contact without an answer so far.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct PendingContact {
    target: Target,
    origin: OriginId,
    neighbour: Neighbour,
    id: u64,
    /// Time of the contact.
    time: EventTime,
    /// Start of its wait: later than `time` if the clock jumped in between.
    since: EventTime,
    is_server_answer: bool,
    /// Whether it was reported as [`VerdictChange::Unobserved`].
    is_reported_unobserved: bool,
    /// Whether the log showed answers at its time, if the clock has jumped since.
    answers_were_shown: bool,
}

/// The contacts of a pod, and the addresses from its DNS answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(in crate::detect) struct Contacts {
    targets: GenerationalCache,
    resolved: GenerationalCache,
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
}

impl Default for Contacts {
    fn default() -> Self {
        Self {
            targets: GenerationalCache::new(limits::CONTACTS_GENERATION_MAX),
            resolved: GenerationalCache::new(limits::DNS_GENERATION_MAX),
            pending: VecDeque::new(),
            pending_open_count: 0,
            unobserved: VecDeque::new(),
            unobserved_count: 0,
            now: EventTime::MIN,
            has_dns: false,
            has_names: false,
            has_v6: false,
            outage: Outage::default(),
        }
    }
}

impl Contacts {
    /// Stores the addresses of a DNS answer to the pod.
    pub(in crate::detect) fn resolved(&mut self, answers: &[IpAddr], key: HashKey) {
        self.has_dns |= !answers.is_empty();
        for ip in answers.iter().take(limits::DNS_ANSWERS_MAX) {
            self.resolved
                .insert(key.host(plain(*ip)), TargetState::Good);
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
        key: HashKey,
    ) -> Option<ContactVerdict> {
        if !flow.outcome.is_attempt() || is_inconclusive(flow, origin, read) {
            return None;
        }
        // A name in the record itself results from the pod's DNS answers too (Hubble).
        if flow.destination_name.is_some() {
            self.has_names = true;
            return None;
        }
        let target = Target::of(flow);
        if self.has_dns && self.resolved.touch(key.host(target.host)).is_some() {
            return None;
        }
        let id = target.id(key);
        let waiting = PendingContact {
            target,
            origin,
            neighbour,
            id,
            time: flow.time,
            since: flow.time,
            is_server_answer: is_server_answer(flow),
            is_reported_unobserved: false,
            answers_were_shown: false,
        };
        let Some(success) = flow.outcome.success() else {
            return self.await_answer(waiting, flow, read);
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
            self.has_v6 |= target.host.is_ipv6();
            self.targets.insert(id, TargetState::Good);
            Some(ContactVerdict {
                neighbour: Neighbour::Stranger,
                ..verdict
            })
        } else {
            self.failed(verdict, key)
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
            has_names: self.has_dns || self.has_names,
            is_v6_unproven: false,
            is_in_outage: false,
            is_ftp_data: false,
            shown_since: Some(waiting.time),
            is_server_answer: waiting.is_server_answer,
        }
    }

    /// Returns a verdict, once per contact, if the log has not shown the outcome of a contact.
    fn report_unobserved(
        &mut self,
        waiting: &mut PendingContact,
        read: &ReadProgress<'_>,
    ) -> Option<ContactVerdict> {
        let PendingContact {
            target,
            origin,
            time,
            ..
        } = *waiting;
        // A server's answer waits for no answer.
        if waiting.is_reported_unobserved
            || waiting.is_server_answer
            || read.shows_answers(origin, target.transport, time)
        {
            return None;
        }
        waiting.is_reported_unobserved = true;
        self.unobserved_count = self.unobserved_count.saturating_add(1);
        Some(ContactVerdict {
            shown_since: None,
            ..self.verdict(waiting, Outcome::Unseen, VerdictChange::Unobserved)
        })
    }

    /// Processes an unanswered contact in a log that has not shown answers: the contact waits until the log shows one
    /// to any pod.
    fn await_proof(
        &mut self,
        mut waiting: PendingContact,
        before: Option<TargetState>,
        read: &ReadProgress<'_>,
    ) -> Option<ContactVerdict> {
        if !matches!(before, Some(TargetState::Open) | None) {
            return None;
        }
        // An open contact was reported already, or is pending.
        waiting.is_reported_unobserved = before.is_some();
        let verdict = self.report_unobserved(&mut waiting, read);
        self.keep_unobserved(waiting);
        verdict
    }

    fn keep_unobserved(&mut self, waiting: PendingContact) {
        let is_kept = |known: &PendingContact| known.id == waiting.id;
        if self.unobserved.iter().any(is_kept) {
            return;
        }
        if self.unobserved.len() >= limits::UNSHOWN_MAX {
            let targets = &mut self.targets;
            self.unobserved
                .retain(|known| targets.touch(known.id) == Some(TargetState::Open));
        }
        if self.unobserved.len() >= limits::UNSHOWN_MAX
            && let Some(oldest) = self.unobserved.pop_front()
        {
            self.targets.remove(oldest.id);
        }
        self.targets.insert(waiting.id, TargetState::Open);
        self.unobserved.push_back(waiting);
    }

    /// The next unanswered contact in a log that has shown answers since. A contact that has waited longer than answers
    /// are remembered counts when it is tried again.
    fn next_proven_failure(
        &mut self,
        read: &ReadProgress<'_>,
        key: HashKey,
    ) -> Option<ContactVerdict> {
        let mut position = 0;
        while let Some(&waiting) = self.unobserved.get(position) {
            let PendingContact {
                target,
                origin,
                time,
                id,
                ..
            } = waiting;
            let shown = read.answers(origin, target.transport, time);
            let is_old = read.now.micros_since(time) > KEPT_US;
            if !read.has(origin) || (shown == Shown::NotYet && !is_old) {
                position += 1;
                continue;
            }
            self.unobserved.remove(position);
            if self.targets.touch(id) != Some(TargetState::Open) {
                continue;
            }
            let is_resolved = self.resolved.touch(key.host(target.host)).is_some();
            if shown != Shown::Yes || read.is_lossy(origin, time) || is_resolved {
                self.targets.remove(id);
                continue;
            }
            self.unobserved_count = self.unobserved_count.saturating_sub(1);
            let contact = self.verdict(&waiting, Outcome::Unanswered, VerdictChange::Failed);
            if let Some(contact) = self.failed(contact, key) {
                return Some(contact);
            }
        }
        None
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

    /// Advances to the time up to which logs were read. If the time since the last call is more than `jump_us`,
    /// contacts that wait for the first time start to wait again.
    pub(in crate::detect) fn advance_to(&mut self, read: &ReadProgress<'_>, jump_us: i64) {
        if self.now > EventTime::MIN && read.now.micros_since(self.now) > jump_us {
            for waiting in &mut self.pending {
                if waiting.since == waiting.time && read.has(waiting.origin) {
                    waiting.since = read.now;
                    let transport = waiting.target.transport;
                    let shown = read.answers(waiting.origin, transport, waiting.time);
                    waiting.answers_were_shown = shown == Shown::Yes;
                }
            }
        }
        self.now = read.now;
    }

    /// The next open contact with an overdue answer. If the log may miss records of that time, a missing answer is no
    /// evidence and the contact is dropped; if the log has not shown answers, the contact continues to wait.
    pub(in crate::detect) fn next_overdue(
        &mut self,
        read: &ReadProgress<'_>,
        key: HashKey,
    ) -> Option<ContactVerdict> {
        self.outage.advance_to(read);
        self.next_overdue_pending(read, key)
            .or_else(|| self.next_proven_failure(read, key))
    }

    fn next_overdue_pending(
        &mut self,
        read: &ReadProgress<'_>,
        key: HashKey,
    ) -> Option<ContactVerdict> {
        loop {
            // Ordered by time, for each log as well.
            let position = self.pending.iter().position(|w| read.has(w.origin))?;
            let mut waiting = *self.pending.get(position)?;
            let waited_us = read.now.micros_since(waiting.since);
            let is_from_the_future = waited_us < -CLOCK_SLACK_US;
            if waited_us < ANSWER_WAIT_US && !is_from_the_future {
                return None;
            }
            self.pending.remove(position);
            // Contacts that were dropped from the cache are not subtracted elsewhere.
            self.pending_open_count = self.pending_open_count.min(self.pending.len() + 1);
            if self.targets.touch(waiting.id) != Some(TargetState::Open) {
                continue;
            }
            self.pending_open_count = self.pending_open_count.saturating_sub(1);
            let (host, transport) = (key.host(waiting.target.host), waiting.target.transport);
            let is_lossy = read.is_lossy(waiting.origin, waiting.time);
            if is_from_the_future || is_lossy || self.resolved.touch(host).is_some() {
                self.targets.remove(waiting.id);
                continue;
            }
            let shown = read.answers(waiting.origin, transport, waiting.time);
            if !waiting.answers_were_shown && shown != Shown::Yes {
                let verdict = self.report_unobserved(&mut waiting, read);
                self.keep_unobserved(waiting);
                match verdict {
                    Some(verdict) => return Some(verdict),
                    None => continue,
                }
            }
            if waiting.is_reported_unobserved {
                self.unobserved_count = self.unobserved_count.saturating_sub(1);
            }
            let contact = self.verdict(&waiting, Outcome::Unanswered, VerdictChange::Failed);
            if let Some(contact) = self.failed(contact, key) {
                return Some(contact);
            }
        }
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

    /// If the queue is full, the new contact is dropped and not an old one: the pending ones will get a verdict, and
    /// the dropped one counts when it is tried again.
    fn await_answer(
        &mut self,
        mut waiting: PendingContact,
        flow: &Flow<'_>,
        read: &ReadProgress<'_>,
    ) -> Option<ContactVerdict> {
        let outcome = flow.outcome;
        let transport = waiting.target.transport;
        let shows_answers = || read.shows_answers(waiting.origin, transport, waiting.time);
        let was_served = proves_an_answer(flow) && !shows_answers();
        self.has_v6 |= was_served && waiting.target.host.is_ipv6();
        match self.targets.touch(waiting.id) {
            Some(TargetState::Good) if outcome == Outcome::Pending => {
                self.outage
                    .retry_started(waiting.id, waiting.origin, waiting.time);
                return None;
            }
            Some(TargetState::Failed) if was_served => {
                self.targets.insert(waiting.id, TargetState::Good);
                return Some(self.verdict(&waiting, Outcome::Answered, VerdictChange::Recovered));
            }
            // The start of the connection is in the log too (conntrack), and was reported as unobserved.
            Some(TargetState::Open) if was_served => {
                self.pending_open_count = self.pending_open_count.saturating_sub(1);
                self.targets.insert(waiting.id, TargetState::Good);
                return None;
            }
            Some(_) => return None,
            None => {}
        }
        let is_pending = outcome == Outcome::Pending;
        if is_pending && self.pending.len() >= limits::PENDING_MAX && !self.make_room(waiting.time)
        {
            return None;
        }
        let state = if was_served {
            TargetState::Good
        } else {
            TargetState::Open
        };
        self.targets.insert(waiting.id, state);
        if is_pending {
            let verdict = self.report_unobserved(&mut waiting, read);
            self.pending.push_back(waiting);
            self.pending_open_count += 1;
            verdict
        } else {
            // It has ended, or its log shows no ends: its outcome will not become known.
            self.unobserved_count = self.unobserved_count.saturating_add(1);
            Some(ContactVerdict {
                shown_since: shows_answers().then_some(waiting.time),
                ..self.verdict(&waiting, outcome, VerdictChange::Unobserved)
            })
        }
    }

    /// Removes answered contacts from the queue, and those that a clock that was set back has left in the future.
    /// Checks the queue only if many entries may be removable, so that a flood costs no full check per record.
    fn make_room(&mut self, now: EventTime) -> bool {
        let is_stale = |since: EventTime| since.micros_since(now) > CLOCK_SLACK_US;
        let front_is_stale = self
            .pending
            .front()
            .is_some_and(|waiting| is_stale(waiting.since));
        if self.pending_open_count > limits::PENDING_MAX / 2 && !front_is_stale {
            return false;
        }
        let targets = &mut self.targets;
        self.pending.retain(|waiting| {
            let is_open = targets.touch(waiting.id) == Some(TargetState::Open);
            if is_open && is_stale(waiting.since) {
                targets.remove(waiting.id);
            }
            is_open && !is_stale(waiting.since)
        });
        self.pending_open_count = self.pending.len();
        self.pending.len() < limits::PENDING_MAX
    }
}
