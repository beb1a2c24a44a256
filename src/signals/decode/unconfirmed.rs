//! Connections of which ulogd2's NFLOG logs the first packet, but NFCT never logs an entry: a policy dropped them.
//!
//! The NFLOG rule precedes the policies. If a policy drops or rejects the first packet, the kernel discards
//! the connection tracking entry before it is confirmed, and NFCT logs neither its begin nor its
//! end (tested with DROP of iptables, drop and reject of nf_tables). A connection that passes has its begin within a
//! millisecond. Therefore a first packet without a begin is a denied contact, if the same log shows the begins of
//! other connections.
//!
//! Pure: time is that of the log. Covers TCP, UDP and ICMP. Pings have no ports, and their identifiers are not in the
//! log: all pings to one host are one connection here. Uncertain cases are left out:
//!
//! - no begin over the same transport was logged at or after the packet, so NFCT may be off, filtered or dead;
//! - there were so many lines in that second that the kernel may have dropped events;
//! - so many connections were opened that an earlier begin, of which this is a repeated packet, may have been dropped;
//! - the log started so recently that the begin may precede it: for UDP and ICMP, where each packet of an unanswered
//!   stream looks like a first one. A repeated SYN is rare.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::limits;
use crate::model::{EventTime, Flow, Outcome, Signal, Transport};

/// How long it may take until a begin is in the log. It follows within a millisecond of the packet; ulogd2 writes
/// what the kernel has collected within seconds.
const CONFIRMED_WITHIN_US: i64 = 10_000_000;

/// How long a packet waits for the begin of another connection, which proves that begins are logged.
const PROVEN_WITHIN_US: i64 = 60_000_000;

/// How long a begin is kept after its last packet: a SYN is repeated after up to 64 s.
const REMEMBERED_US: i64 = 150_000_000;

/// How much of the log must follow a packet when the log ends.
const AT_THE_END_US: i64 = 1_000_000;

/// Lines in a second of the log from which the kernel may have dropped events. ulogd2 can write some ten
/// thousand.
const LINES_PER_SECOND_MAX: u32 = 2_000;

/// The state of a connection in connection tracking, according to a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// A first packet, logged before the policies.
    Opened,
    /// The connection has an entry.
    Confirmed {
        /// The target of its packets after translation, if it differs.
        translated_to: Option<(IpAddr, u16)>,
        /// Whether the line is about the begin of the connection.
        is_begin: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    transport: Transport,
    source: (IpAddr, u16),
    target: (IpAddr, u16),
}

