//! Replay: recorded logs through the operator's own decoders and engine, without a cluster.
//!
//! Called by `cli::replay` and by tests. Reading order: `setup` (what the user gave besides the
//! logs) with `manifests` and `terms` (the policy in force), `captures` and `names` (what a path holds),
//! `peek` and `lines` (bounded reading, merging by time), `files` (what became of each file's lines),
//! `run` and `outcomes` (one capture through the engine), `labels` and `score`, `report` (JSON, text,
//! Markdown). A subject is a source address: nothing here knows pods.

mod captures;
mod files;
mod labels;
mod lines;
mod manifests;
mod names;
mod outcomes;
mod peek;
mod report;
mod run;
mod score;
mod setup;
mod terms;
mod timeline;

pub use captures::{Capture, find_captures};
pub use labels::{LabelKind, Labels};
pub use report::{json, markdown, text};
pub use run::{CaptureResult, Verdict, replay_capture};
pub use score::score;
pub use setup::{Setup, SetupFiles};
pub use terms::Terms;

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
    #[error("unable to find a log in {}{}", .0.display(), .1)]
    NoLogs(PathBuf, String),
    /// More captures or files than are read in one call.
    #[error("unable to read more than {max} {what} in one call")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// Files that could not be read, or gave nothing.
    #[error("{0}")]
    Files(String),
    /// A file that goes with the logs could not be read.
    #[error("failed to read the {what} {}", path.display())]
    ReadSetup {
        /// What it holds.
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The policy file holds something else.
    #[error("unable to use the policy {}: {fault}", path.display())]
    Policy {
        /// Which.
        path: PathBuf,
        /// What was wanted, what was found, and what to do.
        fault: String,
    },
    /// The runs are not in the known form.
    #[error(
        "failed to parse the runs in {}; hint: {{\"my-run\": [\"10.0.0.1\", \"10.0.0.2\"]}}",
        path.display()
    )]
    Runs {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The files do not go together.
    #[error("{0}")]
    BadUse(String),
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
