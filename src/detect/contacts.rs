//! Contacts: what a pod tried for the first time, and what became of it.
//!
//! Called by `engine` for every flow. Retries of one target, and the several records that a log
//! writes about one connection, are one contact here. A contact that a log left open becomes a
//! failure when its answer is overdue in event time. An address that the pod got from a DNS
//! answer is no evidence for a scan: a scanner lists addresses, an honest client asks for names.

mod verdict;

use std::collections::VecDeque;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::config::ANSWER_WAIT_US;
use super::origin::visibility::{KEPT_US, Shown};
use super::origin::{OriginId, ReadProgress as Read};
use super::scan::outage::Outage;
use super::scope::plain;
use super::state::HashKey;
use super::state::bounded as saved;
use super::state::generational_cache::{GenerationalCache as Recent, TargetState as Mark};
use crate::limits;
use crate::model::{EventTime, Flow, Neighbour, Outcome, Transport};

pub(super) use verdict::{ContactVerdict, Target, VerdictChange};
use verdict::{ContactVerdict as Judged, VerdictChange as Change};
use verdict::{QUIC_PORT, WEB_PORTS, is_quic, is_server_answer, needs_proof};

/// What waits since this long after "now" is from before the clock went back, and is forgotten.
/// Records of several logs, or of a connection's start, may well go back by less.
const CLOCK_SLACK_US: i64 = 60_000_000;

/// From one record of a pod to the next, time seldom jumps by more than this while contacts wait.
/// Where it does, either the pod was quiet or the clock was set, and what waits gets one more
/// [`ANSWER_WAIT_US`] from there: answers that came meanwhile may carry the new time. Once only,
/// so a scanner with a target per hour is found too.
pub(super) const CLOCK_JUMP_US: i64 = 60_000_000;

/// The same for the time that the shell names, which passes for quiet pods too: a log that was
/// cut for a day shows no answers from that day.
pub(super) const LOG_GAP_US: i64 = 86_400_000_000;

/// The port of FTP's control connection, and the lowest on which a server opens passive ones.
const FTP_PORT: u16 = 21;
const FTP_DATA_PORT_MIN: u16 = 1_024;

/// A contact without an answer so far.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Waiting {
    target: Target,
    origin: OriginId,
    neighbour: Neighbour,
    id: u64,
    /// When it was made.
    time: EventTime,
    /// When its wait began: later than `time` where the clock jumped meanwhile.
    since: EventTime,
    is_server_answer: bool,
    /// Whether it was said to be [`Change::Unshown`].
    is_unshown: bool,
    /// Whether the log was seen to show answers at its time, where time jumped since.
    is_shown: bool,
}

/// A pod's contacts and the addresses that DNS gave it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Contacts {
    targets: Recent,
    resolved: Recent,
    #[serde(deserialize_with = "saved::queue::<_, _, { limits::PENDING_MAX }>")]
    pending: VecDeque<Waiting>,
    #[serde(deserialize_with = "saved::count::<_, { limits::PENDING_MAX + 1 }>")]
    pending_open_count: usize,
    /// What waits until its log is seen to show answers.
    #[serde(deserialize_with = "saved::queue::<_, _, { limits::UNSHOWN_MAX }>")]
    unshown: VecDeque<Waiting>,
    /// Contacts of which the log has not shown what became of them.
    unshown_count: u32,
    /// Up to when time had passed at the last look.
    now: EventTime,
    has_dns: bool,
    has_names: bool,
    has_v6: bool,
    outage: Outage,
}

impl Default for Contacts {
    fn default() -> Self {
        Self {
            targets: Recent::new(limits::CONTACTS_GENERATION_MAX),
            resolved: Recent::new(limits::DNS_GENERATION_MAX),
            pending: VecDeque::new(),
            pending_open_count: 0,
            unshown: VecDeque::new(),
            unshown_count: 0,
            now: EventTime::MIN,
            has_dns: false,
            has_names: false,
            has_v6: false,
            outage: Outage::default(),
        }
    }
}

/// Whether a flow without a shown outcome is the begin of a connection whose end the log will
/// have. One that ended that way, or in a log without answers, has no later word.
fn says_nothing(flow: &Flow<'_>, origin: OriginId, read: &Read<'_>) -> bool {
    let is_ended = flow.volume.is_some_and(|volume| volume.is_final);
    flow.outcome == Outcome::Unseen
        && (!flow.forwarded || (!is_ended && read.shows_answers(origin, flow.transport, flow.time)))
}

