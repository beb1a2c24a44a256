//! Sends the spans of Incidents to an OpenTelemetry collector, as OTLP over HTTP in JSON.
//!
//! Best effort, as telemetry is: what could not be sent in ten minutes is left out. What was sent is
//! remembered by id and not over restarts; a span that is sent twice is the same span.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Post, Times};
use crate::limits;
use crate::notify::payload::{Origin, Span, level_of, spans, spans_request};
use crate::notify::{Gate, Incidents, NotifyCounters};
use crate::observability::chain;

const GATE_RECHECK: Duration = Duration::from_secs(1);
const IDLE_RECHECK: Duration = Duration::from_mins(1);

/// The task of the collector.
pub struct Traces {
    /// Where it is.
    pub post: Post,
    /// The Incidents.
    pub incidents: Incidents,
    /// Which cluster this is.
    pub origin: Origin,
    /// The weakest finding that is told.
    pub level_min: crate::model::Severity,
    /// Whether this process tells.
    pub gate: Gate,
    /// What became of it.
    pub counters: Arc<NotifyCounters>,
    /// Time limits.
    pub times: Times,
}

#[derive(Default)]
struct State {
    sent: HashSet<String>,
    failures: u32,
    paused_until: Option<Instant>,
}

impl Traces {
    /// Runs for ever.
    pub async fn run(self, mut bell: watch::Receiver<()>) {
        if !self.incidents.are_there().await {
            return;
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

    async fn round(&self, state: &mut State) -> Instant {
        let now = Instant::now();
        if !(self.gate)() {
            return now + GATE_RECHECK;
        }
        if let Some(until) = state.paused_until.filter(|until| *until > now) {
            return until;
        }
        let waiting = self.waiting(state);
        for batch in waiting.chunks(limits::SPANS_PER_POST) {
            let body = spans_request(batch, &self.origin).to_string().into_bytes();
            let sent = self
                .post
                .send("application/json", Vec::new(), body, self.times.timeout)
                .await;
            if let Err(error) = sent {
                self.counters.otlp.failed.fetch_add(1, Ordering::Relaxed);
                state.failures = state.failures.saturating_add(1);
                if state.failures == 1 {
                    let (host, error) = (self.post.host(), chain(&error));
                    tracing::warn!(
                        host,
                        error,
                        "A collector takes no spans; it is tried again."
                    );
                }
                let wait = self.times.wait(state.failures, error.retry_after());
                let until = Instant::now() + wait;
                state.paused_until = Some(until);
                return until;
            }
            self.counters.otlp.sent.fetch_add(1, Ordering::Relaxed);
            state.failures = 0;
            if state.sent.len() + batch.len() > limits::SPANS_SENT_MAX {
                state.sent.clear();
            }
            state.sent.extend(batch.iter().map(|span| span.id.clone()));
        }
        Instant::now() + IDLE_RECHECK
    }

    /// Spans of what went on lately that were not sent.
    fn waiting(&self, state: &State) -> Vec<Span> {
        let age_max = SignedDuration::from_secs(limits::EVENT_AGE_MAX_S);
        let oldest = Timestamp::now()
            .checked_sub(age_max)
            .unwrap_or(Timestamp::MIN);
        let incidents = self.incidents.store().state();
        let told = incidents
            .iter()
            .filter(|incident| level_of(incident) >= self.level_min);
        let spans = told.flat_map(|incident| {
            let spans = spans(incident);
            // The evidence is older than the Incident: the whole way goes with its newest part.
            let is_recent = spans.iter().any(|span| span.end >= oldest);
            if is_recent { spans } else { Vec::new() }
        });
        spans
            .filter(|span| !state.sent.contains(&span.id))
            .collect()
    }
}
