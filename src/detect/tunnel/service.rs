//! Contacts of a pod with tunnel services of one list: the user's list, or the starter list.
//!
//! Called by `tunnel`, which evaluates them. Bounded. This module must not decide what a match means.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::detect::pool_list::PoolList;
use crate::detect::scan::contacts::Target;
use crate::detect::scope::plain;
use crate::detect::session::hash_host;
use crate::detect::state::bounded;
use crate::limits;
use crate::model::{
    BoundedText, DnsQuery, EventTime, Example, Flow, Outcome, TlsName, Transport, clip,
};

/// See the module. Empty for nearly every pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Services {
    contacts: Option<Box<Contacts>>,
}

/// Contacts with a listed tunnel service.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Contacts {
    entry: BoundedText,
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::POOL_ADDRESSES_MAX }>")]
    hosts: Vec<u32>,
    pub(super) contact_count: u64,
    pub(super) first: EventTime,
    pub(super) last: EventTime,
    #[serde(deserialize_with = "bounded::list::<_, _, { limits::EXAMPLES_MAX }>")]
    pub(super) examples: Vec<Example>,
}

impl Services {
    /// Processes a DNS query. Returns whether the list contains the name.
    pub(super) fn observe_dns(&mut self, query: &DnsQuery<'_>, list: &PoolList) -> bool {
        let Some(entry) = list.listed_name(&query.query) else {
            return false;
        };
        let entry = BoundedText::new(entry);
        for ip in query.answers.iter().take(limits::DNS_ANSWERS_MAX) {
            self.learn(plain(*ip), &entry, query.time);
        }
        self.count(query.time, &entry, None);
        true
    }

    /// Processes the server name of a TLS handshake. Returns whether the list contains it.
    pub(super) fn observe_tls(&mut self, tls: &TlsName<'_>, list: &PoolList) -> bool {
        let Some(entry) = list.listed_name(&tls.server_name) else {
            return false;
        };
        let entry = BoundedText::new(entry);
        self.learn(plain(tls.destination), &entry, tls.time);
        let example = Example {
            time: tls.time,
            destination: plain(tls.destination),
            port: tls.destination_port,
            transport: Transport::Tcp,
            outcome: Outcome::Answered,
            name: Some(entry.clone()),
        };
        self.count(tls.time, &entry, Some(example));
        true
    }

    /// Whether a flow may match, without a lookup in the list.
    pub(super) fn may_match(&self, flow: &Flow<'_>, list: &PoolList) -> bool {
        let has_clue = flow.destination_name.is_some() || list.has_addresses();
        !list.is_empty() && (has_clue || self.contacts.is_some())
    }

    /// Processes a flow. Returns whether its destination is on the list, or was reached through a name on it.
    pub(super) fn observe_flow(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        list: &PoolList,
    ) -> bool {
        if !self.may_match(flow, list) {
            return false;
        }
        let by_name = flow
            .destination_name
            .as_deref()
            .and_then(|name| list.listed_name(name));
        let entry = match (by_name, &self.contacts) {
            (Some(entry), _) => BoundedText::new(entry),
            (None, _) if list.lists_address(target.host, target.port) => {
                BoundedText::new(&target.host.to_string())
            }
            (None, Some(contacts)) if contacts.hosts.contains(&hash_host(target.host)) => {
                contacts.entry.clone()
            }
            _ => return false,
        };
        self.learn(target.host, &entry, flow.time);
        let has_name = entry.as_str().contains(char::is_alphabetic);
        let example = Example {
            time: flow.time,
            destination: target.host,
            port: target.port,
            transport: target.transport,
            outcome: flow.outcome,
            name: has_name.then(|| entry.clone()),
        };
        self.count(flow.time, &entry, Some(example));
        true
    }

    /// Whether a host was reached through a name on the list.
    pub(super) fn contains_host(&self, host: IpAddr) -> bool {
        let key = hash_host(host);
        self.contacts
            .as_ref()
            .is_some_and(|contacts| contacts.hosts.contains(&key))
    }

    /// The contacts, if there are any.
    pub(super) fn contacts(&self) -> Option<&Contacts> {
        self.contacts.as_deref()
    }

    fn learn(&mut self, ip: IpAddr, entry: &BoundedText, time: EventTime) {
        let key = hash_host(ip);
        let contacts = self.contacts_or_new(entry, time);
        if contacts.hosts.contains(&key) {
            return;
        }
        if contacts.hosts.len() >= limits::POOL_ADDRESSES_MAX {
            contacts.hosts.remove(0);
        }
        contacts.hosts.push(key);
    }

    fn count(&mut self, time: EventTime, entry: &BoundedText, example: Option<Example>) {
        let contacts = self.contacts_or_new(entry, time);
        contacts.contact_count = contacts.contact_count.saturating_add(1);
        contacts.first = contacts.first.min(time);
        contacts.last = contacts.last.max(time);
        if let Some(example) = example
            && contacts.examples.len() < limits::EXAMPLES_MAX
        {
            contacts.examples.push(example);
        }
    }

    fn contacts_or_new(&mut self, entry: &BoundedText, time: EventTime) -> &mut Contacts {
        self.contacts.get_or_insert_with(|| {
            Box::new(Contacts {
                entry: entry.clone(),
                hosts: Vec::new(),
                contact_count: 0,
                first: time,
                last: time,
                examples: Vec::new(),
            })
        })
    }
}

impl Contacts {
    /// The entry that matched first.
    pub(super) fn entry_text(&self) -> &str {
        clip(self.entry.as_str(), 100)
    }
}