impl Contacts {
    /// A DNS answer gave the pod these addresses.
    pub(super) fn resolved(&mut self, answers: &[IpAddr], key: HashKey) {
        self.has_dns |= !answers.is_empty();
        for ip in answers.iter().take(limits::DNS_ANSWERS_MAX) {
            self.resolved.insert(key.host(plain(*ip)), Mark::Good);
        }
    }

    /// Whether any DNS answer of this pod was ever seen.
    pub(super) fn has_dns(&self) -> bool {
        self.has_dns
    }

    /// Contacts of which the log has not shown, or not yet, what became of them.
    pub(super) fn unjudged_count(&self) -> usize {
        let unshown = usize::try_from(self.unshown_count).unwrap_or(usize::MAX);
        let waits = |waiting: &&Waiting| !waiting.is_unshown;
        unshown.saturating_add(self.pending.iter().filter(waits).count())
    }

    /// Takes in a flow and says what changed, if anything.
    pub(super) fn observe(
        &mut self,
        flow: &Flow<'_>,
        (neighbour, origin): (Neighbour, OriginId),
        read: &Read<'_>,
        key: HashKey,
    ) -> Option<Judged> {
        if !flow.outcome.is_attempt() || says_nothing(flow, origin, read) {
            return None;
        }
        // A name that the log itself gives comes from the pod's DNS answers too (Hubble).
        if flow.destination_name.is_some() {
            self.has_names = true;
            return None;
        }
        let target = Target::of(flow);
        if self.has_dns && self.resolved.touch(key.host(target.host)).is_some() {
            return None;
        }
        let id = target.id(key);
        let waiting = Waiting {
            target,
            origin,
            neighbour,
            id,
            time: flow.time,
            since: flow.time,
            is_server_answer: is_server_answer(flow),
            is_unshown: false,
            is_shown: false,
        };
        let Some(success) = flow.outcome.success() else {
            return self.wait_for(waiting, flow.outcome, read);
        };
        let before = self.targets.touch(id);
        // The other side can send a SYN-ACK to whom it likes.
        if flow.is_inferred && before.is_none() {
            return None;
        }
        if !success
            && needs_proof(flow)
            && read.answers(origin, target.transport, flow.time) != Shown::Yes
        {
            return self.wait_for_proof(waiting, before, read);
        }
        if before == Some(Mark::Good) {
            self.outage.told(id, flow.time, success);
        }
        let change = match (before, success) {
            (Some(Mark::Good), _) | (Some(Mark::Failed), false) => return None,
            (Some(Mark::Failed), true) => Change::Recovered,
            (Some(Mark::Open) | None, true) => Change::Answered,
            (Some(Mark::Open) | None, false) => Change::Failed,
        };
        if before == Some(Mark::Open) {
            self.pending_open_count = self.pending_open_count.saturating_sub(1);
            self.shown(id);
        }
        let judged = Judged {
            // A deny is a fact, but the successes beside it must be in the log too.
            shown_since: read
                .allowed_since(origin, target.transport, flow.time)
                .or(flow.forwarded.then_some(flow.time)),
            ..self.judged(&waiting, flow.outcome, change)
        };
        if success {
            self.has_v6 |= target.host.is_ipv6();
            self.targets.insert(id, Mark::Good);
            Some(Judged {
                neighbour: Neighbour::Stranger,
                ..judged
            })
        } else {
            self.failed(judged, key)
        }
    }

    /// What became of an open contact is known after all.
    fn shown(&mut self, id: u64) {
        if self.unshown_count == 0 {
            return;
        }
        let mut waiting = self.pending.iter().chain(&self.unshown);
        if waiting.find(|w| w.id == id).is_none_or(|w| w.is_unshown) {
            self.unshown_count = self.unshown_count.saturating_sub(1);
        }
    }

