//! Sessions: the long connections of a pod, one entry per target.
//!
//! Called by `traffic` for every flow, before the detectors. A short connection leaves no state here. Records with
//! volume create a session at once; logs of packets (Hubble) create one when the packets of one connection have been
//! seen for a minute. `mining` and `tunnel` interpret the sessions.

mod candidates;
pub(super) mod names;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use self::candidates::{Candidates, position_of};
use super::scan::contacts::Target;
use super::state::bounded;
use crate::limits;
use crate::model::{EventTime, Flow, Outcome, Transport, Volume};

/// A record with a shorter duration is no evidence for a rate, and its connection is no session.
const RATED_MIN_US: u64 = 30_000_000;

/// Longest gap between two packets of a pool session: up to 130 s in real ones.
const PACKET_GAP_MAX_US: i64 = 150_000_000;

/// A break that ends a series of connections: clients reconnect to pools within seconds, so a minute, plus a quarter of
/// the covered time for a network outage; at most ten minutes.
const BREAK_US: i64 = 60_000_000;
const BREAK_MAX_US: i64 = 600_000_000;

/// Records of one connection have the same start if each of them covers the whole connection, or start where the last
/// one ended if each covers a slice (flow logs of clouds).
const SAME_START_US: i64 = 1_000_000;
const SLICE_GAP_US: i64 = 2_000_000;

/// Real pool sessions have 9 to 1,300 bytes/s with headers, from 5 without; 2.6 to 281 packets/min; up to 561 bytes per
/// packet.
const BYTES_PER_SECOND_MIN: u64 = 4;
const BYTES_PER_SECOND_MAX: u64 = 1_300;
const PACKETS_PER_MINUTE_MIN: u64 = 1;
const PACKETS_PER_MINUTE_MAX: u64 = 300;
const BYTES_PER_PACKET_MAX: u64 = 700;

/// Bounds of a session that carries filler, so that its rate is no longer that of a pool: evidence only beside an even
/// load of the processors.
const PADDED_BYTES_PER_SECOND_MAX: u64 = 20_000;
const PADDED_PACKETS_PER_MINUTE_MAX: u64 = 6_000;
const PADDED_BYTES_PER_PACKET_MAX: u64 = 1_600;

/// Longest time between two short connections to one target that are one session: a miner that polls for work does it
/// every few seconds.
const PIECE_GAP_MAX_US: i64 = 60_000_000;

/// In an interval with a turn of the responder, the initiator receives at least this; less is only acknowledgements.
const TURN_BYTES_MIN: u64 = 40;

/// A series of connections to one target without a long break.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Session {
    pub(super) target: Target,
    /// Start of the series, and time of its last activity.
    pub(super) first: EventTime,
    pub(super) last: EventTime,
    /// Time covered by connections with little traffic; overlaps count once, breaks do not count.
    pub(super) covered_us: i64,
    /// The same with the bounds of a session that carries filler.
    pub(super) padded_us: i64,
    /// The part of it that connections cover which are too short for a rate.
    pieces_us: i64,
    /// Number of connections in the series.
    pub(super) connection_count: u32,
    /// Whether a log with byte counts contained it.
    pub(super) has_volume: bool,
    /// Counts of its intervals, if the log has records of ongoing connections.
    pub(super) intervals: Intervals,
    covered_until: EventTime,
    source_port: u16,
    /// The current connection as of its last record, and the sum of the earlier ones.
    current: Volume,
    current_start: EventTime,
    before: Volume,
    packet_count: u32,
}

/// Counts of the intervals between two records of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Intervals {
    pub(super) all: u32,
    /// Intervals without data.
    pub(super) idle: u32,
    /// Intervals in which the pod sent more than it received, and the remote side sent something too.
    pub(super) inverted: u32,
}

/// See the module. Empty for nearly every pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(from = "SavedSessions")]
pub(super) struct Sessions {
    /// Hashes of the targets, in a separate list, so that a lookup reads one cache line.
    #[serde(skip)]
    keys: Vec<u32>,
    entries: Vec<Session>,
    /// Covered time and last activity of each session, separate for the same reason.
    #[serde(skip)]
    ranks: Vec<(i64, EventTime)>,
    /// A bitmap of target hashes: it shows for most targets without a session that they have none.
    #[serde(skip)]
    filter: u64,
    candidates: Candidates,
    /// A bitmap of hosts contacted on other ports than those of the web.
    hosts: u128,
}

