//! One candidate for the Lease: reads it, writes it, opens and shuts the gate accordingly.
//!
//! What is to be done is decided in `election`. Every write is conditional on the version that was
//! read, so of two candidates one gets a conflict. Lost leadership ends nothing: the process goes on
//! watching and detecting, and writes nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;

use super::gate::{Gate, Hold};
use super::lease_observer::{Move, Sightings, Terms, held, released};
use crate::api::labels;
use crate::cluster::error::WriteError;
use crate::limits;
use crate::observability::chain;

/// In `metadata.managedFields` of the Lease.
const FIELD_MANAGER: &str = "yellowjack/leader";

/// How soon the Lease is read again that somebody else changed meanwhile.
const CONFLICT_RETRY: Duration = Duration::from_millis(100);

/// See the module.
pub struct Candidate {
    client: Client,
    gate: Gate,
    namespace: String,
    name: String,
    identity: String,
    terms: Terms,
    reads: Arc<AtomicBool>,
}

/// A name for this process that no other has: the host's (in a pod, the pod's) and a random part. Not
/// the host's alone: two processes of one name would both take the Lease for their own.
#[must_use]
pub fn identity(host: &str) -> String {
    use std::hash::{BuildHasher, RandomState};
    let random = RandomState::new().hash_one(std::process::id());
    let host = crate::model::clip(host, limits::LEASE_IDENTITY_BYTES_MAX - 17);
    format!("{host}_{random:016x}")
}

impl Candidate {
    /// A candidate for the Lease of this name. It notes in `reads` whether the Lease could be read and
    /// kept when it was looked at last.
    #[must_use]
    pub fn new(
        client: Client,
        gate: Gate,
        namespace: &str,
        name: &str,
        identity: String,
        terms: Terms,
        reads: Arc<AtomicBool>,
    ) -> Self {
        Self {
            client,
            gate,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity,
            terms,
            reads,
        }
    }

