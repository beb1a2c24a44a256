//! Sends what `shape` made: to Alertmanagers and to a webhook, with retries, time limits and counters.
//!
//! Started by `Notifier::start`. Redirects are not followed: a receiver that moved is a setting to
//! mend, and a signed body must not go where an answer points to.

mod alertmanager;
mod post;
mod sign;
mod wait;
mod webhook;

#[cfg(test)]
mod tests;

pub use alertmanager::Alertmanager;
pub use post::{Post, PostError};
pub use sign::{SecretError, Signer};
pub use wait::Times;
pub use webhook::Webhook;
