//! Follows one log across its rotations: which files to read, in which order, and from which offset.
//!
//! The reader owns one follower per log and polls it. A follower keeps the generations that are
//! open, the oldest first: the last one is the file that currently has the log's name, the earlier ones
//! are read until they stop growing. It must neither lose nor repeat a line, whatever was renamed,
//! copied or truncated between two polls; an unavoidable loss is counted as a gap.
//!
//! ```text
//! saved generations ─► backups made since ─► the file that has the name now
//! ```

mod resume;

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::limits;

use super::family::{self, Age};
use super::generation::{FileId, Finished, Generation, Identity, OpenFile, ReadResult};
use super::health::{Count, Health, SourceState};
use super::{Pacing, Position};

/// Where to start a log that has no checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// At the current end: everything that exists now was written before the start.
    AtEnd,
    /// At the start of the file that has the name; its backups were written before the start.
    AtStart,
    /// The log was created after this time, and so were the backups that are newer.
    NewSince(SystemTime),
}

/// Shared by all followers of a source.
pub(super) struct Context<'a> {
    pub(super) health: &'a Health,
    pub(super) pacing: &'a Pacing,
    pub(super) now: Instant,
}

/// Lines from one poll.
#[derive(Debug)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    pub(super) position: Position,
}

/// The result of a poll.
#[derive(Debug)]
pub(super) enum Polled {
    Lines(Lines),
    /// Bytes, but no complete line; or a change after which another poll is useful at once.
    Progress,
    Nothing,
}

/// One log.
#[derive(Debug)]
pub(super) struct Follower {
    pub(super) path: PathBuf,
    begin: Option<Begin>,
    generations: VecDeque<Generation>,
    finished: VecDeque<Finished>,
    /// Backups that were fully processed, the oldest first.
    done: VecDeque<Identity>,
    pub(super) state: SourceState,
    next_poll: Instant,
    next_path_check: Instant,
    retry_after: Duration,
}

impl Follower {
    pub(super) fn new(path: PathBuf, begin: Begin, now: Instant) -> Self {
        Self {
            path,
            begin: Some(begin),
            generations: VecDeque::new(),
            finished: VecDeque::new(),
            done: VecDeque::new(),
            state: SourceState::Starting,
            next_poll: now,
            next_path_check: now,
            retry_after: Duration::from_millis(limits::OPEN_RETRY_MS.0),
        }
    }

    /// Treats the files of `other`, which has the name of a backup of this log, as known.
    pub(super) fn exclude_files_of(&mut self, other: &Follower) {
        let files = other.generations.iter().map(Generation::identity);
        self.done.extend(files.chain(other.done.iter().cloned()));
    }

    pub(super) fn has_open(&self, id: FileId) -> bool {
        self.generations
            .iter()
            .any(|generation| generation.id == id)
    }

    /// Whether the log no longer exists and nothing of it is left to read or to acknowledge.
    pub(super) fn is_finished(&self) -> bool {
        self.state == SourceState::Missing
            && self.generations.is_empty()
            && self.finished.is_empty()
    }

    pub(super) fn lag_bytes(&self) -> u64 {
        self.generations
            .iter()
            .map(|generation| generation.lag_bytes)
            .sum()
    }

    pub(super) fn next_poll(&self) -> Instant {
        self.next_poll
    }

    /// Looks for more lines, with at most one read.
    pub(super) fn poll(&mut self, ctx: &Context<'_>) -> Polled {
        let polled = self.try_poll(ctx).unwrap_or_else(|error| {
            self.fail(&error, ctx);
            Polled::Nothing
        });
        if matches!(polled, Polled::Nothing) {
            self.next_poll = self.next_poll.max(ctx.now + self.pause(ctx));
        }
        polled
    }

    fn pause(&self, ctx: &Context<'_>) -> Duration {
        let active_for = Duration::from_millis(limits::ACTIVE_FOR_MS);
        let is_active =
            |generation: &Generation| ctx.now.duration_since(generation.last_growth) < active_for;
        if self.generations.iter().any(is_active) {
            ctx.pacing.poll_active
        } else {
            ctx.pacing.poll_idle
        }
    }

