//! Sources: rotating logs, single or in a folder, and standard input; Hubble Relay in `relay`; node
//! metrics in `scrape`.
//!
//! Each source of lines has its own thread, which reads and sends batches of whole lines through
//! a bounded channel. The consumer decodes them and acknowledges each batch once it has been
//! processed. A slow consumer stops the reader: lines wait in their file, not in memory.
//!
//! ```text
//! reader ─► follower (one per log) ─► generation (one per file) ─► lines ─► Batch ─► consumer
//!    ▲                                                                          │
//!    └────────────── checkpoint ◄── acknowledged positions ◄────────────────────┘
//! ```
//!
//! A source polls and does not use notifications from the kernel: some of the file systems in containers lose
//! notifications, and polling every few milliseconds costs very little.
//! A source must not interpret lines; that is the task of the decoder.

mod checkpoint;
pub mod compressed;
mod family;
mod follower;
mod generation;
mod health;
mod lines;
mod reader;
pub mod relay;
pub(crate) mod scrape;
mod stream;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::limits;

pub use health::{SourceHealth, SourceState};
pub(crate) use lines::lines;

use health::Health;
use reader::Reader;
use relay::RelayCounters;

/// Index of a source, in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub usize);

/// Where the lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SourceKind {
    /// A log file, or a folder in which every `.log`, `.json` and `.jsonl` file is a log.
    Path(PathBuf),
    /// Standard input, until its end.
    Stdin,
}

/// Where to start a log that was never read before. A log that appears later is read from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At its end: its content was written before Yellowjack started.
    #[default]
    End,
    /// At its start.
    Beginning,
}

/// How often a source polls. Tests shorten the times; the defaults are those of [`crate::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pacing {
    /// Pause between reads of a log that grew recently.
    pub poll_active: Duration,
    /// Pause between reads of an idle log.
    pub poll_idle: Duration,
    /// Pause between checks whether a name refers to another file.
    pub rotation_check: Duration,
    /// How long a rotated file is read after it last grew.
    pub rotate_wait: Duration,
    /// How long a file without a name is read after it last grew.
    pub unlinked_wait: Duration,
    /// Pause between scans of the folder.
    pub folder_scan: Duration,
    /// Pause between checkpoints.
    pub checkpoint: Duration,
}

impl Default for Pacing {
    fn default() -> Self {
        Self {
            poll_active: Duration::from_millis(limits::POLL_ACTIVE_MS),
            poll_idle: Duration::from_millis(limits::POLL_IDLE_MS),
            rotation_check: Duration::from_millis(limits::ROTATION_CHECK_MS),
            rotate_wait: Duration::from_millis(limits::ROTATE_WAIT_MS),
            unlinked_wait: Duration::from_millis(limits::UNLINKED_WAIT_MS),
            folder_scan: Duration::from_millis(limits::FOLDER_SCAN_MS),
            checkpoint: Duration::from_millis(limits::CHECKPOINT_INTERVAL_MS),
        }
    }
}

/// The configuration of one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SourceConfig {
    /// Included in each batch.
    pub id: SourceId,
    /// Name for logs, metrics and the checkpoint's file.
    pub name: String,
    /// Where the lines come from.
    pub kind: SourceKind,
    /// Where to start a log that has no checkpoint.
    pub start_at: StartAt,
    /// Folder for checkpoints. Without one, every start is treated as the first.
    pub checkpoint_dir: Option<PathBuf>,
    /// How often it polls.
    pub pacing: Pacing,
}

impl SourceConfig {
    /// A source with the defaults: from the end, without checkpoints.
    #[must_use]
    pub(crate) fn new(id: SourceId, name: &str, kind: SourceKind) -> Self {
        Self {
            id,
            name: name.to_owned(),
            kind,
            start_at: StartAt::default(),
            checkpoint_dir: None,
            pacing: Pacing::default(),
        }
    }
}

/// Whole lines of one file, in order.
#[derive(Debug)]
pub struct Batch {
    /// The source.
    pub source: SourceId,
    /// The lines, with their terminators.
    pub bytes: Vec<u8>,
    /// The position to acknowledge once all lines have been processed.
    pub position: Position,
}

