//! The controller: AgentRun to guardrails to status. One file per step, in order:
//!
//! - `dereference`: gathers what is known. Reads.
//! - `validate`: what is in force, who is covered, what is wanted. Pure.
//! - `apply`: makes, takes back, removes, stamps; `start` decides about the Job. Writes.
//! - `status`: what the conditions say; `containment` says it of Incidents. Pure; stored here, where
//!   it differs. `addresses` adds where the run's pods are, for node agents.
//!
//! `triggers` turns what watches saw into what must be looked at,
//! `cluster_facts` keeps what no run owns, `malformed` deals with what cannot be read. Writes go
//! through `cluster` alone (INV-4), and a run at rest costs none.

mod addresses;
mod agents;
mod apply;
mod cluster_facts;
mod condition;
mod containment;
mod dereference;
mod heartbeat;
mod malformed;
mod membership;
mod signals_annotation;
mod start;
mod status;
mod triggers;
mod validate;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::reflector::ObjectRef;
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use agents::agents_say;
pub use heartbeat::Heartbeat;

use agents::Agents;
use dereference::Observed;
use malformed::Malformed;

use crate::api::AgentRun;
use crate::cluster::{
    ApiError, Attempts, ClusterDeny, FieldManager, Owners, Pod, RunMembership, Stores, Wakeups,
    Writer,
};
use crate::detect::Scopes;
use crate::guardrails::ClusterFacts;
use crate::guardrails::ceiling::{Effective, evaluate};
use crate::guardrails::membership::{Claim, covers};
use crate::limits;
use crate::observability::chain;
use crate::signals::attribute::Index;
use crate::signals::health::SignalHealth;

/// How soon the owner that a `ref` names is looked for again: nothing watches its kind.
const OWNER_RECHECK: Duration = Duration::from_secs(30);

/// How soon a run is looked at again whose change has not come through the watch yet.
const STALE_RECHECK: Duration = Duration::from_secs(1);

/// What a controller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Everything: guardrails, status, the standing deny.
    Operator,
    /// Only find out which pod belongs to which run, as a node agent must: nothing is written.
    Observer,
}

/// What the controller is made from.
pub struct Parts {
    /// What it may do.
    pub role: Role,
    /// What the cluster looks like.
    pub stores: Stores,
    /// The way to the API server.
    pub writer: Writer,
    /// Which pod belongs to which run; the controller fills it.
    pub membership: RunMembership,
    /// Which pod had an address when; the controller says which run a pod belongs to.
    pub index: Arc<RwLock<Index>>,
    /// Whether the cluster-wide deny stands; the controller notes it.
    pub cluster_deny: ClusterDeny,
    /// What the sources do.
    pub signal_health: SignalHealth,
    /// After which silence a source is stale.
    pub signals_stale_after: Duration,
    /// Facts that were configured; what the API server knows is added to them.
    pub configured_facts: ClusterFacts,
    /// Where detection learns the cluster's ranges from.
    pub scopes: watch::Sender<Scopes>,
}

/// Reconciles AgentRuns.
pub struct Controller {
    role: Role,
    stores: Stores,
    writer: Writer,
    membership: RunMembership,
    index: Arc<RwLock<Index>>,
    cluster_deny: ClusterDeny,
    signal_health: SignalHealth,
    signals_stale_after: Duration,
    configured_facts: Arc<ClusterFacts>,
    scopes: watch::Sender<Scopes>,
    facts: RwLock<Arc<ClusterFacts>>,
    agents: RwLock<Arc<Agents>>,
    owners: Owners,
    runs: Wakeups<AgentRun>,
    pods: Wakeups<Pod>,
    attempts: Attempts<ObjectRef<AgentRun>>,
    pod_attempts: Attempts<ObjectRef<Pod>>,
    malformed: Malformed,
    address_changes: addresses::Changes,
    /// Held by whoever looks at the surroundings.
    surroundings: tokio::sync::Mutex<cluster_facts::Failing>,
}