/// The saved part of [`Sessions`]; the rest is derived from it.
#[derive(Deserialize)]
struct SavedSessions {
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::SESSIONS_MAX }>")]
    entries: Vec<Session>,
    candidates: Candidates,
    hosts: u128,
}

impl From<SavedSessions> for Sessions {
    fn from(saved: SavedSessions) -> Self {
        let SavedSessions {
            entries,
            candidates,
            hosts,
        } = saved;
        let key = |session: &Session| hash_target(session.target, 0);
        let keys: Vec<u32> = entries.iter().map(key).collect();
        Self {
            ranks: entries.iter().map(Session::rank).collect(),
            filter: keys.iter().fold(0, |bits, key| bits | filter_bit(*key)),
            keys,
            entries,
            candidates,
            hosts,
        }
    }
}

impl Sessions {
    /// All sessions.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.entries.iter()
    }

    /// Number of connections that may become sessions.
    #[cfg(test)]
    pub(super) fn candidate_count(&self) -> usize {
        self.candidates.len()
    }

    /// The session with this target.
    pub(super) fn get(&self, target: Target) -> Option<&Session> {
        let index = self.position(target)?;
        self.entries.get(index)
    }

    /// The session that the latest flow changed.
    pub(super) fn updated(&self, update: SessionUpdate) -> Option<&Session> {
        self.entries.get(update.index)
    }

    /// Estimated number of distinct hosts on other ports than those of the web. A bitmap of 128 bits distinguishes some
    /// 100.
    pub(super) fn host_count(&self) -> u32 {
        self.hosts.count_ones()
    }

    /// Processes a flow. With `is_listed`, a session is stored however short it is. Returns the session that has
    /// changed, if any, and whether the flow belongs to a new connection.
    pub(super) fn observe(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        is_listed: bool,
    ) -> Option<SessionUpdate> {
        if !is_listed && flow.transport != Transport::Tcp {
            return None;
        }
        match &flow.volume {
            Some(volume) => {
                if !flow.outcome.is_attempt() {
                    return None; // the log does not show which side started it
                }
                let is_long = volume.duration_us >= RATED_MIN_US;
                let index = match self.position(target) {
                    Some(index) => index,
                    None if is_long || is_listed => self.start(target, flow.time),
                    None => self.start_in_pieces(target, flow.time)?,
                };
                let is_new_connection = self.entries.get_mut(index)?.record(flow, volume);
                Some(self.update_rank(index, is_new_connection))
            }
            None => self.packet(flow, target, is_listed),
        }
    }

    /// Counts a host that the pod contacts, unless it is on a port of the web.
    pub(super) fn count_host(&mut self, target: Target) {
        if !is_web(target.port) {
            self.hosts |= 1_u128 << (hash_host(target.host) % 128);
        }
    }

    fn packet(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        is_listed: bool,
    ) -> Option<SessionUpdate> {
        if let Some(index) = self.position(target) {
            // The first record of a connection may be that of the attempt, before that of its answer or its end, which is the
            // one that covers the time since the connection before it.
            let is_new =
                (self.entries.get(index)).is_none_or(|known| !known.is_of(flow.source_port));
            let is_begin = is_new && matches!(flow.outcome, Outcome::Pending | Outcome::Unseen);
            return if is_begin && !is_listed {
                None
            } else {
                self.packet_of(index, flow)
            };
        }
        if is_listed {
            let index = self.start(target, flow.time);
            return self.packet_of(index, flow);
        }
        if !matches!(
            flow.outcome,
            Outcome::Answered | Outcome::NotAnAttempt | Outcome::Established | Outcome::Pending
        ) {
            return None;
        }
        let key = hash_target(target, flow.source_port);
        let Some(candidate) = self.candidates.count(key, flow.time) else {
            // One packet per connection is an answer to its first packet.
            if flow.outcome != Outcome::Answered {
                return None;
            }
            let index = self.start_in_pieces(target, flow.time)?;
            return self.packet_of(index, flow);
        };
        let index = self.start(target, candidate.first);
        let session = self.entries.get_mut(index)?;
        session.source_port = flow.source_port;
        session.connection_count = 1;
        session.packet_count = candidate.packet_count;
        session.covered_us = candidate.last.micros_since(candidate.first);
        session.padded_us = session.covered_us;
        session.covered_until = candidate.last;
        session.last = candidate.last;
        Some(self.update_rank(index, true))
    }

    /// Counts a short connection to a target without a session. Starts one if they follow each other for a minute.
    fn start_in_pieces(&mut self, target: Target, time: EventTime) -> Option<usize> {
        let candidate = self.candidates.count(hash_target(target, 0), time)?;
        let index = self.start(target, candidate.first);
        let session = self.entries.get_mut(index)?;
        session.connection_count = candidate.packet_count.saturating_sub(1);
        session.last = candidate.last;
        session.covered_until = candidate.last;
        Some(index)
    }

    fn packet_of(&mut self, index: usize, flow: &Flow<'_>) -> Option<SessionUpdate> {
        let is_new_connection = self.entries.get_mut(index)?.packet(flow);
        Some(self.update_rank(index, is_new_connection))
    }

    /// Updates the rank of a session that has changed.
    fn update_rank(&mut self, index: usize, is_new_connection: bool) -> SessionUpdate {
        if let (Some(session), Some(rank)) = (self.entries.get(index), self.ranks.get_mut(index)) {
            *rank = session.rank();
        }
        SessionUpdate {
            is_new_connection,
            index,
        }
    }

    fn position(&self, target: Target) -> Option<usize> {
        let key = hash_target(target, 0);
        if self.filter & filter_bit(key) == 0 {
            return None;
        }
        let index = position_of(&self.keys, key)?;
        if self.entries.get(index)?.target == target {
            return Some(index);
        }
        // An earlier target has the same hash.
        self.entries.iter().position(|s| s.target == target)
    }

    /// Starts a session. If the list is full, it replaces the one with the least covered time.
    fn start(&mut self, target: Target, time: EventTime) -> usize {
        if self.entries.len() >= limits::SESSIONS_MAX {
            let shortest = self.ranks.iter().enumerate().min_by_key(|(_, rank)| *rank);
            if let Some((index, _)) = shortest {
                self.entries.swap_remove(index);
                self.keys.swap_remove(index);
                self.ranks.swap_remove(index);
            }
            self.filter = self
                .keys
                .iter()
                .fold(0, |bits, key| bits | filter_bit(*key));
        }
        let key = hash_target(target, 0);
        self.filter |= filter_bit(key);
        self.keys.push(key);
        self.ranks.push((0, time));
        self.entries.push(Session::new(target, time));
        self.entries.len() - 1
    }
}

