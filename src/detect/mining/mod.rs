//! Mining: which session of a pod, if any, is work for a pool.
//!
//! Three families of evidence, each clipped so that none acts alone: the destination (on the
//! user's list, or a name and port that sound like a pool), the shape of the session (long, thin,
//! steady), and the processors (`compute`, `gpu`) while it lasts. The shape is that of every
//! websocket, message queue and metrics pusher, so for a destination that no list names the
//! honest explanations are counted against it (`judge`). Alerts of their own are a match of the
//! starter list (`listed`) and a walk through a catalogue of pools (`catalogue`). Called by `engine`.

mod catalogue;
mod compute;
mod gpu;
mod judge;
mod listed;

use serde::{Deserialize, Serialize};

use self::catalogue::Catalogue;
use self::compute::Compute;
use self::listed::{Listed, Origin};
use super::contacts::Target;
use super::engine::EngineConfig;
use super::fusion::FAMILY_NATS_MAX;
use super::names::Names;
use super::scan::Crossing;
use super::session::{Seen, Session, Sessions};
use super::told::Told;
use crate::model::{BoundedText, ComputeSample, DnsQuery, Flow, TlsName};

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
    own: Listed,
    starter: Listed,
    catalogue: Option<Box<Catalogue>>,
    compute: Option<Box<Compute>>,
}

impl Mining {
    /// A DNS query. A name on the user's list is no matter of the starter list any more.
    pub(super) fn observe_dns(
        &mut self,
        query: &DnsQuery<'_>,
        around: Around<'_>,
    ) -> Option<Crossing> {
        let config = around.config;
        if self.own.observe_dns(query, Origin::Own, config) {
            self.judge_listed(around)
        } else if self.starter.observe_dns(query, Origin::Starter, config) {
            self.starter.judge_starter(around)
        } else {
            None
        }
    }

    /// A server name of a TLS handshake.
    pub(super) fn observe_tls(
        &mut self,
        tls: &TlsName<'_>,
        around: Around<'_>,
    ) -> Option<Crossing> {
        let config = around.config;
        if self.own.observe_tls(tls, Origin::Own, config) {
            self.judge_listed(around)
        } else if self.starter.observe_tls(tls, Origin::Starter, config) {
            self.starter.judge_starter(around)
        } else {
            None
        }
    }

    /// The entry of the user's list that names the destination: asked before the flow reaches the
    /// sessions.
    pub(super) fn listed(
        &self,
        flow: &Flow<'_>,
        target: Target,
        config: &EngineConfig,
    ) -> Option<BoundedText> {
        self.own.entry(flow, target, Origin::Own, config)
    }

    /// A flow whose destination is on the user's list.
    pub(super) fn observe_listed(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        entry: &BoundedText,
        seen: Option<Seen>,
        around: Around<'_>,
    ) -> Option<Crossing> {
        self.own.observe_flow(flow, target, entry, seen, around);
        self.judge_listed(around)
    }

    /// A contact whose destination is not on the user's list: whether the starter list names it, and
    /// whether it is one step of a walk through a catalogue of pools.
    pub(super) fn observe_contact(
        &mut self,
        flow: &Flow<'_>,
        target: Target,
        seen: Option<Seen>,
        around: Around<'_>,
    ) -> Option<Crossing> {
        let config = around.config;
        let entry = self.starter.entry(flow, target, Origin::Starter, config);
        if let Some(entry) = entry {
            self.starter
                .observe_flow(flow, target, &entry, seen, around);
            return self.starter.judge_starter(around);
        }
        if catalogue::may_belong(flow, target) {
            let catalogue = self.catalogue.get_or_insert_default();
            return catalogue.observe(flow, target, around);
        }
        None
    }

    /// Whether [`Self::observe_contact`] has anything to do with a flow: hardly ever.
    pub(super) fn concerns(&self, flow: &Flow<'_>, target: Target, config: &EngineConfig) -> bool {
        self.starter.may_match(flow, Origin::Starter, config) || catalogue::may_belong(flow, target)
    }

    /// A session whose destination is not on the user's list has changed.
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
            .filter(|session| !self.own.holds(session.target))
            .filter_map(|session| judge::unlisted(session, self.compute.as_deref(), around));
        let strongest = unlisted.max_by(|a, b| a.evidence.score.total_cmp(&b.evidence.score));
        listed.into_iter().chain(strongest).collect()
    }

    /// What a pool of the user's list adds to the families of `tunnel`.
    pub(super) fn destination_nats(&self) -> f64 {
        if self.own.has_connected() {
            FAMILY_NATS_MAX
        } else {
            0.0
        }
    }

    fn judge_listed(&self, around: Around<'_>) -> Option<Crossing> {
        self.own.judge(self.compute.as_deref(), around)
    }
}
