//! Contacts of a pod with pools of one list: the user's own, or the starter list.
//!
//! Called by `mining`. A match of the user's list is one whole family of evidence. The starter list
//! comes with the chart and nobody at the site has checked it, so that a match of it is an alert and
//! adds nothing to any other sum. Must not decide what a session means, which is `judge`'s matter.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::super::contacts::Target;
use super::super::engine::EngineConfig;
use super::super::fusion::{ALERT_NATS, FAMILY_NATS_MAX, QUARANTINE_NATS, ruling};
use super::super::intel::PoolList;
use super::super::saved;
use super::super::scan::Crossing;
use super::super::scope::plain;
use super::super::session::Seen;
use super::super::told::Word;
use super::compute::Compute;
use super::{Around, judge};
use crate::limits;
use crate::model::{
    BoundedText, DnsQuery, EventTime, Evidence, Example, Flow, Outcome, Severity, Signature,
    TlsName, Transport, duration,
};

/// Whose list it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Origin {
    /// The user's own: a whole family of evidence.
    #[default]
    Own,
    /// The one that the chart brings: an alert at most.
    Starter,
}

impl Origin {
    fn pools(self, config: &EngineConfig) -> &PoolList {
        match self {
            Self::Own => &config.pools,
            Self::Starter => &config.starter_pools,
        }
    }
}

/// See the module. Empty for nearly every pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Listed {
    contacts: Option<Box<Contacts>>,
}

/// Contacts with what is on the list.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Contacts {
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

impl Listed {
    /// A DNS query. Whether the list names what was asked for.
    pub(super) fn observe_dns(
        &mut self,
        query: &DnsQuery<'_>,
        origin: Origin,
        config: &EngineConfig,
    ) -> bool {
        let Some(entry) = origin.pools(config).listed_name(&query.query) else {
            return false;
        };
        let entry = BoundedText::new(entry);
        for ip in query.answers.iter().take(limits::DNS_ANSWERS_MAX) {
            self.learn(plain(*ip), &entry, query.time);
        }
        self.count(query.time, &entry);
        true
    }

    /// A server name of a TLS handshake. Whether the list names it.
    pub(super) fn observe_tls(
        &mut self,
        tls: &TlsName<'_>,
        origin: Origin,
        config: &EngineConfig,
    ) -> bool {
        let Some(entry) = origin.pools(config).listed_name(&tls.server_name) else {
            return false;
        };
        let entry = BoundedText::new(entry);
        let target = Target {
            host: plain(tls.destination),
            transport: Transport::Tcp,
            port: tls.destination_port,
        };
        self.learn(target.host, &entry, tls.time);
        if !self.holds(target) {
            self.count(tls.time, &entry);
            self.add_example(tls.time, target, Outcome::Answered, &entry);
        }
        true
    }

    /// The entry that covers the destination of a flow.
    pub(super) fn entry(
        &self,
        flow: &Flow<'_>,
        target: Target,
        origin: Origin,
        config: &EngineConfig,
    ) -> Option<BoundedText> {
        let pools = origin.pools(config);
        if pools.is_empty() {
            return None;
        }
        if let Some(entry) = flow
            .destination_name
            .as_deref()
            .and_then(|name| pools.listed_name(name))
        {
            return Some(BoundedText::new(entry));
        }
        if pools.lists_address(target.host, target.port) {
            return Some(BoundedText::new(&target.host.to_string()));
        }
        let learned = self.contacts.as_ref()?.addresses.iter();
        let mut matching = learned.filter(|(ip, _)| *ip == target.host);
        matching.next().map(|(_, entry)| entry.clone())
    }

    /// Whether [`Self::entry`] could find one, without the look into the list.
    pub(super) fn may_match(&self, flow: &Flow<'_>, origin: Origin, config: &EngineConfig) -> bool {
        let pools = origin.pools(config);
        let has_clue = flow.destination_name.is_some() || pools.has_addresses();
        !pools.is_empty() && (has_clue || self.contacts.is_some())
    }

    /// A flow whose destination is on the list.
    pub(super) fn observe_flow(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        entry: &BoundedText,
        seen: Option<Seen>,
        around: Around<'_>,
    ) {
        let was_seen_in_tls = self.is_first_flow_after_tls(target);
        let is_new = seen.is_none_or(|seen| seen.is_new_connection);
        if is_new && !was_seen_in_tls {
            self.count(flow.time, entry);
            self.add_example(flow.time, target, flow.outcome, entry);
        }
        if let Some(contacts) = &mut self.contacts {
            if !contacts.targets.contains(&target) && contacts.targets.len() < limits::SESSIONS_MAX
            {
                contacts.targets.push(target);
            }
            if let Some(session) = around.sessions.get(target) {
                contacts.last = contacts.last.max(session.last);
            }
        }
    }

    /// Whether a connection to a listed pool was seen.
    pub(super) fn has_connected(&self) -> bool {
        self.contacts
            .as_ref()
            .is_some_and(|contacts| !contacts.targets.is_empty())
    }

