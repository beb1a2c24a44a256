//! The engine's state as bytes, so that it survives a restart.
//!
//! `pipeline/saved_state` writes the pieces into a file. A restored engine returns exactly the findings that the previous
//! one would have returned for the same further signals (tests/restart.rs), with the limits and lists of the new
//! configuration. Only the SYNs of the last seconds, which a SYN-ACK may still confirm, are not saved. The hash key is
//! part of the state, because the state contains hashes.
//!
//! State is written in pieces, pods before runs, while signals continue to arrive. The piece of a run is thus at least
//! as new as those of its pods. A contact that is in the saved run but not in its saved pod gets a second verdict when
//! its line is read again, and the run knows its target already. In the other order the run would never count it.
//!
//! Saved state is untrusted input (see `state::bounded`): each piece is decoded within the bounds of its type, and a
//! piece that violates one is an error. Saved state alone cannot lead to a finding, because findings result from
//! signals.

use serde::{Deserialize, Serialize};

use super::{Engine, add_pod_to_run};
use crate::detect::origin::{Log, OriginId, Origins, SavedLosses};
use crate::detect::pod::Pod;
use crate::detect::scan::Run;
use crate::detect::state::{HashKey, KeyedState};
use crate::limits;
use crate::model::{PodKey, RunKey, Table};

/// A part of the state that is written on its own. Generic, so that one definition serves for writing borrowed data and
/// for reading owned data.
#[allow(clippy::large_enum_variant)] // one at a time, and nearly all are the others
#[derive(Debug, Serialize, Deserialize)]
enum Piece<P, R, L> {
    /// State that belongs to no pod and no run. Comes first.
    Common { key: HashKey, losses: SavedLosses },
    /// A log. All logs come before the pods, because contacts refer to them by number.
    Log(L),
    /// A pod.
    Pod(P),
    /// A run.
    Run(RunKey, R),
}

type BorrowedPiece<'a> = Piece<&'a Pod, &'a Run, &'a Log>;
type OwnedPiece = Piece<Box<Pod>, Box<Run>, Log>;

/// Progress of writing an engine's state.
#[derive(Debug)]
pub struct Saving {
    is_begun: bool,
    log_count: usize,
    pods: std::vec::IntoIter<PodKey>,
    runs: std::vec::IntoIter<RunKey>,
}

/// Why a piece of state could not be restored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RestoreError {
    /// The bytes are no valid piece, or violate a bound.
    #[error("failed to decode a piece of the state")]
    Decode(#[from] postcard::Error),
    /// The piece is not allowed at this position.
    #[error("failed to restore a piece of the state at this position: {0}")]
    Misplaced(&'static str),
}

impl Engine {
    /// Starts to save the state: pieces contain the state at the time at which each of them is written.
    #[must_use]
    pub fn saving(&self) -> Saving {
        // All fields are listed, so that a new field does not compile before it is decided whether it is saved.
        let Self {
            config: _,
            pods,
            runs,
            origins: _,
            refused_pod_count: _,
            verdicts: _,
        } = self;
        Saving {
            is_begun: false,
            log_count: 0,
            pods: pods.keys().cloned().collect::<Vec<_>>().into_iter(),
            runs: runs.keys().cloned().collect::<Vec<_>>().into_iter(),
        }
    }

    /// Replaces the content of `buffer` by the next piece. Returns whether there was one.
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

    fn next_piece(&self, saving: &mut Saving) -> Option<BorrowedPiece<'_>> {
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
        // Pods that were removed since the start are skipped.
        let pods = saving.pods.by_ref();
        if let Some(pod) = pods.find_map(|key| self.pods.get(&key)) {
            return Some(Piece::Pod(pod));
        }
        let runs = saving.runs.by_ref();
        runs.find_map(|key| self.runs.get(&key).map(|run| Piece::Run(key, run)))
    }

    /// Restores a piece that [`Engine::save_next`] wrote. The pieces of one save are restored into a new engine, in
    /// their original order.
    pub fn restore(&mut self, piece: &[u8]) -> Result<(), RestoreError> {
        let (piece, rest) = postcard::take_from_bytes::<OwnedPiece>(piece)?;
        if !rest.is_empty() {
            return Err(RestoreError::Misplaced("it continues after its end"));
        }
        match piece {
            Piece::Common { key, losses } => {
                if !self.pods.is_empty() || !self.runs.is_empty() {
                    return Err(RestoreError::Misplaced(
                        "the common part is not the first piece",
                    ));
                }
                self.config.hash_key = key;
                self.pods = Table::with_hasher(KeyedState(key));
                self.runs = Table::with_hasher(KeyedState(key));
                self.origins = Origins::restore(losses);
            }
            Piece::Log(log) => {
                if !self.pods.is_empty() || !self.origins.restore_log(log) {
                    return Err(RestoreError::Misplaced("too many logs, or a duplicate"));
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
            return Err(RestoreError::Misplaced("too many pods, or a duplicate"));
        }
        let run = pod.subject.run.take();
        add_pod_to_run(&mut self.runs, run.as_ref(), &self.config);
        // All pods of a run share the text of its key.
        let shared = run.as_ref().and_then(|key| self.runs.get_key_value(key));
        pod.subject.run = shared.map(|(key, _)| key.clone()).or(run);
        self.pods.insert(key, pod);
        Ok(())
    }

    fn restore_run(&mut self, key: &RunKey, mut run: Run) -> Result<(), RestoreError> {
        run.after_restore(self.config.shares_runs);
        run.intern_keys(|member| self.pods.get_key_value(member).map(|(key, _)| key.clone()));
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

    /// Discards the contacts that wait for an answer, because part of the log was not read and may contain the answers.
    pub fn forget_waiting(&mut self) {
        for pod in self.pods.values_mut() {
            pod.contacts.discard_pending();
        }
    }

    /// The log numbers now refer to other logs than before: discards what each log has shown and lost, and the contacts
    /// that wait for one. Otherwise the answers that one log shows would turn missing answers in another log into
    /// failures.
    pub fn forget_logs(&mut self) {
        self.origins = Origins::default();
        for pod in self.pods.values_mut() {
            pod.contacts.forget_logs();
            pod.origin = OriginId::default();
        }
    }

    /// Removes all pods for which `is_known` returns false, because they were deleted after the state was saved.
    /// Returns their number.
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
        self.pods.keep_room();
        self.runs.keep_room();
        gone.len()
    }
}