/// Why a run could not be brought to its end. It is tried again, with backoff.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// An owner could not be read.
    #[error("failed to look up the owner of a run's pods")]
    Owner(#[source] ApiError),
    /// A guardrail could not be written.
    #[error("failed to write a guardrail")]
    Guardrail(#[source] ApiError),
    /// The status could not be written.
    #[error("failed to write the status of an AgentRun")]
    Status(#[source] ApiError),
}

impl Controller {
    /// A controller that does nothing until [`Self::run`].
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let configured_facts = Arc::new(parts.configured_facts);
        Arc::new(Self {
            role: parts.role,
            stores: parts.stores,
            writer: parts.writer,
            membership: parts.membership,
            index: parts.index,
            cluster_deny: parts.cluster_deny,
            signal_health: parts.signal_health,
            signals_stale_after: parts.signals_stale_after,
            facts: RwLock::new(Arc::clone(&configured_facts)),
            agents: RwLock::default(),
            configured_facts,
            scopes: parts.scopes,
            owners: Owners::default(),
            runs: Wakeups::default(),
            pods: Wakeups::default(),
            attempts: Attempts::default(),
            pod_attempts: Attempts::default(),
            malformed: Malformed::default(),
            address_changes: addresses::Changes::default(),
            surroundings: tokio::sync::Mutex::default(),
        })
    }

    /// Reconciles until `shutdown`; what is under way then is finished. The followers of the
    /// watches call the `*_seen` functions meanwhile.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        if !self.stores.wait_until_ready().await {
            // The watches have ended, so the program is ending.
            return;
        }
        if self.role == Role::Operator {
            self.listen();
            self.look_around().await;
        } else {
            self.look_at_facts().await;
        }
        self.wake_all();
        for pod in self.stores.pods.state() {
            self.pods.wake(ObjectRef::from_obj(&*pod));
        }
        let beside = async {
            match self.role {
                Role::Operator => {
                    tokio::join!(
                        self.keep_surroundings(),
                        self.follow_signals(),
                        self.tell_malformed(),
                    );
                }
                Role::Observer => self.keep_facts().await,
            }
        };
        let work = async {
            tokio::join!(
                Arc::clone(&self).reconcile_pods(shutdown.clone()),
                Arc::clone(&self).reconcile_runs(shutdown.clone()),
            )
        };
        tokio::select! {
            () = beside => {}
            _ = work => {}
        }
    }

    /// The run's settings inside its policy's ceilings.
    #[must_use]
    pub fn effective(&self, run: &AgentRun) -> Effective {
        let policy = self.stores.policies.get(&ObjectRef::new(&run.spec.policy));
        let policy = policy.as_ref().map(|policy| &policy.spec);
        evaluate(&run.spec, policy, &self.facts()).effective
    }

    /// Whether the cluster-wide deny stands, as this controller observes it.
    #[must_use]
    pub fn cluster_deny(&self) -> ClusterDeny {
        self.cluster_deny.clone()
    }

    /// Versions of objects that could not be read, since the start.
    #[must_use]
    pub fn malformed_count(&self) -> u64 {
        self.malformed.count()
    }

    fn facts(&self) -> Arc<ClusterFacts> {
        Arc::clone(&self.facts.read())
    }

    async fn reconcile_runs(self: Arc<Self>, shutdown: CancellationToken) {
        let queue = Box::pin(self.runs.stream().take_until(shutdown.cancelled_owned()));
        applier(
            |run: Arc<AgentRun>, controller: Arc<Self>| {
                async move { controller.reconcile(run).await }.boxed()
            },
            |run, error, controller| controller.run_failed(&run, error),
            Arc::clone(&self),
            (*self.stores.runs).clone(),
            queue,
            Config::default().concurrency(limits::RECONCILE_CONCURRENCY),
        )
        // An object that is gone by now needs nothing, and errors went to `run_failed`.
        .for_each(|_| std::future::ready(()))
        .await;
    }

    async fn reconcile_pods(self: Arc<Self>, shutdown: CancellationToken) {
        let queue = Box::pin(self.pods.stream().take_until(shutdown.cancelled_owned()));
        applier(
            |pod: Arc<Pod>, controller: Arc<Self>| {
                async move { controller.reconcile_pod(&pod).await }.boxed()
            },
            |pod, error: &ApiError, controller: Arc<Self>| {
                let wait = controller.pod_attempts.failed(&ObjectRef::from_obj(&*pod));
                let error = chain(error);
                tracing::debug!(
                    pod = pod.name_any(),
                    error,
                    ?wait,
                    "Owners are not known yet."
                );
                Action::requeue(wait)
            },
            Arc::clone(&self),
            (*self.stores.pods).clone(),
            queue,
            Config::default().concurrency(limits::RECONCILE_CONCURRENCY),
        )
        .for_each(|_| std::future::ready(()))
        .await;
    }

    fn run_failed(&self, run: &AgentRun, error: &ReconcileError) -> Action {
        let (namespace, name) = (run.namespace(), run.name_any());
        match error {
            // Cut off: whoever leads goes on with it, this process included.
            ReconcileError::Status(ApiError::NotLeader)
            | ReconcileError::Guardrail(ApiError::NotLeader) => {
                return Action::requeue(STALE_RECHECK);
            }
            // The change that made this look stale is on its way, and wakes the run.
            ReconcileError::Status(ApiError::Conflict(_)) => {
                tracing::debug!(namespace, name, "A run changed meanwhile.");
                return Action::requeue(STALE_RECHECK);
            }
            ReconcileError::Guardrail(failed) if failed.is_namespace_terminating() => {
                tracing::debug!(namespace, name, "The namespace of a run is going away.");
                return Action::requeue(OWNER_RECHECK);
            }
            _ => {}
        }
        let wait = self.attempts.failed(&ObjectRef::from_obj(run));
        let error = chain(error);
        tracing::warn!(namespace, name, error, ?wait, "A run is tried again later.");
        Action::requeue(wait)
    }

    async fn reconcile(&self, run: Arc<AgentRun>) -> Result<Action, ReconcileError> {
        if run.metadata.deletion_timestamp.is_some() {
            // The garbage collector takes the guardrails away with their owner.
            return Ok(Action::await_change());
        }
        let observed = self.dereference(run).await.map_err(ReconcileError::Owner)?;
        let Some(observed) = observed else {
            return Ok(Action::await_change());
        };
        self.wake_unresolved(&observed);
        let validated = validate::validate(&observed);
        self.enroll(&observed.run, &validated.enrolled);
        if self.role == Role::Observer {
            self.learn_siblings(&observed.run, &validated);
        }
        // Who leads no run still knows whose pod is whose.
        if self.role == Role::Observer || !self.writer.may_act() {
            self.attempts.clear(&ObjectRef::from_obj(&*observed.run));
            return Ok(Action::await_change());
        }
        let mut applied = self.apply(&observed, &validated).await;
        let error = applied.error.take();
        let mut next = status::status(&observed, &validated, &applied, Timestamp::now());
        let wait = self.put_addresses(&observed, &validated, &mut next);
        if observed.run.status.as_ref() != Some(&next) {
            let written = self
                .writer
                .status(&FieldManager::controller(), &*observed.run, &next)
                .await;
            match written {
                // The run is gone, and its status with it.
                Ok(_) | Err(ApiError::NotFound(_)) => {}
                Err(error) => return Err(ReconcileError::Status(error)),
            }
        }
        if let Some(error) = error {
            return Err(ReconcileError::Guardrail(error));
        }
        self.attempts.clear(&ObjectRef::from_obj(&*observed.run));
        let recheck = (!observed.owner_exists).then_some(OWNER_RECHECK);
        let next = wait.into_iter().chain(recheck).min();
        Ok(next.map_or_else(Action::await_change, Action::requeue))
    }

    /// Follows the owners of a pod and wakes the runs that claim it, or had it.
    async fn reconcile_pod(&self, pod: &Pod) -> Result<Action, ApiError> {
        let namespace = pod.namespace().unwrap_or_default();
        let runs = self.stores.runs.within(&namespace);
        let uid = pod.uid().unwrap_or_default();
        if let Some(before) = self.membership.run_of(&uid) {
            self.runs
                .wake(ObjectRef::new(&before.name).within(&before.namespace));
        }
        if runs.is_empty() {
            return Ok(Action::await_change());
        }
        let is_deep = runs.iter().any(|run| needs_deep_chains(run));
        let client = self.writer.client();
        let chain = self
            .owners
            .resolve(client, &self.stores, pod, is_deep)
            .await?;
        self.pod_attempts.clear(&ObjectRef::from_obj(pod));
        for run in runs {
            let claim = Claim {
                name: run.metadata.name.as_deref().unwrap_or_default(),
                uid: run.metadata.uid.as_deref().unwrap_or_default(),
                target: &run.spec.target,
            };
            if covers(&claim, pod.labels(), &chain.links) {
                self.runs.wake(ObjectRef::from_obj(&*run));
            }
        }
        Ok(Action::await_change())
    }

    /// Has the owners of pods followed that this run may cover and nobody looked at.
    fn wake_unresolved(&self, observed: &Observed) {
        let target = &observed.run.spec.target;
        if target.selector.is_some() {
            return;
        }
        let is_deep = needs_deep_chains(&observed.run);
        for seen in &observed.pods {
            let chain = self.owners.chain_of(&seen.pod.uid().unwrap_or_default());
            if chain.is_none_or(|chain| is_deep && !chain.is_deep) {
                self.pods.wake(ObjectRef::from_obj(&*seen.pod));
            }
        }
    }
}

/// Whether the run names an owner that the stores do not hold.
fn needs_deep_chains(run: &AgentRun) -> bool {
    let reference = run.spec.target.reference.as_ref();
    reference.is_some_and(|owner| owner.kind != "Job" || !owner.api_version.starts_with("batch/"))
}
