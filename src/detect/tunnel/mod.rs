//! Tunnels: sessions used from the remote side, data in DNS names, and tunnel services.
//!
//! Three families of evidence (`reverse`, `dns`, and the user's list of tunnel services), each clipped. One alone is an
//! alert, because developers use tunnels too. Two together, or one together with a connection to a listed mining pool,
//! are a quarantine. A match of the starter list is an alert and adds nothing to other evidence. Called by `traffic`.

mod dns;
mod reverse;
mod service;

use serde::{Deserialize, Serialize};

use self::dns::{Domain, Domains};
use self::service::Services;
use super::config::EngineConfig;
use super::context::TrafficContext;
use super::detection::Detection;
use super::domain::split;
use super::fusion::{ALERT_NATS, FAMILY_NATS_MAX, QUARANTINE_NATS, clipped, severity_for};
use super::reported::ReportLevel;
use super::scan::contacts::Target;
use super::session::Session;
use crate::model::{
    BoundedText, DnsQuery, EventTime, Evidence, Example, Flow, Outcome, Signature, TlsName, clip,
    duration,
};

/// The tunnel state of a pod. Nearly empty for nearly every pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Tunnel {
    domains: Domains,
    own: Services,
    starter: Services,
    /// The highest nats that the other two families have reached.
    reverse_nats: f64,
    dns_nats: f64,
}

impl Tunnel {
    /// Processes a DNS query. `pool_nats`: the nats of a connection to a listed pool, from `mining`.
    pub(super) fn observe_dns(
        &mut self,
        query: &DnsQuery<'_>,
        pool_nats: f64,
        context: TrafficContext<'_>,
    ) -> Vec<Detection> {
        let config = context.config;
        let mut detections = Vec::new();
        if self.own.observe_dns(query, &config.tunnels) {
            detections.extend(self.evaluate_service(pool_nats, context));
        } else if self.starter.observe_dns(query, &config.starter_tunnels) {
            detections.extend(self.evaluate_starter(context));
        }
        let other_families_nats = self.other_families_nats(pool_nats, self.dns_nats);
        let Some(name) = split(&query.query) else {
            return detections;
        };
        if let Some(all) = self.domains.observe_all(query, name) {
            let nats = clipped(all.nats_of_all());
            self.dns_nats = self.dns_nats.max(nats);
            if nats >= ALERT_NATS {
                let score = nats + other_families_nats;
                detections.extend(evaluate_dns(all, "many domains", score, context));
            }
        }
        let Some(domain) = self.domains.observe(query, name) else {
            return detections;
        };
        let nats = clipped(domain.nats());
        self.dns_nats = self.dns_nats.max(nats);
        if nats >= ALERT_NATS {
            let score = nats + other_families_nats;
            detections.extend(evaluate_dns(domain, name.registered, score, context));
        }
        detections
    }

    /// Processes the server name of a TLS handshake.
    pub(super) fn observe_tls(
        &mut self,
        tls: &TlsName<'_>,
        pool_nats: f64,
        context: TrafficContext<'_>,
    ) -> Option<Detection> {
        let config = context.config;
        if self.own.observe_tls(tls, &config.tunnels) {
            self.evaluate_service(pool_nats, context)
        } else if self.starter.observe_tls(tls, &config.starter_tunnels) {
            self.evaluate_starter(context)
        } else {
            None
        }
    }

    /// Whether a list of services may contain the destination of a flow: hardly ever.
    pub(super) fn concerns(&self, flow: &Flow<'_>, config: &EngineConfig) -> bool {
        self.own.may_match(flow, &config.tunnels)
            || self.starter.may_match(flow, &config.starter_tunnels)
    }

    /// Processes a flow to a destination that a list of services may contain.
    pub(super) fn observe_flow(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        pool_nats: f64,
        context: TrafficContext<'_>,
    ) -> Option<Detection> {
        let config = context.config;
        if self.own.observe_flow(flow, target, &config.tunnels) {
            self.evaluate_service(pool_nats, context)
        } else if self
            .starter
            .observe_flow(flow, target, &config.starter_tunnels)
        {
            self.evaluate_starter(context)
        } else {
            None
        }
    }

