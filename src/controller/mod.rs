//! The controller: from an AgentRun to its guardrails and its status. One file per step, in order:
//!
//! - `dereference`: reads the observed state.
//! - `validate`: computes effective settings, the pods of the run, and desired objects. Pure.
//! - `apply`: creates, reverts, deletes and labels objects; `start` decides about the Job.
//! - `status`: computes the conditions; `containment` those that depend on Incidents. Pure; written here if they
//!   differ. `addresses` adds the addresses of the run's pods, for node agents.
//!
//! `triggers` turns events of the watches into reconciliations, `cluster_facts` refreshes what no run owns (`cilium` the policies of Cilium), `agents`
//! reads the reports of the node agents that `heartbeat` writes, `membership` records which pods belong to the run, and
//! `malformed` reports objects that cannot be parsed. All writes go through `cluster` (INV-4); an unchanged run causes
//! none.

mod addresses;
mod agents;
mod apply;
mod cilium;
mod cluster_facts;
mod condition;
mod containment;
mod dereference;
mod ended_pods;
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
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub(crate) use agents::agent_verdicts;
pub(crate) use ended_pods::{ENDED_PODS_CONFIG_MAP, read_ended_pods};
pub(crate) use heartbeat::Heartbeat;

use agents::AgentReports;
use dereference::Observed;
use malformed::Malformed;

use crate::api::AgentRun;
use crate::cluster::{
    ApiError, ClusterDeny, FieldManager, Owners, Pod, ReconcileQueue, RetryBackoff, RunMembership,
    Stores, Writer,
};
use crate::detect::Scopes;
use crate::guardrails::ClusterFacts;
use crate::guardrails::ceiling::{Effective, evaluate};
use crate::guardrails::membership::{Claim, covers};
use crate::limits;
use crate::observability::chain;
use crate::pipeline::ended_pods::EndedPods;
use crate::signals::attribute::Index;
use crate::signals::health::SignalHealth;

/// Interval between two checks for the owner of a `ref`. Its kind is not watched.
const OWNER_RECHECK: Duration = Duration::from_secs(30);

/// Delay before a run is reconciled again after a conflict, because the watch has not delivered its change yet.
const STALE_RECHECK: Duration = Duration::from_secs(1);

/// Permissions of a controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Writes guardrails, status and the standing deny policies.
    Operator,
    /// Only determines which pods belong to which run, for a node agent. Writes nothing.
    Observer,
}

/// Dependencies of the controller.
pub(crate) struct Parts {
    /// Permissions.
    pub role: Role,
    /// Stored objects.
    pub stores: Stores,
    /// Writer to the API server.
    pub writer: Writer,
    /// Which pods belong to which run. Written by the controller.
    pub membership: RunMembership,
    /// Attribution index. The controller writes the runs of the pods, and the nodes.
    pub index: Arc<RwLock<Index>>,
    /// Whether the cluster-wide deny policy is in place. Written by the controller.
    pub cluster_deny: ClusterDeny,
    /// Health of the signal sources.
    pub signal_health: SignalHealth,
    /// A source without data for this long is stale.
    pub signals_stale_after: Duration,
    /// Configured facts. Those from the API server are added.
    pub configured_facts: ClusterFacts,
    /// Receives the network ranges of the cluster, for detection.
    pub scopes: watch::Sender<Scopes>,
    /// Namespace of the agents' Leases, and of the list of pods that ended.
    pub namespace: String,
}

/// Reconciles AgentRuns.
pub(crate) struct Controller {
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
    agents: RwLock<Arc<AgentReports>>,
    owners: Owners,
    run_queue: ReconcileQueue<AgentRun>,
    pod_queue: ReconcileQueue<Pod>,
    backoff: RetryBackoff<ObjectRef<AgentRun>>,
    pod_backoff: RetryBackoff<ObjectRef<Pod>>,
    malformed: Malformed,
    address_changes: addresses::ChangeTimes,
    namespace: String,
    ended_pods: Mutex<EndedPods>,
    selected_pods: cilium::SelectedPods,
    /// Also serializes refreshes.
    refresh_failures: tokio::sync::Mutex<cluster_facts::RefreshFailures>,
}

