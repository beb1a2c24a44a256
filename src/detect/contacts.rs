//! Contacts: what a pod tried for the first time, and what became of it.
//!
//! Called by `engine` for every flow. Retries of one target, and the several records that a log
//! writes about one connection, are one contact here. A contact that a log left open becomes a
//! failure when its answer is overdue in event time. An address that the pod got from a DNS
//! answer is no evidence for a scan: a scanner lists addresses, an honest client asks for names.

use std::collections::VecDeque;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::origin::{OriginId, Read};
use super::outage::Outage;
use super::recent::{Mark, Recent};
use super::saved;
use super::scope::plain;
use super::sketch::HashKey;
use crate::limits;
use crate::model::{EventTime, Flow, Neighbour, Outcome, Transport};

/// Silence after which an open contact has failed. Linux sends a SYN again after 1, 3 and 7 s;
/// who has not answered by then does not.
pub const ANSWER_WAIT_US: i64 = 10_000_000;

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

/// Ports of web servers over TCP, and that of the same over QUIC.
const WEB_PORTS: [u16; 2] = [443, 80];
const QUIC_PORT: u16 = 443;

/// The port of FTP's control connection, and the lowest on which a server opens passive ones.
const FTP_PORT: u16 = 21;
const FTP_DATA_PORT_MIN: u16 = 1_024;

fn is_quic(target: Target) -> bool {
    target.transport == Transport::Udp && target.port == QUIC_PORT
}

/// One target of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
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

    /// Whether it is a web server, over TCP or QUIC.
    pub(super) fn is_web(self) -> bool {
        let is_tcp = self.transport == Transport::Tcp && WEB_PORTS.contains(&self.port);
        is_tcp || is_quic(self)
    }

    /// Its keyed hash, which stands for it where many are remembered.
    fn id(self, key: HashKey) -> u64 {
        let transport = match self.transport {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Icmp => 1,
            Transport::Sctp => 132,
            Transport::Other(number) => 256 + u64::from(number),
        };
        key.target(self.host, (transport << 16) | u64::from(self.port))
    }
}

/// What a contact turned out to be, said once per change.
#[allow(clippy::struct_excessive_bools)] // independent facts about one contact
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Judged {
    pub(super) target: Target,
    /// The target's keyed hash.
    pub(super) id: u64,
    pub(super) time: EventTime,
    /// The log that has it.
    pub(super) origin: OriginId,
    pub(super) outcome: Outcome,
    pub(super) change: Change,
    /// Whether that log lost records at the time.
    pub(super) is_lossy: bool,
    /// Who the target is, if it failed.
    pub(super) neighbour: Neighbour,
    /// Whether names of this pod's targets are in the log at all.
    pub(super) has_names: bool,
    /// Whether it failed over IPv6, over which nobody ever answered this pod.
    pub(super) is_v6_unproven: bool,
    /// Whether targets that had answered before fail at the same time.
    pub(super) is_in_outage: bool,
    /// Whether it failed on a high port of a host that had answered as an FTP server.
    pub(super) is_ftp_data: bool,
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
            now: EventTime::MIN,
            has_dns: false,
            has_names: false,
            has_v6: false,
            outage: Outage::default(),
        }
    }
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

    /// Takes in a flow and says what changed, if anything.
    pub(super) fn observe(
        &mut self,
        flow: &Flow<'_>,
        (neighbour, origin): (Neighbour, OriginId),
        key: HashKey,
    ) -> Option<Judged> {
        if matches!(flow.outcome, Outcome::NotAnAttempt | Outcome::Unseen) {
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
        let Some(success) = flow.outcome.success() else {
            self.wait_for(Waiting {
                target,
                origin,
                neighbour,
                id,
                time: flow.time,
                since: flow.time,
            });
            return None;
        };
        let before = self.targets.touch(id);
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
        }
        if success {
            self.has_v6 |= target.host.is_ipv6();
            self.targets.insert(id, Mark::Good);
            Some(self.judged((flow, origin), target, id, change))
        } else {
            let failed = self.judged((flow, origin), target, id, change);
            self.failed(
                Judged {
                    neighbour,
                    ..failed
                },
                key,
            )
        }
    }

    fn judged(
        &self,
        (flow, origin): (&Flow<'_>, OriginId),
        target: Target,
        id: u64,
        change: Change,
    ) -> Judged {
        Judged {
            target,
            id,
            time: flow.time,
            origin,
            outcome: flow.outcome,
            change,
            is_lossy: false,
            neighbour: Neighbour::Stranger,
            has_names: self.has_dns || self.has_names,
            is_v6_unproven: false,
            is_in_outage: false,
            is_ftp_data: false,
        }
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
        if answered.change == Change::Failed || !is_web {
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
                }
            }
        }
        self.now = read.now;
    }

    /// The next open contact whose answer is overdue. Where that log may miss records of that time,
    /// silence says nothing and the contact is forgotten.
    pub(super) fn overdue(&mut self, read: &Read<'_>, key: HashKey) -> Option<Judged> {
        self.outage.pass(read);
        loop {
            // In order of time, also for each log alone.
            let position = self.pending.iter().position(|w| read.has(w.origin))?;
            let waiting = *self.pending.get(position)?;
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
            let host = key.host(waiting.target.host);
            let is_lossy = read.is_lossy(waiting.origin, waiting.time);
            if is_from_the_future || is_lossy || self.resolved.touch(host).is_some() {
                self.targets.remove(waiting.id);
                continue;
            }
            let contact = Judged {
                target: waiting.target,
                id: waiting.id,
                time: waiting.time,
                origin: waiting.origin,
                outcome: Outcome::Unanswered,
                change: Change::Failed,
                is_lossy: false,
                neighbour: waiting.neighbour,
                has_names: self.has_dns || self.has_names,
                is_v6_unproven: false,
                is_in_outage: false,
                is_ftp_data: false,
            };
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
        self.pending.iter().map(|waiting| waiting.origin)
    }

    /// When the queue is full the new contact is left out, not an old one: those that wait will
    /// be judged, and what was left out counts when it is tried again.
    fn wait_for(&mut self, waiting: Waiting) {
        match self.targets.touch(waiting.id) {
            Some(Mark::Good) => {
                return self.outage.asked(waiting.id, waiting.origin, waiting.time);
            }
            Some(_) => return,
            None => {}
        }
        if self.pending.len() >= limits::PENDING_MAX && !self.make_room(waiting.time) {
            return;
        }
        self.targets.insert(waiting.id, Mark::Open);
        self.pending.push_back(waiting);
        self.pending_open_count += 1;
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
