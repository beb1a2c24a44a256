//! Writes Events about transitions that are new. Best effort: what cannot be written in ten minutes
//! is left out, and the Incident says it all the same.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::notify::payload::{EventText, incident_events, passed, run_events};
use crate::notify::{Gate, Notifier, NotifyCounters};
use crate::cluster::{EventNote, Events, Pacer, Stores, WriteError};
use crate::limits;
use crate::observability::chain;

const RECHECK: Duration = Duration::from_secs(30);
const GATE_RECHECK: Duration = Duration::from_secs(1);

/// The task that writes Events.
pub(in crate::notify) struct Teller {
    stores: Stores,
    events: Events,
    pacer: Pacer,
    gate: Gate,
    counters: Arc<NotifyCounters>,
    /// What was written, by id and object.
    said: HashSet<String>,
}

impl Teller {
    pub(in crate::notify) fn new(notifier: &Notifier) -> Self {
        Self {
            stores: notifier.stores.clone(),
            events: Events::new(notifier.writer.clone(), &notifier.instance),
            pacer: Pacer::new(limits::EVENTS_PER_SECOND),
            gate: Arc::clone(&notifier.gate),
            counters: Arc::clone(&notifier.counters),
            said: HashSet::new(),
        }
    }

    pub(in crate::notify) async fn run(mut self, mut bell: watch::Receiver<()>) {
        if !self.stores.wait_until_ready().await {
            return;
        }
        loop {
            let next = self.round().await;
            tokio::select! {
                rung = bell.changed() => if rung.is_err() { return },
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Writes what is new; returns when to look again.
    async fn round(&mut self) -> Instant {
        let waiting = self.waiting();
        let mut next = Instant::now() + RECHECK;
        for (key, event) in waiting {
            if !(self.gate)() {
                return Instant::now() + GATE_RECHECK;
            }
            let wait = self.pacer.take(std::time::Instant::now());
            tokio::time::sleep(wait).await;
            match self.events.publish(&note(&event), Timestamp::now()).await {
                Ok(()) => {
                    self.counters.events.sent.fetch_add(1, Ordering::Relaxed);
                    self.remember(key);
                }
                Err(error) => {
                    self.counters.events.failed.fetch_add(1, Ordering::Relaxed);
                    if matches!(error, WriteError::Refused(_)) {
                        // A namespace on its way out, or a role without this right.
                        self.counters
                            .events
                            .dead_lettered
                            .fetch_add(1, Ordering::Relaxed);
                        self.remember(key);
                    }
                    let (reason, error) = (event.reason.name(), chain(&error));
                    tracing::debug!(reason, error, "An Event is not written.");
                    next = Instant::now() + GATE_RECHECK;
                }
            }
        }
        next
    }

    fn remember(&mut self, key: String) {
        if self.said.len() >= limits::EVENTS_SAID_MAX {
            self.said.clear();
        }
        self.said.insert(key);
    }

    /// What happened lately and was not written, the oldest first.
    fn waiting(&self) -> Vec<(String, EventText)> {
        let age_max = SignedDuration::from_secs(limits::EVENT_AGE_MAX_S);
        let oldest = Timestamp::now()
            .checked_sub(age_max)
            .unwrap_or(Timestamp::MIN);
        let incidents = self.stores.incidents.state();
        let of_incidents = incidents.iter().flat_map(|incident| {
            let passed = passed(incident).into_iter();
            let lately = passed.filter(|passed| passed.since >= oldest);
            lately.flat_map(|passed| incident_events(incident, &passed))
        });
        let runs = self.stores.runs.state();
        let of_runs = runs.iter().flat_map(|run| run_events(run));
        let mut waiting: Vec<(String, EventText)> = of_incidents
            .chain(of_runs.filter(|event| event.since >= oldest))
            .map(|event| (key(&event), event))
            .filter(|(key, _)| !self.said.contains(key))
            .collect();
        waiting.sort_by_key(|(_, event)| event.since);
        waiting
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
