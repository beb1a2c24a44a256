//! What a relay is given, and what it counts.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::Uri;

use super::RelayTls;
use crate::limits;
use crate::signals::source::{Pacing, SourceId, StartAt};

/// Where Relay answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayTarget {
    /// `http` or `https`, host and port.
    pub url: Uri,
    /// For `https`.
    pub tls: Option<RelayTls>,
}

/// How long it waits for what. Tests shorten it; the defaults are those of [`crate::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayPacing {
    /// Longest wait for a connection, and for the first word on it.
    pub answer: Duration,
    /// Silence after which the connection is asked for a sign of life.
    pub keepalive: Duration,
    /// How long it may take for that.
    pub keepalive_answer: Duration,
    /// First and longest pause before the next call.
    pub retry: (Duration, Duration),
    /// Pause between two questions after the nodes.
    pub status: Duration,
    /// Pause between checkpoints.
    pub checkpoint: Duration,
}

impl Default for RelayPacing {
    fn default() -> Self {
        let (keepalive_s, keepalive_answer_s) = limits::RELAY_KEEPALIVE_S;
        let (first_ms, longest_ms) = limits::RELAY_RETRY_MS;
        Self {
            answer: Duration::from_secs(limits::RELAY_ANSWER_S),
            keepalive: Duration::from_secs(keepalive_s),
            keepalive_answer: Duration::from_secs(keepalive_answer_s),
            retry: (
                Duration::from_millis(first_ms),
                Duration::from_millis(longest_ms),
            ),
            status: Duration::from_secs(limits::RELAY_STATUS_S),
            checkpoint: Pacing::default().checkpoint,
        }
    }
}

/// One relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// Comes back in each batch.
    pub id: SourceId,
    /// Name for logs, metrics and the checkpoint's file.
    pub name: String,
    /// Where it answers.
    pub target: RelayTarget,
    /// Where it begins without a checkpoint: now, or with all that the nodes still have.
    pub start_at: StartAt,
    /// Folder of checkpoints.
    pub checkpoint_dir: Option<PathBuf>,
    /// How long it waits.
    pub pacing: RelayPacing,
}

/// What became of a relay, since the start.
#[derive(Debug, Default)]
pub struct RelayCounters {
    /// Calls after the first one.
    pub reconnects: AtomicU64,
    /// Flows that came again.
    pub repeated: AtomicU64,
    /// Nodes that Relay does not hear now.
    pub nodes_unseen: AtomicU64,
    /// Records that were lost between the datapath and the agents.
    pub lost_perf: AtomicU64,
    /// In the agents, before Hubble took them.
    pub lost_queue: AtomicU64,
    /// In Hubble's buffers, because they were read too slowly.
    pub lost_ring: AtomicU64,
    /// Somewhere.
    pub lost_unknown: AtomicU64,
}
