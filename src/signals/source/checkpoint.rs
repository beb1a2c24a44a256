//! Checkpoints: how far each file of a source has been processed, kept across restarts.
//!
//! One JSON file per source, replaced by a rename, so that a reader sees either the old or the new one.
//! The reader writes it once a second if it has changed, and when the source is closed.
//!
//! Only the last write, at close, is synced to the disk. Without the sync a crash of the whole
//! machine can lose the last seconds of the checkpoint. The log itself is no safer than that, because
//! its writer does not sync either. A sync every second would stall behind etcd on the same disk.
//! A damaged checkpoint counts as a gap, and the log is read from its start:
//! repeated lines are better than missing ones.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits;

use super::SourceError;
use super::generation::{Identity, hex, read_bounded};

/// Version of the file format. Other versions are rejected.
const VERSION: u32 = 1;

/// A file at which reading resumes, and the offset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedGeneration {
    #[serde(flatten)]
    pub(super) identity: Identity,
    pub(super) offset: u64,
}

/// A log, and its files that were not fully processed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SavedLog {
    pub(super) path: String,
    /// The oldest first.
    pub(super) generations: Vec<SavedGeneration>,
    /// Backups that were fully processed.
    pub(super) done: Vec<Identity>,
}

/// The content of a checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Saved {
    version: u32,
    at_ms: u64,
    pub(super) logs: Vec<SavedLog>,
}

impl Saved {
    pub(super) fn saved_at(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(self.at_ms)
    }
}

/// The checkpoint file of one source.
#[derive(Debug)]
pub(super) struct CheckpointFile {
    path: PathBuf,
    written: Option<Vec<SavedLog>>,
}

impl CheckpointFile {
    /// The checkpoint of the source `name` that reads `target`. The same name with another target is a different
    /// checkpoint.
    pub(super) fn new(folder: &Path, name: &str, target: &Path) -> Self {
        Self {
            path: path_of(folder, name, target),
            written: None,
        }
    }

    /// The saved checkpoint; `None` if there is none.
    pub(super) fn load(&mut self) -> Result<Option<Saved>, SourceError> {
        let unreadable = |source| SourceError::ReadCheckpoint {
            path: self.path.clone(),
            source,
        };
        let Some(bytes) = load_bounded(&self.path, limits::CHECKPOINT_BYTES_MAX)? else {
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
        self.written = Some(saved.logs.clone());
        Ok(Some(saved))
    }

    /// Writes `logs`, unless the file already contains them.
    pub(super) fn save(&mut self, logs: Vec<SavedLog>, with_sync: bool) -> Result<(), SourceError> {
        if self.written.as_ref() == Some(&logs) && !with_sync {
            return Ok(());
        }
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let saved = Saved {
            version: VERSION,
            at_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX),
            logs,
        };
        let failed = |source| SourceError::WriteCheckpoint {
            path: self.path.clone(),
            source,
        };
        let bytes = serde_json::to_vec(&saved).map_err(|error| failed(error.into()))?;
        replace(&self.path, &bytes, with_sync).map_err(failed)?;
        self.written = Some(saved.logs);
        Ok(())
    }
}

/// The path of the checkpoint of the source `name` that reads `target`.
pub(super) fn path_of(folder: &Path, name: &str, target: &Path) -> PathBuf {
    let mut hash = Sha256::new();
    hash.update(name.as_bytes());
    hash.update([0]);
    hash.update(target.as_os_str().as_encoded_bytes());
    let hash = hex(&hash.finalize());
    let tag = hash.get(..8).unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let plain: String = name
        .chars()
        .take(64)
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    folder.join(format!("{plain}-{tag}.json"))
}

/// The bytes of a checkpoint; `None` if there is none.
pub(super) fn load_bounded(path: &Path, bytes_max: u64) -> Result<Option<Vec<u8>>, SourceError> {
    match read_bounded(path, bytes_max) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SourceError::ReadCheckpoint {
            path: path.to_owned(),
            source,
        }),
    }
}

pub(super) fn replace(path: &Path, bytes: &[u8], with_sync: bool) -> io::Result<()> {
    let folder = super::family::folder_of(path);
    std::fs::create_dir_all(&folder)?;
    let temporary = path.with_extension("json.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    if with_sync {
        file.sync_all()?;
    }
    std::fs::rename(&temporary, path)?;
    if with_sync {
        // The rename changes an entry of the folder, which is durable only once the folder is synced.
        File::open(&folder)?.sync_all()?;
    }
    Ok(())
}
