//! Sends alerts to one Alertmanager: at once when they change, and again every minute.
//!
//! Alertmanager keeps state and not messages, so nothing is remembered over restarts: each request carries all current
//! alerts. A closed Incident is sent as resolved for 15 minutes.

use jiff::Timestamp;
use tokio::time::Instant;

use super::context::{LEADER_RECHECK, Wakeups};
use super::{Context, Post, PostError};
use crate::limits;
use crate::notify::payload::{Alert, alerts};
use crate::observability::{DeliveryResult, chain};

/// The task of one Alertmanager.
pub(crate) struct Alertmanager {
    /// Sends requests to it.
    pub post: Post,
    /// What all deliveries share.
    pub context: Context,
}

/// The last request, and its result.
#[derive(Default)]
struct State {
    /// Without the end times that move with the clock.
    sent: Vec<Alert>,
    failures: u32,
    /// When to send again, whether or not something changed.
    due: Option<Instant>,
    /// The earliest time of the next request, even if something changed.
    paused_until: Option<Instant>,
}

impl Alertmanager {
    /// Runs until it is aborted.
    pub(crate) async fn run(self, mut wakeups: Wakeups) {
        if !self.context.stores.wait_until_ready().await {
            return;
        }
        let mut state = State::default();
        loop {
            let next = self.send_if_due(&mut state).await;
            if !wakeups.wait_until(next).await {
                return;
            }
        }
    }

    /// Sends the alerts if they changed or are due. Returns when to check again.
    async fn send_if_due(&self, state: &mut State) -> Instant {
        let now = Instant::now();
        if !self.context.is_leader() {
            *state = State::default();
            return now + LEADER_RECHECK;
        }
        if let Some(until) = state.paused_until.filter(|until| *until > now) {
            return until;
        }
        let incidents = self.context.incidents();
        let incidents = incidents.iter().map(AsRef::as_ref);
        let current = alerts(incidents, &self.context.origin, Timestamp::now());
        let comparable = without_moving_ends(&current);
        let is_due = state.due.is_some_and(|due| due <= now);
        let is_changed = comparable != state.sent;
        let resend = self.context.timeouts.resend;
        let after = now + resend;
        if current.is_empty() || !(is_changed || is_due) {
            state.sent = comparable;
            return state.due.filter(|due| *due > now).unwrap_or(after);
        }
        match self.send(&current).await {
            Ok(()) => {
                if state.failures > 0 {
                    let host = self.post.host();
                    tracing::info!(host, "Alertmanager accepts alerts again.");
                }
                *state = State {
                    sent: comparable,
                    due: Some(after),
                    ..State::default()
                };
                after
            }
            Err(error) => {
                let counters = &self.context.counters.alertmanager;
                counters.count(DeliveryResult::Failed);
                state.failures = state.failures.saturating_add(1);
                if state.failures == 1 {
                    let (host, error) = (self.post.host(), chain(&error));
                    tracing::warn!(
                        host,
                        error,
                        "Failed to send alerts to Alertmanager; retrying."
                    );
                }
                let retry_after = error.retry_after();
                let wait = self.context.timeouts.backoff(state.failures, retry_after);
                // Alerts are sent every `resend` in any case.
                let until = Instant::now() + wait.min(resend);
                state.paused_until = Some(until);
                state.due = Some(until);
                until
            }
        }
    }

    async fn send(&self, alerts: &[Alert]) -> Result<(), PostError> {
        for batch in alerts.chunks(limits::ALERTS_PER_POST) {
            let body = serde_json::to_vec(batch).unwrap_or_default();
            let timeout = self.context.timeouts.request;
            self.post
                .send("application/json", Vec::new(), body, timeout)
                .await?;
            let counters = &self.context.counters.alertmanager;
            counters.count(DeliveryResult::Sent);
        }
        Ok(())
    }
}

/// The alerts without the end times of open ones, which move with the clock.
fn without_moving_ends(alerts: &[Alert]) -> Vec<Alert> {
    let now = Timestamp::now();
    let cut = |alert: &Alert| Alert {
        ends_at: if alert.ends_at > now {
            Timestamp::MAX
        } else {
            alert.ends_at
        },
        ..alert.clone()
    };
    alerts.iter().map(cut).collect()
}
