//! Labels: what the subjects of a capture really did. Read by `setup`, used by `score` and the reports.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;

use serde::Deserialize;

use super::error::ReplayError;
use super::setup_file::read_text;

/// What the labelled subjects did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LabelKind {
    /// They scanned.
    Scan,
    /// They mined.
    Mining,
    /// They did neither.
    Benign,
    /// They did neither, and naive rules flag them.
    BenignLookalike,
    /// Something that is not scored.
    #[serde(other)]
    Other,
}

impl LabelKind {
    /// Whether a quarantine of such a subject would be false.
    #[must_use]
    pub const fn is_benign(self) -> bool {
        matches!(self, Self::Benign | Self::BenignLookalike)
    }

    /// The name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Scan => "scan",
            Self::Mining => "mining",
            Self::Benign => "benign",
            Self::BenignLookalike => "benign-lookalike",
            Self::Other => "other",
        }
    }
}

/// One entry of a labels file.
#[derive(Clone, Debug, Deserialize)]
#[expect(clippy::struct_field_names, reason = "they are the keys of the file")]
pub struct Label {
    /// The capture's name.
    pub capture: String,
    /// What the subjects did.
    pub label: LabelKind,
    /// The subjects.
    subjects: Subjects,
}

/// A list of addresses, or the text for every originator.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Subjects {
    Listed(BTreeSet<IpAddr>),
    Everyone(Everyone),
}

#[derive(Clone, Copy, Debug, Deserialize)]
enum Everyone {
    #[serde(rename = "every originator")]
    EveryOriginator,
}

impl Label {
    /// Whether it is about this subject.
    #[must_use]
    pub fn names(&self, subject: IpAddr) -> bool {
        match &self.subjects {
            Subjects::Listed(listed) => listed.contains(&subject),
            Subjects::Everyone(Everyone::EveryOriginator) => true,
        }
    }
}

/// A labels file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Labels {
    labels: Vec<Label>,
}

impl Labels {
    /// Reads a labels file.
    pub fn read(path: &Path) -> Result<Self, ReplayError> {
        let text = read_text("labels", path)?;
        serde_json::from_str(&text).map_err(|source| ReplayError::Labels {
            path: path.to_owned(),
            source,
        })
    }

    /// The labels of a capture.
    pub fn of<'a>(&'a self, capture: &'a str) -> impl Iterator<Item = &'a Label> {
        self.labels
            .iter()
            .filter(move |label| label.capture == capture)
    }

    /// Addresses that the labels of a capture list.
    pub fn listed<'a>(&'a self, capture: &'a str) -> impl Iterator<Item = IpAddr> {
        self.of(capture).flat_map(|label| match &label.subjects {
            Subjects::Listed(listed) => listed.iter().copied().collect::<Vec<_>>(),
            Subjects::Everyone(_) => Vec::new(),
        })
    }

    /// The label of a subject: one that lists it wins over one for every originator.
    #[must_use]
    pub fn kind(&self, capture: &str, subject: IpAddr) -> Option<LabelKind> {
        let mut labels: Vec<_> = self
            .of(capture)
            .filter(|label| label.names(subject))
            .collect();
        labels.sort_by_key(|label| matches!(label.subjects, Subjects::Everyone(_)));
        labels.first().map(|label| label.label)
    }
}
