//! The Lease of a node agent, which the agent renews while it lives. Run by node agents.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::ObjectMeta;

use super::agents::SILENT_AFTER;
use super::signals_annotation::write;
use crate::api::labels;
use crate::cluster::{Conflicts, FieldManager, Writer};
use crate::observability::chain;
use crate::signals::health::{SignalHealth, SignalsVerdict};

/// How often an agent renews its Lease. The kubelet renews its own every 10 s; a third of that rate
/// is little beside it.
const RENEW_EVERY: Duration = Duration::from_secs(30);

/// How often an agent looks whether its sources changed their state.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Keeps an agent's Lease.
pub struct Heartbeat {
    /// The way to the API server.
    pub writer: Writer,
    /// What the agent's sources do.
    pub health: SignalHealth,
    /// After which silence a source is stale.
    pub stale_after: Duration,
    /// The node's name.
    pub node: String,
    /// Where the Lease is.
    pub namespace: String,
}

impl Heartbeat {
    /// Works for ever.
    pub async fn run(self) {
        let mut last: Option<(SignalsVerdict, Instant)> = None;
        let mut is_failing = false;
        loop {
            let verdict = self.health.verdict(Instant::now(), self.stale_after);
            let is_due = last
                .as_ref()
                .is_none_or(|(known, at)| *known != verdict || at.elapsed() >= RENEW_EVERY);
            if is_due {
                match self.renew(&verdict).await {
                    Ok(()) => {
                        is_failing = false;
                        last = Some((verdict, Instant::now()));
                    }
                    Err(error) => {
                        let error = chain(&error);
                        if !is_failing {
                            tracing::warn!(
                                namespace = self.namespace,
                                error,
                                "The agent's Lease is not renewed, so its node counts as unseen."
                            );
                        }
                        is_failing = true;
                    }
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn renew(&self, verdict: &SignalsVerdict) -> Result<(), crate::cluster::ApiError> {
        let name = lease_name(&self.node);
        let lease = Lease {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(self.namespace.clone()),
                labels: Some(
                    [
                        (labels::MANAGED_BY, labels::MANAGED_BY_VALUE),
                        (labels::COMPONENT, labels::NODE_AGENT),
                    ]
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
                ),
                annotations: Some([(labels::SIGNALS.to_owned(), write(verdict))].into()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(self.node.clone()),
                lease_duration_seconds: i32::try_from(SILENT_AFTER.as_secs()).ok(),
                renew_time: Some(MicroTime(Timestamp::now())),
                ..LeaseSpec::default()
            }),
        };
        let manager = FieldManager::agent(&self.node);
        self.writer
            .apply(
                &manager,
                &self.namespace,
                &name,
                &lease,
                Conflicts::TakeOver,
            )
            .await
            .map(drop)
    }
}

fn lease_name(node: &str) -> String {
    format!("yellowjack-node-{node}")
}