const fn filter_bit(key: u32) -> u64 {
    1 << (key % 64)
}

/// The change of a session by a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SessionUpdate {
    pub(super) is_new_connection: bool,
    /// Index of the session, valid until the next flow.
    index: usize,
}

impl Session {
    fn new(target: Target, time: EventTime) -> Self {
        Self {
            target,
            first: time,
            last: time,
            covered_us: 0,
            padded_us: 0,
            pieces_us: 0,
            connection_count: 0,
            has_volume: false,
            intervals: Intervals::default(),
            covered_until: time,
            source_port: 0,
            current: Volume::default(),
            current_start: time,
            before: Volume::default(),
            packet_count: 0,
        }
    }

    /// Its covered time and last activity.
    fn rank(&self) -> (i64, EventTime) {
        (self.covered_us.max(self.padded_us), self.last)
    }

    /// Whether most of it are connections that are too short to be sessions.
    pub(super) fn is_in_pieces(&self) -> bool {
        self.pieces_us > self.padded_us / 2
    }

    /// The volume of all its connections.
    pub(super) fn volume(&self) -> Volume {
        let (a, b) = (&self.before, &self.current);
        Volume {
            bytes_out: a.bytes_out.saturating_add(b.bytes_out),
            bytes_in: a.bytes_in.saturating_add(b.bytes_in),
            packets_out: a.packets_out.saturating_add(b.packets_out),
            packets_in: a.packets_in.saturating_add(b.packets_in),
            duration_us: a.duration_us.saturating_add(b.duration_us),
            is_final: b.is_final,
        }
    }

    /// Average duration of its connections, in microseconds.
    pub(super) fn average_us(&self) -> i64 {
        let all_us = i64::try_from(self.volume().duration_us).unwrap_or(i64::MAX);
        all_us / i64::from(self.connection_count.max(1))
    }

    /// Duration of the series, in microseconds.
    pub(super) fn span_us(&self) -> i64 {
        self.last.micros_since(self.first).max(0)
    }

    /// Whether both were active at the same time.
    pub(super) fn overlaps(&self, other: &Self) -> bool {
        self.first < other.last && other.first < self.last
    }