/// Why a reconciliation failed. It is retried with backoff.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
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
    /// A controller that is idle until [`Self::run`].
    #[must_use]
    pub(crate) fn new(parts: Parts) -> Arc<Self> {
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
            run_queue: ReconcileQueue::default(),
            pod_queue: ReconcileQueue::default(),
            backoff: RetryBackoff::default(),
            pod_backoff: RetryBackoff::default(),
            malformed: Malformed::default(),
            address_changes: addresses::ChangeTimes::default(),
            namespace: parts.namespace,
            ended_pods: Mutex::default(),
            selected_pods: cilium::SelectedPods::default(),
            refresh_failures: tokio::sync::Mutex::default(),
        })
    }

    /// Reconciles runs until `shutdown`. Reconciliations in progress then run to their end. The watches call the
    /// `on_*_event` functions concurrently.
    pub(crate) async fn run(self: Arc<Self>, shutdown: CancellationToken) {
        if !self.stores.wait_until_ready().await {
            // The watches have ended, so the program is ending.
            return;
        }
        if self.role == Role::Operator {
            self.read_signal_status();
            self.refresh().await;
        } else {
            self.refresh_facts().await;
        }
        self.enqueue_all();
        for pod in self.stores.pods.state() {
            self.pod_queue.add(ObjectRef::from_obj(&*pod));
        }
        let background = async {
            match self.role {
                Role::Operator => {
                    tokio::join!(
                        self.refresh_periodically(),
                        self.watch_signal_status(),
                        self.report_malformed_runs(),
                        self.publish_ended_pods(),
                    );
                }
                Role::Observer => self.refresh_facts_periodically().await,
            }
        };
        let work = async {
            tokio::join!(
                Arc::clone(&self).reconcile_pods(shutdown.clone()),
                Arc::clone(&self).reconcile_runs(shutdown.clone()),
            )
        };
        tokio::select! {
            () = background => {}
            _ = work => {}
        }
    }

    /// Effective settings of a run, within the ceilings of its policy.
    #[must_use]
    pub(crate) fn effective(&self, run: &AgentRun) -> Effective {
        let policy = self.stores.policies.get(&ObjectRef::new(&run.spec.policy));
        let policy = policy.as_ref().map(|policy| &policy.spec);
        evaluate(&run.spec, policy, &self.facts()).effective
    }

    /// Whether the cluster-wide deny policy is in place, as observed by this controller.
    #[must_use]
    pub(crate) fn cluster_deny(&self) -> ClusterDeny {
        self.cluster_deny.clone()
    }

    /// Number of malformed object versions, since the start of the process.
    #[must_use]
    pub(crate) fn malformed_count(&self) -> u64 {
        self.malformed.count()
    }

    /// Number of addresses that did not fit into the list of pods that ended, since the start of the process.
    #[must_use]
    pub(crate) fn ended_pods_left_out(&self) -> u64 {
        self.ended_pods.lock().left_out_count()
    }

    fn facts(&self) -> Arc<ClusterFacts> {
        Arc::clone(&self.facts.read())
    }

    async fn reconcile_runs(self: Arc<Self>, shutdown: CancellationToken) {
        let queue = Box::pin(
            self.run_queue
                .stream()
                .take_until(shutdown.cancelled_owned()),
        );
        applier(
            |run: Arc<AgentRun>, controller: Arc<Self>| {
                async move { controller.reconcile(run).await }.boxed()
            },
            |run, error, controller| controller.error_policy(&run, error),
            Arc::clone(&self),
            (*self.stores.runs).clone(),
            queue,
            Config::default().concurrency(limits::RECONCILE_CONCURRENCY),
        )
        .for_each(|result| {
            self.run_queue.on_result(result);
            std::future::ready(())
        })
        .await;
    }

    async fn reconcile_pods(self: Arc<Self>, shutdown: CancellationToken) {
        let queue = Box::pin(
            self.pod_queue
                .stream()
                .take_until(shutdown.cancelled_owned()),
        );
        applier(
            |pod: Arc<Pod>, controller: Arc<Self>| {
                async move { controller.reconcile_pod(&pod).await }.boxed()
            },
            |pod, error: &ApiError, controller: Arc<Self>| {
                let wait = controller
                    .pod_backoff
                    .record_failure(&ObjectRef::from_obj(&*pod));
                let error = chain(error);
                tracing::debug!(
                    pod = pod.name_any(),
                    error,
                    ?wait,
                    "Failed to read the owners of a pod; retrying."
                );
                Action::requeue(wait)
            },
            Arc::clone(&self),
            (*self.stores.pods).clone(),
            queue,
            Config::default().concurrency(limits::RECONCILE_CONCURRENCY),
        )
        .for_each(|result| {
            self.pod_queue.on_result(result);
            std::future::ready(())
        })
        .await;
    }

    fn error_policy(&self, run: &AgentRun, error: &ReconcileError) -> Action {
        let (namespace, name) = (run.namespace(), run.name_any());
        match error {
            // Interrupted by the loss of leadership. The leader, which may be this process again, continues.
            ReconcileError::Status(ApiError::NotLeader)
            | ReconcileError::Guardrail(ApiError::NotLeader) => {
                return Action::requeue(STALE_RECHECK);
            }
            // The watch delivers the conflicting change, which queues the run.
            ReconcileError::Status(ApiError::Conflict(_)) => {
                tracing::debug!(
                    namespace,
                    name,
                    "An AgentRun changed during its reconciliation; retrying."
                );
                return Action::requeue(STALE_RECHECK);
            }
            ReconcileError::Guardrail(failed) if failed.is_namespace_terminating() => {
                tracing::debug!(
                    namespace,
                    name,
                    "The namespace of an AgentRun is being deleted."
                );
                return Action::requeue(OWNER_RECHECK);
            }
            _ => {}
        }
        let wait = self.backoff.record_failure(&ObjectRef::from_obj(run));
        let error = chain(error);
        tracing::warn!(
            namespace,
            name,
            error,
            ?wait,
            "Failed to reconcile an AgentRun; retrying."
        );
        Action::requeue(wait)
    }

    async fn reconcile(&self, run: Arc<AgentRun>) -> Result<Action, ReconcileError> {
        if run.metadata.deletion_timestamp.is_some() {
            // The garbage collector deletes the guardrails with their owner.
            return Ok(Action::await_change());
        }
        let observed = self.dereference(run).await.map_err(ReconcileError::Owner)?;
        let Some(observed) = observed else {
            return Ok(Action::await_change());
        };
        self.enqueue_unresolved(&observed);
        let validated = validate::validate(&observed);
        let profile = validated.evaluation.effective.profile;
        self.update_membership(&observed.run, profile, &validated.enrolled);
        if self.role == Role::Observer {
            self.update_siblings(&observed.run, &validated);
        }
        // A process that does not lead still records which pods belong to which run.
        if self.role == Role::Observer || !self.writer.may_act() {
            self.backoff.clear(&ObjectRef::from_obj(&*observed.run));
            return Ok(Action::await_change());
        }
        let mut applied = self.apply(&observed, &validated).await;
        self.read_identities(&observed, &validated, &mut applied)
            .await;
        let error = applied.error.take();
        let mut next = status::status(&observed, &validated, &applied, Timestamp::now());
        let wait = self.publish_addresses(&observed, &validated, &mut next);
        if observed.run.status.as_ref() != Some(&next) {
            let written = self
                .writer
                .status(&FieldManager::controller(), &*observed.run, &next)
                .await;
            match written {
                // The run was deleted.
                Ok(_) | Err(ApiError::NotFound(_)) => {}
                Err(error) => return Err(ReconcileError::Status(error)),
            }
        }
        if let Some(error) = error {
            return Err(ReconcileError::Guardrail(error));
        }
        self.backoff.clear(&ObjectRef::from_obj(&*observed.run));
        let recheck = (!observed.owner_exists).then_some(OWNER_RECHECK);
        let rechecks = recheck.into_iter().chain(applied.recheck);
        let next = wait.into_iter().chain(rechecks).min();
        Ok(next.map_or_else(Action::await_change, Action::requeue))
    }

    /// Resolves the owners of a pod and queues the runs that claim it, or that it belonged to.
    async fn reconcile_pod(&self, pod: &Pod) -> Result<Action, ApiError> {
        let namespace = pod.namespace().unwrap_or_default();
        let runs = self.stores.runs.within(&namespace);
        let uid = pod.uid().unwrap_or_default();
        if let Some(before) = self.membership.run_of(&uid) {
            self.run_queue
                .add(ObjectRef::new(&before.name).within(&before.namespace));
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
        self.pod_backoff.clear(&ObjectRef::from_obj(pod));
        for run in runs {
            let claim = Claim {
                name: run.metadata.name.as_deref().unwrap_or_default(),
                uid: run.metadata.uid.as_deref().unwrap_or_default(),
                target: &run.spec.target,
            };
            if covers(&claim, pod.labels(), &chain.links) {
                self.run_queue.add(ObjectRef::from_obj(&*run));
            }
        }
        Ok(Action::await_change())
    }

    /// Queues pods that this run may cover and that have unresolved owners.
    fn enqueue_unresolved(&self, observed: &Observed) {
        let target = &observed.run.spec.target;
        if target.selector.is_some() {
            return;
        }
        let is_deep = needs_deep_chains(&observed.run);
        for seen in &observed.pods {
            let chain = self.owners.chain_of(&seen.pod.uid().unwrap_or_default());
            if chain.is_none_or(|chain| is_deep && !chain.is_deep) {
                self.pod_queue.add(ObjectRef::from_obj(&*seen.pod));
            }
        }
    }
}

/// Whether the run references an owner of a kind that is not in the stores.
fn needs_deep_chains(run: &AgentRun) -> bool {
    let reference = run.spec.target.reference.as_ref();
    reference.is_some_and(|owner| owner.kind != "Job" || !owner.api_version.starts_with("batch/"))
}
