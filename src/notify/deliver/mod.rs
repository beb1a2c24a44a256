//! Delivers what `payload` builds: writes Events, and posts to Alertmanagers, a webhook and a collector of traces,
//! with retries, timeouts and counters.
//!
//! Started by `Notifier::start`. Redirects are not followed: a signed body must not go to an address that a response
//! names.

mod alertmanager;
mod backoff;
mod context;
mod events;
mod post;
mod sign;
mod traces;
mod webhook;

#[cfg(test)]
mod tests;

pub(crate) use context::{Context, IsLeader, NotifyCounters, Wakeup};

pub(super) use alertmanager::Alertmanager;
pub(super) use backoff::Timeouts;
pub(super) use events::EventWriter;
pub(super) use post::{Post, PostError};
pub(super) use sign::{SecretError, Signer};
pub(super) use traces::Traces;
pub(super) use webhook::Webhook;