    /// Whether the target is one of a listed pool.
    pub(super) fn holds(&self, target: Target) -> bool {
        self.contacts
            .as_ref()
            .is_some_and(|contacts| contacts.targets.contains(&target))
    }

    /// Judges the contacts with the pools of the user's list.
    pub(super) fn judge(&self, compute: Option<&Compute>, around: Around<'_>) -> Option<Crossing> {
        let contacts = self.contacts.as_deref()?;
        let sessions = contacts
            .targets
            .iter()
            .filter_map(|t| around.sessions.get(*t));
        let best = sessions
            .map(|session| {
                let (compute, words) = judge::compute(compute, session);
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
        if !around.told.is_news(contacts.word(severity, score)) {
            return None;
        }
        let shape = if let Some(words) = words {
            words
        } else if covered_us > 0 {
            let span = duration::rounded(covered_us);
            format!("Thin, steady sessions with one address of it cover {span}.")
        } else {
            "No session with the shape of mining was seen.".to_owned()
        };
        let summary = format!(
            "{} looked-up names or connections match {} of the pool list. {shape}",
            contacts.contact_count,
            contacts.entry_text()
        );
        let mut against = contacts.against();
        if severity == Severity::Alert && covered_us > 0 && score < QUARANTINE_NATS {
            against.push("the sessions were shorter than mining sessions are");
        }
        Some(contacts.crossing((severity, score, threshold), &summary, against))
    }

    /// Judges the contacts with the pools of the starter list: never more than an alert.
    pub(super) fn judge_starter(&self, around: Around<'_>) -> Option<Crossing> {
        let contacts = self.contacts.as_deref()?;
        let (severity, score) = (Severity::Alert, ALERT_NATS);
        if !around.told.is_news(contacts.word(severity, score)) {
            return None;
        }
        let summary = format!(
            "{} looked-up names or connections match {} of the starter list of pools.",
            contacts.contact_count,
            contacts.entry_text()
        );
        let mut against = contacts.against();
        against.push(
            "the starter list alone never leads to a quarantine; a pool list of your own does",
        );
        Some(contacts.crossing((severity, score, ALERT_NATS), &summary, against))
    }

    /// The handshake was counted as the contact; the record of the same connection comes later.
    fn is_first_flow_after_tls(&self, target: Target) -> bool {
        let Some(contacts) = &self.contacts else {
            return false;
        };
        if contacts.targets.contains(&target) {
            return false;
        }
        contacts
            .examples
            .iter()
            .any(|example| example.destination == target.host && example.port == target.port)
    }

    fn learn(&mut self, ip: IpAddr, entry: &BoundedText, time: EventTime) {
        let contacts = self.contacts_or_new(time, entry);
        if contacts.addresses.iter().any(|(known, _)| *known == ip) {
            return;
        }
        if contacts.addresses.len() >= limits::POOL_ADDRESSES_MAX {
            // The newest is what the pod is about to connect to.
            contacts.addresses.remove(0);
        }
        contacts.addresses.push((ip, entry.clone()));
    }

    fn contacts_or_new(&mut self, time: EventTime, entry: &BoundedText) -> &mut Contacts {
        self.contacts.get_or_insert_with(|| {
            Box::new(Contacts {
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
        let contacts = self.contacts_or_new(time, entry);
        contacts.contact_count = contacts.contact_count.saturating_add(1);
        contacts.first = contacts.first.min(time);
        contacts.last = contacts.last.max(time);
        if contacts.entry != *entry {
            contacts.entry.clone_from(entry);
        }
    }

    fn add_example(
        &mut self,
        time: EventTime,
        target: Target,
        outcome: Outcome,
        entry: &BoundedText,
    ) {
        let contacts = self.contacts_or_new(time, entry);
        if contacts.examples.len() < limits::EXAMPLES_MAX {
            let has_name = entry.as_str().contains(char::is_alphabetic);
            contacts.examples.push(Example {
                time,
                destination: target.host,
                port: target.port,
                transport: target.transport,
                outcome,
                name: has_name.then(|| entry.clone()),
            });
        }
    }
}

impl Contacts {
    fn word(&self, severity: Severity, score: f64) -> Word {
        Word {
            signature: Signature::Mining,
            severity,
            contact_count: self.contact_count,
            score,
        }
    }

    fn entry_text(&self) -> &str {
        crate::model::clip(self.entry.as_str(), 100)
    }

    fn against(&self) -> Vec<&'static str> {
        let mut against = Vec::new();
        if self.targets.is_empty() {
            against.push("names were looked up, but no connection was seen");
        }
        against
    }

    fn crossing(
        &self,
        (severity, score, threshold): (Severity, f64, f64),
        summary: &str,
        against: Vec<&'static str>,
    ) -> Crossing {
        Crossing {
            signature: Signature::Mining,
            severity,
            evidence: Evidence {
                score,
                threshold,
                first: self.first,
                last: self.last,
                contact_count: self.contact_count,
                summary: BoundedText::new(summary),
                examples: self.examples.clone(),
                against: against.into_iter().map(BoundedText::new).collect(),
            },
        }
    }
}
