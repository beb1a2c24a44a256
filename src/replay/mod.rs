//! Replay: recorded logs through the operator's own decoders and engine, without a cluster.
//!
//! Called by `cli::replay` and by tests. Reading order: `setup` (what the user gave besides the logs) with
//! `manifests` and `policies` (the policy that applies), `captures` and `file_name` (which files belong
//! together), `file_head`, `merge_key` and `lines` (bounded reading, merged by time), `files` (results of
//! each file's lines), `run` (one capture through the engine) with `result` and `open_targets`, `labels`
//! and `score`, `report` (JSON, text, Markdown). A subject is a source address: there are no pods here.

mod captures;
mod error;
mod file_head;
mod file_name;
mod files;
mod labels;
mod lines;
mod manifests;
mod merge_key;
mod open_targets;
mod policies;
mod report;
mod result;
mod run;
mod score;
mod setup;
mod setup_file;
mod timeline;

pub use captures::{Capture, find_captures};
pub(crate) use error::ReplayError;
pub use labels::{LabelKind, Labels};
pub use policies::Policies;
pub use report::json;
pub(crate) use report::{markdown, text};
pub use result::{CaptureResult, Verdict};
pub use run::replay_capture;
pub use score::score;
pub use setup::{Setup, SetupFiles};
