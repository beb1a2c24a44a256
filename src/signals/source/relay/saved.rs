//! The checkpoint of a relay: from which time flows are requested after a restart, and the last flow of each
//! node, which reveals gaps. Used by the source once a second and when it is closed.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::SourceError;
use super::super::checkpoint::{load_bounded, path_of, replace};
use crate::limits;

/// Version of the file format. Other versions are rejected.
const VERSION: u32 = 1;

/// The content of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    /// Everything before this time has been processed. Nanoseconds since the Unix epoch.
    pub(super) since_ns: i64,
    /// The time of the last flow that was read, by node, in nanoseconds since the Unix epoch.
    pub(super) nodes: BTreeMap<String, i64>,
}

impl Saved {
    pub(super) const fn new(since_ns: i64, nodes: BTreeMap<String, i64>) -> Self {
        Self {
            version: VERSION,
            since_ns,
            nodes,
        }
    }
}

/// The checkpoint file.
#[derive(Debug)]
pub(super) struct SavedFile {
    path: std::path::PathBuf,
    written: Option<Saved>,
}

impl SavedFile {
    /// The file of the source `name`.
    pub(super) fn new(folder: &Path, name: &str) -> Self {
        Self {
            path: path_of(folder, name, Path::new(name)),
            written: None,
        }
    }

    /// The saved checkpoint; `None` if there is none.
    pub(super) fn load(&mut self) -> Result<Option<Saved>, SourceError> {
        let unreadable = |source| SourceError::ReadCheckpoint {
            path: self.path.clone(),
            source,
        };
        let Some(bytes) = load_bounded(&self.path, limits::RELAY_CHECKPOINT_BYTES_MAX)? else {
            return Ok(None);
        };
        let saved: Saved =
            serde_json::from_slice(&bytes).map_err(|error| unreadable(error.into()))?;
        if saved.version != VERSION {
            return Err(SourceError::CheckpointVersion {
                path: self.path.clone(),
                found: saved.version,
            });
        }
        self.written = Some(saved.clone());
        Ok(Some(saved))
    }

    /// Writes the checkpoint, unless the file already contains it.
    pub(super) fn save(&mut self, saved: Saved, with_sync: bool) -> Result<(), SourceError> {
        if self.written.as_ref() == Some(&saved) && !with_sync {
            return Ok(());
        }
        let failed = |source| SourceError::WriteCheckpoint {
            path: self.path.clone(),
            source,
        };
        let bytes = serde_json::to_vec(&saved).map_err(|error| failed(error.into()))?;
        replace(&self.path, &bytes, with_sync).map_err(failed)?;
        self.written = Some(saved);
        Ok(())
    }
}
