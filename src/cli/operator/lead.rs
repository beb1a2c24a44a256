//! From holding the Lease to acting. Whoever comes to lead first makes sure that what it rests on is
//! as new as the API server, and only then opens the gate; nothing is carried over from the last one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kube::Client;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Duty, Operator};
use crate::cluster::{Candidate, Gate, identity};
use crate::observability::chain;

/// How soon a take-over that failed is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// How often a new leader asks whether the cluster-wide deny stands before it goes on without. Then a
/// pod's isolation is judged by plain policies alone, and its owner may be held where it need not be.
const DENY_TRIES: usize = 3;

/// The part that stands for the Lease. `None` without an election.
pub(super) struct Election {
    /// Cancelled when the Lease is to be given back.
    pub stop: CancellationToken,
    /// Ends when it is given back.
    pub task: JoinHandle<()>,
}

impl Election {
    /// Gives the Lease back and waits for it.
    pub async fn end(election: Option<Self>) {
        if let Some(Self { stop, task }) = election {
            stop.cancel();
            if task.await.is_err() {
                tracing::error!("The part that keeps the Lease ended by a panic.");
            }
        }
    }

    /// Waits until it ends by itself, which it must not; for ever without an election.
    pub async fn ended(election: &mut Option<Self>) -> Result<(), tokio::task::JoinError> {
        match election {
            Some(election) => (&mut election.task).await,
            None => std::future::pending().await,
        }
    }
}

/// The gate of a process with this duty. That of a node agent never opens: it only tells.
pub(super) fn gate_of(duty: &Duty) -> Gate {
    match duty {
        Duty::Controller(response) if response.election.is_none() => Gate::alone(),
        Duty::Controller(_) | Duty::Node { .. } => Gate::shut(),
    }
}

impl Operator {
    /// Begins to stand for the Lease, where there is an election.
    pub(super) fn start_election(&self, client: &Client) -> Option<Election> {
        let Duty::Controller(response) = &self.config.duty else {
            return None;
        };
        let election = response.election.as_ref()?;
        let candidate = Candidate::new(
            client.clone(),
            self.writer.gate().clone(),
            &self.config.agent_namespace,
            &election.lease,
            identity(&election.replica),
            election.terms,
            Arc::clone(&self.reads_lease),
        );
        let stop = CancellationToken::new();
        let task = tokio::spawn(candidate.run(stop.clone()));
        Some(Election { stop, task })
    }

    /// Takes over each time that this process comes to lead, for ever.
    pub(super) async fn lead(self: Arc<Self>) {
        if !self.stores.wait_until_ready().await {
            // The watches have ended, so the program is ending.
            return std::future::pending().await;
        }
        let gate = self.writer.gate();
        loop {
            let term = gate.next_term().await;
            tokio::select! {
                () = self.take_over() => gate.enter(term),
                () = gate.term_is_over(term) => continue,
            }
            tracing::info!(term, "This process leads.");
            self.controller.wake_all();
            self.incidents.wake_all();
            // What is missing of the surroundings can be made now.
            self.controller.look_around().await;
            gate.term_is_over(term).await;
            tracing::info!(term, "This process leads no more.");
        }
    }

    /// Makes sure of what the first action rests on. Reads only.
    async fn take_over(&self) {
        let (client, namespace) = (self.writer.client(), self.config.namespace.as_deref());
        let mut is_failing = false;
        loop {
            match self.stores.catch_up(client, namespace).await {
                Ok(0) => break,
                Ok(lacking) => {
                    tracing::info!(lacking, "Some Incidents cannot be read, or are gone.");
                    break;
                }
                Err(error) => {
                    let error = chain(&error);
                    if !is_failing {
                        tracing::warn!(error, "The Incidents cannot be listed; nothing is done.");
                    }
                    is_failing = true;
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
        for _ in 0..DENY_TRIES {
            if self.controller.look_at_deny().await {
                return;
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// Whether there is an election and its Lease cannot be kept or read.
    pub(super) fn lacks_lease(&self) -> bool {
        let Duty::Controller(response) = &self.config.duty else {
            return false;
        };
        response.election.is_some() && !self.reads_lease.load(Ordering::Relaxed)
    }
}

/// Whether the Lease can be read; shared with the part that does.
pub(super) type ReadsLease = Arc<AtomicBool>;