impl Batch {
    /// The lines, without their terminators and without empty lines. They are not necessarily valid UTF-8.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        lines(&self.bytes)
    }
}

/// The position after a batch.
#[derive(Clone, Debug)]
pub struct Position {
    acked: Arc<AtomicU64>,
    offset: u64,
    file: u64,
    header: Option<Arc<[u8]>>,
}

impl Position {
    fn new(acked: Arc<AtomicU64>, offset: u64) -> Self {
        Self {
            acked,
            offset,
            file: 0,
            header: None,
        }
    }

    /// The same position in a file with this number; `header` are its first lines if they were not sent.
    fn of_file(self, file: u64, header: Option<Arc<[u8]>>) -> Self {
        Self {
            file,
            header,
            ..self
        }
    }

    /// The number of the file: unique for each file that this process reads, 0 for a stream.
    #[must_use]
    pub fn file(&self) -> u64 {
        self.file
    }

    /// The complete lines at the beginning of the file, if reading started after them.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        self.header.as_deref().unwrap_or_default()
    }

    /// A position that no source uses.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::new(Arc::default(), 0)
    }

    /// Acknowledges everything up to here: a restart need not read it again.
    ///
    /// Call it in the order of the batches: acknowledging one acknowledges the earlier ones of its file.
    pub fn acknowledge(&self) {
        self.acked.fetch_max(self.offset, Ordering::AcqRel);
    }
}

