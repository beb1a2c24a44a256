//! Tunnels: sessions used from the far side, data in DNS names, tunnel services.
//!
//! Three families (`reverse`, `dns`, and the user's list of tunnel services), each clipped. One
//! alone is an alert: developers use tunnels too. Two together, or one together with a connection
//! to a listed mining pool, are a quarantine. A match of the starter list is an alert and adds to
//! nothing. Called by `engine`.

mod dns;
mod domain;
mod reverse;
mod service;

use serde::{Deserialize, Serialize};

use self::dns::{Domain, Domains};
use self::service::Services;
use super::contacts::Target;
use super::engine::EngineConfig;
use super::fusion::{ALERT_NATS, FAMILY_NATS_MAX, clipped, ruling};
use super::mining::Around;
use super::scan::Crossing;
use super::session::Session;
use super::told::Word;
use crate::model::{
    BoundedText, DnsQuery, EventTime, Evidence, Example, Flow, Outcome, Signature, TlsName, clip,
    duration,
};

/// A pod's tunnels. Nearly empty for nearly every pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tunnel {
    domains: Domains,
    own: Services,
    starter: Services,
    /// The strongest that the other two families reached.
    reverse_nats: f64,
    dns_nats: f64,
}

impl Tunnel {
    /// A DNS query. `pool_nats` is what `mining` knows of a listed pool.
    pub(super) fn observe_dns(
        &mut self,
        query: &DnsQuery<'_>,
        pool_nats: f64,
        around: Around<'_>,
    ) -> Vec<Crossing> {
        let config = around.config;
        let mut crossings = Vec::new();
        if self.own.observe_dns(query, &config.tunnels) {
            crossings.extend(self.judge_service(pool_nats, around));
        } else if self.starter.observe_dns(query, &config.starter_tunnels) {
            crossings.extend(self.judge_starter(around));
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
        let config = around.config;
        if self.own.observe_tls(tls, &config.tunnels) {
            self.judge_service(pool_nats, around)
        } else if self.starter.observe_tls(tls, &config.starter_tunnels) {
            self.judge_starter(around)
        } else {
            None
        }
    }

    /// Whether a list of services could name the destination of a flow: hardly ever.
    pub(super) fn concerns(&self, flow: &Flow<'_>, config: &EngineConfig) -> bool {
        self.own.may_match(flow, &config.tunnels)
            || self.starter.may_match(flow, &config.starter_tunnels)
    }

    /// A flow, where a list of services may name its destination.
    pub(super) fn observe_flow(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        pool_nats: f64,
        around: Around<'_>,
    ) -> Option<Crossing> {
        let config = around.config;
        if self.own.observe_flow(flow, target, &config.tunnels) {
            self.judge_service(pool_nats, around)
        } else if self
            .starter
            .observe_flow(flow, target, &config.starter_tunnels)
        {
            self.judge_starter(around)
        } else {
            None
        }
    }

    /// A session has changed.
    pub(super) fn observe_session(
        &mut self,
        session: &Session,
        pool_nats: f64,
        around: Around<'_>,
    ) -> Option<Crossing> {
        let is_listed = self.own.holds(session.target.host);
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
        let service = if self.own.contacts().is_some() {
            FAMILY_NATS_MAX
        } else {
            0.0
        };
        service + self.reverse_nats + self.dns_nats + pool_nats - own_nats
    }

    fn judge_service(&self, pool_nats: f64, around: Around<'_>) -> Option<Crossing> {
        let score = self.others(pool_nats, 0.0);
        let more = if score > FAMILY_NATS_MAX {
            "Together with other evidence of the pod this is more than use by a person."
        } else {
            "What went through it is not known."
        };
        judge_services(&self.own, score, ("list of tunnel services", more), around)
    }

    fn judge_starter(&self, around: Around<'_>) -> Option<Crossing> {
        let words = (
            "starter list of tunnel services",
            "The starter list alone never leads to a quarantine.",
        );
        judge_services(&self.starter, ALERT_NATS, words, around)
    }
}

/// Judges the contacts with services of a list, given what it is called and what else there is to say.
fn judge_services(
    services: &Services,
    score: f64,
    (list, more): (&str, &str),
    around: Around<'_>,
) -> Option<Crossing> {
    let contacts = services.contacts()?;
    let draft = Draft {
        signature: Signature::TunnelService,
        score,
        contact_count: contacts.contact_count,
        first: contacts.first,
        last: contacts.last,
    };
    draft.crossing(around, || {
        let summary = format!(
            "{} looked-up names or connections match {} of the {list}. {more}",
            contacts.contact_count,
            contacts.entry_text()
        );
        let mut against = Vec::new();
        if contacts.examples.is_empty() {
            against.push("names were looked up, but no connection was seen");
        }
        against.push("developers use such services too");
        (summary, contacts.examples.clone(), against)
    })
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
            duration::rounded(session.span_us()),
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
