//! One file of a rotating log: read from an offset, and recognised after it was renamed,
//! copied, or truncated and refilled.
//!
//! A path does not identify a file that rotates, and an inode is reused. Therefore a file is identified by
//! its device, its inode and its first bytes. The followers own generations; nothing here depends
//! on names.

use std::borrow::Cow;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::limits;

use super::lines::LineBuffer;

/// Device and inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FileId {
    pub(super) device: u64,
    pub(super) inode: u64,
}

impl FileId {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// The part of a checkpoint that identifies a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// Number of first bytes that are hashed.
    head_bytes: usize,
    head_sha256: String,
}

impl Identity {
    fn new(id: FileId, head: &[u8]) -> Self {
        Self {
            device: id.device,
            inode: id.inode,
            head_bytes: head.len(),
            head_sha256: hex(&Sha256::digest(head)),
        }
    }

    pub(super) fn id(&self) -> FileId {
        FileId {
            device: self.device,
            inode: self.inode,
        }
    }

    /// Whether a file with these first bytes has the identified content: it is the same file, or a
    /// copy of it. For another inode, a few equal bytes are not sufficient.
    pub(super) fn is(&self, id: FileId, head: &[u8]) -> bool {
        let is_enough = self.head_bytes >= limits::COPY_HEAD_BYTES_MIN || self.id() == id;
        let first = head.get(..self.head_bytes);
        is_enough && first.is_some_and(|first| hex(&Sha256::digest(first)) == self.head_sha256)
    }

    /// Whether the file was empty, so that nothing in it can be lost.
    pub(super) fn is_of_empty_file(&self) -> bool {
        self.head_bytes == 0
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A file that was opened and is a regular file, with its first bytes.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) file: File,
    pub(super) id: FileId,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
    pub(super) head: Vec<u8>,
}

impl OpenFile {
    /// Opens a regular file. Anything else is refused before it is opened, because opening a FIFO blocks.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let is_file = std::fs::metadata(path)?.is_file();
        let file = if is_file {
            File::open(path)?
        } else {
            return Err(not_regular());
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(not_regular());
        }
        let head = read_head(&file)?;
        Ok(Self {
            id: FileId::of(&metadata),
            size: metadata.len(),
            modified: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            file,
            head,
        })
    }

    pub(super) fn identity(&self) -> Identity {
        Identity::new(self.id, &self.head)
    }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

fn read_head(file: &File) -> io::Result<Vec<u8>> {
    let mut head = vec![0; limits::FILE_HEAD_BYTES_MAX];
    let count = read_full_at(file, &mut head, 0)?;
    head.truncate(count);
    Ok(head)
}

/// The complete lines at the beginning of a file, before `offset`.
fn read_header(file: &File, offset: u64) -> io::Result<Arc<[u8]>> {
    let length = usize::try_from(offset).unwrap_or(usize::MAX);
    let mut header = vec![0; length.min(limits::FILE_HEADER_BYTES_MAX)];
    let count = read_full_at(file, &mut header, 0)?;
    header.truncate(count);
    let end = memchr::memrchr(b'\n', &header).map_or(0, |last| last + 1);
    header.truncate(end);
    Ok(header.into())
}

/// Fills `buffer` as far as the file reaches.
fn read_full_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut count = 0;
    while let Some(rest) = buffer.get_mut(count..)
        && !rest.is_empty()
    {
        match file.read_at(rest, offset + count as u64) {
            Ok(0) => break,
            Ok(more) => count += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}

/// The result of reading a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum ReadResult {
    /// These complete lines; empty if no line is complete yet.
    Read(Vec<u8>),
    /// Nothing new.
    AtEnd,
    /// The content differs from what was read: the file was truncated.
    Truncated,
}