    /// Adds a record. Returns whether it belongs to another connection than the last one.
    fn record(&mut self, flow: &Flow<'_>, volume: &Volume) -> bool {
        let duration_us = i64::try_from(volume.duration_us).unwrap_or(i64::MAX);
        let end = flow.time.plus_micros(duration_us);
        self.restart_after_break(flow.time);
        let is_same_port = self.connection_count > 0 && self.source_port == flow.source_port;
        let is_same_start = flow.time.micros_since(self.current_start).abs() <= SAME_START_US;
        let is_slice = flow.time.micros_since(self.last).abs() <= SLICE_GAP_US;
        let is_new_connection = !(is_same_port && (is_same_start || is_slice));
        if is_new_connection {
            self.connection_count = self.connection_count.saturating_add(1);
            self.source_port = flow.source_port;
        }
        if is_same_port && is_same_start {
            self.intervals.count(&self.current, volume);
        } else {
            // Another connection, or the next slice of the same one.
            if !is_new_connection {
                self.intervals.count(&Volume::default(), volume);
            }
            self.before = self.volume();
            self.current_start = flow.time;
        }
        self.has_volume = true;
        self.current = *volume;
        self.first = self.first.min(flow.time);
        self.cover(flow.time, end, volume);
        self.last = self.last.max(end);
        is_new_connection
    }

    /// Adds the time that a record covers. A connection that is too short for a rate covers the time since the last one
    /// as well, and its rate is that over this time.
    fn cover(&mut self, start: EventTime, end: EventTime, volume: &Volume) {
        let is_rated = volume.duration_us >= RATED_MIN_US;
        let from = if is_rated { start } else { self.last };
        let is_near = start.micros_since(self.last) <= PIECE_GAP_MAX_US;
        if !is_rated && (self.connection_count < 2 || !is_near) {
            return;
        }
        let over_us = u64::try_from(end.micros_since(from)).unwrap_or_default();
        let has_covered = self.covered_us > 0 || self.padded_us > 0;
        let fresh_from = if has_covered {
            from.max(self.covered_until)
        } else {
            from
        };
        let fresh_us = end.micros_since(fresh_from).max(0);
        if is_thin(volume, over_us, &THIN) {
            self.covered_us = self.covered_us.saturating_add(fresh_us);
        }
        if is_thin(volume, over_us, &PADDED) {
            self.padded_us = self.padded_us.saturating_add(fresh_us);
            self.pieces_us = self
                .pieces_us
                .saturating_add(if is_rated { 0 } else { fresh_us });
            self.covered_until = self.covered_until.max(end);
        }
    }

    /// Whether the last connection is the one from this port.
    const fn is_of(&self, source_port: u16) -> bool {
        self.connection_count > 0 && self.source_port == source_port
    }

    /// Adds a packet. Returns whether it belongs to another connection than the last one.
    fn packet(&mut self, flow: &Flow<'_>) -> bool {
        let time = flow.time;
        self.restart_after_break(time);
        let is_new_connection = !self.is_of(flow.source_port);
        if is_new_connection {
            self.connection_count = self.connection_count.saturating_add(1);
            self.source_port = flow.source_port;
        }
        self.packet_count = self.packet_count.saturating_add(1);
        let gap_us = time.micros_since(self.covered_until);
        let is_carried = flow.outcome == Outcome::Answered || !flow.outcome.is_attempt();
        let gap_max_us = if is_new_connection {
            PIECE_GAP_MAX_US
        } else {
            PACKET_GAP_MAX_US
        };
        if is_carried && (0..=gap_max_us).contains(&gap_us) {
            if self.has_at_most(PACKETS_PER_MINUTE_MAX) {
                self.covered_us = self.covered_us.saturating_add(gap_us);
            }
            if self.has_at_most(PADDED_PACKETS_PER_MINUTE_MAX) {
                self.padded_us = self.padded_us.saturating_add(gap_us);
                let piece_us = if is_new_connection { gap_us } else { 0 };
                self.pieces_us = self.pieces_us.saturating_add(piece_us);
            }
        }
        self.covered_until = self.covered_until.max(time);
        self.last = self.last.max(time);
        is_new_connection
    }

    /// Whether it has no more packets than this. A log that aggregates packets reports 12 a minute per direction.
    fn has_at_most(&self, packets_per_minute: u64) -> bool {
        let minutes = self.span_us() / 60_000_000 + 1;
        let packets_max = u64::try_from(minutes).unwrap_or(1) * packets_per_minute;
        u64::from(self.packet_count) <= packets_max
    }

