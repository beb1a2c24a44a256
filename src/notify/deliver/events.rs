//! Writes Kubernetes Events about new transitions. Best effort: an Event that cannot be written within ten minutes is
//! dropped. The Incident keeps the record.

use std::collections::HashSet;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Context;
use super::context::{LEADER_RECHECK, Wakeups, oldest_event};
use crate::cluster::{ApiError, EventNote, Events, RateLimiter, Writer};
use crate::limits;
use crate::notify::payload::{EventText, incident_events, run_events, transitions_of};
use crate::observability::{DeliveryResult, chain};

const RECHECK: Duration = Duration::from_secs(30);

/// The task that writes Events.
pub(crate) struct EventWriter {
    context: Context,
    events: Events,
    limiter: RateLimiter,
    /// Events that were written, by id and kind of object.
    written: HashSet<String>,
}

impl EventWriter {
    pub(in crate::notify) fn new(context: Context, writer: Writer, instance: &str) -> Self {
        Self {
            context,
            events: Events::new(writer, instance),
            limiter: RateLimiter::new(limits::EVENTS_PER_SECOND),
            written: HashSet::new(),
        }
    }

    pub(in crate::notify) async fn run(mut self, mut wakeups: Wakeups) {
        if !self.context.stores.wait_until_ready().await {
            return;
        }
        loop {
            let next = self.write_pending().await;
            if !wakeups.wait_until(next).await {
                return;
            }
        }
    }

    /// Writes the pending Events. Returns when to check again.
    async fn write_pending(&mut self) -> Instant {
        let pending = self.pending();
        let mut next = Instant::now() + RECHECK;
        for (key, event) in pending {
            if !self.context.is_leader() {
                return Instant::now() + LEADER_RECHECK;
            }
            let wait = self.limiter.reserve(std::time::Instant::now());
            tokio::time::sleep(wait).await;
            let counters = &self.context.counters.events;
            match self.events.publish(&note(&event), Timestamp::now()).await {
                Ok(()) => {
                    counters.count(DeliveryResult::Sent);
                    self.remember(key);
                }
                Err(error) => {
                    counters.count(DeliveryResult::Failed);
                    if matches!(error, ApiError::Refused(_)) {
                        // The namespace is being deleted, or the role lacks the permission.
                        counters.count(DeliveryResult::DeadLettered);
                        self.remember(key);
                    }
                    let (reason, error) = (event.reason.name(), chain(&error));
                    tracing::debug!(reason, error, "Failed to write an Event.");
                    next = Instant::now() + LEADER_RECHECK;
                }
            }
        }
        next
    }

    fn remember(&mut self, key: String) {
        if self.written.len() >= limits::EVENTS_WRITTEN_MAX {
            self.written.clear();
        }
        self.written.insert(key);
    }

    /// The recent Events that were not written yet, oldest first.
    fn pending(&self) -> Vec<(String, EventText)> {
        let oldest = oldest_event();
        let incidents = self.context.stores.incidents.state();
        let of_incidents = incidents.iter().flat_map(|incident| {
            let transitions = transitions_of(incident).into_iter();
            let recent = transitions.filter(|occurred| occurred.since >= oldest);
            recent.flat_map(|occurred| incident_events(incident, &occurred))
        });
        let runs = self.context.stores.runs.state();
        let of_runs = runs.iter().flat_map(|run| run_events(run));
        let mut pending: Vec<(String, EventText)> = of_incidents
            .chain(of_runs.filter(|event| event.since >= oldest))
            .map(|event| (key(&event), event))
            .filter(|(key, _)| !self.written.contains(key))
            .collect();
        pending.sort_by_key(|(_, event)| event.since);
        pending
    }
}

fn key(event: &EventText) -> String {
    let kind = event.regarding.kind.as_deref().unwrap_or_default();
    format!("{} {kind}", event.id)
}

fn note(event: &EventText) -> EventNote {
    EventNote {
        id: event.id.clone(),
        regarding: event.regarding.clone(),
        related: event.related.clone(),
        reason: event.reason.name(),
        action: event.reason.action(),
        note: event.note.clone(),
        is_warning: event.reason.is_warning(),
    }
}
