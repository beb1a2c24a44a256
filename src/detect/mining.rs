//! Mining: sessions with a destination on the user's pool list.
//!
//! Two families of evidence, each clipped so that none acts alone: the destination (its name or
//! address is listed) and the shape of the session (long, thin, steady). A list alone can be
//! wrong or stale, and the shape alone is that of every websocket, SSH session, message queue and
//! JSON-RPC client, so the first alone is an alert and the second alone is nothing. Further
//! families (processor, GPU) add to the same sum. Called by `engine`.

use std::net::IpAddr;

use super::contacts::Target;
use super::engine::EngineConfig;
use super::scan::{Crossing, span_us};
use super::scope::plain;
use crate::limits;
use crate::model::{
    BoundedText, DnsQuery, EventTime, Evidence, Example, Flow, Outcome, Severity, Signature,
    TlsName, Transport, Volume,
};

/// What one family can add at most, in nats: a likelihood ratio of 8,100.
pub(super) const FAMILY_NATS_MAX: f64 = 9.0;

/// What a quarantine takes: from one miner in 10,000 pods (ln 1e-4 = -9.2) to 99.9 % (+6.9).
/// One family cannot get there, two can.
pub(super) const QUARANTINE_NATS: f64 = 16.1;

/// From here on a session is as long as sessions with pools are: nine real ones lasted 46 to
/// 1,155 s when their recordings ended, and web requests are over long before.
const LONG_US: i64 = 300_000_000;

/// Below this a record says nothing about a rate.
const RATED_MIN_US: u64 = 30_000_000;

/// Real pool sessions: 9 to 1,300 bytes/s with headers, which is 5 and more without; 2.6 to 281
/// packets/min; up to 561 bytes a packet.
const BYTES_PER_SECOND_MIN: u64 = 4;
const BYTES_PER_SECOND_MAX: u64 = 1_300;
const PACKETS_PER_MINUTE_MIN: u64 = 1;
const PACKETS_PER_MINUTE_MAX: u64 = 300;
const BYTES_PER_PACKET_MAX: u64 = 700;

/// A pod's dealings with pools. Empty for nearly every pod.
#[derive(Clone, Debug, Default)]
pub(super) struct Mining {
    addresses: Vec<(IpAddr, BoundedText)>,
    sessions: Vec<Session>,
    contact_count: u64,
    first: Option<EventTime>,
    last: Option<EventTime>,
    entry: Option<BoundedText>,
    examples: Vec<Example>,
}

/// All connections to one listed target.
#[derive(Clone, Debug)]
struct Session {
    target: Target,
    source_port: u16,
    /// Time covered by thin connections; overlapping ones count once, breaks do not count.
    covered_us: i64,
    covered_until: EventTime,
}

impl Mining {
    /// A DNS query.
    pub(super) fn observe_dns(
        &mut self,
        query: &DnsQuery<'_>,
        config: &EngineConfig,
    ) -> Option<Crossing> {
        let entry = BoundedText::new(config.pools.listed_name(&query.query)?);
        for ip in query.answers.iter().take(limits::DNS_ANSWERS_MAX) {
            self.learn(plain(*ip), &entry);
        }
        self.count(query.time, entry);
        self.judge()
    }

    /// A server name of a TLS handshake.
    pub(super) fn observe_tls(
        &mut self,
        tls: &TlsName<'_>,
        config: &EngineConfig,
    ) -> Option<Crossing> {
        let entry = BoundedText::new(config.pools.listed_name(&tls.server_name)?);
        let host = plain(tls.destination);
        self.learn(host, &entry);
        let target = Target {
            host,
            transport: Transport::Tcp,
            port: tls.destination_port,
        };
        if self.is_new_connection(target, tls.source_port, tls.time) {
            self.count(tls.time, entry.clone());
            self.add_example(tls.time, target, Outcome::Answered, &entry);
        }
        self.judge()
    }

    /// A flow.
    pub(super) fn observe_flow(
        &mut self,
        flow: &Flow<'_>,
        config: &EngineConfig,
    ) -> Option<Crossing> {
        let target = Target::of(flow);
        let entry = self.listed(target, flow.destination_name.as_deref(), config)?;
        if self.is_new_connection(target, flow.source_port, flow.time) {
            self.count(flow.time, entry.clone());
            self.add_example(flow.time, target, flow.outcome, &entry);
        }
        if let Some(volume) = flow.volume.filter(is_thin)
            && let Some(session) = self.sessions.iter_mut().find(|s| s.target == target)
        {
            session.cover(flow.time, volume.duration_us);
            self.last = self.last.max(Some(session.covered_until));
        }
        self.judge()
    }

    fn listed(
        &self,
        target: Target,
        name: Option<&str>,
        config: &EngineConfig,
    ) -> Option<BoundedText> {
        if let Some(entry) = name.and_then(|name| config.pools.listed_name(name)) {
            return Some(BoundedText::new(entry));
        }
        if config.pools.lists_address(target.host, target.port) {
            return Some(BoundedText::new(&target.host.to_string()));
        }
        let learned = self.addresses.iter().find(|(ip, _)| *ip == target.host);
        learned.map(|(_, entry)| entry.clone())
    }