    /// Evaluates a changed session.
    pub(super) fn observe_session(
        &mut self,
        session: &Session,
        pool_nats: f64,
        context: TrafficContext<'_>,
    ) -> Option<Detection> {
        let is_listed = self.own.contains_host(session.target.host);
        let (nats, description) = reverse::nats(session, is_listed, context);
        let nats = clipped(nats);
        self.reverse_nats = self.reverse_nats.max(nats);
        if nats < ALERT_NATS / 2.0 {
            return None;
        }
        let score = nats + self.other_families_nats(pool_nats, self.reverse_nats);
        if nats < ALERT_NATS && score < QUARANTINE_NATS {
            return None;
        }
        evaluate_reverse(session, score, &description, context)
    }

    /// Number of domains with counted names.
    #[cfg(test)]
    pub(super) fn domain_count(&self) -> usize {
        self.domains.len()
    }

    /// The sum of all families except one with `own_nats`.
    fn other_families_nats(&self, pool_nats: f64, own_nats: f64) -> f64 {
        let service = if self.own.contacts().is_some() {
            FAMILY_NATS_MAX
        } else {
            0.0
        };
        service + self.reverse_nats + self.dns_nats + pool_nats - own_nats
    }

    fn evaluate_service(&self, pool_nats: f64, context: TrafficContext<'_>) -> Option<Detection> {
        let score = self.other_families_nats(pool_nats, 0.0);
        let more = if score > FAMILY_NATS_MAX {
            "Together with other evidence of the pod this is more than use by a person."
        } else {
            "What went through it is not known."
        };
        evaluate_services(&self.own, score, ("list of tunnel services", more), context)
    }

    fn evaluate_starter(&self, context: TrafficContext<'_>) -> Option<Detection> {
        let description = (
            "starter list of tunnel services",
            "The starter list alone never leads to a quarantine.",
        );
        evaluate_services(&self.starter, ALERT_NATS, description, context)
    }
}

/// Evaluates the contacts with services of a list, given the name of the list and a remark for the summary.
fn evaluate_services(
    services: &Services,
    score: f64,
    (list, more): (&str, &str),
    context: TrafficContext<'_>,
) -> Option<Detection> {
    let contacts = services.contacts()?;
    let draft = Draft {
        signature: Signature::TunnelService,
        score,
        contact_count: contacts.contact_count,
        first: contacts.first,
        last: contacts.last,
    };
    draft.detection(context, || {
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

fn evaluate_dns(
    domain: &Domain,
    name: &str,
    score: f64,
    context: TrafficContext<'_>,
) -> Option<Detection> {
    let count = domain.name_count().round();
    let draft = Draft {
        signature: Signature::DnsTunnel,
        score,
        contact_count: domain.query_count,
        first: domain.first,
        last: domain.last,
    };
    draft.detection(context, || {
        let names: Vec<_> = domain.examples().iter().map(|e| clip(e.as_str(), 24)).collect();
        let summary = format!(
            "About {count:.0} distinct names below {} were looked up, {:.1} bytes/s of them. Among them: {}.",
            clip(name, 80),
            domain.bytes_per_second(),
            names.join(", ")
        );
        let against = vec!["blocklist look-ups and telemetry in names look the same"];
        (summary, Vec::new(), against)
    })
}

fn evaluate_reverse(
    session: &Session,
    score: f64,
    description: &str,
    context: TrafficContext<'_>,
) -> Option<Detection> {
    let target = session.target;
    let draft = Draft {
        signature: Signature::ReverseTunnel,
        score,
        contact_count: u64::from(session.connection_count.max(1)),
        first: session.first,
        last: session.last,
    };
    draft.detection(context, || {
        let volume = session.volume();
        let summary = format!(
            "A connection that the pod opened to {} port {} lasted {}{description}. {} bytes were sent and {} received.",
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
        let against = vec!["a log of connections shows the outline only, not which side sends first"];
        (summary, vec![example], against)
    })
}

/// A detection without its text, which is written only if the finding is reported.
struct Draft {
    signature: Signature,
    score: f64,
    contact_count: u64,
    first: EventTime,
    last: EventTime,
}

impl Draft {
    fn detection(
        self,
        context: TrafficContext<'_>,
        write: impl FnOnce() -> (String, Vec<Example>, Vec<&'static str>),
    ) -> Option<Detection> {
        let (severity, threshold) = severity_for(self.score)?;
        let word = ReportLevel {
            signature: self.signature,
            severity,
            contact_count: self.contact_count,
            score: self.score,
        };
        if !context.reported.should_report(word) {
            return None;
        }
        let (summary, examples, against) = write();
        Some(Detection {
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
