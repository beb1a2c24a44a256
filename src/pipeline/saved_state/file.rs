//! The format of the state file, and how it is read.
//!
//! The file consists of a magic number, a layout number, frames with a length and a kind, an end marker, and the
//! SHA-256 of everything before. The layout number changes whenever a type of the state changes; a state of another
//! layout is not read. The whole file is verified before anything is decoded. Decoding still enforces all bounds,
//! because anyone who can write the file can also compute a valid checksum.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::{Restored, Unrecorded};
use crate::detect::{Engine, EngineConfig, RestoreError};
use crate::limits;
use crate::model::EventTime;
use crate::observability::StateDefect;

/// Name of the file in the folder.
pub(super) const NAME: &str = "detection.state";

const MAGIC: [u8; 16] = *b"yellowjack state";

/// Changes with the types of the state; `tests::the_layout_is_the_one_that_is_written_down` fails when it must, and
/// shows the new value.
pub(super) const LAYOUT: u64 = 0xfb76_4541_3622_7041;

/// An empty frame ends the sequence of frames.
pub(super) const END: [u8; 4] = [0; 4];

const HEAD_BYTES: u64 = 24;
const SUM_BYTES: u64 = 32;
/// Length of what follows the frames.
pub(super) const TRAILER_BYTES: u64 = 4 + SUM_BYTES;

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    /// An I/O error.
    #[error("failed to read the file")]
    Io(#[from] io::Error),
    /// It has another magic number, or is not a regular file.
    #[error("unable to find a state in the file")]
    NotAState,
    /// Another version wrote it.
    #[error("unable to use a state of layout {found:x}, wanted {LAYOUT:x}")]
    OtherLayout {
        /// Its layout.
        found: u64,
    },
    /// Its checksum is wrong, or it is truncated.
    #[error("unable to use a state that is damaged: its checksum does not fit")]
    Damaged,
    /// It is larger than any state that is written.
    #[error(
        "unable to use a state of {bytes} bytes, more than {}",
        limits::STATE_BYTES_MAX
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// Its checksum is valid and its content is not.
    #[error("unable to use a state that holds what is never written: {0}")]
    OutOfBounds(String),
}

impl LoadError {
    /// Value of the metric's label.
    pub(super) const fn defect(&self) -> StateDefect {
        match self {
            Self::Io(_) => StateDefect::Unreadable,
            Self::NotAState => StateDefect::NotAState,
            Self::OtherLayout { .. } => StateDefect::OtherLayout,
            Self::Damaged => StateDefect::Damaged,
            Self::TooLarge { .. } => StateDefect::TooLarge,
            Self::OutOfBounds(_) => StateDefect::OutOfBounds,
        }
    }

    /// What an administrator should do.
    pub(super) fn remedy(&self) -> &'static str {
        match self {
            Self::OtherLayout { .. } => {
                "none after an upgrade or a downgrade; the file that was set aside may be deleted."
            }
            Self::Io(_) => "check the permissions of --checkpoint-dir and its disk.",
            Self::Damaged => "check the disk; after a crash of the machine this is expected.",
            Self::NotAState | Self::TooLarge { .. } | Self::OutOfBounds(_) => {
                "find out what else writes to --checkpoint-dir; only Yellowjack should."
            }
        }
    }
}

impl From<RestoreError> for LoadError {
    fn from(error: RestoreError) -> Self {
        Self::OutOfBounds(error.to_string())
    }
}