/// The number of the next file that is read. Streams have the number 0.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// A file that is being read.
#[derive(Debug)]
pub(super) struct Generation {
    file: File,
    pub(super) id: FileId,
    head: Vec<u8>,
    /// The offset up to which it was read.
    offset: u64,
    buffer: LineBuffer,
    /// The offset up to which the consumer has processed it; shared with the positions of batches.
    acked: Arc<AtomicU64>,
    /// The end of the last batch that was sent.
    sent: u64,
    modified: SystemTime,
    /// Bytes that were left unread by the last read.
    pub(super) lag_bytes: u64,
    pub(super) last_growth: Instant,
    /// Since when a newer file has its name.
    pub(super) superseded_at: Option<Instant>,
    /// Whether it no longer has a name.
    pub(super) is_unlinked: bool,
    /// Distinguishes its lines from those of every other file.
    number: u64,
    /// Its first lines, if reading started after them.
    header: Option<Arc<[u8]>>,
}

impl Generation {
    /// Reads `open` from `offset` on.
    pub(super) fn new(open: OpenFile, offset: u64, now: Instant) -> io::Result<Self> {
        let mut before = [b'\n'];
        if offset > 0 {
            read_full_at(&open.file, &mut before, offset - 1)?;
        }
        // An offset inside a line is the end of a line that was incomplete when reading
        // started there, or lies in a line that is too long. Zeros are a hole, not a line.
        let is_line_start = matches!(before, [b'\n' | 0]);
        let header = if offset > 0 {
            Some(read_header(&open.file, offset)?)
        } else {
            None
        };
        Ok(Self {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            header,
            file: open.file,
            id: open.id,
            head: open.head,
            offset,
            buffer: if is_line_start {
                LineBuffer::default()
            } else {
                LineBuffer::amid_line()
            },
            acked: Arc::new(AtomicU64::new(offset)),
            sent: offset,
            modified: open.modified,
            lag_bytes: open.size.saturating_sub(offset),
            last_growth: now,
            superseded_at: None,
            is_unlinked: false,
        })
    }

    /// The same file from its start, after it was truncated.
    pub(super) fn restarted(&self, now: Instant) -> io::Result<Self> {
        let open = OpenFile {
            file: self.file.try_clone()?,
            id: self.id,
            size: 0,
            modified: SystemTime::UNIX_EPOCH,
            head: read_head(&self.file)?,
        };
        let mut restarted = Self::new(open, 0, now)?;
        restarted.superseded_at = self.superseded_at;
        Ok(restarted)
    }

    /// Continues in a copy of its content, after the file itself was truncated.
    pub(super) fn move_to_copy(&mut self, copy: OpenFile) {
        self.file = copy.file;
        self.id = copy.id;
        self.head = copy.head;
        self.modified = copy.modified;
    }

    /// Reads more lines, at most [`limits::READ_BYTES_MAX`] bytes.
    pub(super) fn read_more(&mut self, now: Instant) -> io::Result<ReadResult> {
        let metadata = self.file.metadata()?;
        self.is_unlinked = metadata.nlink() == 0;
        let size = metadata.len();
        self.lag_bytes = size.saturating_sub(self.offset);
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        if size < self.offset {
            return Ok(ReadResult::Truncated);
        }
        if size == self.offset {
            let is_same = modified == self.modified || self.head_holds()?;
            self.modified = modified;
            return Ok(if is_same {
                ReadResult::AtEnd
            } else {
                ReadResult::Truncated
            });
        }
        self.modified = modified;
        self.read(now)
    }

    fn read(&mut self, now: Instant) -> io::Result<ReadResult> {
        let wanted = usize::try_from(self.lag_bytes).unwrap_or(usize::MAX);
        let wanted = wanted.min(limits::READ_BYTES_MAX);
        let (file, offset) = (&self.file, self.offset);
        let mut head = Cow::Borrowed(self.head.as_slice());
        let mut count = 0;
        let batch = self.buffer.push(|bytes| {
            let known = bytes.len();
            bytes.resize(known + wanted, 0);
            let room = bytes.get_mut(known..).unwrap_or_default();
            count = read_full_at(file, room, offset).map_err(Some)?;
            bytes.truncate(known + count);
            extend_head(&mut head, offset, bytes.get(known..).unwrap_or_default());
            // Checked after the read: if the first bytes are still the old ones, the bytes
            // that were just read belong to the old content as well.
            let is_same = read_head(file).map_err(Some)?.starts_with(&head);
            if is_same { Ok(()) } else { Err(None) }
        });
        match batch {
            Ok(lines) if count > 0 => {
                if let Cow::Owned(head) = head {
                    self.head = head;
                }
                self.offset += count as u64;
                self.lag_bytes = self.lag_bytes.saturating_sub(count as u64);
                self.last_growth = now;
                Ok(ReadResult::Read(lines))
            }
            Ok(_) => Ok(ReadResult::AtEnd),
            Err(None) => Ok(ReadResult::Truncated),
            Err(Some(error)) => Err(error),
        }
    }