/// Errors of a source or its checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The system could not start a thread.
    #[error("failed to start the thread of source {name}")]
    Thread {
        /// The name of the source.
        name: String,
        /// The error of the system.
        source: io::Error,
    },
    /// The checkpoint exists but cannot be read.
    #[error("failed to read the checkpoint {path}")]
    ReadCheckpoint {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The checkpoint was written by another version.
    #[error("unable to use the checkpoint {path} of version {found}")]
    CheckpointVersion {
        /// Its path.
        path: PathBuf,
        /// The version that wrote it.
        found: u32,
    },
    /// The checkpoint cannot be written.
    #[error("failed to write the checkpoint {path}")]
    WriteCheckpoint {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The thread of the source panicked.
    #[error("failed to stop source {name}, its thread panicked")]
    Panicked {
        /// The name of the source.
        name: String,
    },
}

/// A running source.
#[derive(Debug)]
pub struct SourceHandle {
    name: String,
    health: Arc<Health>,
    relay: Option<Arc<RelayCounters>>,
    reader: Option<JoinHandle<Box<dyn CheckpointOnClose>>>,
    /// The reader, once its thread has ended.
    stopped: Option<Box<dyn CheckpointOnClose>>,
}

/// The part of a source that remains when its thread has ended, from which the last checkpoint is written.
trait CheckpointOnClose: std::fmt::Debug + Send {
    /// Drops the sender, so that the channel can end.
    fn close_channel(&mut self);

    /// Writes the last checkpoint.
    fn save_last(&mut self) -> Result<(), SourceError>;
}

/// Gives access to the health of a source, independent of its handle.
#[derive(Clone, Debug)]
pub struct HealthReader(Arc<Health>);

impl HealthReader {
    /// The current health.
    #[must_use]
    pub fn snapshot(&self) -> SourceHealth {
        self.0.snapshot()
    }
}

/// The channel of batches, for all sources of one consumer.
#[must_use]
pub fn channel() -> (mpsc::Sender<Batch>, mpsc::Receiver<Batch>) {
    mpsc::channel(limits::BATCH_QUEUE_MAX)
}

/// Starts a source. It runs until `shutdown` is cancelled, the receiver is gone, or standard
/// input ends.
pub(crate) fn spawn(
    config: SourceConfig,
    sender: mpsc::Sender<Batch>,
    shutdown: CancellationToken,
) -> Result<SourceHandle, SourceError> {
    let health = Arc::new(Health::new(&config.name));
    let name = config.name.clone();
    let thread = std::thread::Builder::new().name(format!("source-{}", config.id.0));
    let failed = |source| SourceError::Thread {
        name: name.clone(),
        source,
    };
    let output = BatchSender {
        source: config.id,
        sender,
        health: Arc::clone(&health),
        shutdown,
    };
    let reader = match config.kind.clone() {
        SourceKind::Path(path) => {
            let reader = Reader::new(config, path, output);
            let run = move || Box::new(reader.run()) as Box<dyn CheckpointOnClose>;
            Some(thread.spawn(run).map_err(failed)?)
        }
        SourceKind::Stdin => {
            // Reading standard input cannot be interrupted, so this thread is not joined.
            let read = move || stream::run(&mut io::stdin().lock(), &output);
            drop(thread.spawn(read).map_err(failed)?);
            None
        }
    };
    Ok(SourceHandle {
        name,
        health,
        relay: None,
        reader,
        stopped: None,
    })
}

impl SourceHandle {
    /// Name of the source.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A reader of its health.
    #[must_use]
    pub fn health_reader(&self) -> HealthReader {
        HealthReader(Arc::clone(&self.health))
    }

    /// The counters of the relay, if the source is one.
    #[must_use]
    pub fn relay_counters(&self) -> Option<Arc<RelayCounters>> {
        self.relay.clone()
    }

    /// The current health.
    #[must_use]
    pub fn health(&self) -> SourceHealth {
        self.health.snapshot()
    }

    /// See [`Position::acknowledge`].
    pub fn ack(&self, position: &Position) {
        position.acknowledge();
    }

    /// Waits for the reader after a shutdown. The channel ends once every source has stopped.
    pub fn stop(&mut self) -> Result<(), SourceError> {
        if let Some(reader) = self.reader.take() {
            let mut reader = reader.join().map_err(|_| SourceError::Panicked {
                name: self.name.clone(),
            })?;
            reader.close_channel();
            self.stopped = Some(reader);
        }
        Ok(())
    }

    /// Stops, and writes the last checkpoint.
    ///
    /// Blocks for some milliseconds. Call [`Self::stop`] first and acknowledge the batches left in the channel:
    /// lines that were not acknowledged are read again after a restart.
    pub fn close(mut self) -> Result<(), SourceError> {
        self.stop()?;
        match self.stopped.take() {
            Some(mut reader) => reader.save_last(),
            None => Ok(()),
        }
    }
}

/// Sends the batches of a source from its thread.
#[derive(Debug)]
struct BatchSender {
    source: SourceId,
    sender: mpsc::Sender<Batch>,
    health: Arc<Health>,
    shutdown: CancellationToken,
}

/// The source must end, because its lines are not wanted any more.
#[derive(Debug)]
struct Stopped;

impl BatchSender {
    /// Whether no more lines are wanted.
    fn is_closed(&self) -> bool {
        self.shutdown.is_cancelled() || self.sender.is_closed()
    }

    /// Drops the sender, so that the channel can end.
    fn close_channel(&mut self) {
        self.sender = mpsc::channel(1).0;
    }

    /// Sends a batch, and waits while the queue is full. Does not use `blocking_send`, which
    /// only the receiver can interrupt: a shutdown must interrupt it too.
    fn send(&self, bytes: Vec<u8>, position: Position) -> Result<(), Stopped> {
        let byte_count = bytes.len();
        let mut batch = Batch {
            source: self.source,
            bytes,
            position,
        };
        loop {
            match self.sender.try_send(batch) {
                Ok(()) => {
                    self.health.sent(byte_count);
                    return Ok(());
                }
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(Stopped),
                Err(mpsc::error::TrySendError::Full(_)) if self.shutdown.is_cancelled() => {
                    return Err(Stopped);
                }
                Err(mpsc::error::TrySendError::Full(unsent)) => batch = unsent,
            }
            std::thread::sleep(FULL_QUEUE_PAUSE);
        }
    }
}

/// Pause before a full queue is tried again: far less than the consumer needs to empty it.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
