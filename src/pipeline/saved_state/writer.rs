//! The thread that writes the state file, so that the pipeline never waits for a disk.
//!
//! It writes a new file beside the old one and renames it at the end of a pass, so that a reader finds the old one or
//! the new one. Like checkpoints it is synced at the end alone: a process that is killed loses nothing that was
//! written, and after a crash of the machine a state that is cut short is recognised and left aside.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::file;
use crate::limits;

/// What is to be done.
#[derive(Debug)]
pub(super) enum Job {
    /// A new file begins.
    Begin,
    /// The next bytes of it.
    Chunk(Vec<u8>),
    /// It is complete.
    End(Ended),
}

/// A pass that has been handed over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// Batches that it holds.
    pub(super) taken: u64,
    /// It must be on the disk.
    pub(super) is_last: bool,
    /// It is too large to be kept.
    pub(super) is_over_size: bool,
}

/// What became of a pass: its bytes, or what went wrong.
#[derive(Debug)]
pub(super) struct News {
    pub(super) taken: u64,
    pub(super) result: Result<u64, String>,
}

/// The way to the thread.
#[derive(Debug)]
pub(super) struct StateWriter {
    jobs: SyncSender<Job>,
    news: Receiver<News>,
}

impl StateWriter {
    /// Starts the thread. It ends when this is dropped.
    pub(super) fn start(path: PathBuf) -> Self {
        let (jobs, todo) = sync_channel(limits::STATE_CHUNKS_MAX);
        let (tell, news) = sync_channel(limits::STATE_CHUNKS_MAX);
        // A spawn that fails shows as a channel that is closed, and that as a failed write.
        let spawned = std::thread::Builder::new()
            .name("state".to_owned())
            .spawn(move || {
                let mut file = StateFile::new(&path);
                while let Ok(job) = todo.recv() {
                    if let Some(told) = file.work(job)
                        && tell.send(told).is_err()
                    {
                        return;
                    }
                }
            });
        if let Err(error) = spawned {
            tracing::error!(%error, "Failed to start the thread that saves the state.");
        }
        Self { jobs, news }
    }

    /// Hands over bytes, the first of a pass with its beginning. Gives them back where there is no room and nobody
    /// waits; any other job back means that the thread is gone.
    pub(super) fn hand_over(&self, chunk: Job, is_first: bool, waits: bool) -> Result<u64, Job> {
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
            // The beginning may come twice; the second one alone counts.
            Err(TrySendError::Full(chunk)) => Err(chunk),
            Err(TrySendError::Disconnected(_)) => Err(Job::Begin),
        }
    }

    /// Says that a pass is complete. Waits for room, which there is as soon as a chunk is written.
    pub(super) fn end(&self, ended: Ended) {
        if self.jobs.send(Job::End(ended)).is_err() {
            tracing::debug!("The thread that saves the state is gone.");
        }
    }

    /// What became of a pass.
    pub(super) fn news(&self, wait: Duration) -> Option<News> {
        if wait.is_zero() {
            self.news.try_recv().ok()
        } else {
            self.news.recv_timeout(wait).ok()
        }
    }
}

/// The file that is written.
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

    fn work(&mut self, job: Job) -> Option<News> {
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
            Job::End(ended) => Some(News {
                taken: ended.taken,
                result: self.end(ended).map_err(|error| error.to_string()),
            }),
        }
    }

    /// A new file that its owner alone may read: it holds the key of the hashes. One that lies there is not written
    /// into, because it may be a link to something else.
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

    fn end(&mut self, ended: Ended) -> io::Result<u64> {
        let open = self.open.take();
        let written = open.unwrap_or_else(|| Err(io::Error::other("nothing was begun")));
        let result = written.and_then(|(mut file, mut hash, length)| {
            if ended.is_over_size {
                return Err(io::Error::other("the state is larger than its bound"));
            }
            hash.update(file::END);
            file.write_all(&file::END)?;
            file.write_all(&hash.finalize())?;
            if ended.is_last {
                file.sync_all()?;
            }
            std::fs::rename(&self.temporary, &self.path)?;
            if ended.is_last
                && let Some(folder) = self.path.parent()
            {
                File::open(folder)?.sync_all()?;
            }
            Ok(length + file::TRAILER_BYTES)
        });
        if result.is_err() {
            // What is left of it would only take room.
            drop(std::fs::remove_file(&self.temporary));
        }
        result
    }
}
