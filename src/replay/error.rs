//! Why a replay could not run.

use std::path::PathBuf;

/// Why a replay could not run.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A file or folder could not be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        #[source]
        source: std::io::Error,
    },
    /// A folder contains no log.
    #[error("unable to find a log in {}{}", .0.display(), .1)]
    NoLogs(PathBuf, String),
    /// More captures or files than are read in one call.
    #[error("unable to read more than {max} {what} in one call")]
    TooMany {
        /// The kind of objects.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// Files could not be read, or have no signals.
    #[error("{0}")]
    Files(String),
    /// A file besides the logs could not be read.
    #[error("failed to read the {what} {}", path.display())]
    ReadSetup {
        /// The kind of the file.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The error.
        #[source]
        source: std::io::Error,
    },
    /// The policy file is invalid.
    #[error("unable to use the policy {}: {fault}", path.display())]
    Policy {
        /// The file or folder.
        path: PathBuf,
        /// What was wanted, what was found, and what to do.
        fault: String,
    },
    /// The file of runs has another structure.
    #[error(
        "failed to parse the runs in {}; hint: {{\"my-run\": [\"10.0.0.1\", \"10.0.0.2\"]}}",
        path.display()
    )]
    Runs {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        #[source]
        source: serde_json::Error,
    },
    /// The arguments do not fit together.
    #[error("{0}")]
    BadUse(String),
    /// The file of labels has another structure.
    #[error("failed to parse the labels in {}", path.display())]
    Labels {
        /// The file or folder.
        path: PathBuf,
        /// The error.
        #[source]
        source: serde_json::Error,
    },
}
