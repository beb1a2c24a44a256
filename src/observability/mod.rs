//! Logging, error texts, endpoints and metrics.
//!
//! Errors are logged only through [`chain`], which prints every cause once.

mod endpoints;
mod labels;
mod metrics;

use std::error::Error;
use std::fmt::Write as _;

pub(crate) use endpoints::{EndpointError, Missing, serve};
pub(crate) use labels::{
    Counters, DeliveryResult, FindingResult, IndexDrop, LabelValue, LineResult, LineUse, LossPlace,
    Receiver, ReportResult, ReportedContactResult, SampleResult, ScrapeResult, StateDefect,
    StateWriteResult, UnattributedReason, WriteOutcome,
};
pub use metrics::{Kind, Metric, metrics_page};
pub(crate) use metrics::{LatencyHistogram, Read, Reading};

/// The format of log lines.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// Text.
    Text,
    /// One JSON object per line.
    Json,
}

/// Writes log lines to standard error. `filter` has the syntax of `RUST_LOG`. A second call has no effect.
pub(crate) fn start_log(filter: &str, format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_new(filter)
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let started = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    if started.is_err() {
        tracing::debug!("Logging is already set up.");
    }
}

/// The error and all its causes, on one line of at most 1,024 bytes (the limit of an Event's note).
#[must_use]
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    const BYTES_MAX: usize = 1024;
    let mut text = sentence(error);
    let mut cause = error.source();
    while let Some(error) = cause {
        if text.len() > BYTES_MAX {
            break;
        }
        // Writing to a String cannot fail.
        let _ = write!(text, ": {}", sentence(error));
        cause = error.source();
    }
    crate::model::clip(&text, BYTES_MAX).to_owned()
}

/// The message of one error. The client prints an API server's response as a whole structure, of which the message is one
/// field.
fn sentence(error: &(dyn Error + 'static)) -> String {
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => status.message.clone(),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("failed to write")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_cause_is_printed_once() {
        let error = Outer(std::io::Error::other("disk full"));
        assert_eq!(chain(&error), "failed to write: disk full");
    }
}
