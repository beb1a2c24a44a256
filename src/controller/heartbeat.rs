//! The Lease of a node agent, which the agent renews while it runs. Used by node agents.

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

/// Interval between two renewals of an agent's Lease. The kubelet renews its own Lease every 10 s, so this adds a third
/// to that load.
const RENEW_INTERVAL: Duration = Duration::from_secs(30);

/// Interval between two checks for a changed state of the sources.
const CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Renews the Lease of an agent.
pub(crate) struct Heartbeat {
    /// Writer to the API server.
    pub writer: Writer,
    /// Health of the agent's sources.
    pub health: SignalHealth,
    /// A source without data for this long is stale.
    pub stale_after: Duration,
    /// Name of the node.
    pub node: String,
    /// Namespace of the Lease.
    pub namespace: String,
}

impl Heartbeat {
    /// Renews the Lease periodically, and immediately when the verdict changes. Never returns.
    pub(crate) async fn run(self) {
        let mut last: Option<(SignalsVerdict, Instant)> = None;
        let mut is_failing = false;
        loop {
            let verdict = self.health.verdict(Instant::now(), self.stale_after);
            let is_due = last
                .as_ref()
                .is_none_or(|(known, at)| *known != verdict || at.elapsed() >= RENEW_INTERVAL);
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
                                "Failed to renew the agent's Lease; without it, the node counts as unobserved. Retrying."
                            );
                        }
                        is_failing = true;
                    }
                }
            }
            tokio::time::sleep(CHECK_INTERVAL).await;
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
