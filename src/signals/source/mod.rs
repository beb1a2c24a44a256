//! Sources: logs that rotate, alone or in a folder, and standard input; Hubble Relay in `relay`; node
//! metrics in `scrape`.
//!
//! Each source of lines has a thread of its own that reads and hands over batches of whole lines through
//! a bounded channel; the consumer decodes them and acknowledges each batch when it is done with
//! it. A consumer that is slow stops the reader: lines wait in their file, not in memory.
//!
//! ```text
//! reader ─► follower (one per log) ─► generation (one per file) ─► lines ─► Batch ─► consumer
//!    ▲                                                                          │
//!    └────────────── checkpoint ◄── acknowledged positions ◄────────────────────┘
//! ```
//!
//! A source polls, with no notification from the kernel: notifications are lost on some of the
//! file systems that containers see, and a look every few milliseconds costs next to nothing.
//! A source must not look into a line; that is the decoder's matter.

mod checkpoint;
pub mod compressed;
mod family;
mod follower;
mod generation;
mod health;
mod lines;
mod reader;
pub mod relay;
pub mod scrape;
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
pub use lines::lines;

use health::Health;
use reader::Reader;
use relay::RelayCounters;

/// Which source, in the order of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceId(pub usize);

/// Where lines come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// A log, or a folder of which every `.log`, `.json` and `.jsonl` file is one.
    Path(PathBuf),
    /// Standard input, until its end.
    Stdin,
}

/// Where a log begins that was never read before. One that comes later is read from its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StartAt {
    /// At its end: what is in it already happened before Yellowjack was there.
    #[default]
    End,
    /// At its start.
    Beginning,
}

/// How often a source looks. Tests shorten it; the defaults are those of [`crate::limits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pacing {
    /// Pause between looks at a log that grew lately.
    pub poll_active: Duration,
    /// Pause between looks at a log at rest.
    pub poll_idle: Duration,
    /// Pause between checks whether a name leads to another file.
    pub rotation_check: Duration,
    /// How long a rotated file is still read after its last growth.
    pub rotate_wait: Duration,
    /// How long a file without a name is still read after its last growth.
    pub unlinked_wait: Duration,
    /// Pause between looks at the folder.
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

/// One source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceConfig {
    /// Comes back in each batch.
    pub id: SourceId,
    /// Name for logs, metrics and the checkpoint's file.
    pub name: String,
    /// Where lines come from.
    pub kind: SourceKind,
    /// Where a log begins that has no checkpoint.
    pub start_at: StartAt,
    /// Folder of checkpoints. Without one every start is the first.
    pub checkpoint_dir: Option<PathBuf>,
    /// How often it looks.
    pub pacing: Pacing,
}

impl SourceConfig {
    /// A source with the defaults: from the end, without checkpoints.
    #[must_use]
    pub fn new(id: SourceId, name: &str, kind: SourceKind) -> Self {
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

/// Whole lines of one file, in its order.
#[derive(Debug)]
pub struct Batch {
    /// Where they come from.
    pub source: SourceId,
    /// The lines, with their ends.
    pub bytes: Vec<u8>,
    /// What to acknowledge when all of them are dealt with.
    pub position: Position,
}

impl Batch {
    /// The lines, without their ends and without empty ones. Not necessarily text.
    pub fn lines(&self) -> impl Iterator<Item = &[u8]> {
        lines(&self.bytes)
    }
}

/// The place behind a batch.
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

    /// The same place in a file of this number, whose beginning was not handed over as lines.
    fn of_file(self, file: u64, header: Option<Arc<[u8]>>) -> Self {
        Self {
            file,
            header,
            ..self
        }
    }

    /// The number of the file: another one for each file that this process reads, 0 for a stream.
    #[must_use]
    pub fn file(&self) -> u64 {
        self.file
    }

    /// Whole lines from the beginning of the file, where reading began behind them.
    #[must_use]
    pub fn header(&self) -> &[u8] {
        self.header.as_deref().unwrap_or_default()
    }

    /// One that nothing rests on.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Self {
        Self::new(Arc::default(), 0)
    }

    /// Everything up to here is dealt with: a restart need not read it again.
    ///
    /// In the order of the batches: acknowledging one acknowledges the earlier ones of its file.
    pub fn acknowledge(&self) {
        self.acked.fetch_max(self.offset, Ordering::AcqRel);
    }
}

