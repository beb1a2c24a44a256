//! Mining: which session of a pod, if any, is work for a pool.
//!
//! Three families of evidence, each clipped so that none acts alone: the destination (on the
//! user's list, or a name and port that sound like a pool), the shape of the session (long, thin,
//! steady), and the processors (`compute`, `gpu`) while it lasts. The shape is that of every
//! websocket, message queue and metrics pusher, so for a destination that no list names the
//! honest explanations are counted against it (`judge`). Called by `engine`.

mod compute;
mod gpu;
mod judge;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use self::compute::Compute;
use super::contacts::Target;
use super::engine::EngineConfig;
use super::fusion::{FAMILY_NATS_MAX, QUARANTINE_NATS, ruling};
use super::names::Names;
use super::saved;
use super::scan::{Crossing, span_us};
use super::scope::plain;
use super::session::{Seen, Session, Sessions};
use super::told::{Told, Word};
use crate::limits;
use crate::model::{
    BoundedText, ComputeSample, DnsQuery, EventTime, Evidence, Example, Flow, Outcome, Severity,
    Signature, TlsName, Transport,
};

/// What the other parts of a pod's state tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Around<'a> {
    pub(super) config: &'a EngineConfig,
    pub(super) sessions: &'a Sessions,
    pub(super) names: &'a Names,
    /// What was already said: evidence is written down for news only.
    pub(super) told: &'a Told,
}

/// A pod's dealings with pools. Empty for nearly every pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Mining {
    listed: Option<Box<Listed>>,
    compute: Option<Box<Compute>>,
}

/// Contacts with what is on the list.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Listed {
    #[serde(deserialize_with = "saved::list::<_, _, { limits::POOL_ADDRESSES_MAX }>")]
    addresses: Vec<(IpAddr, BoundedText)>,
    #[serde(deserialize_with = "saved::list::<_, _, { limits::SESSIONS_MAX }>")]
    targets: Vec<Target>,
    contact_count: u64,
    first: EventTime,
    last: EventTime,
    entry: BoundedText,
    #[serde(deserialize_with = "saved::list::<_, _, { limits::EXAMPLES_MAX }>")]
    examples: Vec<Example>,
}

impl Mining {
    /// A DNS query.
    pub(super) fn observe_dns(
        &mut self,
        query: &DnsQuery<'_>,
        around: Around<'_>,
    ) -> Option<Crossing> {
        let entry = around.config.pools.listed_name(&query.query)?;
        let entry = BoundedText::new(entry);
        for ip in query.answers.iter().take(limits::DNS_ANSWERS_MAX) {
            self.learn(plain(*ip), &entry, query.time);
        }
        self.count(query.time, &entry);
        self.judge_listed(around)
    }

    /// A server name of a TLS handshake. `is_new` says that the connection was not counted yet.
    pub(super) fn observe_tls(
        &mut self,
        tls: &TlsName<'_>,
        around: Around<'_>,
    ) -> Option<Crossing> {
        let entry = around.config.pools.listed_name(&tls.server_name)?;
        let entry = BoundedText::new(entry);
        let target = Target {
            host: plain(tls.destination),
            transport: Transport::Tcp,
            port: tls.destination_port,
        };
        self.learn(target.host, &entry, tls.time);
        let is_known = self
            .listed
            .as_ref()
            .is_some_and(|l| l.targets.contains(&target));
        if !is_known {
            self.count(tls.time, &entry);
            self.add_example(tls.time, target, Outcome::Answered, &entry);
        }
        self.judge_listed(around)
    }

    /// Whether the destination is on the list: asked before the flow reaches the sessions.
    pub(super) fn listed(
        &self,
        flow: &Flow<'_>,
        target: Target,
        config: &EngineConfig,
    ) -> Option<BoundedText> {
        if let Some(entry) = flow
            .destination_name
            .as_deref()
            .and_then(|name| config.pools.listed_name(name))
        {
            return Some(BoundedText::new(entry));
        }
        if config.pools.lists_address(target.host, target.port) {
            return Some(BoundedText::new(&target.host.to_string()));
        }
        let learned = self.listed.as_ref()?.addresses.iter();
        let mut matching = learned.filter(|(ip, _)| *ip == target.host);
        matching.next().map(|(_, entry)| entry.clone())
    }

    /// A flow whose destination is on the list.
    pub(super) fn observe_listed(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        entry: &BoundedText,
        seen: Option<Seen>,
        around: Around<'_>,
    ) -> Option<Crossing> {
        let was_told_by_tls = self.is_first_flow_after_tls(target);
        let is_new = seen.is_none_or(|seen| seen.is_new_connection);
        if is_new && !was_told_by_tls {
            self.count(flow.time, entry);
            self.add_example(flow.time, target, flow.outcome, entry);
        }
        if let Some(listed) = &mut self.listed {
            if !listed.targets.contains(&target) && listed.targets.len() < limits::SESSIONS_MAX {
                listed.targets.push(target);
            }
            if let Some(session) = around.sessions.get(target) {
                listed.last = listed.last.max(session.last);
            }
        }
        self.judge_listed(around)
    }

    /// A session whose destination is on no list has changed.
    pub(super) fn observe_session(
        &self,
        session: &Session,
        around: Around<'_>,
    ) -> Option<Crossing> {
        judge::unlisted(session, self.compute.as_deref(), around)
    }

