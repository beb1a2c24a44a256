//! The thread of a source that reads a path: finds the logs, polls them in turn, and writes the
//! checkpoint.
//!
//! Started by `source::spawn`. In each round a log gets at most one read, so that a busy log does
//! not delay the others. The reader must never hold more than one batch itself.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use crate::limits;

use super::checkpoint::{CheckpointFile, Saved};
use super::family;
use super::follower::{Begin, Context, Follower, Polled};
use super::health::{Count, SourceState};
use super::{BatchSender, CheckpointOnClose, SourceConfig, SourceError, StartAt, Stopped};

/// The reader of one path.
#[derive(Debug)]
pub(super) struct Reader {
    config: SourceConfig,
    /// A file or a folder; it may also change from one to the other.
    path: PathBuf,
    output: BatchSender,
    followers: Vec<Follower>,
    checkpoint: Option<CheckpointFile>,
    /// Where to start a log that is not in the checkpoint.
    begin: Begin,
    started_at: SystemTime,
    next_scan: Instant,
    next_save: Instant,
    /// Why the folder cannot be read, if it cannot.
    folder_error: Option<SourceState>,
}

impl Reader {
    pub(super) fn new(config: SourceConfig, path: PathBuf, output: BatchSender) -> Self {
        let now = Instant::now();
        let folder = config.checkpoint_dir.as_deref();
        let checkpoint = folder.map(|folder| CheckpointFile::new(folder, &config.name, &path));
        Self {
            begin: match config.start_at {
                StartAt::End => Begin::AtEnd,
                StartAt::Beginning => Begin::AtStart,
            },
            started_at: SystemTime::now(),
            config,
            path,
            output,
            followers: Vec::new(),
            checkpoint,
            next_scan: now,
            next_save: now,
            folder_error: None,
        }
    }

    /// Reads until the shutdown, then returns itself so that the last checkpoint can be written.
    pub(super) fn run(mut self) -> Self {
        self.load();
        while !self.output.is_closed() {
            match self.round() {
                Ok(true) => {}
                Ok(false) => std::thread::sleep(self.pause()),
                Err(Stopped) => break,
            }
        }
        self.output.health.set_state(SourceState::Ended);
        self
    }

    fn load(&mut self) {
        let Some(checkpoint) = &mut self.checkpoint else {
            return;
        };
        match checkpoint.load() {
            Ok(None) => {}
            Ok(Some(saved)) => self.resume(&saved),
            Err(error) => {
                let source = self.config.name.as_str();
                let error: &dyn std::error::Error = &error;
                let cause = error.source().map(ToString::to_string);
                tracing::error!(source, %error, cause, "A checkpoint is unusable. Logs are read from their start.");
                self.output.health.count(Count::Gaps, 1);
                self.begin = Begin::AtStart;
            }
        }
    }

    fn resume(&mut self, saved: &Saved) {
        self.begin = Begin::NewSince(saved.saved_at());
        let ctx = context(&self.output, &self.config, Instant::now());
        let logs = saved.logs.iter().take(limits::FOLLOWED_FILES_MAX);
        self.followers = logs.map(|log| Follower::resume(log, &ctx)).collect();
    }

    /// One round over all logs. Returns `true` if there may be more to read immediately.
    fn round(&mut self) -> Result<bool, Stopped> {
        let now = Instant::now();
        if now >= self.next_scan {
            self.next_scan = now + self.config.pacing.folder_scan;
            self.scan(now);
        }
        let ctx = context(&self.output, &self.config, now);
        let mut has_more = false;
        for follower in &mut self.followers {
            if follower.next_poll() > now {
                continue;
            }
            match follower.poll(&ctx) {
                Polled::Lines(lines) => {
                    self.output.send(lines.bytes, lines.position)?;
                    has_more = true;
                }
                Polled::Progress => has_more = true,
                Polled::Nothing => {}
            }
        }
        self.publish_state();
        if now >= self.next_save {
            self.next_save = now + self.config.pacing.checkpoint;
            // Counted in the health; the next save tries again.
            let _ = self.save(false);
        }
        Ok(has_more)
    }