/// Why a source or its checkpoint failed.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The system gave no thread.
    #[error("failed to start the thread of source {name}")]
    Thread {
        /// The source.
        name: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The checkpoint is there but cannot be read.
    #[error("failed to read the checkpoint {path}")]
    ReadCheckpoint {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The checkpoint was written by another version.
    #[error("unable to use the checkpoint {path} of version {found}")]
    CheckpointVersion {
        /// Its file.
        path: PathBuf,
        /// The version that wrote it.
        found: u32,
    },
    /// The checkpoint cannot be written.
    #[error("failed to write the checkpoint {path}")]
    WriteCheckpoint {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The thread of the source panicked.
    #[error("failed to stop source {name}, its thread panicked")]
    Panicked {
        /// The source.
        name: String,
    },
}

/// A running source.
#[derive(Debug)]
pub struct SourceHandle {
    name: String,
    health: Arc<Health>,
    relay: Option<Arc<RelayCounters>>,
    reader: Option<JoinHandle<Box<dyn Keeper>>>,
    /// The reader, once its thread has ended.
    stopped: Option<Box<dyn Keeper>>,
}

/// What is left of a source when its thread has ended: its place, to be kept.
trait Keeper: std::fmt::Debug + Send {
    /// Lets the channel end: nothing more comes from here.
    fn hang_up(&mut self);

    /// Writes the last checkpoint.
    fn save_last(&mut self) -> Result<(), SourceError>;
}

/// Reads the health of a source, for as long as one likes.
#[derive(Clone, Debug)]
pub struct HealthReader(Arc<Health>);

impl HealthReader {
    /// How the source is.
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
pub fn spawn(
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
    let outlet = Outlet {
        source: config.id,
        sender,
        health: Arc::clone(&health),
        shutdown,
    };
    let reader = match config.kind.clone() {
        SourceKind::Path(path) => {
            let reader = Reader::new(config, path, outlet);
            let run = move || Box::new(reader.run()) as Box<dyn Keeper>;
            Some(thread.spawn(run).map_err(failed)?)
        }
        SourceKind::Stdin => {
            // Reading standard input cannot be interrupted, so that this thread is not waited for.
            let read = move || stream::run(&mut io::stdin().lock(), &outlet);
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

    /// What became of it, where it is a relay.
    #[must_use]
    pub fn relay_counters(&self) -> Option<Arc<RelayCounters>> {
        self.relay.clone()
    }

    /// How it is.
    #[must_use]
    pub fn health(&self) -> SourceHealth {
        self.health.snapshot()
    }

    /// See [`Position::acknowledge`].
    pub fn ack(&self, position: &Position) {
        position.acknowledge();
    }

    /// Waits for the reader after a shutdown. Once every source has stopped, the channel ends.
    pub fn stop(&mut self) -> Result<(), SourceError> {
        if let Some(reader) = self.reader.take() {
            let mut reader = reader.join().map_err(|_| SourceError::Panicked {
                name: self.name.clone(),
            })?;
            reader.hang_up();
            self.stopped = Some(reader);
        }
        Ok(())
    }

    /// Stops, and writes the last checkpoint.
    ///
    /// Blocks for some milliseconds. Stop first, and acknowledge what is left in the channel: what
    /// was not acknowledged is read again after a restart.
    pub fn close(mut self) -> Result<(), SourceError> {
        self.stop()?;
        match self.stopped.take() {
            Some(mut reader) => reader.save_last(),
            None => Ok(()),
        }
    }
}

/// The way out of a source's thread.
#[derive(Debug)]
struct Outlet {
    source: SourceId,
    sender: mpsc::Sender<Batch>,
    health: Arc<Health>,
    shutdown: CancellationToken,
}

/// The source has to end: nobody wants its lines any more.
#[derive(Debug)]
struct Stopped;

impl Outlet {
    /// Whether nobody wants more lines.
    fn is_over(&self) -> bool {
        self.shutdown.is_cancelled() || self.sender.is_closed()
    }

    /// Lets the channel end.
    fn hang_up(&mut self) {
        self.sender = mpsc::channel(1).0;
    }

    /// Hands a batch over, and waits while the queue is full. Not with `blocking_send`, which
    /// nothing but the receiver ends: a shutdown has to end it too.
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

/// Pause before a full queue is tried again: far less than the consumer needs for a full queue.
const FULL_QUEUE_PAUSE: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests;
