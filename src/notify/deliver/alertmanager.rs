//! Keeps one Alertmanager told: sends what holds as soon as it changes, and again every minute.
//!
//! An Alertmanager holds state, not messages, so nothing is remembered over restarts: the next post
//! says all there is. An Incident that is closed is sent as resolved for a quarter of an hour.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Post, PostError, Times};
use crate::limits;
use crate::model::Severity;
use crate::notify::payload::{Alert, Origin, alerts};
use crate::notify::{Gate, Incidents, NotifyCounters};
use crate::observability::chain;

/// How soon a process that does not lead looks whether it does.
const GATE_RECHECK: Duration = Duration::from_secs(1);

/// The task of one Alertmanager.
pub struct Alertmanager {
    /// Where it is.
    pub post: Post,
    /// The Incidents.
    pub incidents: Incidents,
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

/// What it was told, and how that went.
#[derive(Default)]
struct Told {
    /// Without the times that change by themselves.
    alerts: Vec<Alert>,
    failures: u32,
    /// When to send again, whether or not something changed.
    due: Option<Instant>,
    /// Not before this, even if something changed.
    paused_until: Option<Instant>,
}

impl Alertmanager {
    /// Runs for ever.
    pub async fn run(self, mut bell: watch::Receiver<()>) {
        if !self.incidents.are_there().await {
            return;
        }
        let mut told = Told::default();
        loop {
            let next = self.round(&mut told).await;
            tokio::select! {
                rung = bell.changed() => if rung.is_err() { return },
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    /// Sends if something is new or due; returns when to look again.
    async fn round(&self, told: &mut Told) -> Instant {
        let now = Instant::now();
        if !(self.gate)() {
            *told = Told::default();
            return now + GATE_RECHECK;
        }
        if let Some(until) = told.paused_until.filter(|until| *until > now) {
            return until;
        }
        let incidents = self.incidents.store().state();
        let incidents = incidents.iter().map(AsRef::as_ref);
        let current = alerts(incidents, &self.origin, self.level_min, Timestamp::now());
        let lasting = lasting(&current);
        let is_due = told.due.is_some_and(|due| due <= now);
        let is_new = lasting != told.alerts;
        let after = now + self.times.resend;
        if current.is_empty() || !(is_new || is_due) {
            told.alerts = lasting;
            return told.due.filter(|due| *due > now).unwrap_or(after);
        }
        match self.send(&current).await {
            Ok(()) => {
                if told.failures > 0 {
                    tracing::info!(
                        host = self.post.host(),
                        "An Alertmanager takes alerts again."
                    );
                }
                *told = Told {
                    alerts: lasting,
                    due: Some(after),
                    ..Told::default()
                };
                after
            }
            Err(error) => {
                self.counters
                    .alertmanager
                    .failed
                    .fetch_add(1, Ordering::Relaxed);
                told.failures = told.failures.saturating_add(1);
                if told.failures == 1 {
                    let (host, error) = (self.post.host(), chain(&error));
                    tracing::warn!(
                        host,
                        error,
                        "An Alertmanager is not told; it is tried again."
                    );
                }
                let wait = self.times.wait(told.failures, error.retry_after());
                // Never longer than alerts are sent anyway: what it missed is what holds now.
                let until = Instant::now() + wait.min(self.times.resend);
                told.paused_until = Some(until);
                told.due = Some(until);
                until
            }
        }
    }

    async fn send(&self, alerts: &[Alert]) -> Result<(), PostError> {
        for batch in alerts.chunks(limits::ALERTS_PER_POST) {
            let body = serde_json::to_vec(batch).unwrap_or_default();
            let limit = self.times.timeout;
            self.post
                .send("application/json", Vec::new(), body, limit)
                .await?;
            self.counters
                .alertmanager
                .sent
                .fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// The alerts without the end of those that hold, which moves with the clock.
fn lasting(alerts: &[Alert]) -> Vec<Alert> {
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
