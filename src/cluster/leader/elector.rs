//! Leader election of one replica: acquires, renews and releases the Lease, and opens and closes the gate.
//!
//! `lease_observer` decides what to do. Every write is conditional on the resource version that was
//! read, so of two replicas that try at the same time one gets a conflict. A replica that loses the
//! Lease continues to watch and detect, and writes nothing that acts.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::gate::{LeaderGate, Leadership};
use super::lease_observer::{
    LeaseAction, LeaseObserver, LeaseTimings, acquired_spec, released_spec,
};
use crate::api::labels;
use crate::cluster::error::ApiError;
use crate::limits;
use crate::observability::chain;

/// The name in `metadata.managedFields` of the Lease.
const FIELD_MANAGER: &str = "yellowjack/leader";

/// How soon to read the Lease again after a conflict.
const CONFLICT_RETRY: Duration = Duration::from_millis(100);

/// Takes part in the leader election until it is stopped.
pub(crate) struct LeaderElector {
    client: Client,
    gate: LeaderGate,
    namespace: String,
    name: String,
    identity: String,
    timings: LeaseTimings,
    reads: Arc<AtomicBool>,
}

/// A unique name for this process: the host's (in a pod, the pod's) and a random part. The host name
/// alone is not enough: two processes of one name would both take the Lease for their own.
#[must_use]
pub(crate) fn identity(host: &str) -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    let host = crate::model::clip(host, limits::LEASE_IDENTITY_BYTES_MAX - 17);
    format!("{host}_{random:016x}")
}

impl LeaderElector {
    /// An elector for the Lease of this name. It stores in `reads` whether the last attempt could read
    /// the Lease, and write it where that was due.
    #[must_use]
    pub(crate) fn new(
        client: Client,
        gate: LeaderGate,
        namespace: &str,
        name: &str,
        identity: String,
        timings: LeaseTimings,
        reads: Arc<AtomicBool>,
    ) -> Self {
        Self {
            client,
            gate,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity,
            timings,
            reads,
        }
    }

