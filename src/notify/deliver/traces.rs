//! Sends the spans of Incidents to an OpenTelemetry collector, as OTLP over HTTP in JSON.
//!
//! Best effort: spans that cannot be sent within ten minutes are dropped. Sent spans are remembered by id, and not over
//! restarts; a span that is sent twice has the same id.

use std::collections::HashSet;
use std::time::Duration;

use tokio::time::Instant;

use super::context::{LEADER_RECHECK, Wakeups, oldest_event};
use super::{Context, Post};
use crate::limits;
use crate::notify::payload::{Span, spans, spans_request};
use crate::observability::{DeliveryResult, chain};

const RECHECK: Duration = Duration::from_mins(1);

/// The task of the collector.
pub(crate) struct Traces {
    /// Sends requests to it.
    pub post: Post,
    /// What all deliveries share.
    pub context: Context,
}

#[derive(Default)]
struct State {
    sent: HashSet<String>,
    failures: u32,
    paused_until: Option<Instant>,
}

impl Traces {
    /// Runs until it is aborted.
    pub(crate) async fn run(self, mut wakeups: Wakeups) {
        if !self.context.stores.wait_until_ready().await {
            return;
        }
        let mut state = State::default();
        loop {
            let next = self.send_pending(&mut state).await;
            if !wakeups.wait_until(next).await {
                return;
            }
        }
    }

    /// Sends the pending spans. Returns when to check again.
    async fn send_pending(&self, state: &mut State) -> Instant {
        let now = Instant::now();
        if !self.context.is_leader() {
            return now + LEADER_RECHECK;
        }
        if let Some(until) = state.paused_until.filter(|until| *until > now) {
            return until;
        }
        let timeouts = &self.context.timeouts;
        let counters = &self.context.counters.otlp;
        let pending = self.pending(state);
        for batch in pending.chunks(limits::SPANS_PER_POST) {
            let request = spans_request(batch, &self.context.origin);
            let body = request.to_string().into_bytes();
            let sent = self
                .post
                .send("application/json", Vec::new(), body, timeouts.request)
                .await;
            if let Err(error) = sent {
                counters.count(DeliveryResult::Failed);
                state.failures = state.failures.saturating_add(1);
                if state.failures == 1 {
                    let (host, error) = (self.post.host(), chain(&error));
                    tracing::warn!(
                        host,
                        error,
                        "Failed to send spans to the collector; retrying."
                    );
                }
                let wait = timeouts.backoff(state.failures, error.retry_after());
                let until = Instant::now() + wait;
                state.paused_until = Some(until);
                return until;
            }
            counters.count(DeliveryResult::Sent);
            state.failures = 0;
            if state.sent.len() + batch.len() > limits::SPANS_SENT_MAX {
                state.sent.clear();
            }
            state.sent.extend(batch.iter().map(|span| span.id.clone()));
        }
        Instant::now() + RECHECK
    }

    /// Spans of Incidents with recent activity that were not sent yet.
    fn pending(&self, state: &State) -> Vec<Span> {
        let oldest = oldest_event();
        let incidents = self.context.incidents();
        let spans = incidents.iter().flat_map(|incident| {
            let spans = spans(incident);
            // The evidence is older than the Incident, so all spans are sent with the newest one.
            let is_recent = spans.iter().any(|span| span.end >= oldest);
            if is_recent { spans } else { Vec::new() }
        });
        spans
            .filter(|span| !state.sent.contains(&span.id))
            .collect()
    }
}
