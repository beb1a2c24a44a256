//! What all tasks that deliver notifications share: the stores, who may deliver, counters, and how they are woken.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use super::backoff::Timeouts;
use crate::api::Incident;
use crate::cluster::Stores;
use crate::limits;
use crate::model::Severity;
use crate::notify::payload::Origin;
use crate::observability::{Counters, DeliveryResult};

/// Whether this process is the leader. Checked before every delivery, so that a replica that loses the leadership
/// stops at once.
pub(crate) type IsLeader = Arc<dyn Fn() -> bool + Send + Sync>;

/// How often a process that is not the leader checks whether it has become the leader.
pub(super) const LEADER_RECHECK: Duration = Duration::from_secs(1);

/// Wakes the tasks that deliver notifications. Cheap to clone. Several calls in a row wake a task once.
#[derive(Clone, Debug)]
pub(crate) struct Wakeup(watch::Sender<()>);

impl Default for Wakeup {
    fn default() -> Self {
        Self(watch::Sender::new(()))
    }
}

impl Wakeup {
    /// An Incident or a run changed.
    pub(crate) fn wake(&self) {
        self.0.send_replace(());
    }

    /// The receiving end for one task.
    #[must_use]
    pub(crate) fn subscribe(&self) -> Wakeups {
        Wakeups(self.0.subscribe())
    }
}

/// The receiving end of [`Wakeup`], one for each task.
#[derive(Debug)]
pub(crate) struct Wakeups(watch::Receiver<()>);

impl Wakeups {
    /// Waits for a wakeup, or until `next`. Returns `false` when the program is ending.
    pub(super) async fn wait_until(&mut self, next: Instant) -> bool {
        tokio::select! {
            changed = self.0.changed() => changed.is_ok(),
            () = tokio::time::sleep_until(next) => true,
        }
    }
}

/// Counters<DeliveryResult> by kind of receiver.
#[derive(Debug, Default)]
pub(crate) struct NotifyCounters {
    /// Kubernetes Events.
    pub events: Counters<DeliveryResult>,
    /// Requests to Alertmanagers.
    pub alertmanager: Counters<DeliveryResult>,
    /// Notifications to the webhook.
    pub webhook: Counters<DeliveryResult>,
    /// Requests with spans to a collector.
    pub otlp: Counters<DeliveryResult>,
}

/// What every task that delivers notifications needs.
#[derive(Clone)]
pub(crate) struct Context {
    /// The objects of the cluster.
    pub stores: Stores,
    /// The cluster that the notifications are about.
    pub origin: Origin,
    /// The lowest severity that is delivered.
    pub severity_min: Severity,
    /// Whether this process delivers notifications.
    pub is_leader: IsLeader,
    /// Results of the deliveries.
    pub counters: Arc<NotifyCounters>,
    /// Timeouts, which tests shorten.
    pub timeouts: Timeouts,
}

impl Context {
    pub(super) fn is_leader(&self) -> bool {
        (self.is_leader)()
    }

    /// The Incidents that are severe enough for external receivers.
    pub(super) fn incidents(&self) -> Vec<Arc<Incident>> {
        let mut incidents = self.stores.incidents.state();
        incidents.retain(|incident| incident.severity() >= self.severity_min);
        incidents
    }
}

/// The oldest time of a transition that still becomes an Event or a span.
pub(super) fn oldest_event() -> Timestamp {
    let age_max = SignedDuration::from_secs(limits::EVENT_AGE_MAX_S);
    Timestamp::now()
        .checked_sub(age_max)
        .unwrap_or(Timestamp::MIN)
}