    /// Whether the file still contains what was read of it.
    pub(super) fn is_intact(&self) -> io::Result<bool> {
        Ok(self.file.metadata()?.len() >= self.offset && self.head_holds()?)
    }

    fn head_holds(&self) -> io::Result<bool> {
        Ok(read_head(&self.file)?.starts_with(&self.head))
    }

    /// The incomplete last line, for which no newline will follow.
    pub(super) fn finish(&mut self) -> Option<Vec<u8>> {
        self.buffer.finish()
    }

    pub(super) fn take_oversized(&mut self) -> u64 {
        self.buffer.take_oversized()
    }

    /// Marks everything up to here as sent, and returns the position to acknowledge.
    pub(super) fn mark_sent(&mut self) -> super::Position {
        self.sent = self.read_to();
        super::Position::new(Arc::clone(&self.acked), self.sent)
            .of_file(self.number, self.header.clone())
    }

    /// The offset up to which complete lines were read.
    pub(super) fn read_to(&self) -> u64 {
        self.offset - self.buffer.pending() as u64
    }

    /// The offset from which a restart must read: nothing before it is needed any more.
    pub(super) fn committed(&self) -> u64 {
        let acked = self.acked.load(Ordering::Acquire);
        // If no batch is in flight, bytes that made no batch (empty or dropped lines) are done too.
        if acked >= self.sent {
            self.read_to()
        } else {
            acked
        }
    }

    /// Closes the file; only the acknowledgements of the consumer are outstanding.
    pub(super) fn close(self) -> Finished {
        Finished {
            identity: self.identity(),
            acked: self.acked,
            sent: self.sent,
        }
    }

    pub(super) fn identity(&self) -> Identity {
        Identity::new(self.id, &self.head)
    }

    /// Whether a file with these first bytes may be a copy of this one, including an incomplete copy
    /// and a copy with lines that were not read here yet.
    pub(super) fn resembles(&self, head: &[u8]) -> bool {
        let is_alike = |mine: &[u8]| {
            let count = head.len().min(mine.len());
            !mine.is_empty() && head.get(..count) == mine.get(..count)
        };
        is_alike(&self.head) || read_head(&self.file).is_ok_and(|now| is_alike(&now))
    }

    /// Whether `open` is a copy of this file in which reading can continue.
    pub(super) fn is_copied_by(&self, open: &OpenFile) -> bool {
        !self.head.is_empty() && open.head.starts_with(&self.head) && open.size >= self.offset
    }
}

/// A file that was read to its end and closed, and waits for acknowledgements.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) identity: Identity,
    acked: Arc<AtomicU64>,
    sent: u64,
}

impl Finished {
    pub(super) fn committed(&self) -> u64 {
        self.acked.load(Ordering::Acquire)
    }

    pub(super) fn is_acknowledged(&self) -> bool {
        self.committed() >= self.sent
    }
}

/// Takes the first bytes of the file from the bytes that were read, not from a separate read: the file can be
/// truncated between two reads.
fn extend_head(head: &mut Cow<'_, [u8]>, offset: u64, fresh: &[u8]) {
    let room = limits::FILE_HEAD_BYTES_MAX.saturating_sub(head.len());
    let skip = (head.len() as u64).checked_sub(offset);
    if let (1.., Some(skip)) = (room, skip) {
        let skip = usize::try_from(skip).unwrap_or(usize::MAX);
        let more = fresh.iter().skip(skip).take(room);
        head.to_mut().extend(more);
    }
}

/// Reads a small file completely, but at most `bytes_max` bytes of it.
pub(super) fn read_bounded(path: &Path, bytes_max: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(bytes)
}