#[derive(Debug)]
enum Entry {
    /// A first packet without a begin.
    Waiting(Box<Flow<'static>>),
    /// The begin was logged; the time is that of the last packet.
    Confirmed(EventTime),
}

/// The unconfirmed connections of one log.
#[derive(Debug, Default)]
pub struct Unconfirmed {
    streams: Connections,
    /// Separate, because DNS lookups are numerous: they must not fill the table of connections.
    datagrams: Connections,
    begun: Option<EventTime>,
    newest: Option<EventTime>,
    second: (i64, u32),
}

impl Unconfirmed {
    /// Processes a flow of the log, and returns the contacts that are now known to be denied.
    pub fn take(&mut self, flow: &Flow<'_>, tracking: Tracking) -> Vec<Flow<'static>> {
        let is_datagram = match flow.transport {
            Transport::Tcp => false,
            Transport::Udp | Transport::Icmp => true,
            Transport::Sctp | Transport::Other(_) => return Vec::new(),
        };
        let is_begin = matches!(tracking, Tracking::Confirmed { is_begin: true, .. });
        if is_begin || tracking == Tracking::Opened {
            self.count(flow.time);
        }
        let begun = *self.begun.get_or_insert(flow.time);
        let known = if is_datagram {
            &mut self.datagrams
        } else {
            &mut self.streams
        };
        let key = Key {
            transport: flow.transport,
            source: (flow.source, flow.source_port),
            target: (flow.destination, flow.destination_port),
        };
        match tracking {
            Tracking::Opened if is_datagram && flow.time.micros_since(begun) < REMEMBERED_US => {
                known.confirm(key, flow.time, limits::CONFIRMED_DATAGRAMS_MAX);
            }
            Tracking::Opened => known.opened(key, flow),
            Tracking::Confirmed { translated_to, .. } => {
                if is_begin {
                    let newest = known.begin_mut(key);
                    *newest = (*newest).max(Some(flow.time));
                }
                let confirmed_max = if is_datagram {
                    limits::CONFIRMED_DATAGRAMS_MAX
                } else {
                    limits::CONFIRMED_MAX
                };
                known.confirm(key, flow.time, confirmed_max);
                if let Some(target) = translated_to {
                    known.confirm(Key { target, ..key }, flow.time, confirmed_max);
                }
            }
        }
        let Some(newest) = self.newest else {
            return Vec::new();
        };
        let mut denied = self.streams.check_due(newest);
        denied.extend(self.datagrams.check_due(newest));
        denied
    }

    fn count(&mut self, time: EventTime) {
        self.newest = self.newest.max(Some(time));
        let second = time.as_micros() / 1_000_000;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        self.second.1 = self.second.1.saturating_add(1);
        if self.second.1 > LINES_PER_SECOND_MAX {
            let until = time.plus_micros(CONFIRMED_WITHIN_US);
            self.streams.discard_waiting(until);
            self.datagrams.discard_waiting(until);
        }
    }

    /// The denied contacts at the end of a recorded log. A second is a thousand times what a begin takes.
    #[must_use]
    pub fn finish(self) -> Vec<Flow<'static>> {
        let Some(newest) = self.newest else {
            return Vec::new();
        };
        let mut denied = self.streams.finish(newest);
        denied.extend(self.datagrams.finish(newest));
        denied
    }
}

/// The connections of some transports.
#[derive(Debug, Default)]
struct Connections {
    entries: HashMap<Key, Entry>,
    /// When each packet is checked again, and when each begin is dropped.
    waiting_due: VecDeque<(EventTime, Key)>,
    confirmed_due: VecDeque<(EventTime, Key)>,
    waiting_of: HashMap<IpAddr, usize>,
    waiting_count: usize,
    /// The last begin: of IPv4 and of IPv6, and of pings likewise.
    begins: [[Option<EventTime>; 2]; 2],
    /// Until when first packets are ignored, because events may be missing.
    unreliable_until: Option<EventTime>,
}

impl Connections {
    /// Events may be missing: waiting packets may have been confirmed, so they are discarded.
    fn discard_waiting(&mut self, until: EventTime) {
        self.unreliable_until = self.unreliable_until.max(Some(until));
        if self.waiting_count > 0 {
            self.entries
                .retain(|_, entry| matches!(entry, Entry::Confirmed(_)));
            self.waiting_of.clear();
            self.waiting_count = 0;
        }
    }

    fn opened(&mut self, key: Key, flow: &Flow<'_>) {
        match self.entries.get_mut(&key) {
            Some(Entry::Confirmed(last)) => {
                *last = flow.time.max(*last);
                return;
            }
            Some(Entry::Waiting(_)) => return,
            None => {}
        }
        let is_unreliable = self.unreliable_until.is_some_and(|until| flow.time < until);
        let of_source = self.waiting_of.entry(flow.source).or_default();
        if is_unreliable
            || *of_source >= limits::PENDING_MAX
            || self.waiting_count >= limits::UNCONFIRMED_MAX
        {
            if *of_source == 0 {
                self.waiting_of.remove(&flow.source);
            }
            return;
        }
        let Signal::Flow(owned) = Signal::Flow(flow.clone()).into_owned() else {
            return;
        };
        *of_source += 1;
        self.waiting_count += 1;
        self.entries.insert(key, Entry::Waiting(Box::new(owned)));
        let due = flow.time.plus_micros(CONFIRMED_WITHIN_US);
        self.waiting_due.push_back((due, key));
    }