    fn fail(&mut self, error: &io::Error, ctx: &Context<'_>) {
        self.state = SourceState::Failed(error.to_string());
        let longest = Duration::from_millis(limits::OPEN_RETRY_MS.1);
        self.next_poll = ctx.now + self.retry_after;
        self.next_path_check = self.next_poll;
        self.retry_after = (self.retry_after * 2).min(longest);
    }

    fn try_poll(&mut self, ctx: &Context<'_>) -> io::Result<Polled> {
        if ctx.now >= self.next_path_check {
            self.next_path_check = ctx.now + ctx.pacing.rotation_check;
            self.check_path(ctx)?;
            self.retire_acknowledged();
        }
        for i in 0..self.generations.len() {
            let Some(generation) = self.generations.get_mut(i) else {
                break;
            };
            let look = generation.read_more(ctx.now)?;
            ctx.health
                .count(Count::OversizedLines, generation.take_oversized());
            match look {
                ReadResult::Read(bytes) if bytes.is_empty() => return Ok(Polled::Progress),
                ReadResult::Read(bytes) => {
                    let position = generation.mark_sent();
                    return Ok(Polled::Lines(Lines { bytes, position }));
                }
                ReadResult::Truncated => return self.restart(i, ctx),
                ReadResult::AtEnd if self.is_quiet(i, ctx) => return Ok(self.finish(i)),
                ReadResult::AtEnd => {}
            }
        }
        Ok(Polled::Nothing)
    }

    /// Whether no more lines are expected of a generation that is at its end.
    fn is_quiet(&self, i: usize, ctx: &Context<'_>) -> bool {
        let Some(generation) = self.generations.get(i) else {
            return false;
        };
        let quiet_for = ctx.now.duration_since(generation.last_growth);
        let superseded_for = generation
            .superseded_at
            .map(|at| ctx.now.duration_since(at));
        let is_superseded =
            superseded_for.is_some_and(|time| time.min(quiet_for) >= ctx.pacing.rotate_wait);
        is_superseded || (generation.is_unlinked && quiet_for >= ctx.pacing.unlinked_wait)
    }

    /// Ends a generation. Its incomplete last line becomes a line, since no newline will follow.
    fn finish(&mut self, i: usize) -> Polled {
        let Some(mut generation) = self.generations.remove(i) else {
            return Polled::Nothing;
        };
        let rest = generation.finish();
        let polled = match rest {
            Some(bytes) => Polled::Lines(Lines {
                bytes,
                position: generation.mark_sent(),
            }),
            None => Polled::Progress,
        };
        self.finished.push_back(generation.close());
        polled
    }

    /// Moves acknowledged generations to the files that are known to be done.
    fn retire_acknowledged(&mut self) {
        while let Some(first) = self.finished.front()
            && (first.is_acknowledged()
                || self.finished.len() > limits::UNACKNOWLEDGED_GENERATIONS_MAX)
        {
            let identity = first.identity.clone();
            self.finished.pop_front();
            self.mark_done(identity);
        }
    }

    fn mark_done(&mut self, identity: Identity) {
        // An empty file resembles every other one, and nothing in it can be read twice.
        if identity.is_of_empty_file() || self.done.contains(&identity) {
            return;
        }
        if self.done.len() >= DONE_MAX {
            self.done.pop_front();
        }
        self.done.push_back(identity);
    }

