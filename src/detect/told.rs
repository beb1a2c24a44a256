//! Told: what was already said about a pod, so that a finding is handed out a logarithmic number
//! of times and the API server is not written to per flow.
//!
//! A finding is news when it is the first of its signature, more severe than the last one, or
//! rests on twice as many contacts. Asked by `scan` before it writes evidence down, and by
//! `engine` before it hands a finding out.

use serde::{Deserialize, Serialize};

use super::fusion::FAMILY_NATS_MAX;
use super::saved;
use crate::model::{Severity, Signature};

/// The size of a judgement.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct Word {
    pub(super) signature: Signature,
    pub(super) severity: Severity,
    pub(super) contact_count: u64,
    pub(super) score: f64,
}

/// The last word of each signature; as many entries as there are signatures at most.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Told(
    #[serde(deserialize_with = "saved::list::<_, _, { Signature::ALL.len() }>")] Vec<Word>,
);

impl Told {
    /// Whether this would be news.
    pub(super) fn is_news(&self, word: Word) -> bool {
        let known = self
            .0
            .iter()
            .find(|known| known.signature == word.signature);
        known.is_none_or(|known| word.is_news_after(*known))
    }

    /// Remembers it as said.
    pub(super) fn tell(&mut self, word: Word) {
        self.0.retain(|known| known.signature != word.signature);
        self.0.push(word);
    }
}

impl Word {
    fn is_news_after(self, known: Self) -> bool {
        let has_doubled = self.contact_count >= known.contact_count.saturating_mul(2);
        // A sum of clipped families has few such steps. A walk has one per eight contacts, and
        // for walks the doubling is enough.
        let has_family_more = self.signature == Signature::Mining
            && self.score >= known.score + FAMILY_NATS_MAX / 2.0;
        self.severity > known.severity
            || (self.severity == known.severity && (has_doubled || has_family_more))
    }
}
