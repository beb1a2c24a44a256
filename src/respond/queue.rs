//! The reconcile queue of Incidents, and the loop that calls the responder for each of them.

use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::{Action, Config, applier};
use kube::runtime::reflector::ObjectRef;
use tokio_util::sync::CancellationToken;

use super::{RespondError, Responder};
use crate::api::{Incident, IncidentCondition, condition_is};
use crate::cluster::{Pod, ReconcileQueue, RetryBackoff, Store, WatchEvent};
use crate::limits;
use crate::observability::chain;

/// Delay before an Incident is reconciled again after its response was interrupted by the loss of
/// leadership. The process may be the leader again by then.
const NOT_LEADER_RECHECK: Duration = Duration::from_secs(1);

/// How often the closed Incidents are scanned for expired ones. The reconciliation that closes an Incident
/// also schedules its expiry, but that timer is lost when the process restarts.
const EXPIRY_EVERY: Duration = Duration::from_mins(1);

/// How often quarantined pods without an Incident are looked for.
const LOST_EVERY: Duration = Duration::from_secs(10);

/// Incidents that wait for reconciliation. Cheap to clone; all clones share one queue.
#[derive(Clone)]
pub(crate) struct IncidentQueue {
    incidents: Store<Incident>,
    queue: ReconcileQueue<Incident>,
}

struct Loop {
    responder: Responder,
    backoff: RetryBackoff<ObjectRef<Incident>>,
}

impl IncidentQueue {
    /// A queue over the Incidents of this store.
    #[must_use]
    pub(crate) fn new(incidents: Store<Incident>) -> Self {
        Self {
            incidents,
            queue: ReconcileQueue::default(),
        }
    }

    /// Queues an Incident that the watch reported.
    pub(crate) fn on_incident_event(&self, event: &WatchEvent<Incident>) {
        match event {
            WatchEvent::Changed { new, .. } => self.queue.add(ObjectRef::from_obj(&**new)),
            WatchEvent::Listed => self.enqueue_all(),
            WatchEvent::Gone(_) | WatchEvent::Malformed { .. } => {}
        }
    }

    /// Queues the Incidents of the pod's namespace: the pod's own Incident and those of its run may have to act.
    pub(crate) fn on_pod_change(&self, pod: &Pod) {
        let namespace = pod.namespace().unwrap_or_default();
        self.enqueue_namespace(&namespace);
    }

    /// Queues all open Incidents of a namespace, after a change that they depend on.
    pub(crate) fn enqueue_namespace(&self, namespace: &str) {
        self.enqueue(&self.incidents.within_where(namespace, is_open));
    }

    /// Queues all open Incidents, after a change that they depend on.
    pub(crate) fn enqueue_all(&self) {
        self.enqueue(&self.incidents.state_filter(is_open));
    }

    fn enqueue(&self, incidents: &[Arc<Incident>]) {
        for incident in incidents {
            self.queue.add(ObjectRef::from_obj(&**incident));
        }
    }

    /// Reconciles Incidents until `shutdown`. Reconciliations in progress then run to their end.
    pub(crate) async fn run(self, responder: Responder, shutdown: CancellationToken) {
        if !responder.stores().wait_until_ready().await {
            return;
        }
        self.enqueue_all();
        let queue = Box::pin(self.queue.stream().take_until(shutdown.cancelled_owned()));
        let expired = self.enqueue_expired(responder.incident_ttl());
        let context = Arc::new(Loop {
            responder,
            backoff: RetryBackoff::default(),
        });
        let lost = restore_lost_incidents(Arc::clone(&context));
        let work = applier(
            |incident: Arc<Incident>, context: Arc<Loop>| {
                async move { context.reconcile(&incident).await }.boxed()
            },
            |incident, error, context: Arc<Loop>| context.error_policy(&incident, error),
            context,
            (*self.incidents).clone(),
            queue,
            Config::default().concurrency(limits::RECONCILE_CONCURRENCY),
        )
        // A deleted Incident needs nothing, and errors were handled by `error_policy`.
        .for_each(|_| std::future::ready(()));
        tokio::select! {
            () = work => {}
            () = expired => {}
            () = lost => {}
        }
    }

    /// Queues closed Incidents after their time to live. Never returns.
    async fn enqueue_expired(&self, ttl: Duration) {
        loop {
            tokio::time::sleep(EXPIRY_EVERY).await;
            let now = Timestamp::now();
            let is_expired = |incident: &Incident| {
                let status = incident.status.as_ref();
                let closed_at = status.and_then(|status| status.closed_at.as_ref());
                closed_at.is_some_and(|closed| now.duration_since(closed.0).unsigned_abs() >= ttl)
            };
            for incident in self.incidents.state_filter(is_expired) {
                self.queue.add(ObjectRef::from_obj(&*incident));
            }
        }
    }
}

/// Creates deleted Incidents of quarantined pods again. Never returns.
async fn restore_lost_incidents(context: Arc<Loop>) {
    loop {
        tokio::time::sleep(LOST_EVERY).await;
        context.responder.restore_lost_incidents().await;
    }
}

fn is_open(incident: &Incident) -> bool {
    let conditions = incident.status.as_ref().map_or(&[][..], |s| &s.conditions);
    !condition_is(conditions, IncidentCondition::Closed.name())
}

impl Loop {
    async fn reconcile(&self, incident: &Incident) -> Result<Action, RespondError> {
        if !self.responder.may_act() {
            // A new leader queues all of them.
            return Ok(Action::await_change());
        }
        let action = self.responder.reconcile(incident).await?;
        self.backoff.clear(&ObjectRef::from_obj(incident));
        Ok(action)
    }

    fn error_policy(&self, incident: &Incident, error: &RespondError) -> Action {
        if error.is_stale() {
            // The store has not received this process's last write yet.
            return Action::requeue(limits::STALE_RETRY);
        }
        if error.is_not_leader() {
            return Action::requeue(NOT_LEADER_RECHECK);
        }
        let wait = self.backoff.record_failure(&ObjectRef::from_obj(incident));
        let (name, error) = (incident.name_any(), chain(error));
        tracing::warn!(
            incident = name,
            error,
            ?wait,
            "Failed to reconcile an Incident; retrying."
        );
        Action::requeue(wait)
    }
}
