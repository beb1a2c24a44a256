//! Contacts: what a pod tried for the first time, and what became of it.
//!
//! Called by `engine` for every flow. Retries of one target, and the several records that a log
//! writes about one connection, are one contact here. A contact that a log left open becomes a
//! failure when its answer is overdue in event time. An address that the pod got from a DNS
//! answer is no evidence for a scan: a scanner lists addresses, an honest client asks for names.

use std::collections::VecDeque;
use std::net::IpAddr;

use super::recent::Recent;
use super::scope::plain;
use crate::limits;
use crate::model::{EventTime, Flow, Outcome, Transport};

/// Silence after which an open contact has failed. Linux sends a SYN again after 1, 3 and 7 s;
/// who has not answered by then does not.
pub(super) const ANSWER_WAIT_US: i64 = 10_000_000;

/// What waits since this long after "now" is from before the clock went back, and makes room.
/// Records of several logs, or of a connection's start, may well go back by less.
const CLOCK_SLACK_US: i64 = 60_000_000;

/// One target of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Target {
    pub(super) host: IpAddr,
    pub(super) transport: Transport,
    pub(super) port: u16,
}

impl Target {
    /// The target of a flow. ICMP has no ports; some logs put type and code there.
    pub(super) fn of(flow: &Flow<'_>) -> Self {
        let port = if flow.transport == Transport::Icmp {
            0
        } else {
            flow.destination_port
        };
        Self {
            host: plain(flow.destination),
            transport: flow.transport,
            port,
        }
    }
}

/// What a contact turned out to be, said once per change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) target: Target,
    pub(super) time: EventTime,
    pub(super) outcome: Outcome,
    pub(super) change: Change,
}

/// How a contact's verdict changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// The first word about it is a success.
    Answered,
    /// The first word about it is a failure.
    Failed,
    /// It had counted as a failure, and then it answered after all.
    Recovered,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    Failed,
    Answered,
}

/// A pod's contacts and the addresses that DNS gave it.
#[derive(Clone, Debug)]
pub(super) struct Contacts {
    targets: Recent<Target, State>,
    resolved: Recent<IpAddr, ()>,
    pending: VecDeque<(EventTime, Target)>,
    pending_open_count: usize,
    has_dns: bool,
}

impl Default for Contacts {
    fn default() -> Self {
        Self {
            targets: Recent::new(limits::CONTACTS_GENERATION_MAX),
            resolved: Recent::new(limits::DNS_GENERATION_MAX),
            pending: VecDeque::new(),
            pending_open_count: 0,
            has_dns: false,
        }
    }
}

impl Contacts {
    /// A DNS answer gave the pod these addresses.
    pub(super) fn resolved(&mut self, answers: &[IpAddr]) {
        self.has_dns |= !answers.is_empty();
        for ip in answers.iter().take(limits::DNS_ANSWERS_MAX) {
            self.resolved.insert(plain(*ip), ());
        }
    }

    /// Whether any DNS answer of this pod was ever seen.
    pub(super) fn has_dns(&self) -> bool {
        self.has_dns
    }

    /// Takes in a flow and says what changed, if anything.
    pub(super) fn observe(&mut self, flow: &Flow<'_>) -> Option<Judged> {
        if matches!(flow.outcome, Outcome::NotAnAttempt | Outcome::Unseen) {
            return None;
        }
        let target = Target::of(flow);
        // A name that the log itself gives comes from the pod's DNS answers too (Hubble).
        if flow.destination_name.is_some() || self.resolved.touch(&target.host).is_some() {
            return None;
        }
        let Some(success) = flow.outcome.success() else {
            self.wait_for(flow.time, target);
            return None;
        };
        let before = self.targets.touch(&target).copied();
        let change = match (before, success) {
            (Some(State::Answered), _) | (Some(State::Failed), false) => return None,
            (Some(State::Failed), true) => Change::Recovered,
            (Some(State::Pending) | None, true) => Change::Answered,
            (Some(State::Pending) | None, false) => Change::Failed,
        };
        if before == Some(State::Pending) {
            self.pending_open_count = self.pending_open_count.saturating_sub(1);
        }
        let state = if success {
            State::Answered
        } else {
            State::Failed
        };
        self.targets.insert(target, state);
        Some(Judged {
            target,
            time: flow.time,
            outcome: flow.outcome,
            change,
        })
    }

    /// The next open contact whose answer is overdue at `now`. `is_lossy` says whether records of
    /// that time may be missing: then silence says nothing and the contact is forgotten.
    pub(super) fn overdue(
        &mut self,
        now: EventTime,
        is_lossy: impl Fn(EventTime) -> bool,
    ) -> Option<Judged> {
        while let Some(&(time, target)) = self.pending.front() {
            if now.micros_since(time) < ANSWER_WAIT_US {
                return None;
            }
            self.pending.pop_front();
            // A contact that was forgotten meanwhile never reports back.
            self.pending_open_count = self.pending_open_count.min(self.pending.len() + 1);
            if self.targets.touch(&target).copied() != Some(State::Pending) {
                continue;
            }
            self.pending_open_count = self.pending_open_count.saturating_sub(1);
            if is_lossy(time) || self.resolved.touch(&target.host).is_some() {
                self.targets.remove(&target);
                continue;
            }
            self.targets.insert(target, State::Failed);
            let outcome = Outcome::Unanswered;
            return Some(Judged {
                target,
                time,
                outcome,
                change: Change::Failed,
            });
        }
        None
    }

    /// When the queue is full the new contact is left out, not an old one: those that wait will
    /// be judged, and what was left out counts when it is tried again.
    fn wait_for(&mut self, time: EventTime, target: Target) {
        if self.targets.touch(&target).is_some() {
            return;
        }
        if self.pending.len() >= limits::PENDING_MAX && !self.make_room(time) {
            return;
        }
        self.targets.insert(target, State::Pending);
        self.pending.push_back((time, target));
        self.pending_open_count += 1;
    }

    /// Drops from the queue what was answered meanwhile, and what a clock that went back has left
    /// in the future. Looks only when that is worth it, so that a flood costs no scan per record.
    fn make_room(&mut self, now: EventTime) -> bool {
        let is_stale = |time: EventTime| time.micros_since(now) > CLOCK_SLACK_US;
        let front_is_stale = self
            .pending
            .front()
            .is_some_and(|(time, _)| is_stale(*time));
        if self.pending_open_count > limits::PENDING_MAX / 2 && !front_is_stale {
            return false;
        }
        let targets = &mut self.targets;
        self.pending.retain(|(time, target)| {
            let is_open = targets.touch(target) == Some(&mut State::Pending);
            if is_open && is_stale(*time) {
                targets.remove(target);
            }
            is_open && !is_stale(*time)
        });
        self.pending_open_count = self.pending.len();
        self.pending.len() < limits::PENDING_MAX
    }
}
