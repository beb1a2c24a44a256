//! Traffic: passes a pod's signals to the detectors of sessions, names, mining and tunnels, in this order.
//!
//! Called by `pod` with every signal. A short connection to an ordinary host costs only a few comparisons.

use serde::{Deserialize, Serialize};

use super::config::EngineConfig;
use super::context::TrafficContext;
use super::detection::Detection;
use super::mining::Mining;
use super::reported::ReportedFindings;
use super::scan::contacts::Target;
use super::scope::plain;
use super::session::Sessions;
use super::session::names::{NameClass, Names, classify};
use super::tunnel::Tunnel;
use crate::limits;
use crate::model::{ComputeSample, DnsQuery, Flow, TlsName};

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Traffic {
    sessions: Sessions,
    names: Names,
    mining: Mining,
    tunnel: Tunnel,
}

impl Traffic {
    /// Processes a flow of the pod.
    pub(super) fn observe_flow(
        &mut self,
        flow: &Flow<'_>,
        config: &EngineConfig,
        reported: &ReportedFindings,
    ) -> Vec<Detection> {
        let target = Target::of(flow);
        let is_attempt = flow.outcome.is_attempt();
        if is_attempt {
            self.sessions.count_host(target);
        }
        let entry = self
            .mining
            .listed(flow, target, config)
            .filter(|_| is_attempt);
        let update = self.sessions.observe(flow, target, entry.is_some());
        if let Some(name) = flow.destination_name.as_deref() {
            self.names.record_name_seen();
            if update.is_some() {
                self.names.learn(name, target.host, classify(name));
            }
        }
        let session = update.and_then(|update| self.sessions.updated(update));
        let is_contact =
            is_attempt && entry.is_none() && self.mining.concerns(flow, target, config);
        let is_tunnel = is_attempt && self.tunnel.concerns(flow, config);
        if session.is_none() && entry.is_none() && !is_contact && !is_tunnel {
            return Vec::new(); // nearly all flows
        }
        let mut detections = Vec::new();
        let pool_nats = self.mining.destination_nats();
        let context = TrafficContext {
            config,
            sessions: &self.sessions,
            names: &self.names,
            reported,
        };
        if let Some(entry) = &entry {
            detections.extend(
                self.mining
                    .observe_listed(flow, target, entry, update, context),
            );
        } else if let Some(session) = session {
            detections.extend(self.mining.observe_session(session, context));
        }
        if is_contact {
            detections.extend(self.mining.observe_contact(flow, target, update, context));
        }
        if is_tunnel {
            detections.extend(self.tunnel.observe_flow(flow, target, pool_nats, context));
        }
        if let Some(session) = session {
            detections.extend(self.tunnel.observe_session(session, pool_nats, context));
        }
        detections
    }

    /// Processes a DNS query of the pod.
    pub(super) fn observe_dns(
        &mut self,
        query: &DnsQuery<'_>,
        config: &EngineConfig,
        reported: &ReportedFindings,
    ) -> Vec<Detection> {
        if !query.answers.is_empty() {
            let class = classify(&query.query);
            for ip in query.answers.iter().take(limits::DNS_ANSWERS_MAX) {
                self.names.learn(&query.query, plain(*ip), class);
            }
        }
        let context = TrafficContext {
            config,
            sessions: &self.sessions,
            names: &self.names,
            reported,
        };
        let mut detections: Vec<_> = self
            .mining
            .observe_dns(query, context)
            .into_iter()
            .collect();
        let pool_nats = self.mining.destination_nats();
        detections.extend(self.tunnel.observe_dns(query, pool_nats, context));
        detections
    }

    /// Processes the server name of a TLS handshake.
    pub(super) fn observe_tls(
        &mut self,
        tls: &TlsName<'_>,
        config: &EngineConfig,
        reported: &ReportedFindings,
    ) -> Vec<Detection> {
        let class: NameClass = classify(&tls.server_name);
        self.names
            .learn(&tls.server_name, plain(tls.destination), class);
        let context = TrafficContext {
            config,
            sessions: &self.sessions,
            names: &self.names,
            reported,
        };
        let mut detections: Vec<_> = self.mining.observe_tls(tls, context).into_iter().collect();
        let pool_nats = self.mining.destination_nats();
        detections.extend(self.tunnel.observe_tls(tls, pool_nats, context));
        detections
    }

    /// Processes a sample of the pod's processors.
    pub(super) fn observe_sample(
        &mut self,
        sample: &ComputeSample<'_>,
        config: &EngineConfig,
        reported: &ReportedFindings,
    ) -> Vec<Detection> {
        let context = TrafficContext {
            config,
            sessions: &self.sessions,
            names: &self.names,
            reported,
        };
        self.mining.observe_sample(sample, context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{EventTime, Outcome, Transport, Volume};

    /// A session, or a short connection, with the n-th host.
    fn flow(n: u32, seconds: u64) -> Flow<'static> {
        Flow {
            time: EventTime::from_seconds(1_700_000_000 + i64::from(n), 0),
            source: [10, 0, 0, 1].into(),
            source_port: 40_000,
            destination: std::net::Ipv4Addr::from_bits(0x0808_0000 + n).into(),
            destination_port: 9_000,
            transport: Transport::Tcp,
            outcome: Outcome::Answered,
            forwarded: true,
            volume: (seconds > 0).then(|| Volume {
                bytes_out: 9_000,
                bytes_in: 9_000,
                packets_out: 100,
                packets_in: 100,
                duration_us: seconds * 1_000_000,
                is_final: true,
            }),
            destination_name: None,
            pod: None,
            is_inferred: false,
            node: None,
        }
    }

    #[test]
    fn a_pod_without_sessions_takes_a_few_hundred_bytes() {
        let size = std::mem::size_of::<Traffic>();
        assert!(size <= 352, "{size}");
        let mut traffic = Traffic::default();
        for n in 0..1_000 {
            traffic.observe_flow(
                &flow(n, 2),
                &EngineConfig::default(),
                &ReportedFindings::default(),
            );
        }
        assert_eq!(traffic.sessions.iter().count(), 0);
    }

    #[test]
    fn what_is_kept_is_bounded_whatever_a_pod_does() {
        let mut traffic = Traffic::default();
        let (config, reported) = (EngineConfig::default(), ReportedFindings::default());
        for n in 0..3_000 {
            traffic.observe_flow(&flow(n, 600), &config, &reported);
            traffic.observe_flow(&flow(n + 10_000, 0), &config, &reported);
            let query = DnsQuery {
                time: flow(n, 0).time,
                source: [10, 0, 0, 1].into(),
                query: format!("pool.xmr-{n}.example-{n}.net").into(),
                answers: vec![flow(n, 0).destination],
                nonexistent: None,
            };
            traffic.observe_dns(&query, &config, &reported);
        }
        assert!(traffic.sessions.iter().count() <= limits::SESSIONS_MAX);
        assert!(traffic.sessions.candidate_count() <= limits::SESSION_CANDIDATES_MAX);
        assert!(traffic.names.known_count() <= limits::NAMED_HOSTS_MAX);
        assert!(traffic.tunnel.domain_count() <= limits::DNS_DOMAINS_MAX);
    }
}
