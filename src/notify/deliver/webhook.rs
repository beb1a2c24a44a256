//! Delivers each transition of each Incident to the webhook at least once, with a stable id.
//!
//! The pending transitions are computed from the Incidents. An accepted one is recorded in the Incident's status, and
//! only then forgotten here; a crash between the two repeats the delivery under the same id. After a failure the
//! webhook is left alone for a while, and then receives the Incident with the fewest attempts first, so that one
//! payload that it cannot process does not block the others. Transitions of one Incident keep their order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ApiResource;
use serde_json::json;
use tokio::time::Instant;

use super::context::{LEADER_RECHECK, Wakeups};
use super::{Context, Post, PostError, SecretError, Signer};
use crate::api::Incident;
use crate::cluster::{ApiError, FieldManager, Writer};
use crate::limits;
use crate::notify::payload::{Format, OccurredTransition, cloud_event, transitions_of};
use crate::observability::{DeliveryResult, chain};

/// How often to check for what only the clock changes.
const RECHECK: Duration = Duration::from_mins(1);

/// How often a notification is sent that the receiver rejects as invalid: the receiver may be the one that is wrong,
/// and be fixed.
const REJECTED_ATTEMPTS_MAX: u32 = 3;

/// The task of the webhook.
pub(crate) struct Webhook {
    /// Sends requests to it.
    pub post: Post,
    /// Signs the requests.
    pub signer: Signer,
    /// Format of the data in each CloudEvent.
    pub format: Format,
    /// Records deliveries in Incidents.
    pub writer: Writer,
    /// What all deliveries share.
    pub context: Context,
}

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    /// There is no signature.
    #[error("failed to sign a notification")]
    Sign(#[source] SecretError),
    /// The receiver did not accept it.
    #[error("failed to deliver a notification")]
    Post(#[source] PostError),
}

/// What the Incidents do not record. Each collection is bounded by [`limits::NOTIFICATIONS_MAX`].
#[derive(Default)]
struct State {
    /// Failed attempts by id.
    attempts: HashMap<String, u32>,
    /// Accepted, and not seen in the Incident's status yet; whether it was recorded there.
    accepted: HashMap<String, bool>,
    /// Not retried before the next start.
    dead: HashSet<String>,
    /// Failures in a row.
    failures: u32,
    paused_until: Option<Instant>,
}

/// A transition that is not delivered yet.
struct Pending {
    id: String,
    incident: Arc<Incident>,
    occurred: OccurredTransition,
}

impl Webhook {
    /// Runs until it is aborted.
    pub(crate) async fn run(self, mut wakeups: Wakeups) {
        if !self.context.stores.wait_until_ready().await {
            return;
        }
        if let Err(error) = self.signer.check().await {
            let error = chain(&error);
            tracing::error!(
                error,
                "The webhook receives nothing until its signing secret can be read."
            );
        }
        let mut state = State::default();
        loop {
            let next = self.deliver_pending(&mut state).await;
            if !wakeups.wait_until(next).await {
                return;
            }
        }
    }

    /// Delivers the pending transitions. Returns when to check again.
    async fn deliver_pending(&self, state: &mut State) -> Instant {
        if !self.context.is_leader() {
            return Instant::now() + LEADER_RECHECK;
        }
        let mut pending = self.pending(state);
        self.record_again(state, &pending).await;
        pending.retain(|one| !state.accepted.contains_key(&one.id));
        self.drop_expired(state, &mut pending);
        sort(&mut pending, &state.attempts);
        for one in &pending {
            let now = Instant::now();
            if let Some(until) = state.paused_until.filter(|until| *until > now) {
                return until;
            }
            if !self.context.is_leader() || state.accepted.len() >= limits::NOTIFICATIONS_MAX {
                return now + LEADER_RECHECK;
            }
            match self.deliver(one).await {
                Ok(()) => self.accepted(state, one).await,
                Err(error) => self.failed(state, one, &error),
            }
        }
        let now = Instant::now();
        let is_unrecorded = state.accepted.values().any(|is_recorded| !is_recorded);
        let is_open =
            |one: &Pending| !state.accepted.contains_key(&one.id) && !state.dead.contains(&one.id);
        match state.paused_until {
            Some(until) if pending.iter().any(is_open) => until,
            _ if is_unrecorded => now + self.context.timeouts.retry_min,
            _ => now + RECHECK,
        }
    }

    /// The transitions that are not delivered yet. Forgets what is known of Incidents that are gone.
    fn pending(&self, state: &mut State) -> Vec<Pending> {
        let now = Timestamp::now();
        let mut pending = Vec::new();
        for incident in self.context.incidents() {
            for occurred in transitions_of(&incident) {
                let age = now.duration_since(occurred.since);
                let id = occurred.id(&incident);
                // One that was attempted is dropped with a log line; one that was too old at the start is left out.
                let is_attempted = state.attempts.contains_key(&id);
                let is_expired = age > self.context.timeouts.age_max && !is_attempted;
                if occurred.is_notified(&incident) || is_expired {
                    continue;
                }
                pending.push(Pending {
                    id,
                    incident: Arc::clone(&incident),
                    occurred,
                });
            }
        }
        let ids: HashSet<&str> = pending.iter().map(|one| one.id.as_str()).collect();
        state.attempts.retain(|id, _| ids.contains(id.as_str()));
        state.accepted.retain(|id, _| ids.contains(id.as_str()));
        state.dead.retain(|id| ids.contains(id.as_str()));
        pending
    }

    /// Drops what is too old, and leaves out what was dropped before.
    fn drop_expired(&self, state: &mut State, pending: &mut Vec<Pending>) {
        let now = Timestamp::now();
        for one in pending.iter() {
            let age = now.duration_since(one.occurred.since);
            if age > self.context.timeouts.age_max && !state.dead.contains(&one.id) {
                self.dead_letter(state, one, "it is too old");
            }
        }
        pending.retain(|one| !state.dead.contains(&one.id));
    }

    async fn deliver(&self, one: &Pending) -> Result<(), DeliveryError> {
        let event = cloud_event(
            &one.incident,
            &one.occurred,
            &self.context.origin,
            self.format,
        );
        let body = event.to_string().into_bytes();
        let second = Timestamp::now().as_second();
        let headers = self.signer.headers(&one.id, second, &body).await;
        let headers = headers.map_err(DeliveryError::Sign)?;
        let content_type = "application/cloudevents+json; charset=utf-8";
        let timeout = self.context.timeouts.request;
        self.post
            .send(content_type, headers, body, timeout)
            .await
            .map_err(DeliveryError::Post)
    }

    async fn accepted(&self, state: &mut State, one: &Pending) {
        let counters = &self.context.counters.webhook;
        counters.count(DeliveryResult::Sent);
        if state.failures > 0 {
            let host = self.post.host();
            tracing::info!(host, "The webhook accepts notifications again.");
        }
        state.failures = 0;
        state.attempts.remove(&one.id);
        tracing::debug!(id = one.id, "The webhook accepted a notification.");
        let is_recorded = self.record(one).await;
        state.accepted.insert(one.id.clone(), is_recorded);
    }

    fn failed(&self, state: &mut State, one: &Pending, error: &DeliveryError) {
        let counters = &self.context.counters.webhook;
        counters.count(DeliveryResult::Failed);
        let (retry_after, is_final) = match error {
            DeliveryError::Post(error) => (error.retry_after(), error.is_final()),
            DeliveryError::Sign(_) => (None, false),
        };
        let attempts = state.attempts.get(&one.id).copied().unwrap_or(0);
        let attempts = attempts.saturating_add(1);
        if state.failures == 0 {
            let (host, error) = (self.post.host(), chain(error));
            tracing::warn!(
                host,
                id = one.id,
                error,
                "Failed to deliver a notification to the webhook; retrying."
            );
        }
        state.failures = state.failures.saturating_add(1);
        let wait = self.context.timeouts.backoff(state.failures, retry_after);
        state.paused_until = Some(Instant::now() + wait);
        if is_final && attempts >= REJECTED_ATTEMPTS_MAX {
            self.dead_letter(state, one, &chain(error));
        } else if state.attempts.len() < limits::NOTIFICATIONS_MAX {
            state.attempts.insert(one.id.clone(), attempts);
        }
    }

    fn dead_letter(&self, state: &mut State, one: &Pending, why: &str) {
        let counters = &self.context.counters.webhook;
        counters.count(DeliveryResult::DeadLettered);
        tracing::error!(
            id = one.id,
            host = self.post.host(),
            why,
            "Dropped a notification; its content is in the Incident."
        );
        if state.dead.len() < limits::NOTIFICATIONS_MAX {
            state.dead.insert(one.id.clone());
        }
    }

    /// Records accepted deliveries that could not be recorded before.
    async fn record_again(&self, state: &mut State, pending: &[Pending]) {
        for one in pending {
            if let Some(is_recorded) = state.accepted.get_mut(&one.id)
                && !*is_recorded
            {
                *is_recorded = self.record(one).await;
            }
        }
    }

    /// Records the delivery in the Incident's status. The patch sets one key of a map, so it does not conflict with
    /// what the responder writes at the same time.
    async fn record(&self, one: &Pending) -> bool {
        let meta = &one.incident.metadata;
        let patch = json!({
            "metadata": { "uid": meta.uid },
            "status": { "notified": { (one.occurred.notified_key()): Time(one.occurred.since) } },
        });
        let namespace = meta.namespace.as_deref().unwrap_or_default();
        let name = meta.name.as_deref().unwrap_or_default();
        let resource = ApiResource::erase::<Incident>(&());
        let manager = FieldManager::notifier();
        let written = self
            .writer
            .status_dynamic(&manager, &resource, namespace, name, &patch)
            .await;
        match written {
            // The Incident is gone, or another one has its name: there is nothing to record.
            Ok(_) | Err(ApiError::NotFound(_) | ApiError::Conflict(_)) => true,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(
                    id = one.id,
                    error,
                    "Delivered, but the delivery record is not stored yet; retrying."
                );
                false
            }
        }
    }
}

/// Sorts by the attempts of the Incident, fewest first, and then by the time of the transition.
fn sort(pending: &mut [Pending], attempts: &HashMap<String, u32>) {
    let mut of_incident: HashMap<String, u32> = HashMap::new();
    let uid = |one: &Pending| one.incident.metadata.uid.clone().unwrap_or_default();
    for one in pending.iter() {
        let count = attempts.get(&one.id).copied().unwrap_or(0);
        *of_incident.entry(uid(one)).or_default() += count;
    }
    // Stable: transitions of one second keep their order.
    pending.sort_by_key(|one| {
        (
            of_incident.get(&uid(one)).copied(),
            one.occurred.since.as_second(),
        )
    });
}
