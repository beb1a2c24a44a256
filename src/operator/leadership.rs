//! Leader election of the controller, and what a new leader does before it acts: it first brings its
//! stores up to date with the API server, and only then opens the gate. Nothing is carried over from the
//! previous leader.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kube::Client;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::config::Component;
use super::parts::Operator;
use crate::cluster::{LeaderElector, catch_up, identity};
use crate::observability::chain;

/// Pause before a failed take-over is tried again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How often a new leader tries to read the cluster-wide deny before it continues without it. Isolation
/// is then judged by plain NetworkPolicies alone, and an owner may be suspended without need.
const DENY_READS_MAX: usize = 3;

/// The running leader election.
pub(super) struct Election {
    stop: CancellationToken,
    /// Ends when the Lease is released.
    task: JoinHandle<()>,
}

impl Election {
    /// Starts leader election. `None` where it is not configured.
    pub(super) fn start(operator: &Operator, client: &Client) -> Option<Self> {
        let Component::Controller(response) = &operator.config.component else {
            return None;
        };
        let election = response.election.as_ref()?;
        let elector = LeaderElector::new(
            client.clone(),
            operator.writer.gate().clone(),
            &operator.config.agent_namespace,
            &election.lease,
            identity(&election.replica),
            election.timings,
            Arc::clone(&operator.reads_lease),
        );
        let stop = CancellationToken::new();
        let task = tokio::spawn(elector.run(stop.clone()));
        Some(Self { stop, task })
    }

    /// Releases the Lease and waits until that is done.
    pub(super) async fn end(election: Option<Self>) {
        if let Some(Self { stop, task }) = election {
            stop.cancel();
            if task.await.is_err() {
                tracing::error!("Leader election panicked.");
            }
        }
    }

    /// Waits until leader election ends by itself, which it should not. Never returns without an election.
    pub(super) async fn ended(election: &mut Option<Self>) -> Result<(), tokio::task::JoinError> {
        match election {
            Some(election) => (&mut election.task).await,
            None => std::future::pending().await,
        }
    }
}

/// Takes over each time that this process becomes the leader. Never returns.
pub(super) async fn lead(operator: Arc<Operator>) {
    if !operator.stores.wait_until_ready().await {
        // The watches have ended, so the program is ending.
        return std::future::pending().await;
    }
    let gate = operator.writer.gate();
    loop {
        let term = gate.next_term().await;
        tokio::select! {
            () = take_over(&operator) => gate.open(term),
            () = gate.term_ended(term) => continue,
        }
        tracing::info!(term, "Acquired leadership; writes are enabled.");
        operator.controller.enqueue_all();
        operator.incidents.enqueue_all();
        // Objects that are missing can be created from now on.
        operator.controller.refresh().await;
        gate.term_ended(term).await;
        tracing::info!(term, "Lost leadership; writes have stopped.");
    }
}

/// Brings the stores up to date. Reads only.
async fn take_over(operator: &Operator) {
    let (client, namespace) = (
        operator.writer.client(),
        operator.config.namespace.as_deref(),
    );
    let mut is_failing = false;
    loop {
        match catch_up(&operator.stores.incidents, client, namespace).await {
            Ok(0) => break,
            Ok(missing) => {
                tracing::info!(missing, "Some Incidents are unreadable or were deleted.");
                break;
            }
            Err(error) => {
                let error = chain(&error);
                if !is_failing {
                    tracing::warn!(
                        error,
                        "Failed to list the Incidents; not acting until it succeeds."
                    );
                }
                is_failing = true;
                tokio::time::sleep(RETRY_PAUSE).await;
            }
        }
    }
    for _ in 0..DENY_READS_MAX {
        if operator.controller.refresh_cluster_deny().await {
            return;
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Whether leader election is configured and its Lease can be neither read nor renewed.
pub(super) fn lacks_lease(operator: &Operator) -> bool {
    let Component::Controller(response) = &operator.config.component else {
        return false;
    };
    response.election.is_some() && !operator.reads_lease.load(Ordering::Relaxed)
}
