//! Keeps the webhook told: each transition of each Incident at least once, with an id that stays.
//!
//! What waits is read from the Incidents. What was accepted is noted in the Incident's status, and
//! only then forgotten here; a crash between the two repeats a delivery under the same id. A receiver
//! that fails is left alone for a while, and then gets first the Incident that was tried least, so that
//! one that it chokes on does not hold up the rest. Transitions of one Incident keep their order.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::ApiResource;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Post, PostError, SecretError, Signer, Times};
use crate::api::Incident;
use crate::cluster::{FieldManager, WriteError, Writer};
use crate::limits;
use crate::model::Severity;
use crate::notify::payload::{
    Format, Origin, Passed, cloud_event, level_of, passed, told_name, was_told,
};
use crate::notify::{Gate, Incidents, NotifyCounters};
use crate::observability::chain;

const GATE_RECHECK: Duration = Duration::from_secs(1);

/// How soon something is looked at again that only a clock can change.
const IDLE_RECHECK: Duration = Duration::from_mins(1);

/// How often what the receiver refuses is tried: it may be the one that is wrong, and mended.
const FINAL_TRIES: u32 = 3;

/// The task of the webhook.
pub struct Webhook {
    /// Where it is.
    pub post: Post,
    /// Signs what is sent.
    pub signer: Signer,
    /// What the data of an event is.
    pub format: Format,
    /// The Incidents.
    pub incidents: Incidents,
    /// Notes in Incidents what was told.
    pub writer: Writer,
    /// Which cluster this is.
    pub origin: Origin,
    /// The weakest finding that is told.
    pub level_min: Severity,
    /// Whether this process tells.
    pub gate: Gate,
    /// What became of it.
    pub counters: Arc<NotifyCounters>,
    /// Time limits.
    pub times: Times,
}