    /// A sample of the pod's processors.
    pub(super) fn observe_sample(
        &mut self,
        sample: &ComputeSample<'_>,
        around: Around<'_>,
    ) -> Vec<Crossing> {
        self.compute.get_or_insert_default().observe(sample);
        let listed = self.judge_listed(around);
        let unlisted = around
            .sessions
            .iter()
            .filter(|session| !self.is_listed(session.target))
            .filter_map(|session| judge::unlisted(session, self.compute.as_deref(), around));
        let strongest = unlisted.max_by(|a, b| a.evidence.score.total_cmp(&b.evidence.score));
        listed.into_iter().chain(strongest).collect()
    }

    /// What a listed pool adds to the families of `tunnel`.
    pub(super) fn destination_nats(&self) -> f64 {
        self.listed.as_ref().map_or(0.0, |listed| {
            if listed.targets.is_empty() {
                0.0
            } else {
                FAMILY_NATS_MAX
            }
        })
    }

    fn is_listed(&self, target: Target) -> bool {
        self.listed
            .as_ref()
            .is_some_and(|listed| listed.targets.contains(&target))
    }

    /// The handshake was counted as the contact; the record of the same connection comes later.
    fn is_first_flow_after_tls(&mut self, target: Target) -> bool {
        let Some(listed) = &mut self.listed else {
            return false;
        };
        if listed.targets.contains(&target) {
            return false;
        }
        listed
            .examples
            .iter()
            .any(|example| example.destination == target.host && example.port == target.port)
    }

    fn learn(&mut self, ip: IpAddr, entry: &BoundedText, time: EventTime) {
        let listed = self.listed_or_new(time, entry);
        if listed.addresses.iter().any(|(known, _)| *known == ip) {
            return;
        }
        if listed.addresses.len() >= limits::POOL_ADDRESSES_MAX {
            // The newest is what the pod is about to connect to.
            listed.addresses.remove(0);
        }
        listed.addresses.push((ip, entry.clone()));
    }

    fn listed_or_new(&mut self, time: EventTime, entry: &BoundedText) -> &mut Listed {
        self.listed.get_or_insert_with(|| {
            Box::new(Listed {
                addresses: Vec::new(),
                targets: Vec::new(),
                contact_count: 0,
                first: time,
                last: time,
                entry: entry.clone(),
                examples: Vec::new(),
            })
        })
    }

    fn count(&mut self, time: EventTime, entry: &BoundedText) {
        let listed = self.listed_or_new(time, entry);
        listed.contact_count = listed.contact_count.saturating_add(1);
        listed.first = listed.first.min(time);
        listed.last = listed.last.max(time);
        if listed.entry != *entry {
            listed.entry.clone_from(entry);
        }
    }

    fn add_example(
        &mut self,
        time: EventTime,
        target: Target,
        outcome: Outcome,
        entry: &BoundedText,
    ) {
        let listed = self.listed_or_new(time, entry);
        if listed.examples.len() < limits::EXAMPLES_MAX {
            let has_name = entry.as_str().contains(char::is_alphabetic);
            listed.examples.push(Example {
                time,
                destination: target.host,
                port: target.port,
                transport: target.transport,
                outcome,
                name: has_name.then(|| entry.clone()),
            });
        }
    }

    fn judge_listed(&self, around: Around<'_>) -> Option<Crossing> {
        let listed = self.listed.as_deref()?;
        let sessions = listed
            .targets
            .iter()
            .filter_map(|t| around.sessions.get(*t));
        let best = sessions
            .map(|session| {
                let (compute, words) = judge::compute(self.compute.as_deref(), session);
                (
                    judge::shape_nats(session) + compute,
                    session.covered_us,
                    words,
                )
            })
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let (more, covered_us, words) = best.unwrap_or((0.0, 0, None));
        let score = FAMILY_NATS_MAX + more;
        let (severity, threshold) = ruling(score)?;
        let word = Word {
            signature: Signature::Mining,
            severity,
            contact_count: listed.contact_count,
            score,
        };
        if !around.told.is_news(word) {
            return None;
        }
        let shape = if let Some(words) = words {
            words
        } else if covered_us > 0 {
            let span = span_us(covered_us);
            format!("Thin, steady sessions with one address of it cover {span}.")
        } else {
            "No session with the shape of mining was seen.".to_owned()
        };
        let summary = format!(
            "{} looked-up names or connections match {} of the pool list. {shape}",
            listed.contact_count,
            crate::model::clip(listed.entry.as_str(), 100)
        );
        let mut against = Vec::new();
        if listed.targets.is_empty() {
            against.push("names were looked up, but no connection was seen");
        }
        if severity == Severity::Alert && covered_us > 0 && score < QUARANTINE_NATS {
            against.push("the sessions were shorter than mining sessions are");
        }
        Some(Crossing {
            signature: Signature::Mining,
            severity,
            evidence: Evidence {
                score,
                threshold,
                first: listed.first,
                last: listed.last,
                contact_count: listed.contact_count,
                summary: BoundedText::new(&summary),
                examples: listed.examples.clone(),
                against: against.into_iter().map(BoundedText::new).collect(),
            },
        })
    }
}
