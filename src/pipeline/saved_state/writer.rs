//! The thread that writes the state file, so that the pipeline never blocks on the disk.
//!
//! Each pass writes a new file beside the current one and renames it at the end, so a reader finds either complete
//! file. Like checkpoints, the file is synced only at shutdown: a killed process loses nothing that was written, and
//! after a crash of the machine a truncated file is detected and set aside.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::file;
use crate::limits;

/// A task for the thread.
#[derive(Debug)]
pub(super) enum Job {
    /// Begin a new file.
    Begin,
    /// Append these bytes.
    Chunk(Vec<u8>),
    /// Complete the file.
    End(PassEnd),
}

/// End of a pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct PassEnd {
    /// Number of the last batch that the state covers.
    pub(super) batch: u64,
    /// Whether the file must be synced to disk.
    pub(super) is_last: bool,
    /// Whether the state exceeds its maximum size and must be discarded.
    pub(super) is_over_size: bool,
}

/// Result of a pass: its size in bytes, or the error.
#[derive(Debug)]
pub(super) struct PassResult {
    pub(super) batch: u64,
    pub(super) written: Result<u64, String>,
}

/// Handle of the thread.
#[derive(Debug)]
pub(super) struct StateWriter {
    jobs: SyncSender<Job>,
    results: Receiver<PassResult>,
}

impl StateWriter {
    /// Starts the thread. It ends when this is dropped.
    pub(super) fn start(path: PathBuf) -> Self {
        let (jobs, queue) = sync_channel(limits::STATE_CHUNKS_MAX);
        let (sender, results) = sync_channel(limits::STATE_CHUNKS_MAX);
        // If the thread cannot start, the channel is closed, which counts as a failed write.
        let spawned = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || {
                let mut file = StateFile::new(&path);
                while let Ok(job) = queue.recv() {
                    if let Some(result) = file.process(job)
                        && sender.send(result).is_err()
                    {
                        return;
                    }
                }
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "Failed to start the thread that saves the detection state.");
        }
        Self { jobs, results }
    }

    /// Sends bytes, preceded by [`Job::Begin`] for the first of a pass; returns their length. Without `waits` and with
    /// a full queue it returns the chunk as the error; any other job as the error means that the thread has ended.
    pub(super) fn send_chunk(&self, chunk: Job, is_first: bool, waits: bool) -> Result<u64, Job> {
        let length = match &chunk {
            Job::Chunk(bytes) => bytes.len() as u64,
            _ => 0,
        };
        if waits {
            if is_first {
                self.jobs.send(Job::Begin).map_err(|_| Job::Begin)?;
            }
            return self
                .jobs
                .send(chunk)
                .map(|()| length)
                .map_err(|_| Job::Begin);
        }
        if is_first {
            match self.jobs.try_send(Job::Begin) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => return Err(chunk),
                Err(TrySendError::Disconnected(_)) => return Err(Job::Begin),
            }
        }
        match self.jobs.try_send(chunk) {
            Ok(()) => Ok(length),
            // `Begin` may be sent twice; only the second counts.
            Err(TrySendError::Full(chunk)) => Err(chunk),
            Err(TrySendError::Disconnected(_)) => Err(Job::Begin),
        }
    }

    /// Ends a pass. Blocks until the queue has room, at most until a chunk is written.
    pub(super) fn end(&self, end: PassEnd) {
        if self.jobs.send(Job::End(end)).is_err() {
            tracing::debug!("The thread that saves the detection state has ended.");
        }
    }

    /// Result of the next finished pass, within `wait`.
    pub(super) fn next_result(&self, wait: Duration) -> Option<PassResult> {
        if wait.is_zero() {
            self.results.try_recv().ok()
        } else {
            self.results.recv_timeout(wait).ok()
        }
    }
}

/// The file that a pass writes.
struct StateFile {
    path: PathBuf,
    temporary: PathBuf,
    open: Option<io::Result<(File, Sha256, u64)>>,
}

impl StateFile {
    fn new(path: &Path) -> Self {
        Self {
            path: path.to_owned(),
            temporary: path.with_extension("tmp"),
            open: None,
        }
    }

    fn process(&mut self, job: Job) -> Option<PassResult> {
        match job {
            Job::Begin => {
                self.open = Some(self.begin());
                None
            }
            Job::Chunk(bytes) => {
                if let Some(Ok((file, hash, length))) = &mut self.open {
                    hash.update(&bytes);
                    *length += bytes.len() as u64;
                    if let Err(error) = file.write_all(&bytes) {
                        self.open = Some(Err(error));
                    }
                }
                None
            }
            Job::End(end) => Some(PassResult {
                batch: end.batch,
                written: self.end(end).map_err(|error| error.to_string()),
            }),
        }
    }

    /// Creates a file that only its owner may read, because it contains the key of the hashes. An existing file is
    /// removed first and never opened, because it may be a link to another file.
    fn begin(&self) -> io::Result<(File, Sha256, u64)> {
        if let Some(folder) = self.path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match std::fs::remove_file(&self.temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        Ok((options.open(&self.temporary)?, Sha256::new(), 0))
    }

    fn end(&mut self, end: PassEnd) -> io::Result<u64> {
        let open = self.open.take();
        let written = open.unwrap_or_else(|| Err(io::Error::other("nothing was begun")));
        let result = written.and_then(|(mut file, mut hash, length)| {
            if end.is_over_size {
                return Err(io::Error::other("the state is larger than its bound"));
            }
            hash.update(file::END);
            file.write_all(&file::END)?;
            file.write_all(&hash.finalize())?;
            if end.is_last {
                file.sync_all()?;
            }
            std::fs::rename(&self.temporary, &self.path)?;
            if end.is_last
                && let Some(folder) = self.path.parent()
            {
                File::open(folder)?.sync_all()?;
            }
            Ok(length + file::TRAILER_BYTES)
        });
        if result.is_err() {
            // The incomplete file would only take up space.
            drop(std::fs::remove_file(&self.temporary));
        }
        result
    }
}