    fn learn(&mut self, ip: IpAddr, entry: &BoundedText) {
        if self.addresses.iter().any(|(known, _)| *known == ip) {
            return;
        }
        if self.addresses.len() >= limits::POOL_ADDRESSES_MAX {
            // The newest is what the pod is about to connect to.
            self.addresses.remove(0);
        }
        self.addresses.push((ip, entry.clone()));
    }

    /// Whether this is another connection than the last one to the same target. The several
    /// records of one connection share the source port.
    fn is_new_connection(&mut self, target: Target, source_port: u16, time: EventTime) -> bool {
        if let Some(session) = self.sessions.iter_mut().find(|s| s.target == target) {
            let is_new = session.source_port != source_port;
            session.source_port = source_port;
            return is_new;
        }
        if self.sessions.len() >= limits::POOL_SESSIONS_MAX {
            let shortest = self
                .sessions
                .iter()
                .enumerate()
                .min_by_key(|(_, s)| s.covered_us);
            if let Some((index, _)) = shortest {
                self.sessions.remove(index);
            }
        }
        self.sessions.push(Session {
            target,
            source_port,
            covered_us: 0,
            covered_until: time,
        });
        true
    }

    fn count(&mut self, time: EventTime, entry: BoundedText) {
        self.contact_count = self.contact_count.saturating_add(1);
        self.first = Some(self.first.map_or(time, |first| first.min(time)));
        self.last = self.last.max(Some(time));
        self.entry = Some(entry);
    }

    fn add_example(
        &mut self,
        time: EventTime,
        target: Target,
        outcome: Outcome,
        entry: &BoundedText,
    ) {
        if self.examples.len() < limits::EXAMPLES_MAX {
            self.examples.push(Example {
                time,
                destination: target.host,
                port: target.port,
                transport: target.transport,
                outcome,
                name: entry
                    .as_str()
                    .contains(char::is_alphabetic)
                    .then(|| entry.clone()),
            });
        }
    }

    fn judge(&self) -> Option<Crossing> {
        let (first, last, entry) = (self.first?, self.last?, self.entry.as_ref()?);
        let covered_us = self
            .sessions
            .iter()
            .map(|s| s.covered_us)
            .max()
            .unwrap_or_default();
        let score = FAMILY_NATS_MAX + shape_nats(covered_us);
        let (severity, threshold) = if score >= QUARANTINE_NATS {
            (Severity::Quarantine, QUARANTINE_NATS)
        } else {
            (Severity::Alert, FAMILY_NATS_MAX)
        };
        let shape = if covered_us > 0 {
            format!(
                "Thin, steady sessions with one address of it cover {}.",
                span_us(covered_us)
            )
        } else {
            "No session with the shape of mining was seen.".to_owned()
        };
        let summary = format!(
            "{} looked-up names or connections match {} of the pool list. {shape}",
            self.contact_count,
            crate::model::clip(entry.as_str(), 100)
        );
        let mut against = Vec::new();
        if self.sessions.is_empty() {
            against.push("names were looked up, but no connection was seen");
        }
        if severity == Severity::Alert && covered_us > 0 {
            against.push("the sessions were shorter than mining sessions are");
        }
        Some(Crossing {
            signature: Signature::Mining,
            severity,
            evidence: Evidence {
                score,
                threshold,
                first,
                last,
                contact_count: self.contact_count,
                summary: BoundedText::new(&summary),
                examples: self.examples.clone(),
                against: against.into_iter().map(BoundedText::new).collect(),
            },
        })
    }
}

impl Session {
    fn cover(&mut self, start: EventTime, duration_us: u64) {
        let end = start.plus_micros(i64::try_from(duration_us).unwrap_or(i64::MAX));
        let fresh_from = if self.covered_us > 0 {
            start.max(self.covered_until)
        } else {
            start
        };
        let fresh_us = end.micros_since(fresh_from).max(0);
        self.covered_us = self.covered_us.saturating_add(fresh_us);
        self.covered_until = self.covered_until.max(end);
    }
}

/// What the shape adds: the longer a pod keeps such a session, the less it is chance.
#[allow(clippy::cast_precision_loss)] // both are below 2^53
fn shape_nats(covered_us: i64) -> f64 {
    FAMILY_NATS_MAX * (covered_us.clamp(0, LONG_US) as f64 / LONG_US as f64)
}

/// Small and steady traffic both ways. Which way carries more says nothing: it depends on the
/// coin, from 0.4 to 13 times.
fn is_thin(volume: &Volume) -> bool {
    if volume.duration_us < RATED_MIN_US || volume.bytes_out == 0 || volume.bytes_in == 0 {
        return false;
    }
    let bytes = u128::from(volume.bytes_out) + u128::from(volume.bytes_in);
    let packets = u128::from(volume.packets_out) + u128::from(volume.packets_in);
    let duration_us = u128::from(volume.duration_us);
    let within = |count: u128, per_us: u128, min: u64, max: u64| {
        let rate = count * per_us / duration_us;
        (u128::from(min)..=u128::from(max)).contains(&rate)
    };
    within(bytes, 1_000_000, BYTES_PER_SECOND_MIN, BYTES_PER_SECOND_MAX)
        && within(
            packets,
            60_000_000,
            PACKETS_PER_MINUTE_MIN,
            PACKETS_PER_MINUTE_MAX,
        )
        && bytes <= packets * u128::from(BYTES_PER_PACKET_MAX)
}
