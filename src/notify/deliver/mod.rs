//! Sends what `payload` made to Alertmanagers, a webhook and a collector of traces, with retries, time
//! limits and counters.
//!
//! Started by `Notifier::start`. Redirects are not followed: a receiver that moved is a setting to
//! mend, and a signed body must not go where an answer points to.

mod alertmanager;
mod backoff;
mod events;
mod post;
mod sign;
mod traces;
mod webhook;

#[cfg(test)]
mod tests;

pub use alertmanager::Alertmanager;
pub use backoff::Times;
pub(super) use events::Teller;
pub use post::{Post, PostError};
pub use sign::{SecretError, Signer};
pub use traces::Traces;
pub use webhook::Webhook;
