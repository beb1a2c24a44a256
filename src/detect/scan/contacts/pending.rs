//! Contacts without a verdict: those that wait for an answer, and those that wait until their log is known to show
//! answers. Part of `contacts`.

use serde::{Deserialize, Serialize};

use super::Contacts;
use super::verdict::{ContactVerdict, Target, VerdictChange, proves_an_answer};
use crate::detect::config::ANSWER_WAIT_US;
use crate::detect::origin::visibility::{KEPT_US, Shown};
use crate::detect::origin::{OriginId, ReadProgress};
use crate::detect::state::HashKey;
use crate::detect::state::generational_cache::{DomainId, TargetState};
use crate::limits;
use crate::model::{EventTime, Flow, Neighbour, Outcome};

/// A pending contact from further in the future than this dates from before the clock was set back, and is dropped.
/// Records of several logs, or of the start of a connection, may be earlier by less than this.
const CLOCK_SLACK_US: i64 = 60_000_000;

/// A contact without an answer so far.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct PendingContact {
    pub(super) target: Target,
    pub(super) origin: OriginId,
    pub(super) neighbour: Neighbour,
    /// The registered domain of the name that explains the target.
    pub(super) domain: Option<DomainId>,
    pub(super) id: u64,
    /// Time of the contact.
    pub(super) time: EventTime,
    /// Start of its wait: later than `time` if the clock jumped in between.
    pub(super) since: EventTime,
    pub(super) is_server_answer: bool,
    /// Whether it was reported as [`VerdictChange::Unobserved`].
    pub(super) is_reported_unobserved: bool,
    /// Whether the log showed answers at its time, if the clock has jumped since.
    pub(super) answers_were_shown: bool,
}

impl Contacts {
    /// Returns a verdict, once per contact, if the log has not shown the outcome of a contact.
    pub(super) fn report_unobserved(
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
    pub(super) fn await_proof(
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

    pub(super) fn keep_unobserved(&mut self, waiting: PendingContact) {
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
    pub(super) fn next_proven_failure(
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
            if shown != Shown::Yes || read.is_lossy(origin, time) {
                self.targets.remove(id);
                continue;
            }
            self.unobserved_count = self.unobserved_count.saturating_sub(1);
            let waiting = self.explained(waiting, key);
            let contact = self.verdict(&waiting, Outcome::Unanswered, VerdictChange::Failed);
            if let Some(contact) = self.failed(contact, key) {
                return Some(contact);
            }
        }
        None
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

    pub(super) fn next_overdue_pending(
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
            let transport = waiting.target.transport;
            let is_lossy = read.is_lossy(waiting.origin, waiting.time);
            if is_from_the_future || is_lossy {
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
            let waiting = self.explained(waiting, key);
            let contact = self.verdict(&waiting, Outcome::Unanswered, VerdictChange::Failed);
            if let Some(contact) = self.failed(contact, key) {
                return Some(contact);
            }
        }
    }

    /// The contact with the domain of a DNS answer that the log contains after it.
    pub(super) fn explained(&mut self, waiting: PendingContact, key: HashKey) -> PendingContact {
        let domain = waiting
            .domain
            .or_else(|| self.domain_of(waiting.target.host, key));
        PendingContact { domain, ..waiting }
    }

    /// If the queue is full, the new contact is dropped and not an old one: the pending ones will get a verdict, and
    /// the dropped one counts when it is tried again.
    pub(super) fn await_answer(
        &mut self,
        mut waiting: PendingContact,
        flow: &Flow<'_>,
        read: &ReadProgress<'_>,
        key: HashKey,
    ) -> Option<ContactVerdict> {
        let outcome = flow.outcome;
        let transport = waiting.target.transport;
        let shows_answers = || read.shows_answers(waiting.origin, transport, waiting.time);
        let was_served = proves_an_answer(flow) && !shows_answers();
        self.has_v6 |= was_served && waiting.target.host.is_ipv6();
        let before = self.targets.touch(waiting.id);
        if was_served && matches!(before, None | Some(TargetState::Open)) {
            self.network_answered(waiting.target, key);
        }
        match before {
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
        // A contact with a named target does not take the place of one that only an address identifies.
        let pending_max = if waiting.domain.is_some() {
            limits::PENDING_MAX / 2
        } else {
            limits::PENDING_MAX
        };
        if is_pending
            && self.pending.len() >= pending_max
            && !self.make_room(waiting.time, pending_max)
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
    pub(super) fn make_room(&mut self, now: EventTime, pending_max: usize) -> bool {
        let is_stale = |since: EventTime| since.micros_since(now) > CLOCK_SLACK_US;
        let front_is_stale = self
            .pending
            .front()
            .is_some_and(|waiting| is_stale(waiting.since));
        if self.pending_open_count > pending_max / 2 && !front_is_stale {
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
        self.pending.len() < pending_max
    }

    /// Keeps the targets of waiting contacts in the cache, so that contacts with many other targets cannot evict them
    /// before they have a verdict. At most 176 lookups per 384 new targets.
    pub(super) fn keep_waiting_targets(&mut self) {
        if self.targets.take_has_aged() {
            for waiting in self.pending.iter().chain(&self.unobserved) {
                self.targets.touch(waiting.id);
            }
        }
    }
}