    /// Finds logs, and backups that no follower noticed.
    fn scan(&mut self, now: Instant) {
        let is_folder = std::fs::metadata(&self.path).is_ok_and(|metadata| metadata.is_dir());
        let folder = if is_folder {
            self.path.clone()
        } else {
            family::folder_of(&self.path)
        };
        let names = match family::names(&folder) {
            Ok(names) => names,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.folder_error = Some(SourceState::Missing);
                self.finish_first_scan();
                return;
            }
            Err(error) => {
                self.folder_error = Some(SourceState::Failed(error.to_string()));
                return;
            }
        };
        self.folder_error = None;
        if is_folder {
            self.followers.retain(|follower| follower.path != self.path);
            self.follow_new(&names, now);
        } else if self.followers.is_empty() {
            let follower = Follower::new(self.path.clone(), self.begin, now);
            self.followers.push(follower);
        }
        self.finish_first_scan();
        let ctx = context(&self.output, &self.config, now);
        for follower in &mut self.followers {
            follower.catch_up(&names, &ctx);
        }
    }

    /// Logs that the first scan did not find are new, and are read from their start.
    fn finish_first_scan(&mut self) {
        if !matches!(self.begin, Begin::NewSince(_)) {
            self.begin = Begin::NewSince(self.started_at);
        }
    }

    /// Starts to follow the logs of the folder that are not followed yet.
    fn follow_new(&mut self, names: &[String], now: Instant) {
        let known: HashSet<&str> = self
            .followers
            .iter()
            .map(|known| family::name_of(&known.path))
            .collect();
        let mut new: Vec<String> = Vec::new();
        for name in names.iter().filter(|name| family::is_log(name)) {
            // A backup belongs to its log even while a rotation has moved that log away.
            let mut logs = known
                .iter()
                .copied()
                .chain(names.iter().map(String::as_str));
            let is_backup = logs.any(|log| family::backup_tag(log, name).is_some());
            if !is_backup && !known.contains(name.as_str()) {
                new.push(name.clone());
            }
        }
        new.sort();
        for name in new {
            if !self.make_room() {
                self.output.health.count(Count::Unfollowed, 1);
                return;
            }
            let mut follower = Follower::new(self.path.join(&name), self.begin, now);
            for other in &self.followers {
                if family::backup_tag(&name, family::name_of(&other.path)).is_some() {
                    follower.exclude_files_of(other);
                }
            }
            self.followers.push(follower);
        }
    }

    fn make_room(&mut self) -> bool {
        if self.followers.len() >= limits::FOLLOWED_FILES_MAX
            && let Some(over) = self.followers.iter().position(Follower::is_finished)
        {
            self.followers.remove(over);
        }
        self.followers.len() < limits::FOLLOWED_FILES_MAX
    }

    /// Publishes the state of the source: a failed log takes precedence over a missing one.
    fn publish_state(&self) {
        let mut state = SourceState::Missing;
        for follower in &self.followers {
            match (&follower.state, &state) {
                (SourceState::Failed(_), SourceState::Failed(_)) => {}
                (SourceState::Failed(_), _) | (SourceState::Reading, SourceState::Missing) => {
                    state = follower.state.clone();
                }
                _ => {}
            }
        }
        let state = self.folder_error.clone().unwrap_or(state);
        self.output.health.set_state(state);
        self.output
            .health
            .lag(self.followers.iter().map(Follower::lag_bytes).sum());
    }

    /// The time until the next log is due.
    fn pause(&self) -> Duration {
        let due = self.followers.iter().map(Follower::next_poll).min();
        let longest = self.config.pacing.poll_idle;
        due.map_or(longest, |due| {
            due.saturating_duration_since(Instant::now()).min(longest)
        })
    }

    /// Writes the checkpoint if anything has changed.
    fn save(&mut self, with_sync: bool) -> Result<(), SourceError> {
        let Some(checkpoint) = &mut self.checkpoint else {
            return Ok(());
        };
        let logs = self.followers.iter().map(Follower::save).collect();
        let saved = checkpoint.save(logs, with_sync);
        if saved.is_err() {
            self.output.health.count(Count::CheckpointFailures, 1);
        }
        saved
    }
}

impl CheckpointOnClose for Reader {
    fn close_channel(&mut self) {
        self.output.close_channel();
    }

    fn save_last(&mut self) -> Result<(), SourceError> {
        self.save(true)
    }
}

fn context<'a>(output: &'a BatchSender, config: &'a SourceConfig, now: Instant) -> Context<'a> {
    Context {
        health: &output.health,
        pacing: &config.pacing,
        now,
    }
}