    fn restart_after_break(&mut self, time: EventTime) {
        let slack_us = (BREAK_US + self.covered_us / 4).min(BREAK_MAX_US);
        if time.micros_since(self.last) > slack_us {
            let source_port = self.source_port;
            *self = Self::new(self.target, time);
            self.source_port = source_port;
        }
    }
}

impl Intervals {
    fn count(&mut self, before: &Volume, now: &Volume) {
        if now.duration_us <= before.duration_us {
            return; // a duplicate, or a late record
        }
        let bytes_out = now.bytes_out.saturating_sub(before.bytes_out);
        let bytes_in = now.bytes_in.saturating_sub(before.bytes_in);
        self.all = self.all.saturating_add(1);
        if bytes_out == 0 && bytes_in == 0 {
            self.idle = self.idle.saturating_add(1);
        } else if bytes_out > bytes_in && bytes_in >= TURN_BYTES_MIN {
            self.inverted = self.inverted.saturating_add(1);
        }
    }
}

/// Ports of the web, on which any service may run.
pub(super) const fn is_web(port: u16) -> bool {
    matches!(port, 80 | 443 | 8000 | 8008 | 8080 | 8443 | 8888)
}

/// The highest rates of a kind of session.
struct Rates {
    bytes_per_second: u64,
    packets_per_minute: u64,
    bytes_per_packet: u64,
}

/// Those of sessions with pools.
const THIN: Rates = Rates {
    bytes_per_second: BYTES_PER_SECOND_MAX,
    packets_per_minute: PACKETS_PER_MINUTE_MAX,
    bytes_per_packet: BYTES_PER_PACKET_MAX,
};

/// Those of sessions with pools that carry filler.
const PADDED: Rates = Rates {
    bytes_per_second: PADDED_BYTES_PER_SECOND_MAX,
    packets_per_minute: PADDED_PACKETS_PER_MINUTE_MAX,
    bytes_per_packet: PADDED_BYTES_PER_PACKET_MAX,
};

/// Whether the traffic over this time is low and steady in both directions. Which direction carries more is no evidence:
/// it depends on the coin, from 0.4 to 13 times.
fn is_thin(volume: &Volume, over_us: u64, max: &Rates) -> bool {
    if over_us == 0 || volume.bytes_out == 0 || volume.bytes_in == 0 {
        return false;
    }
    let bytes = u128::from(volume.bytes_out) + u128::from(volume.bytes_in);
    let packets = u128::from(volume.packets_out) + u128::from(volume.packets_in);
    let duration_us = u128::from(over_us);
    // The rate in whole numbers, without a division.
    let within = |count: u128, per_us: u128, min: u64, max: u64| {
        let count = count * per_us;
        (u128::from(min) * duration_us..(u128::from(max) + 1) * duration_us).contains(&count)
    };
    within(bytes, 1_000_000, BYTES_PER_SECOND_MIN, max.bytes_per_second)
        && within(
            packets,
            60_000_000,
            PACKETS_PER_MINUTE_MIN,
            max.packets_per_minute,
        )
        && bytes <= packets * u128::from(max.bytes_per_packet)
}

/// The hash of a host, the same in every replay, and fast. A collision is of no use to an attacker: targets are
/// compared in full, and of the names of colliding hosts the more pool-like one counts.
pub(super) fn hash_host(host: IpAddr) -> u32 {
    let bits = match host {
        IpAddr::V4(v4) => u64::from(v4.to_bits()),
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            u64::try_from(bits >> 64)
                .unwrap_or_default()
                .rotate_left(17)
                ^ u64::try_from(bits & u128::from(u64::MAX)).unwrap_or_default()
        }
    };
    mix(bits)
}

fn hash_target(target: Target, source_port: u16) -> u32 {
    let transport = match target.transport {
        Transport::Tcp => 0,
        Transport::Udp => 1,
        Transport::Icmp => 2,
        Transport::Sctp => 3,
        Transport::Other(number) => 4 + u64::from(number),
    };
    let ports = (transport << 32) | (u64::from(target.port) << 16) | u64::from(source_port);
    mix(u64::from(hash_host(target.host)) ^ ports.rotate_left(24))
}

/// Fibonacci hashing: the upper half of a product with 2^64 / golden ratio.
fn mix(bits: u64) -> u32 {
    let product = (bits ^ (bits >> 29)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    u32::try_from(product >> 32).unwrap_or_default()
}