    fn judged(&self, waiting: &Waiting, outcome: Outcome, change: Change) -> Judged {
        Judged {
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

    /// Says once that the log has not shown what became of a contact.
    fn say_unshown(&mut self, waiting: &mut Waiting, read: &Read<'_>) -> Option<Judged> {
        let Waiting {
            target,
            origin,
            time,
            ..
        } = *waiting;
        // What looks like a server's answer waits for none.
        if waiting.is_unshown
            || waiting.is_server_answer
            || read.shows_answers(origin, target.transport, time)
        {
            return None;
        }
        waiting.is_unshown = true;
        self.unshown_count = self.unshown_count.saturating_add(1);
        Some(Judged {
            shown_since: None,
            ..self.judged(waiting, Outcome::Unseen, Change::Unshown)
        })
    }

    /// A silent contact whose log has not been seen to show answers waits for one to anybody.
    fn wait_for_proof(
        &mut self,
        mut waiting: Waiting,
        before: Option<Mark>,
        read: &Read<'_>,
    ) -> Option<Judged> {
        if !matches!(before, Some(Mark::Open) | None) {
            return None;
        }
        // What was open has been said, or waits.
        waiting.is_unshown = before.is_some();
        let said = self.say_unshown(&mut waiting, read);
        self.keep_unshown(waiting);
        said
    }

    fn keep_unshown(&mut self, waiting: Waiting) {
        let is_kept = |known: &Waiting| known.id == waiting.id;
        if self.unshown.iter().any(is_kept) {
            return;
        }
        if self.unshown.len() >= limits::UNSHOWN_MAX {
            let targets = &mut self.targets;
            self.unshown
                .retain(|known| targets.touch(known.id) == Some(Mark::Open));
        }
        if self.unshown.len() >= limits::UNSHOWN_MAX
            && let Some(oldest) = self.unshown.pop_front()
        {
            self.targets.remove(oldest.id);
        }
        self.targets.insert(waiting.id, Mark::Open);
        self.unshown.push_back(waiting);
    }

    /// The next contact whose silence the log has meanwhile been seen to show. What waits for longer
    /// than answers are remembered counts when it is tried again.
    fn next_shown(&mut self, read: &Read<'_>, key: HashKey) -> Option<Judged> {
        let mut position = 0;
        while let Some(&waiting) = self.unshown.get(position) {
            let Waiting {
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
            self.unshown.remove(position);
            if self.targets.touch(id) != Some(Mark::Open) {
                continue;
            }
            let is_resolved = self.resolved.touch(key.host(target.host)).is_some();
            if shown != Shown::Yes || read.is_lossy(origin, time) || is_resolved {
                self.targets.remove(id);
                continue;
            }
            self.unshown_count = self.unshown_count.saturating_sub(1);
            let contact = self.judged(&waiting, Outcome::Unanswered, Change::Failed);
            if let Some(contact) = self.failed(contact, key) {
                return Some(contact);
            }
        }
        None
    }

    /// Books a failure, unless what else is known of the host explains it.
    fn failed(&mut self, mut contact: Judged, key: HashKey) -> Option<Judged> {
        let target = contact.target;
        if is_quic(target) {
            let mut is_good = |port| self.is_good(target.host, port, key);
            if WEB_PORTS.into_iter().any(&mut is_good) {
                self.targets.insert(contact.id, Mark::Good);
                return None;
            }
        }
        contact.is_ftp_data = target.transport == Transport::Tcp
            && target.port >= FTP_DATA_PORT_MIN
            && self.is_good(target.host, FTP_PORT, key);
        contact.is_v6_unproven = target.host.is_ipv6() && !self.has_v6;
        contact.is_in_outage = self.outage.covers(contact.time);
        self.targets.insert(contact.id, Mark::Failed);
        Some(contact)
    }

    fn is_good(&mut self, host: IpAddr, port: u16, key: HashKey) -> bool {
        let target = Target {
            host,
            transport: Transport::Tcp,
            port,
        };
        self.targets.touch(target.id(key)) == Some(Mark::Good)
    }

    /// What an answer says about another contact: a host that answers as a web server and had not
    /// answered QUIC is no dark address. A network or a host that drops UDP explains that.
    pub(super) fn taken_back(&mut self, answered: &Judged, key: HashKey) -> Option<Judged> {
        let Target {
            host,
            transport,
            port,
        } = answered.target;
        let is_web = transport == Transport::Tcp && WEB_PORTS.contains(&port);
        if !matches!(answered.change, Change::Answered | Change::Recovered) || !is_web {
            return None;
        }
        let target = Target {
            host,
            transport: Transport::Udp,
            port: QUIC_PORT,
        };
        let id = target.id(key);
        if self.targets.touch(id) != Some(Mark::Failed) {
            return None;
        }
        self.targets.insert(id, Mark::Good);
        Some(Judged {
            target,
            id,
            change: Change::Recovered,
            ..*answered
        })
    }

    /// Time has passed. Where it jumped by more than `jump_us`, what waits for the first time begins
    /// to wait anew.
    pub(super) fn pass(&mut self, read: &Read<'_>, jump_us: i64) {
        if self.now > EventTime::MIN && read.now.micros_since(self.now) > jump_us {
            for waiting in &mut self.pending {
                if waiting.since == waiting.time && read.has(waiting.origin) {
                    waiting.since = read.now;
                    let transport = waiting.target.transport;
                    let shown = read.answers(waiting.origin, transport, waiting.time);
                    waiting.is_shown = shown == Shown::Yes;
                }
            }
        }
        self.now = read.now;
    }

    /// The next open contact whose answer is overdue. Where that log may miss records of that time,
    /// silence says nothing and the contact is forgotten; where it has not been seen to show answers,
    /// the contact waits on.
    pub(super) fn overdue(&mut self, read: &Read<'_>, key: HashKey) -> Option<Judged> {
        self.outage.pass(read);
        self.next_overdue(read, key)
            .or_else(|| self.next_shown(read, key))
    }

    fn next_overdue(&mut self, read: &Read<'_>, key: HashKey) -> Option<Judged> {
        loop {
            // In order of time, also for each log alone.
            let position = self.pending.iter().position(|w| read.has(w.origin))?;
            let mut waiting = *self.pending.get(position)?;
            let waited_us = read.now.micros_since(waiting.since);
            let is_from_the_future = waited_us < -CLOCK_SLACK_US;
            if waited_us < ANSWER_WAIT_US && !is_from_the_future {
                return None;
            }
            self.pending.remove(position);
            // A contact that was forgotten meanwhile never reports back.
            self.pending_open_count = self.pending_open_count.min(self.pending.len() + 1);
            if self.targets.touch(waiting.id) != Some(Mark::Open) {
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
            if !waiting.is_shown && shown != Shown::Yes {
                let said = self.say_unshown(&mut waiting, read);
                self.keep_unshown(waiting);
                match said {
                    Some(said) => return Some(said),
                    None => continue,
                }
            }
            if waiting.is_unshown {
                self.unshown_count = self.unshown_count.saturating_sub(1);
            }
            let contact = self.judged(&waiting, Outcome::Unanswered, Change::Failed);
            if let Some(contact) = self.failed(contact, key) {
                return Some(contact);
            }
        }
    }

    /// Contacts that wait for an answer, or were answered and are not cleared away yet.
    pub(super) fn waiting_count(&self) -> usize {
        self.pending.len()
    }

    /// The logs in which contacts wait for an answer.
    pub(super) fn waiting_in(&self) -> impl Iterator<Item = OriginId> {
        let waiting = self.pending.iter().chain(&self.unshown);
        waiting.map(|waiting| waiting.origin)
    }

    /// Forgets what waits for an answer: it counts when it is tried again.
    pub(super) fn forget_waiting(&mut self) {
        for waiting in std::mem::take(&mut self.pending) {
            if self.targets.touch(waiting.id) == Some(Mark::Open) {
                self.targets.remove(waiting.id);
            }
        }
        self.pending_open_count = 0;
        self.outage.forget_asked();
    }

    /// Forgets also what waits until its log is seen to show answers.
    pub(super) fn forget_logs(&mut self) {
        self.forget_waiting();
        for waiting in std::mem::take(&mut self.unshown) {
            if self.targets.touch(waiting.id) == Some(Mark::Open) {
                self.targets.remove(waiting.id);
            }
        }
    }

    /// When the queue is full the new contact is left out, not an old one: those that wait will
    /// be judged, and what was left out counts when it is tried again.
    fn wait_for(
        &mut self,
        mut waiting: Waiting,
        outcome: Outcome,
        read: &Read<'_>,
    ) -> Option<Judged> {
        match self.targets.touch(waiting.id) {
            Some(Mark::Good) if outcome == Outcome::Pending => {
                self.outage.asked(waiting.id, waiting.origin, waiting.time);
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
        self.targets.insert(waiting.id, Mark::Open);
        let said = if is_pending {
            self.say_unshown(&mut waiting, read)
        } else {
            // It ended, or its log shows no end: nothing more will be known.
            self.unshown_count = self.unshown_count.saturating_add(1);
            let shows = read.shows_answers(waiting.origin, waiting.target.transport, waiting.time);
            Some(Judged {
                shown_since: shows.then_some(waiting.time),
                ..self.judged(&waiting, outcome, Change::Unshown)
            })
        };
        if is_pending {
            self.pending.push_back(waiting);
            self.pending_open_count += 1;
        }
        said
    }

    /// Drops from the queue what was answered meanwhile, and what a clock that went back has left
    /// in the future. Looks only when that is worth it, so that a flood costs no scan per record.
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
            let is_open = targets.touch(waiting.id) == Some(Mark::Open);
            if is_open && is_stale(waiting.since) {
                targets.remove(waiting.id);
            }
            is_open && !is_stale(waiting.since)
        });
        self.pending_open_count = self.pending.len();
        self.pending.len() < limits::PENDING_MAX
    }
}
