//! The form of the state file, and reading it.
//!
//! A name, a layout, frames of a length and a kind each, an end, and the SHA-256 of all before it. The layout is another
//! number whenever a type of the state changes; a state of another layout is not read. Everything is checked before
//! anything is decoded; what is decoded has its bounds all the same, because whoever can write the file can also make
//! its sum right.

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

/// The file's name in the folder.
pub(super) const NAME: &str = "detection.state";

const MAGIC: [u8; 16] = *b"yellowjack state";

/// Changes whenever the state is another one; `tests::the_layout_is_the_one_that_is_written_down` says when and to what.
pub(super) const LAYOUT: u64 = 0xa223_4c67_db1a_2aa0;

/// A frame of no bytes ends the file.
pub(super) const END: [u8; 4] = [0; 4];

const HEAD_BYTES: u64 = 24;
const SUM_BYTES: u64 = 32;
/// What comes after the frames.
pub(super) const TRAILER_BYTES: u64 = 4 + SUM_BYTES;

/// Why a state was not read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The system says so.
    #[error("failed to read the file")]
    Io(#[from] io::Error),
    /// It begins with something else, or is no plain file.
    #[error("unable to find a state in the file")]
    NotAState,
    /// Another version wrote it.
    #[error("unable to use a state of layout {found:x}, wanted {LAYOUT:x}")]
    OtherLayout {
        /// Its layout.
        found: u64,
    },
    /// Its sum does not fit, or it is cut short.
    #[error("unable to use a state that is damaged: its checksum does not fit")]
    Damaged,
    /// Larger than what is ever written.
    #[error(
        "unable to use a state of {bytes} bytes, more than {}",
        limits::STATE_BYTES_MAX
    )]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// The sum fits, and what it holds does not.
    #[error("unable to use a state that holds what is never written: {0}")]
    OutOfBounds(String),
}

impl LoadError {
    /// The value of the metric's label.
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

    /// What a person should do.
    pub(super) fn to_do(&self) -> &'static str {
        match self {
            Self::OtherLayout { .. } => {
                "nothing after an upgrade or a downgrade; the file that was left may be deleted."
            }
            Self::Io(_) => "look at the rights of the folder of --checkpoint-dir and at its disk.",
            Self::Damaged => {
                "look at the disk; after a crash of the machine this is to be expected."
            }
            Self::NotAState | Self::TooLarge { .. } | Self::OutOfBounds(_) => {
                "find out who writes into the folder of --checkpoint-dir; only Yellowjack should."
            }
        }
    }
}

impl From<RestoreError> for LoadError {
    fn from(error: RestoreError) -> Self {
        Self::OutOfBounds(error.to_string())
    }
}

/// A part of the file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Frame<'a> {
    /// A piece of the engine's state.
    Engine(&'a [u8]),
    /// A finding that is not recorded yet.
    Unrecorded(&'a [u8]),
    /// When the pass began, and how far each log had come.
    LogTimes(&'a [u8]),
}

impl Frame<'_> {
    /// Writes it down.
    pub(super) fn put(self, chunk: &mut Vec<u8>) {
        let (kind, bytes) = match self {
            Self::Engine(bytes) => (1, bytes),
            Self::Unrecorded(bytes) => (2, bytes),
            Self::LogTimes(bytes) => (3, bytes),
        };
        // A piece is far below the bound, so that the cut never happens; a reader would find it out.
        let length = u32::try_from(bytes.len() + 1).unwrap_or(u32::MAX);
        chunk.extend_from_slice(&length.to_le_bytes());
        chunk.push(kind);
        chunk.extend_from_slice(bytes);
    }
}

/// How a file begins.
pub(super) fn begin() -> Vec<u8> {
    [MAGIC.as_slice(), &LAYOUT.to_le_bytes()].concat()
}

/// Reads a state; `None` when there is none.
pub(super) fn load(path: &Path, config: &EngineConfig) -> Result<Option<Restored>, LoadError> {
    let about = match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        about => about?,
    };
    if !about.is_file() {
        return Err(LoadError::NotAState); // a pipe would keep us for ever, a link leads elsewhere
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

/// Checks name, layout and sum.
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

/// Gives a state that cannot be used another name, so that it can be looked at. The oldest of those goes.
pub(super) fn leave_aside(path: &Path) -> Option<PathBuf> {
    let aside = |nth: usize| path.with_extension(format!("state.unreadable-{nth}"));
    for nth in (1..limits::STATES_ASIDE_MAX).rev() {
        drop(std::fs::rename(aside(nth), aside(nth + 1)));
    }
    match std::fs::rename(path, aside(1)) {
        Ok(()) => Some(aside(1)),
        Err(error) => {
            tracing::error!(file = %path.display(), %error, "Failed to leave a state file aside.");
            None
        }
    }
}