    /// Tries to acquire and renew the Lease until `stop`, then releases it: writes in flight end, no
    /// new one begins, and the next leader does not have to wait for the Lease to expire.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut observer = LeaseObserver::default();
        let mut is_failing = false;
        while !stop.is_cancelled() {
            let wait = tokio::select! {
                () = stop.cancelled() => break,
                wait = self.tick(&mut observer, &mut is_failing) => wait,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.release().await;
    }

    /// One attempt; returns when to make the next one.
    async fn tick(&self, observer: &mut LeaseObserver, is_failing: &mut bool) -> Duration {
        let holder = observer.holder().map(ToOwned::to_owned);
        let limit = self.timings.attempt_limit();
        let attempt = self.try_acquire_or_renew(observer);
        let result = match tokio::time::timeout(limit, attempt).await {
            Ok(result) => result,
            Err(_) => Err(ApiError::TimedOut(limit)),
        };
        self.log_failure(&result, is_failing);
        self.close_if_lost(observer);
        if observer.holder() != holder.as_deref() {
            let (lease, holder) = (&self.name, observer.holder().unwrap_or("none"));
            let leads = self.gate.is_leader();
            tracing::info!(lease, holder, leads, "The holder of the Lease changed.");
        }
        match result {
            Err(ApiError::Conflict(_)) => CONFLICT_RETRY,
            _ if self.gate.is_leader() => self.timings.retry,
            // A Lease that is released is acquired within half a period.
            _ => self.timings.retry / 2,
        }
    }

    /// Reads the Lease, and creates, acquires or renews it where that is due.
    async fn try_acquire_or_renew(&self, observer: &mut LeaseObserver) -> Result<(), ApiError> {
        let api = self.api();
        let stored = api.get_opt(&self.name).await?;
        observer.observe(stored.as_ref(), Instant::now());
        let action = observer.next_action(&self.identity, &self.timings, Instant::now());
        if action == LeaseAction::Wait {
            return Ok(());
        }
        let before = stored.as_ref().and_then(|lease| lease.spec.as_ref());
        let spec = acquired_spec(before, &self.identity, &self.timings, Timestamp::now());
        let lease = self.lease(stored.as_ref(), spec);
        // Others count the lease duration from when they read the record, which is later.
        let sent_at = Instant::now();
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = match action {
            LeaseAction::Create => api.create(&params, &lease).await?,
            _ => api.replace(&self.name, &params, &lease).await?,
        };
        if action == LeaseAction::Acquire {
            // If the previous term of this process ended unnoticed, a new term must begin.
            self.gate.close();
        }
        observer.observe(Some(&written), Instant::now());
        self.gate.renewed(Leadership::Until {
            last_begin: sent_at + self.timings.renew_deadline,
            end: sent_at + self.timings.duration,
        });
        Ok(())
    }

    /// Closes the gate if another process holds the Lease, or the renew deadline has passed.
    fn close_if_lost(&self, observer: &LeaseObserver) {
        if !self.gate.is_leader() {
            return;
        }
        let lease = &self.name;
        match observer.holder() {
            Some(holder) if holder == self.identity => {
                if self.gate.is_overdue(Instant::now()) {
                    self.gate.close();
                    tracing::warn!(lease, "Failed to renew the Lease in time; writes stopped.");
                }
            }
            holder => {
                self.gate.close();
                let holder = holder.unwrap_or("none");
                tracing::warn!(
                    lease,
                    holder,
                    "Another process acquired the Lease; writes stopped."
                );
            }
        }
    }

    /// Logs the first of several consecutive failures as a warning.
    fn log_failure(&self, result: &Result<(), ApiError>, is_failing: &mut bool) {
        let error = match result {
            // A conflict means that another replica wrote first.
            Ok(()) | Err(ApiError::Conflict(_)) => None,
            Err(error) => Some(chain(error)),
        };
        self.reads.store(error.is_none(), Ordering::Relaxed);
        let was_failing = std::mem::replace(is_failing, error.is_some());
        let (lease, namespace) = (&self.name, &self.namespace);
        if let Some(error) = error {
            if was_failing {
                tracing::debug!(
                    lease,
                    namespace,
                    error,
                    "Still failing to read or renew the Lease."
                );
            } else {
                tracing::warn!(
                    lease,
                    namespace,
                    error,
                    "Failed to read or renew the Lease; will retry."
                );
            }
        }
    }

    /// Closes the gate and releases the Lease if this process holds it.
    async fn release(&self) {
        self.gate.close();
        if !self.reads.load(Ordering::Relaxed) {
            return;
        }
        let limit = Duration::from_secs(limits::API_TIMEOUT_S);
        self.gate.writes_ended(limit).await;
        let lease = &self.name;
        match tokio::time::timeout(limit, self.clear_holder()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => tracing::info!(lease, "Released the Lease."),
            Ok(Err(error)) => {
                let error = chain(&error);
                tracing::warn!(lease, error, "Failed to release the Lease; it will expire.");
            }
            Err(_) => tracing::warn!(lease, "Failed to release the Lease; it will expire."),
        }
    }

    /// Removes the holder if it is this process. The Lease is read first: a renewal without a
    /// response may have succeeded.
    async fn clear_holder(&self) -> Result<bool, ApiError> {
        let api = self.api();
        let stored = api.get(&self.name).await?;
        let spec = stored.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            return Ok(false);
        }
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let lease = self.lease(Some(&stored), released_spec(&spec));
        api.replace(&self.name, &params, &lease).await?;
        Ok(true)
    }

    /// The stored object with another record. Its resource version makes the write conditional.
    fn lease(&self, stored: Option<&Lease>, spec: LeaseSpec) -> Lease {
        let mut metadata = stored.map_or_else(
            || ObjectMeta {
                name: Some(self.name.clone()),
                namespace: Some(self.namespace.clone()),
                ..ObjectMeta::default()
            },
            |lease| lease.metadata.clone(),
        );
        metadata.managed_fields = None;
        metadata.labels.get_or_insert_default().insert(
            labels::MANAGED_BY.to_owned(),
            labels::MANAGED_BY_VALUE.to_owned(),
        );
        Lease {
            metadata,
            spec: Some(spec),
        }
    }

    fn api(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }
}