/// A frame of the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Frame<'a> {
    /// A part of the engine's state.
    Engine(&'a [u8]),
    /// A finding that is not recorded yet.
    Unrecorded(&'a [u8]),
    /// When the pass began, and the read position of each log.
    LogTimes(&'a [u8]),
}

impl Frame<'_> {
    /// Appends the frame to `chunk`.
    pub(super) fn put(self, chunk: &mut Vec<u8>) {
        let (kind, bytes) = match self {
            Self::Engine(bytes) => (1, bytes),
            Self::Unrecorded(bytes) => (2, bytes),
            Self::LogTimes(bytes) => (3, bytes),
        };
        // A frame is far smaller than 4 GiB, so this never truncates; a reader would detect it.
        let length = u32::try_from(bytes.len() + 1).unwrap_or(u32::MAX);
        chunk.extend_from_slice(&length.to_le_bytes());
        chunk.push(kind);
        chunk.extend_from_slice(bytes);
    }
}

/// The beginning of a file: magic number and layout.
pub(super) fn begin() -> Vec<u8> {
    [MAGIC.as_slice(), &LAYOUT.to_le_bytes()].concat()
}

/// Reads a state. `None` if the file does not exist.
pub(super) fn load(path: &Path, config: &EngineConfig) -> Result<Option<Restored>, LoadError> {
    let about = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        about => about?,
    };
    if !about.is_file() {
        return Err(LoadError::NotAState); // a pipe would block, a link may point anywhere
    }
    let bytes = about.len();
    if bytes > limits::STATE_BYTES_MAX + TRAILER_BYTES {
        return Err(LoadError::TooLarge { bytes });
    }
    let mut file = File::open(path)?;
    check(&mut file, bytes)?;
    file.seek(SeekFrom::Start(HEAD_BYTES))?;
    decode(BufReader::new(file.take(bytes)), config).map(Some)
}

/// Verifies magic number, layout and checksum.
fn check(file: &mut File, bytes: u64) -> Result<(), LoadError> {
    let mut head = [0; 24];
    file.read_exact(&mut head)
        .map_err(|_| LoadError::NotAState)?;
    let Some((magic, layout)) = head.split_first_chunk::<16>() else {
        return Err(LoadError::NotAState);
    };
    if *magic != MAGIC {
        return Err(LoadError::NotAState);
    }
    let found = layout.try_into().map_or(0, u64::from_le_bytes);
    if found != LAYOUT {
        return Err(LoadError::OtherLayout { found });
    }
    let rest = bytes
        .checked_sub(HEAD_BYTES + SUM_BYTES)
        .ok_or(LoadError::Damaged)?;
    let mut hash = Sha256::new();
    hash.update(head);
    let mut body = BufReader::with_capacity(limits::STATE_SLICE_BYTES, &mut *file);
    io::copy(&mut body.by_ref().take(rest), &mut hash)?;
    let mut sum = [0; 32];
    body.read_exact(&mut sum).map_err(|_| LoadError::Damaged)?;
    if hash.finalize().as_slice() != sum {
        return Err(LoadError::Damaged);
    }
    Ok(())
}

fn decode(mut file: impl Read, config: &EngineConfig) -> Result<Restored, LoadError> {
    let mut restored = Restored {
        engine: Engine::new(config.clone()),
        saved_at: EventTime::MIN,
        unrecorded: Vec::new(),
        log_times: HashMap::new(),
    };
    let mut bytes = Vec::new();
    let wrong = |what: &str| LoadError::OutOfBounds(what.to_owned());
    loop {
        let mut length = [0; 4];
        file.read_exact(&mut length)?;
        if length == END {
            return Ok(restored);
        }
        let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
        if length > limits::STATE_PIECE_BYTES_MAX {
            return Err(wrong("a piece that is too long"));
        }
        bytes.resize(length, 0);
        file.read_exact(&mut bytes)?;
        let Some((kind, piece)) = bytes.split_first() else {
            return Err(wrong("an empty piece"));
        };
        let decoded = |error: postcard::Error| LoadError::OutOfBounds(error.to_string());
        match kind {
            1 => restored.engine.restore(piece)?,
            2 if restored.unrecorded.len() < limits::STATE_FINDINGS_MAX => {
                let found: Unrecorded = postcard::from_bytes(piece).map_err(decoded)?;
                restored.unrecorded.push(found);
            }
            3 => {
                let times = postcard::from_bytes(piece).map_err(decoded)?;
                (restored.saved_at, restored.log_times) = times;
            }
            _ => return Err(wrong("a piece of no known kind, or too many of one")),
        }
    }
}

/// Renames a file that cannot be used, so that it can be examined. Returns its new path. Keeps
/// [`limits::STATES_ASIDE_MAX`] such files; the oldest is deleted.
pub(super) fn set_aside(path: &Path) -> Option<PathBuf> {
    let aside = |nth: usize| path.with_extension(format!("state.unreadable-{nth}"));
    for nth in (1..limits::STATES_ASIDE_MAX).rev() {
        drop(std::fs::rename(aside(nth), aside(nth + 1)));
    }
    match std::fs::rename(path, aside(1)) {
        Ok(()) => Some(aside(1)),
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "Failed to set aside a state file.");
            None
        }
    }
}
