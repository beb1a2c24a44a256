//! Replay: recorded logs through the operator's own decoders and engine, without a cluster.
//!
//! Called by `cli::replay` and by tests. Reading order: `captures` (what a path holds), `lines`
//! (bounded reading, merging by time), `run` (one capture through the engine), `labels` and
//! `score`, `report` (JSON and text). A subject is a source address: nothing here knows pods.

mod captures;
mod labels;
mod lines;
mod report;
mod run;
mod score;

pub use captures::{Capture, find_captures};
pub use labels::{Label, LabelKind, Labels};
pub use report::{json, text};
pub use run::{CaptureResult, Recorded, SubjectResult, Verdict, replay_capture};
pub use score::{Score, score};

use std::path::PathBuf;

/// Why a replay could not run.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file or folder could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A folder without any log.
    #[error("unable to find a log in {}", .0.display())]
    NoLogs(PathBuf),
    /// More captures or files than are read in one call.
    #[error("unable to read more than {max} {what} in one call")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// No line was of a known format.
    #[error("unable to tell the format of {}: no line of it is of a known one", .0.display())]
    UnknownFormat(PathBuf),
    /// The labels are not in the known form.
    #[error("failed to parse the labels in {}", path.display())]
    Labels {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}