    fn confirm(&mut self, key: Key, time: EventTime, confirmed_max: usize) {
        let last = match self.entries.get(&key) {
            Some(Entry::Confirmed(last)) => time.max(*last),
            _ => time,
        };
        match self.entries.insert(key, Entry::Confirmed(last)) {
            Some(Entry::Confirmed(_)) => return,
            Some(Entry::Waiting(flow)) => self.remove_waiting(flow.source),
            None => {}
        }
        if self.entries.len() > confirmed_max {
            // Repeated packets cannot be recognised until all dropped begins have expired.
            *self = Self {
                unreliable_until: Some(time.plus_micros(REMEMBERED_US)),
                ..Self::default()
            };
            return;
        }
        let due = time.plus_micros(REMEMBERED_US);
        self.confirmed_due.push_back((due, key));
    }

    fn remove_waiting(&mut self, source: IpAddr) {
        self.waiting_count = self.waiting_count.saturating_sub(1);
        if let Some(count) = self.waiting_of.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.waiting_of.remove(&source);
            }
        }
    }

    fn check_due(&mut self, newest: EventTime) -> Vec<Flow<'static>> {
        let mut denied = Vec::new();
        for _ in 0..self.waiting_due.len() {
            let Some(key) = next_due(&mut self.waiting_due, newest) else {
                break;
            };
            denied.extend(self.check_waiting(key, newest));
        }
        for _ in 0..self.confirmed_due.len() {
            let Some(key) = next_due(&mut self.confirmed_due, newest) else {
                break;
            };
            self.forget(key, newest);
        }
        denied
    }

    fn forget(&mut self, key: Key, newest: EventTime) {
        let Some(Entry::Confirmed(last)) = self.entries.get(&key) else {
            return;
        };
        let until = last.plus_micros(REMEMBERED_US);
        if until > newest {
            self.confirmed_due.push_back((until, key));
        } else {
            self.entries.remove(&key);
        }
    }

    /// The contact of this packet if it is known to be denied. Otherwise it keeps waiting if that may still be proven.
    fn check_waiting(&mut self, key: Key, newest: EventTime) -> Option<Flow<'static>> {
        let Some(Entry::Waiting(flow)) = self.entries.get(&key) else {
            return None;
        };
        let (time, source) = (flow.time, flow.source);
        let is_proven = self.begin_mut(key).is_some_and(|begin| begin >= time);
        if !is_proven && newest.micros_since(time) <= PROVEN_WITHIN_US {
            let again = newest.plus_micros(CONFIRMED_WITHIN_US / 10);
            self.waiting_due.push_back((again, key));
            return None;
        }
        let Some(Entry::Waiting(flow)) = self.entries.remove(&key) else {
            return None;
        };
        self.remove_waiting(source);
        is_proven.then_some(Flow {
            outcome: Outcome::Denied,
            forwarded: false,
            ..*flow
        })
    }

    fn finish(mut self, newest: EventTime) -> Vec<Flow<'static>> {
        let waiting = std::mem::take(&mut self.waiting_due);
        let is_old = |key: &Key| match self.entries.get(key) {
            Some(Entry::Waiting(flow)) => newest.micros_since(flow.time) >= AT_THE_END_US,
            _ => false,
        };
        let keys: Vec<Key> = waiting
            .into_iter()
            .map(|(_, key)| key)
            .filter(is_old)
            .collect();
        keys.into_iter()
            .filter_map(|key| self.check_waiting(key, newest))
            .collect()
    }

    const fn begin_mut(&mut self, key: Key) -> &mut Option<EventTime> {
        let [others, pings] = &mut self.begins;
        let [v4, v6] = if matches!(key.transport, Transport::Icmp) {
            pings
        } else {
            others
        };
        if key.target.0.is_ipv4() { v4 } else { v6 }
    }
}

/// The next entry that is due at `now`.
fn next_due(queue: &mut VecDeque<(EventTime, Key)>, now: EventTime) -> Option<Key> {
    let (due, _) = queue.front()?;
    if *due > now {
        return None;
    }
    queue.pop_front().map(|(_, key)| key)
}

#[cfg(test)]
mod tests;
