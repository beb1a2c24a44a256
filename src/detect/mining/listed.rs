//! Contacts of a pod with pools of one list: the user's list, or the starter list.
//!
//! Called by `mining`. A match of the user's list is one whole family of evidence. The starter list is part of the
//! chart and is not verified for the site, so a match of it is an alert and adds nothing to other sums. This module
//! must not interpret sessions: see `unlisted`.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::compute::Compute;
use super::unlisted;
use crate::detect::config::EngineConfig;
use crate::detect::context::TrafficContext;
use crate::detect::detection::Detection;
use crate::detect::fusion::{ALERT_NATS, FAMILY_NATS_MAX, QUARANTINE_NATS, severity_for};
use crate::detect::pool_list::PoolList;
use crate::detect::reported::ReportLevel;
use crate::detect::scan::contacts::Target;
use crate::detect::scope::plain;
use crate::detect::session::SessionUpdate;
use crate::detect::state::bounded;
use crate::limits;
use crate::model::{
    BoundedText, DnsQuery, EventTime, Evidence, Example, Flow, Outcome, Severity, Signature,
    TlsName, Transport, duration,
};

/// Origin of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ListKind {
    /// The user's list: a match is one whole family of evidence.
    #[default]
    Own,
    /// The list in the chart: a match is an alert at most.
    Starter,
}

impl ListKind {
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

/// Contacts with entries of the list.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Contacts {
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::POOL_ADDRESSES_MAX }>")]
    addresses: Vec<(IpAddr, BoundedText)>,
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::SESSIONS_MAX }>")]
    targets: Vec<Target>,
    contact_count: u64,
    first: EventTime,
    last: EventTime,
    entry: BoundedText,
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::EXAMPLES_MAX }>")]
    examples: Vec<Example>,
}

impl Listed {
    /// Processes a DNS query. Returns whether the list contains the name.
    pub(super) fn observe_dns(
        &mut self,
        query: &DnsQuery<'_>,
        list: ListKind,
        config: &EngineConfig,
    ) -> bool {
        let Some(entry) = list.pools(config).listed_name(&query.query) else {
            return false;
        };
        let entry = BoundedText::new(entry);
        for ip in query.answers.iter().take(limits::DNS_ANSWERS_MAX) {
            self.learn(plain(*ip), &entry, query.time);
        }
        self.count(query.time, &entry);
        true
    }

    /// Processes the server name of a TLS handshake. Returns whether the list contains it.
    pub(super) fn observe_tls(
        &mut self,
        tls: &TlsName<'_>,
        list: ListKind,
        config: &EngineConfig,
    ) -> bool {
        let Some(entry) = list.pools(config).listed_name(&tls.server_name) else {
            return false;
        };
        let entry = BoundedText::new(entry);
        let target = Target {
            host: plain(tls.destination),
            transport: Transport::Tcp,
            port: tls.destination_port,
        };
        self.learn(target.host, &entry, tls.time);
        if !self.contains_target(target) {
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
        list: ListKind,
        config: &EngineConfig,
    ) -> Option<BoundedText> {
        let pools = list.pools(config);
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

    /// Whether [`Self::entry`] may find one, without a lookup in the list.
    pub(super) fn may_match(&self, flow: &Flow<'_>, list: ListKind, config: &EngineConfig) -> bool {
        let pools = list.pools(config);
        let has_clue = flow.destination_name.is_some() || pools.has_addresses();
        !pools.is_empty() && (has_clue || self.contacts.is_some())
    }

    /// Processes a flow to a destination on the list.
    pub(super) fn observe_flow(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        entry: &BoundedText,
        update: Option<SessionUpdate>,
        context: TrafficContext<'_>,
    ) {
        let was_seen_in_tls = self.is_first_flow_after_tls(target);
        let is_new = update.is_none_or(|update| update.is_new_connection);
        if is_new && !was_seen_in_tls {
            self.count(flow.time, entry);
            self.add_example(flow.time, target, flow.outcome, entry);
        }
        if let Some(contacts) = &mut self.contacts {
            if !contacts.targets.contains(&target) && contacts.targets.len() < limits::SESSIONS_MAX
            {
                contacts.targets.push(target);
            }
            if let Some(session) = context.sessions.get(target) {
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

    /// Whether the target belongs to a listed pool.
    pub(super) fn contains_target(&self, target: Target) -> bool {
        self.contacts
            .as_ref()
            .is_some_and(|contacts| contacts.targets.contains(&target))
    }

    /// Evaluates the contacts with pools of the user's list.
    pub(super) fn evaluate(
        &self,
        compute: Option<&Compute>,
        context: TrafficContext<'_>,
    ) -> Option<Detection> {
        let contacts = self.contacts.as_deref()?;
        let sessions = contacts
            .targets
            .iter()
            .filter_map(|t| context.sessions.get(*t));
        let best = sessions
            .map(|session| {
                let (compute, description) = unlisted::compute(compute, session);
                (
                    unlisted::shape_nats(session) + compute,
                    session.covered_us,
                    description,
                )
            })
            .max_by(|a, b| a.0.total_cmp(&b.0));
        let (more, covered_us, description) = best.unwrap_or((0.0, 0, None));
        let score = FAMILY_NATS_MAX + more;
        let (severity, threshold) = severity_for(score)?;
        if !context
            .reported
            .should_report(contacts.report_level(severity, score))
        {
            return None;
        }
        let shape = if let Some(description) = description {
            description
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
        Some(contacts.detection((severity, score, threshold), &summary, against))
    }

    /// Evaluates the contacts with pools of the starter list: never more than an alert.
    pub(super) fn evaluate_starter(&self, context: TrafficContext<'_>) -> Option<Detection> {
        let contacts = self.contacts.as_deref()?;
        let (severity, score) = (Severity::Alert, ALERT_NATS);
        if !context
            .reported
            .should_report(contacts.report_level(severity, score))
        {
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
        Some(contacts.detection((severity, score, ALERT_NATS), &summary, against))
    }

    /// Whether the contact was counted at its TLS handshake; the flow record of the same connection arrives later.
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
            // The newest address is the one that the pod is about to contact.
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
    fn report_level(&self, severity: Severity, score: f64) -> ReportLevel {
        ReportLevel {
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

    fn detection(
        &self,
        (severity, score, threshold): (Severity, f64, f64),
        summary: &str,
        against: Vec<&'static str>,
    ) -> Detection {
        Detection {
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
