//! Traffic: what of a pod's signals goes to sessions, names, mining and tunnels, in which order.
//!
//! Called by `engine` with every signal of the pod. A short connection to an ordinary host leaves
//! after a few comparisons.

use super::contacts::Target;
use super::engine::EngineConfig;
use super::mining::{Around, Mining};
use super::names::{NameClass, Names, classify};
use super::scan::Crossing;
use super::scope::plain;
use super::session::Sessions;
use super::told::Told;
use super::tunnel::Tunnel;
use crate::limits;
use crate::model::{ComputeSample, DnsQuery, Flow, Outcome, TlsName};

/// See the module.
#[derive(Clone, Debug, Default)]
pub(super) struct Traffic {
    sessions: Sessions,
    names: Names,
    mining: Mining,
    tunnel: Tunnel,
}

impl Traffic {
    /// A flow to somebody.
    pub(super) fn observe_flow(
        &mut self,
        flow: &Flow<'_>,
        config: &EngineConfig,
        told: &Told,
    ) -> Vec<Crossing> {
        let target = Target::of(flow);
        let is_attempt = flow.outcome != Outcome::NotAnAttempt;
        if is_attempt {
            self.sessions.count_host(target);
        }
        let entry = self
            .mining
            .listed(flow, target, config)
            .filter(|_| is_attempt);
        let seen = self.sessions.observe(flow, target, entry.is_some());
        if seen.is_some()
            && let Some(name) = flow.destination_name.as_deref()
        {
            self.names.learn(name, target.host, classify(name));
        }
        let mut crossings = Vec::new();
        let pool_nats = self.mining.destination_nats();
        let around = Around {
            config,
            sessions: &self.sessions,
            names: &self.names,
            told,
        };
        if let Some(entry) = &entry {
            crossings.extend(
                self.mining
                    .observe_listed(flow, target, entry, seen, around),
            );
        } else if seen.is_some() {
            crossings.extend(self.mining.observe_session(target, around));
        }
        if is_attempt {
            crossings.extend(self.tunnel.observe_flow(flow, target, pool_nats, around));
        }
        if seen.is_some()
            && let Some(session) = self.sessions.get(target)
        {
            crossings.extend(self.tunnel.observe_session(session, pool_nats, around));
        }
        crossings
    }

    /// A DNS query.
    pub(super) fn observe_dns(
        &mut self,
        query: &DnsQuery<'_>,
        config: &EngineConfig,
        told: &Told,
    ) -> Vec<Crossing> {
        if !query.answers.is_empty() {
            let class = classify(&query.query);
            for ip in query.answers.iter().take(limits::DNS_ANSWERS_MAX) {
                self.names.learn(&query.query, plain(*ip), class);
            }
        }
        let around = Around {
            config,
            sessions: &self.sessions,
            names: &self.names,
            told,
        };
        let mut crossings: Vec<_> = self.mining.observe_dns(query, around).into_iter().collect();
        let pool_nats = self.mining.destination_nats();
        crossings.extend(self.tunnel.observe_dns(query, pool_nats, around));
        crossings
    }

    /// A server name of a TLS handshake.
    pub(super) fn observe_tls(
        &mut self,
        tls: &TlsName<'_>,
        config: &EngineConfig,
        told: &Told,
    ) -> Vec<Crossing> {
        let class: NameClass = classify(&tls.server_name);
        self.names
            .learn(&tls.server_name, plain(tls.destination), class);
        let around = Around {
            config,
            sessions: &self.sessions,
            names: &self.names,
            told,
        };
        let mut crossings: Vec<_> = self.mining.observe_tls(tls, around).into_iter().collect();
        let pool_nats = self.mining.destination_nats();
        crossings.extend(self.tunnel.observe_tls(tls, pool_nats, around));
        crossings
    }

    /// A sample of the pod's processors.
    pub(super) fn observe_sample(
        &mut self,
        sample: &ComputeSample<'_>,
        config: &EngineConfig,
        told: &Told,
    ) -> Vec<Crossing> {
        let around = Around {
            config,
            sessions: &self.sessions,
            names: &self.names,
            told,
        };
        self.mining.observe_sample(sample, around)
    }
}
