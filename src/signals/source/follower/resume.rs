//! A follower across a restart: what its checkpoint contains, and how it resumes from it.
//!
//! Both are called by the reader. Nothing here reads lines.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::limits;

use super::super::checkpoint::{SavedGeneration, SavedLog};
use super::super::family;
use super::super::generation::{Generation, Identity, OpenFile};
use super::super::health::Count;
use super::{Begin, Context, DONE_MAX, Follower, RENAME_TRIES};

impl Follower {
    /// Resumes where `saved` ended.
    pub(in super::super) fn resume(saved: &SavedLog, ctx: &Context<'_>) -> Self {
        // The log was read before, so every backup that is not known yet is new.
        let begin = Begin::NewSince(SystemTime::UNIX_EPOCH);
        let mut follower = Self::new(PathBuf::from(&saved.path), begin, ctx.now);
        let files = family::files(&family::folder_of(&follower.path));
        let is_there = |done: &&Identity| files.iter().any(|(_, id)| *id == done.id());
        let done = saved.done.iter().filter(is_there).cloned();
        follower.done.extend(done.take(DONE_MAX));
        for wanted in saved.generations.iter().take(limits::GENERATIONS_MAX) {
            let found = follower.find(wanted);
            let opened = found.map(|open| Generation::new(open, wanted.offset, ctx.now));
            match opened {
                Some(Ok(generation)) => follower.push(generation, ctx.now),
                _ if wanted.identity.is_of_empty_file() => {}
                _ => {
                    ctx.health.count(Count::Gaps, 1);
                    follower.log_compressed();
                }
            }
        }
        follower
    }

    /// Logs that lines are missing because their file was compressed while nothing read it. They can be
    /// examined by replaying that file.
    fn log_compressed(&self) {
        let files = family::files(&family::folder_of(&self.path));
        let base = family::name_of(&self.path);
        let compressed = files.iter().map(|(path, _)| family::name_of(path));
        let is_backup = |name: &&str| family::is_compressed_backup(base, name);
        if let Some(file) = compressed.filter(is_backup).max() {
            tracing::warn!(
                log = %self.path.display(),
                file,
                "Lines of a log that was rotated and compressed while nothing read it are missing; replay the compressed file to judge them."
            );
        }
    }

    /// The file of a checkpoint: under any name in its folder, or as a copy that has the name of a
    /// backup.
    fn find(&self, wanted: &SavedGeneration) -> Option<OpenFile> {
        let open_if = |path: &Path| {
            let open = OpenFile::open(path).ok()?;
            let is_it = wanted.identity.is(open.id, &open.head) && open.size >= wanted.offset;
            (is_it && !self.has_open(open.id)).then_some(open)
        };
        for _ in 0..RENAME_TRIES {
            let files = family::files(&family::folder_of(&self.path));
            let (same, others): (Vec<_>, Vec<_>) = files
                .into_iter()
                .partition(|(_, id)| *id == wanted.identity.id());
            let copies = others
                .iter()
                .filter(|(path, _)| self.is_in_family(family::name_of(path)));
            let found = same
                .iter()
                .chain(copies)
                .find_map(|(path, _)| open_if(path));
            if found.is_some() {
                return found;
            }
        }
        None
    }

    pub(super) fn is_in_family(&self, name: &str) -> bool {
        let base = family::name_of(&self.path);
        name == base || family::backup_tag(base, name).is_some()
    }

    /// The checkpoint of this log.
    pub(in super::super) fn save(&self) -> SavedLog {
        let (acknowledged, waiting): (Vec<_>, Vec<_>) = self
            .finished
            .iter()
            .partition(|finished| finished.is_acknowledged());
        let waiting = waiting.into_iter().map(|finished| SavedGeneration {
            identity: finished.identity.clone(),
            offset: finished.committed(),
        });
        let open = self.generations.iter().map(|generation| SavedGeneration {
            identity: generation.identity(),
            offset: generation.committed(),
        });
        let acknowledged = acknowledged.into_iter().map(|finished| &finished.identity);
        SavedLog {
            path: self.path.to_string_lossy().into_owned(),
            generations: waiting.chain(open).collect(),
            done: self.done.iter().chain(acknowledged).cloned().collect(),
        }
    }
}