    /// Stands for the Lease until `stop`, then gives it back: writes that are under way end, none
    /// begins, and the next one need not wait.
    pub async fn run(self, stop: CancellationToken) {
        let mut seen = Sightings::default();
        let mut is_failing = false;
        while !stop.is_cancelled() {
            let wait = tokio::select! {
                () = stop.cancelled() => break,
                wait = self.look(&mut seen, &mut is_failing) => wait,
            };
            tokio::select! {
                () = stop.cancelled() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.give_back().await;
    }

    /// Looks once; returns when to look again.
    async fn look(&self, seen: &mut Sightings, is_failing: &mut bool) -> Duration {
        let holder = seen.holder().map(ToOwned::to_owned);
        let limit = self.terms.look_limit();
        let result = match tokio::time::timeout(limit, self.stand(seen)).await {
            Ok(result) => result,
            Err(_) => Err(WriteError::TimedOut(limit)),
        };
        self.say(&result, is_failing);
        self.shut_if_lost(seen);
        if seen.holder() != holder.as_deref() {
            let (lease, holder) = (&self.name, seen.holder().unwrap_or("nobody"));
            let leads = self.gate.is_held();
            tracing::info!(lease, holder, leads, "The Lease has another holder.");
        }
        match result {
            Err(WriteError::Conflict(_)) => CONFLICT_RETRY,
            _ if self.gate.is_held() => self.terms.retry,
            // A Lease that is given back is taken within half a period.
            _ => self.terms.retry / 2,
        }
    }

    /// Reads the Lease, and makes, takes or renews it where that is due.
    async fn stand(&self, seen: &mut Sightings) -> Result<(), WriteError> {
        let api = self.api();
        let stored = api
            .get_opt(&self.name)
            .await
            .map_err(WriteError::from_kube)?;
        seen.see(stored.as_ref(), Instant::now());
        let step = seen.evaluate(&self.identity, &self.terms, Instant::now());
        if step == Move::Wait {
            return Ok(());
        }
        let before = stored.as_ref().and_then(|lease| lease.spec.as_ref());
        let spec = held(before, &self.identity, &self.terms, Timestamp::now());
        let lease = self.lease(stored.as_ref(), spec);
        // Others reckon from when they see the write, which is later.
        let asked = Instant::now();
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let written = match step {
            Move::Create => api.create(&params, &lease).await,
            _ => api.replace(&self.name, &params, &lease).await,
        };
        let written = written.map_err(WriteError::from_kube)?;
        if step == Move::Take {
            // A term that ended unnoticed must not go on as if nothing had been.
            self.gate.shut_now();
        }
        seen.see(Some(&written), Instant::now());
        self.gate.hold(Hold::Until {
            last_begin: asked + self.terms.renew_deadline,
            end: asked + self.terms.duration,
        });
        Ok(())
    }

    /// Shuts the gate where another holds the Lease, or it was not renewed in time.
    fn shut_if_lost(&self, seen: &Sightings) {
        if !self.gate.is_held() {
            return;
        }
        let lease = &self.name;
        match seen.holder() {
            Some(holder) if holder == self.identity => {
                if self.gate.is_overdue(Instant::now()) {
                    self.gate.shut_now();
                    tracing::warn!(
                        lease,
                        "The Lease could not be renewed in time; nothing is written any more."
                    );
                }
            }
            holder => {
                self.gate.shut_now();
                let holder = holder.unwrap_or("nobody");
                tracing::warn!(
                    lease,
                    holder,
                    "The Lease was taken away; nothing is written any more."
                );
            }
        }
    }

    /// Says it once per streak when the Lease cannot be read or written.
    fn say(&self, result: &Result<(), WriteError>, is_failing: &mut bool) {
        let error = match result {
            // With a conflict another candidate was faster.
            Ok(()) | Err(WriteError::Conflict(_)) => None,
            Err(error) => Some(chain(error)),
        };
        self.reads.store(error.is_none(), Ordering::Relaxed);
        let was_failing = std::mem::replace(is_failing, error.is_some());
        let (lease, namespace) = (&self.name, &self.namespace);
        if let Some(error) = error {
            if was_failing {
                tracing::debug!(lease, namespace, error, "The Lease still cannot be kept.");
            } else {
                tracing::warn!(lease, namespace, error, "The Lease cannot be kept.");
            }
        }
    }

    /// Shuts the gate, and lets the next one take over at once where the Lease is held.
    async fn give_back(&self) {
        self.gate.shut_now();
        if !self.reads.load(Ordering::Relaxed) {
            return;
        }
        let limit = Duration::from_secs(limits::API_TIMEOUT_S);
        self.gate.writes_ended(limit).await;
        let lease = &self.name;
        match tokio::time::timeout(limit, self.release()).await {
            Ok(Ok(false)) => {}
            Ok(Ok(true)) => tracing::info!(lease, "The Lease is given back."),
            Ok(Err(error)) => {
                let error = chain(&error);
                tracing::warn!(lease, error, "The Lease is not given back, and expires.");
            }
            Err(_) => tracing::warn!(lease, "The Lease is not given back, and expires."),
        }
    }

    /// Releases the Lease if it is held; one that was asked for a moment ago may be, unknown to us.
    async fn release(&self) -> Result<bool, WriteError> {
        let api = self.api();
        let stored = api.get(&self.name).await.map_err(WriteError::from_kube)?;
        let spec = stored.spec.clone().unwrap_or_default();
        if spec.holder_identity.as_ref() != Some(&self.identity) {
            return Ok(false);
        }
        let params = PostParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PostParams::default()
        };
        let lease = self.lease(Some(&stored), released(&spec));
        let written = api.replace(&self.name, &params, &lease).await;
        written.map(|_| true).map_err(WriteError::from_kube)
    }

    /// The object to write: as it was read, with another record. Its version makes the write
    /// conditional.
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