    /// Checks whether the log's name now refers to another file.
    fn check_path(&mut self, ctx: &Context<'_>) -> io::Result<()> {
        let id = match std::fs::metadata(&self.path) {
            Ok(metadata) => FileId::of(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.state = SourceState::Missing;
                // A file that appears from now on did not exist at the start, so none of its content is old.
                if let Some(Begin::AtEnd | Begin::AtStart) = self.begin {
                    self.mark_all_backups_done()?;
                    self.begin = Some(Begin::NewSince(SystemTime::UNIX_EPOCH));
                }
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        let known = self.generations.iter().position(|known| known.id == id);
        if let Some(i) = known {
            // Usually it is already the last one; otherwise an earlier one got its name back.
            if i + 1 < self.generations.len()
                && let Some(mut generation) = self.generations.remove(i)
            {
                generation.superseded_at = None;
                self.push(generation, ctx.now);
            }
        } else {
            self.take_over(ctx)?;
        }
        self.state = SourceState::Reading;
        self.retry_after = Duration::from_millis(limits::OPEN_RETRY_MS.0);
        Ok(())
    }

    /// Opens the file that has the name now, and the backups made since the last poll.
    ///
    /// First the file, then the backups, then a check that the file still has the name: a rotation in
    /// between would otherwise put a generation in the wrong place.
    fn take_over(&mut self, ctx: &Context<'_>) -> io::Result<()> {
        for _ in 0..RENAME_TRIES {
            let open = match OpenFile::open(&self.path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                other => other?,
            };
            let before = self.family();
            let names = family::names(&family::folder_of(&self.path))?;
            let backups = self.unknown_backups(&names, Some(open.id));
            // The same files have the same names, so no file was missed because of a rename.
            let after = self.family();
            let name = family::name_of(&self.path);
            let is_named =
                |(path, id): &(PathBuf, FileId)| *id == open.id && family::name_of(path) == name;
            if before == after && after.iter().any(is_named) {
                return self.succeed(open, backups, ctx);
            }
        }
        // The log rotates faster than it can be listed; the next check tries again.
        Ok(())
    }

    /// The log and its backups, as path and identity.
    fn family(&self) -> Vec<(PathBuf, FileId)> {
        let mut files = family::files(&family::folder_of(&self.path));
        files.retain(|(path, _)| self.is_in_family(family::name_of(path)));
        files.sort_by(|a, b| a.0.cmp(&b.0));
        files
    }

    fn succeed(
        &mut self,
        open: OpenFile,
        backups: Vec<OpenFile>,
        ctx: &Context<'_>,
    ) -> io::Result<()> {
        let had_one = !self.generations.is_empty() || !self.finished.is_empty();
        for backup in backups {
            let is_old = match self.begin {
                None => false,
                Some(Begin::AtEnd | Begin::AtStart) => true,
                Some(Begin::NewSince(time)) => backup.modified < time,
            };
            if is_old {
                self.mark_done(backup.identity());
                continue;
            }
            if !self.has_room() {
                return Ok(());
            }
            let mut generation = Generation::new(backup, 0, ctx.now)?;
            generation.superseded_at = Some(ctx.now);
            self.generations.push_back(generation);
        }
        // A file that does not fit now is found again by the next check, once an older one is done.
        if !self.has_room() {
            return Ok(());
        }
        // A file that is done and gets the log's name again contains nothing new.
        let is_done = self.begin == Some(Begin::AtEnd) || self.is_done(&open);
        let offset = if is_done { open.size } else { 0 };
        self.push(Generation::new(open, offset, ctx.now)?, ctx.now);
        self.begin = None;
        ctx.health.count(Count::Rotations, u64::from(had_one));
        Ok(())
    }

    fn has_room(&self) -> bool {
        self.generations.len() < limits::GENERATIONS_MAX
    }

    fn is_done(&self, open: &OpenFile) -> bool {
        let finished = self.finished.iter().map(|finished| &finished.identity);
        finished
            .chain(&self.done)
            .any(|done| done.is(open.id, &open.head))
    }

    /// Adds the file that has the name now.
    fn push(&mut self, generation: Generation, now: Instant) {
        if let Some(last) = self.generations.back_mut() {
            last.superseded_at.get_or_insert(now);
        }
        self.generations.push_back(generation);
    }

    /// Looks for backups that were made unnoticed: while the reader was blocked, or because a
    /// listing missed a name that was just being changed.
    pub(super) fn catch_up(&mut self, names: &[String], ctx: &Context<'_>) {
        let backups = self.unknown_backups(names, None);
        // Checked after the backups were opened: if the file still has the name and its
        // content, all of them are older.
        let Some(current) = self.generations.back() else {
            return;
        };
        let holder = std::fs::metadata(&self.path).map(|metadata| FileId::of(&metadata));
        if holder.is_ok_and(|id| id == current.id) && current.is_intact().unwrap_or(false) {
            self.insert(backups, self.generations.len() - 1, ctx);
        }
    }

    /// Inserts backups before the generation `at`.
    fn insert(&mut self, backups: Vec<OpenFile>, mut at: usize, ctx: &Context<'_>) {
        for backup in backups {
            // Backups that do not fit stay unknown, and are found again.
            if self.has_room()
                && let Ok(mut generation) = Generation::new(backup, 0, ctx.now)
            {
                generation.superseded_at = Some(ctx.now);
                self.generations.insert(at, generation);
                at += 1;
                ctx.health.count(Count::Rotations, 1);
            }
        }
    }

    /// Backups that were never read, the oldest first. Excludes those that may be a copy of a file that is
    /// being read: a copy matters only once its original is truncated.
    fn unknown_backups(&self, names: &[String], current: Option<FileId>) -> Vec<OpenFile> {
        let mut backups = self.backups(names);
        backups.retain(|backup| current != Some(backup.id) && !self.resembles_open(&backup.head));
        backups
    }

    fn resembles_open(&self, head: &[u8]) -> bool {
        self.generations.iter().any(|known| known.resembles(head))
    }

    /// Backups that are neither open nor done, the oldest first.
    fn backups(&self, names: &[String]) -> Vec<OpenFile> {
        let folder = family::folder_of(&self.path);
        let base = family::name_of(&self.path);
        let mut found: Vec<(Age, PathBuf, FileId)> = Vec::new();
        for name in names {
            let Some(tag) = family::backup_tag(base, name) else {
                continue;
            };
            let path = folder.join(name);
            let Ok(metadata) = std::fs::metadata(&path) else {
                continue;
            };
            if metadata.is_file() && metadata.len() > 0 {
                let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                found.push((Age::new(tag, modified), path, FileId::of(&metadata)));
            }
        }
        found.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        let excess = found.len().saturating_sub(limits::BACKUPS_MAX);
        let youngest = found.into_iter().skip(excess);
        let unopened = youngest.filter(|(_, _, id)| !self.has_open(*id));
        let opened = unopened.filter_map(|(_, path, _)| OpenFile::open(&path).ok());
        let is_new = |backup: &OpenFile| !self.has_open(backup.id) && !self.is_done(backup);
        opened.filter(is_new).collect()
    }

    fn mark_all_backups_done(&mut self) -> io::Result<()> {
        let names = match family::names(&family::folder_of(&self.path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            names => names?,
        };
        for backup in self.backups(&names) {
            self.mark_done(backup.identity());
        }
        Ok(())
    }

    /// The file was truncated. Its previous content may exist in a copy (copytruncate), in which reading
    /// continues; the file itself is read from its start.
    fn restart(&mut self, i: usize, ctx: &Context<'_>) -> io::Result<Polled> {
        ctx.health.count(Count::Truncations, 1);
        let Some(mut old) = self.generations.remove(i) else {
            return Ok(Polled::Nothing);
        };
        let restarted = old.restarted(ctx.now)?;
        let (mut backups, mut copy) = (Vec::new(), None);
        // A listing can miss backups that are being renumbered.
        for _ in 0..RENAME_TRIES {
            let names = family::names(&family::folder_of(&self.path)).unwrap_or_default();
            backups = self.backups(&names);
            copy = backups.iter().position(|backup| old.is_copied_by(backup));
            if copy.is_some() {
                break;
            }
        }
        let mut polled = Polled::Progress;
        let mut at = i;
        if let Some(copy) = copy {
            old.move_to_copy(backups.remove(copy));
            old.superseded_at.get_or_insert(ctx.now);
            self.generations.insert(at, old);
            at += 1;
        } else if let Some(bytes) = old.finish() {
            let position = old.mark_sent();
            polled = Polled::Lines(Lines { bytes, position });
        }
        self.generations.insert(at, restarted);
        // It may have been copied and truncated more than once.
        backups.retain(|backup| !self.has_open(backup.id) && !self.resembles_open(&backup.head));
        self.insert(backups, at, ctx);
        Ok(polled)
    }
}

/// Backups remembered as done: those that can be listed, and as many that are being deleted.
const DONE_MAX: usize = 2 * limits::BACKUPS_MAX;

/// Renames during one poll that are tolerated before the poll is given up.
const RENAME_TRIES: usize = 3;
