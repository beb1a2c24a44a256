//! The engine's state as bytes, to be kept over a restart.
//!
//! Called by `pipeline/saved_state`, which writes the pieces into a file. A restored engine gives exactly the findings
//! that the one before would have given on the same further signals (tests/restart.rs), with the limits and lists of
//! the new configuration; only SYNs of the last seconds that a SYN-ACK may still prove are left out. The key of the
//! hashes is part of the state: what is remembered are hashes.
//!
//! State is written in pieces, pods before runs, while signals go on coming in between. A run's piece is then at
//! least as new as those of its pods. So a contact that is in a run but not yet in its pod is judged once more when
//! its line is read again, and the run knows its target; the other way round the run would never have learned of it.
//!
//! What is read back is input (see `detect::saved`): each piece is decoded with the bounds of its type, and a piece
//! that breaks one is an error. Nothing of it can become a finding by itself, because findings come from signals.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::super::origin::{Log, OriginId, Origins, SavedLosses};
use super::super::pod::Pod;
use super::super::run::Run;
use super::super::sketch::{HashKey, KeyedState};
use super::{Engine, join};
use crate::limits;
use crate::model::{PodKey, RunKey};

/// A part of the state that is written on its own. Generic, so that one definition serves to write what is borrowed
/// and to read what is owned.
#[allow(clippy::large_enum_variant)] // one at a time, and nearly all are the others
#[derive(Debug, Serialize, Deserialize)]
enum Piece<P, R, L> {
    /// What belongs to no pod and no run. Comes first.
    Common { key: HashKey, losses: SavedLosses },
    /// A log that records come from. All of them come before the pods, whose contacts name them by number.
    Log(L),
    /// A pod.
    Pod(P),
    /// A run.
    Run(RunKey, R),
}

type Written<'a> = Piece<&'a Pod, &'a Run, &'a Log>;
type Read = Piece<Box<Pod>, Box<Run>, Log>;

/// What is still to be written of an engine's state.
#[derive(Debug)]
pub struct Saving {
    is_begun: bool,
    log_count: usize,
    pods: std::vec::IntoIter<PodKey>,
    runs: std::vec::IntoIter<RunKey>,
}

/// Why a piece of state was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// Not what was written, or beyond a bound.
    #[error("failed to decode a piece of the state")]
    Decode(#[from] postcard::Error),
    /// It does not belong where it stands.
    #[error("failed to put a piece of the state in its place: {0}")]
    Misplaced(&'static str),
}

impl Engine {
    /// Begins to save the state as it is now and, for what is not written yet, as it will be then.
    #[must_use]
    pub fn saving(&self) -> Saving {
        // Named one by one, so that a new field does not compile before somebody has decided whether it is kept.
        let Self {
            config: _,
            pods,
            runs,
            origins: _,
            refused_pod_count: _,
            judged: _,
        } = self;
        Saving {
            is_begun: false,
            log_count: 0,
            pods: pods.keys().cloned().collect::<Vec<_>>().into_iter(),
            runs: runs.keys().cloned().collect::<Vec<_>>().into_iter(),
        }
    }

    /// Writes the next piece into `buffer`, in place of what is there. Returns whether there was one.
    pub fn save_next(
        &self,
        saving: &mut Saving,
        buffer: &mut Vec<u8>,
    ) -> Result<bool, postcard::Error> {
        buffer.clear();
        let Some(piece) = self.next_piece(saving) else {
            return Ok(false);
        };
        *buffer = postcard::to_extend(&piece, std::mem::take(buffer))?;
        Ok(true)
    }

    fn next_piece(&self, saving: &mut Saving) -> Option<Written<'_>> {
        if !saving.is_begun {
            saving.is_begun = true;
            return Some(Piece::Common {
                key: self.config.hash_key,
                losses: self.origins.saved(),
            });
        }
        if let Some(log) = self.origins.log(saving.log_count) {
            saving.log_count += 1;
            return Some(Piece::Log(log));
        }
        // What was forgotten meanwhile is left out.
        let pods = saving.pods.by_ref();
        if let Some(pod) = pods.find_map(|key| self.pods.get(&key)) {
            return Some(Piece::Pod(pod));
        }
        let runs = saving.runs.by_ref();
        runs.find_map(|key| self.runs.get(&key).map(|run| Piece::Run(key, run)))
    }

    /// Takes in a piece that [`Engine::save_next`] wrote. The pieces of one saving go into a new engine, in their order.
    pub fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        let (piece, rest) = postcard::take_from_bytes::<Read>(piece)?;
        if !rest.is_empty() {
            return Err(RestoreError::Misplaced("it goes on after its end"));
        }
        match piece {
            Piece::Common { key, losses } => {
                if !self.pods.is_empty() || !self.runs.is_empty() {
                    return Err(RestoreError::Misplaced("the common part is not the first"));
                }
                self.config.hash_key = key;
                self.pods = HashMap::with_hasher(KeyedState(key));
                self.runs = HashMap::with_hasher(KeyedState(key));
                self.origins = Origins::restore(losses);
            }
            Piece::Log(log) => {
                if !self.pods.is_empty() || !self.origins.restore_log(log) {
                    return Err(RestoreError::Misplaced("too many logs, or one twice"));
                }
            }
            Piece::Pod(pod) => self.restore_pod(pod)?,
            Piece::Run(key, run) => self.restore_run(&key, *run)?,
        }
        Ok(())
    }

    fn restore_pod(&mut self, mut pod: Box<Pod>) -> Result<(), RestoreError> {
        let key = pod.subject.pod.clone();
        if self.pods.len() >= limits::PODS_MAX || self.pods.contains_key(&key) {
            return Err(RestoreError::Misplaced("too many pods, or one twice"));
        }
        let run = pod.subject.run.take();
        join(&mut self.runs, run.as_ref(), &self.config);
        // One text for all pods of a run.
        let shared = run.as_ref().and_then(|key| self.runs.get_key_value(key));
        pod.subject.run = shared.map(|(key, _)| key.clone()).or(run);
        self.pods.insert(key, pod);
        Ok(())
    }

    fn restore_run(&mut self, key: &RunKey, mut run: Run) -> Result<(), RestoreError> {
        run.restored(self.config.shares_runs);
        run.share_keys(|member| self.pods.get_key_value(member).map(|(key, _)| key.clone()));
        if let Some(known) = self.runs.get_mut(key) {
            run.pod_count = known.pod_count;
            *known = run;
        } else if self.runs.len() < limits::RUNS_MAX {
            self.runs.insert(key.clone(), run);
        } else {
            return Err(RestoreError::Misplaced("too many runs"));
        }
        Ok(())
    }

    /// Part of the log was not seen: contacts that wait for an answer may have had it, and are forgotten.
    pub fn forget_waiting(&mut self) {
        for pod in self.pods.values_mut() {
            pod.contacts.forget_waiting();
        }
    }

    /// The numbers of the logs mean other logs than before: forgets what each of them has shown and lost, and the
    /// contacts that wait for one. What one log shows must not convict by the silence of another.
    pub fn forget_logs(&mut self) {
        self.origins = Origins::default();
        for pod in self.pods.values_mut() {
            pod.contacts.forget_logs();
            pod.origin = OriginId::default();
        }
    }

    /// Forgets all pods for which `is_known` is false: they are gone since the state was saved.
    pub fn retain(&mut self, is_known: impl Fn(&PodKey) -> bool) -> usize {
        let gone: Vec<PodKey> = self
            .pods
            .keys()
            .filter(|key| !is_known(key))
            .cloned()
            .collect();
        for key in &gone {
            self.drop_pod(key);
        }
        gone.len()
    }
}
