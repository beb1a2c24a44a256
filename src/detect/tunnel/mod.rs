//! Tunnels: sessions used from the far side, data in DNS names, tunnel services.
//!
//! Three families (`reverse`, `dns`, and the user's list of tunnel services), each clipped. One
//! alone is an alert: developers use tunnels too. Two together, or one together with a connection
//! to a listed mining pool, are a quarantine. Called by `engine`.

mod dns;
mod domain;
mod reverse;

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use self::dns::{Domain, Domains};
use super::contacts::Target;
use super::fusion::{ALERT_NATS, FAMILY_NATS_MAX, clipped, ruling};
use super::mining::Around;
use super::saved;
use super::scan::{Crossing, span_us};
use super::scope::plain;
use super::session::{Session, hash_host};
use super::told::Word;
use crate::limits;
use crate::model::{
    BoundedText, DnsQuery, EventTime, Evidence, Example, Flow, Outcome, Signature, TlsName,
    Transport, clip,
};

/// A pod's tunnels. Nearly empty for nearly every pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tunnel {
    domains: Domains,
    service: Option<Box<Service>>,
    /// The strongest that the other two families reached.
    reverse_nats: f64,
    dns_nats: f64,
}

/// Contacts with a listed tunnel service.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Service {
    entry: BoundedText,
    #[serde(deserialize_with = "saved::list::<_, _, { limits::POOL_ADDRESSES_MAX }>")]
    hosts: Vec<u32>,
    contact_count: u64,
    first: EventTime,
    last: EventTime,
    #[serde(deserialize_with = "saved::list::<_, _, { limits::EXAMPLES_MAX }>")]
    examples: Vec<Example>,
}

impl Tunnel {
    /// A DNS query. `pool_nats` is what `mining` knows of a listed pool.
    pub(super) fn observe_dns(
        &mut self,
        query: &DnsQuery<'_>,
        pool_nats: f64,
        around: Around<'_>,
    ) -> Vec<Crossing> {
        let mut crossings = Vec::new();
        if let Some(entry) = around.config.tunnels.listed_name(&query.query) {
            let entry = BoundedText::new(entry);
            for ip in query.answers.iter().take(limits::DNS_ANSWERS_MAX) {
                self.learn(plain(*ip), &entry, query.time);
            }
            self.count(query.time, &entry, None);
            crossings.extend(self.judge_service(pool_nats, around));
        }
        let others = self.others(pool_nats, self.dns_nats);
        let Some((domain, name)) = self.domains.observe(query) else {
            return crossings;
        };
        let nats = clipped(domain.nats());
        self.dns_nats = self.dns_nats.max(nats);
        if nats >= ALERT_NATS {
            crossings.extend(judge_dns(domain, name, nats + others, around));
        }
        crossings
    }

    /// A server name of a TLS handshake.
    pub(super) fn observe_tls(
        &mut self,
        tls: &TlsName<'_>,
        pool_nats: f64,
        around: Around<'_>,
    ) -> Option<Crossing> {
        let entry = around.config.tunnels.listed_name(&tls.server_name)?;
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
        self.judge_service(pool_nats, around)
    }

    /// A flow, where the list of services names its destination.
    pub(super) fn observe_flow(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        pool_nats: f64,
        around: Around<'_>,
    ) -> Option<Crossing> {
        let tunnels = &around.config.tunnels;
        if tunnels.is_empty() {
            return None;
        }
        let by_name = flow
            .destination_name
            .as_deref()
            .and_then(|name| tunnels.listed_name(name));
        let entry = match by_name {
            Some(entry) => BoundedText::new(entry),
            None if tunnels.lists_address(target.host, target.port) => {
                BoundedText::new(&target.host.to_string())
            }
            None => {
                let key = hash_host(target.host);
                let service = self.service.as_ref().filter(|s| s.hosts.contains(&key))?;
                service.entry.clone()
            }
        };
        self.learn(target.host, &entry, flow.time);
        let example = Example {
            time: flow.time,
            destination: target.host,
            port: target.port,
            transport: target.transport,
            outcome: flow.outcome,
            name: entry
                .as_str()
                .contains(char::is_alphabetic)
                .then(|| entry.clone()),
        };
        self.count(flow.time, &entry, Some(example));
        self.judge_service(pool_nats, around)
    }

    /// A session has changed.
    pub(super) fn observe_session(
        &mut self,
        session: &Session,
        pool_nats: f64,
        around: Around<'_>,
    ) -> Option<Crossing> {
        let key = hash_host(session.target.host);
        let is_listed = self
            .service
            .as_ref()
            .is_some_and(|s| s.hosts.contains(&key));
        let (nats, words) = reverse::nats(session, is_listed, around);
        let nats = clipped(nats);
        self.reverse_nats = self.reverse_nats.max(nats);
        if nats < ALERT_NATS / 2.0 {
            return None;
        }
        let score = nats + self.others(pool_nats, self.reverse_nats);
        if nats < ALERT_NATS && score < super::fusion::QUARANTINE_NATS {
            return None;
        }
        judge_reverse(session, score, &words, around)
    }

    /// Domains whose names are counted.
    #[cfg(test)]
    pub(super) fn domain_count(&self) -> usize {
        self.domains.len()
    }