/// Why a delivery failed.
#[derive(Debug, thiserror::Error)]
enum DeliveryError {
    /// There is no signature.
    #[error("failed to sign a notification")]
    Sign(#[source] SecretError),
    /// The receiver did not take it.
    #[error("failed to deliver a notification")]
    Post(#[source] PostError),
}

/// What is known about notifications beyond what Incidents say. Each is bounded by
/// [`limits::NOTIFICATIONS_MAX`].
#[derive(Default)]
struct State {
    /// Failed tries by id.
    tries: HashMap<String, u32>,
    /// Accepted, and not seen in the Incident's status yet; whether it was written there.
    accepted: HashMap<String, bool>,
    /// Given up, until the next start.
    dead: HashSet<String>,
    /// Failures in a row.
    failures: u32,
    paused_until: Option<Instant>,
}

struct Waiting {
    id: String,
    incident: Arc<Incident>,
    passed: Passed,
}

impl Webhook {
    /// Runs for ever.
    pub async fn run(self, mut bell: watch::Receiver<()>) {
        if !self.incidents.are_there().await {
            return;
        }
        if let Err(error) = self.signer.check().await {
            let error = chain(&error);
            tracing::error!(
                error,
                "The webhook is told nothing until its secret is there."
            );
        }
        let mut state = State::default();
        loop {
            let next = self.round(&mut state).await;
            tokio::select! {
                rung = bell.changed() => if rung.is_err() { return },
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Delivers what waits; returns when to look again.
    async fn round(&self, state: &mut State) -> Instant {
        if !(self.gate)() {
            return Instant::now() + GATE_RECHECK;
        }
        let mut waiting = self.waiting(state);
        self.mark_again(state, &waiting).await;
        waiting.retain(|one| !state.accepted.contains_key(&one.id));
        self.bury(state, &mut waiting);
        sort(&mut waiting, &state.tries);
        for one in &waiting {
            let now = Instant::now();
            if let Some(until) = state.paused_until.filter(|until| *until > now) {
                return until;
            }
            if !(self.gate)() || state.accepted.len() >= limits::NOTIFICATIONS_MAX {
                return now + GATE_RECHECK;
            }
            match self.deliver(one).await {
                Ok(()) => self.accepted(state, one).await,
                Err(error) => self.failed(state, one, &error),
            }
        }
        let now = Instant::now();
        let is_unmarked = state.accepted.values().any(|is_marked| !is_marked);
        let is_open =
            |one: &Waiting| !state.accepted.contains_key(&one.id) && !state.dead.contains(&one.id);
        match state.paused_until {
            Some(until) if waiting.iter().any(is_open) => until,
            _ if is_unmarked => now + self.times.retry_min,
            _ => now + IDLE_RECHECK,
        }
    }

    /// What Incidents say that was not told yet. Forgets what is known of Incidents that are gone.
    fn waiting(&self, state: &mut State) -> Vec<Waiting> {
        let now = Timestamp::now();
        let mut waiting = Vec::new();
        for incident in self.incidents.store().state() {
            if level_of(&incident) < self.level_min {
                continue;
            }
            for passed in passed(&incident) {
                let age = now.duration_since(passed.since);
                let id = passed.id(&incident);
                // What was tried is buried with a word; what is old and was not, is old.
                let is_known = state.tries.contains_key(&id);
                if was_told(&incident, &passed) || (age > self.times.age_max && !is_known) {
                    continue;
                }
                waiting.push(Waiting {
                    id,
                    incident: Arc::clone(&incident),
                    passed,
                });
            }
        }
        let ids: HashSet<&str> = waiting.iter().map(|one| one.id.as_str()).collect();
        state.tries.retain(|id, _| ids.contains(id.as_str()));
        state.accepted.retain(|id, _| ids.contains(id.as_str()));
        state.dead.retain(|id| ids.contains(id.as_str()));
        waiting
    }

    /// Gives up what is too old, and leaves out what was given up before.
    fn bury(&self, state: &mut State, waiting: &mut Vec<Waiting>) {
        let now = Timestamp::now();
        for one in waiting.iter() {
            let age = now.duration_since(one.passed.since);
            if age > self.times.age_max && !state.dead.contains(&one.id) {
                self.give_up(state, one, "it is too old");
            }
        }
        waiting.retain(|one| !state.dead.contains(&one.id));
    }

    async fn deliver(&self, one: &Waiting) -> Result<(), DeliveryError> {
        let event = cloud_event(&one.incident, &one.passed, &self.origin, self.format);
        let body = event.to_string().into_bytes();
        let second = Timestamp::now().as_second();
        let headers = self.signer.headers(&one.id, second, &body).await;
        let headers = headers.map_err(DeliveryError::Sign)?;
        let content_type = "application/cloudevents+json; charset=utf-8";
        self.post
            .send(content_type, headers, body, self.times.timeout)
            .await
            .map_err(DeliveryError::Post)
    }

    async fn accepted(&self, state: &mut State, one: &Waiting) {
        self.counters.webhook.sent.fetch_add(1, Ordering::Relaxed);
        if state.failures > 0 {
            tracing::info!(
                host = self.post.host(),
                "The webhook takes notifications again."
            );
        }
        state.failures = 0;
        state.tries.remove(&one.id);
        tracing::debug!(id = one.id, "The webhook was told.");
        let is_marked = self.mark(one).await;
        state.accepted.insert(one.id.clone(), is_marked);
    }

    fn failed(&self, state: &mut State, one: &Waiting, error: &DeliveryError) {
        self.counters.webhook.failed.fetch_add(1, Ordering::Relaxed);
        let (asked_for, is_final) = match error {
            DeliveryError::Post(error) => (error.retry_after(), error.is_final()),
            DeliveryError::Sign(_) => (None, false),
        };
        let tries = state.tries.get(&one.id).copied().unwrap_or(0);
        let tries = tries.saturating_add(1);
        if state.failures == 0 {
            let (host, error) = (self.post.host(), chain(error));
            tracing::warn!(
                host,
                id = one.id,
                error,
                "The webhook is not told; it is tried again."
            );
        }
        state.failures = state.failures.saturating_add(1);
        let wait = self.times.wait(state.failures, asked_for);
        state.paused_until = Some(Instant::now() + wait);
        if is_final && tries >= FINAL_TRIES {
            self.give_up(state, one, &chain(error));
        } else if state.tries.len() < limits::NOTIFICATIONS_MAX {
            state.tries.insert(one.id.clone(), tries);
        }
    }

    fn give_up(&self, state: &mut State, one: &Waiting, why: &str) {
        self.counters
            .webhook
            .dead_lettered
            .fetch_add(1, Ordering::Relaxed);
        tracing::error!(
            id = one.id,
            host = self.post.host(),
            why,
            "A notification is given up; its Incident says what it would have said."
        );
        if state.dead.len() < limits::NOTIFICATIONS_MAX {
            state.dead.insert(one.id.clone());
        }
    }

    /// Notes what was accepted and could not be noted so far.
    async fn mark_again(&self, state: &mut State, waiting: &[Waiting]) {
        for one in waiting {
            if let Some(is_marked) = state.accepted.get_mut(&one.id)
                && !*is_marked
            {
                *is_marked = self.mark(one).await;
            }
        }
    }

    /// Notes in the Incident that this was told. One key of a map, so that it takes nothing from
    /// what the responder writes at the same time.
    async fn mark(&self, one: &Waiting) -> bool {
        let meta = &one.incident.metadata;
        let patch = json!({
            "metadata": { "uid": meta.uid },
            "status": { "notified": { (told_name(one.passed.transition)): Time(one.passed.since) } },
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
            // Gone, or another one of its name: there is nothing to note.
            Ok(_) | Err(WriteError::NotFound(_) | WriteError::Conflict(_)) => true,
            Err(error) => {
                let error = chain(&error);
                tracing::warn!(id = one.id, error, "What was told is not noted yet.");
                false
            }
        }
    }
}

/// The least tried Incident first, and of each the oldest transition.
fn sort(waiting: &mut [Waiting], tries: &HashMap<String, u32>) {
    let mut of_incident: HashMap<String, u32> = HashMap::new();
    let uid = |one: &Waiting| one.incident.metadata.uid.clone().unwrap_or_default();
    for one in waiting.iter() {
        let count = tries.get(&one.id).copied().unwrap_or(0);
        *of_incident.entry(uid(one)).or_default() += count;
    }
    // Stable: what was seen in one second keeps the order in which it is told.
    waiting.sort_by_key(|one| {
        (
            of_incident.get(&uid(one)).copied(),
            one.passed.since.as_second(),
        )
    });
}
