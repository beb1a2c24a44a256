//! Mining: which session of a pod, if any, is work for a mining pool.
//!
//! Three families of evidence, each clipped so that none of them leads to an action alone: the destination (on the
//! user's list, or with a name and port like those of a pool), the shape of the session (long, with little and steady
//! traffic), and the processors (`compute`, `gpu`) during the session. Websockets, message queues and metrics pushers
//! have the same shape, so for a destination on no list the honest explanations are subtracted (`unlisted`). Separate
//! alerts are a match of the starter list (`listed`) and the probing of many pools (`catalogue`). Called by `traffic`.

mod catalogue;
mod compute;
mod gpu;
mod listed;
mod overlap;
mod unlisted;

use serde::{Deserialize, Serialize};

use self::catalogue::Catalogue;
use self::compute::Compute;
use self::listed::{ListKind, Listed};
pub(super) use self::unlisted::is_pool_port;
use super::config::EngineConfig;
use super::context::TrafficContext;
use super::detection::Detection;
use super::fusion::FAMILY_NATS_MAX;
use super::scan::contacts::Target;
use super::session::{Session, SessionUpdate};
use crate::model::{BoundedText, ComputeSample, DnsQuery, Flow, TlsName};

/// The mining state of a pod. Empty for nearly every pod.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Mining {
    own: Listed,
    starter: Listed,
    catalogue: Option<Box<Catalogue>>,
    compute: Option<Box<Compute>>,
}

impl Mining {
    /// Processes a DNS query. A name on the user's list is not looked up in the starter list.
    pub(super) fn observe_dns(
        &mut self,
        query: &DnsQuery<'_>,
        context: TrafficContext<'_>,
    ) -> Option<Detection> {
        let config = context.config;
        if self.own.observe_dns(query, ListKind::Own, config) {
            self.evaluate_listed(context)
        } else if self.starter.observe_dns(query, ListKind::Starter, config) {
            self.starter.evaluate_starter(context)
        } else {
            None
        }
    }

    /// Processes the server name of a TLS handshake.
    pub(super) fn observe_tls(
        &mut self,
        tls: &TlsName<'_>,
        context: TrafficContext<'_>,
    ) -> Option<Detection> {
        let config = context.config;
        if self.own.observe_tls(tls, ListKind::Own, config) {
            self.evaluate_listed(context)
        } else if self.starter.observe_tls(tls, ListKind::Starter, config) {
            self.starter.evaluate_starter(context)
        } else {
            None
        }
    }

    /// The entry of the user's list that covers the destination. Called before the session is updated.
    pub(super) fn listed(
        &self,
        flow: &Flow<'_>,
        target: Target,
        config: &EngineConfig,
    ) -> Option<BoundedText> {
        self.own.entry(flow, target, ListKind::Own, config)
    }

    /// Processes a flow to a destination on the user's list.
    pub(super) fn observe_listed(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        entry: &BoundedText,
        update: Option<SessionUpdate>,
        context: TrafficContext<'_>,
    ) -> Option<Detection> {
        self.own.observe_flow(flow, target, entry, update, context);
        self.evaluate_listed(context)
    }

    /// Processes a contact with a destination that is not on the user's list: it may be on the starter list, or part of
    /// the probing of many pools.
    pub(super) fn observe_contact(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        update: Option<SessionUpdate>,
        context: TrafficContext<'_>,
    ) -> Option<Detection> {
        let config = context.config;
        let entry = self.starter.entry(flow, target, ListKind::Starter, config);
        if let Some(entry) = entry {
            self.starter
                .observe_flow(flow, target, &entry, update, context);
            return self.starter.evaluate_starter(context);
        }
        if catalogue::may_belong(flow, target) {
            let catalogue = self.catalogue.get_or_insert_default();
            return catalogue.observe(flow, target, context);
        }
        None
    }

    /// Whether [`Self::observe_contact`] may apply to a flow: hardly ever.
    pub(super) fn concerns(&self, flow: &Flow<'_>, target: Target, config: &EngineConfig) -> bool {
        self.starter.may_match(flow, ListKind::Starter, config)
            || catalogue::may_belong(flow, target)
    }

    /// Evaluates a changed session with a destination that is not on the user's list.
    pub(super) fn observe_session(
        &self,
        session: &Session,
        context: TrafficContext<'_>,
    ) -> Option<Detection> {
        unlisted::evaluate(session, self.compute.as_deref(), context)
    }

    /// Processes a sample of the pod's processors.
    pub(super) fn observe_sample(
        &mut self,
        sample: &ComputeSample<'_>,
        context: TrafficContext<'_>,
    ) -> Vec<Detection> {
        self.compute.get_or_insert_default().observe(sample);
        let listed = self.evaluate_listed(context);
        let unlisted = context
            .sessions
            .iter()
            .filter(|session| !self.own.contains_target(session.target))
            .filter_map(|session| unlisted::evaluate(session, self.compute.as_deref(), context));
        let strongest = unlisted.max_by(|a, b| a.evidence.score.total_cmp(&b.evidence.score));
        listed.into_iter().chain(strongest).collect()
    }

    /// The nats that a connection to a listed pool adds to the families of `tunnel`.
    pub(super) fn destination_nats(&self) -> f64 {
        if self.own.has_connected() {
            FAMILY_NATS_MAX
        } else {
            0.0
        }
    }

    fn evaluate_listed(&self, context: TrafficContext<'_>) -> Option<Detection> {
        self.own.evaluate(self.compute.as_deref(), context)
    }
}