    /// What the families other than one of these nats add up to.
    fn others(&self, pool_nats: f64, own_nats: f64) -> f64 {
        let service = if self.service.is_some() {
            FAMILY_NATS_MAX
        } else {
            0.0
        };
        service + self.reverse_nats + self.dns_nats + pool_nats - own_nats
    }

    fn learn(&mut self, ip: IpAddr, entry: &BoundedText, time: EventTime) {
        let key = hash_host(ip);
        let service = self.service_or_new(entry, time);
        if service.hosts.contains(&key) {
            return;
        }
        if service.hosts.len() >= limits::POOL_ADDRESSES_MAX {
            service.hosts.remove(0);
        }
        service.hosts.push(key);
    }

    fn count(&mut self, time: EventTime, entry: &BoundedText, example: Option<Example>) {
        let service = self.service_or_new(entry, time);
        service.contact_count = service.contact_count.saturating_add(1);
        service.first = service.first.min(time);
        service.last = service.last.max(time);
        if let Some(example) = example
            && service.examples.len() < limits::EXAMPLES_MAX
        {
            service.examples.push(example);
        }
    }

    fn service_or_new(&mut self, entry: &BoundedText, time: EventTime) -> &mut Service {
        self.service.get_or_insert_with(|| {
            Box::new(Service {
                entry: entry.clone(),
                hosts: Vec::new(),
                contact_count: 0,
                first: time,
                last: time,
                examples: Vec::new(),
            })
        })
    }

    fn judge_service(&self, pool_nats: f64, around: Around<'_>) -> Option<Crossing> {
        let service = self.service.as_deref()?;
        let score = self.others(pool_nats, 0.0);
        let more = if score > FAMILY_NATS_MAX {
            "Together with other evidence of the pod this is more than use by a person."
        } else {
            "What went through it is not known."
        };
        let summary = format!(
            "{} looked-up names or connections match {} of the list of tunnel services. {more}",
            service.contact_count,
            clip(service.entry.as_str(), 100)
        );
        let mut against = Vec::new();
        if service.examples.is_empty() {
            against.push("names were looked up, but no connection was seen");
        }
        against.push("developers use such services too");
        let finding = Draft {
            signature: Signature::TunnelService,
            score,
            contact_count: service.contact_count,
            first: service.first,
            last: service.last,
        };
        finding.crossing(around, || (summary, service.examples.clone(), against))
    }
}

fn judge_dns(domain: &Domain, name: &str, score: f64, around: Around<'_>) -> Option<Crossing> {
    let count = domain.name_count().round();
    let draft = Draft {
        signature: Signature::DnsTunnel,
        score,
        contact_count: domain.query_count,
        first: domain.first,
        last: domain.last,
    };
    draft.crossing(around, || {
        let names: Vec<_> = domain.examples().iter().map(|e| clip(e.as_str(), 24)).collect();
        let summary = format!(
            "About {count:.0} distinct names below {} were asked for, {:.1} bytes/s of them. Among them: {}.",
            clip(name, 80),
            domain.bytes_per_second(),
            names.join(", ")
        );
        let against = vec!["blocklist look-ups and telemetry in names look the same"];
        (summary, Vec::new(), against)
    })
}

fn judge_reverse(
    session: &Session,
    score: f64,
    words: &str,
    around: Around<'_>,
) -> Option<Crossing> {
    let target = session.target;
    let draft = Draft {
        signature: Signature::ReverseTunnel,
        score,
        contact_count: u64::from(session.connection_count.max(1)),
        first: session.first,
        last: session.last,
    };
    draft.crossing(around, || {
        let volume = session.volume();
        let summary = format!(
            "A connection that the pod opened to {} port {} lasted {}{words}. {} bytes were sent and {} received.",
            target.host,
            target.port,
            span_us(session.span_us()),
            volume.bytes_out,
            volume.bytes_in
        );
        let example = Example {
            time: session.first,
            destination: target.host,
            port: target.port,
            transport: target.transport,
            outcome: Outcome::Answered,
            name: None,
        };
        let against = vec!["a log of connections shows the outline only, not who speaks first"];
        (summary, vec![example], against)
    })
}

/// A finding before it is known to be news: evidence is written down only then.
struct Draft {
    signature: Signature,
    score: f64,
    contact_count: u64,
    first: EventTime,
    last: EventTime,
}

impl Draft {
    fn crossing(
        self,
        around: Around<'_>,
        write: impl FnOnce() -> (String, Vec<Example>, Vec<&'static str>),
    ) -> Option<Crossing> {
        let (severity, threshold) = ruling(self.score)?;
        let word = Word {
            signature: self.signature,
            severity,
            contact_count: self.contact_count,
            score: self.score,
        };
        if !around.told.is_news(word) {
            return None;
        }
        let (summary, examples, against) = write();
        Some(Crossing {
            signature: self.signature,
            severity,
            evidence: Evidence {
                score: self.score,
                threshold,
                first: self.first,
                last: self.last,
                contact_count: self.contact_count,
                summary: BoundedText::new(&summary),
                examples,
                against: against.into_iter().map(BoundedText::new).collect(),
            },
        })
    }
}
