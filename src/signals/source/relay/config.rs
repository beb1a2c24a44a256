//! The configuration of a relay, and its counters.

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use http::Uri;

use crate::limits;
use crate::signals::source::{Pacing, SourceId, StartAt};

/// The address of Relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayTarget {
    /// `http` or `https`, host and port.
    pub url: Uri,
    /// For `https`.
    pub tls: Option<RelayTls>,
}

/// How Relay and Yellowjack authenticate to each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayTls {
    /// The certificate authority that signed Relay's certificate.
    pub ca: PathBuf,
    /// The name in Relay's certificate, if it differs from the host name.
    pub server_name: Option<String>,
    /// Yellowjack's certificate and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Timeouts and intervals. Tests shorten them; the defaults are those of [`crate::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayPacing {
    /// Longest wait for a connection and for the first response on it.
    pub answer: Duration,
    /// Time without traffic after which a keepalive ping is sent.
    pub keepalive: Duration,
    /// Longest wait for the response to a keepalive ping.
    pub keepalive_answer: Duration,
    /// First and longest pause before the next connection attempt.
    pub retry: (Duration, Duration),
    /// Interval of requests for the status of the nodes.
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

/// The configuration of one relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelayConfig {
    /// Included in each batch.
    pub id: SourceId,
    /// Name for logs, metrics and the checkpoint's file.
    pub name: String,
    /// Where to connect.
    pub target: RelayTarget,
    /// Where to start without a checkpoint: now, or with all flows that the nodes still have.
    pub start_at: StartAt,
    /// Folder for checkpoints.
    pub checkpoint_dir: Option<PathBuf>,
    /// Timeouts and intervals.
    pub pacing: RelayPacing,
}

/// Counters of a relay since the start.
#[derive(Debug, Default)]
pub struct RelayCounters {
    /// Connection attempts after the first one.
    pub reconnects: AtomicU64,
    /// Flows that were received again.
    pub repeated: AtomicU64,
    /// Nodes that Relay cannot reach at present.
    pub nodes_unseen: AtomicU64,
    /// Records that were lost between the datapath and the agents.
    pub lost_perf: AtomicU64,
    /// Records lost in the agents, before Hubble read them.
    pub lost_queue: AtomicU64,
    /// Records lost in Hubble's buffers, because they were read too slowly.
    pub lost_ring: AtomicU64,
    /// Records lost at an unknown place.
    pub lost_unknown: AtomicU64,
}
