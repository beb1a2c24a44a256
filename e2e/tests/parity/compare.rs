//! What a way came to, and where two ways, or a way and the case's expectation, differ.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::case::Case;
use crate::expected;

/// One of the three ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Engine,
    Replay,
    Operator,
}

/// What is done about a finding, from nothing to a quarantine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    #[default]
    None,
    Alert,
    Quarantine,
}

impl Action {
    pub fn of(text: &str) -> Self {
        match text {
            "Quarantine" => Self::Quarantine,
            "Alert" => Self::Alert,
            _ => Self::None,
        }
    }
}

/// What a way came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Per pod, its signatures with what is done about each.
    pub findings: BTreeMap<IpAddr, BTreeMap<String, Action>>,
    /// The same in the form of `expected.json`, as far as this way knows it.
    pub summary: Value,
    /// The exit code, of a program that ends by itself.
    pub exit: Option<i32>,
    /// Everything that it said.
    pub said: String,
    /// Status, reason and message of `SignalsFresh`.
    pub signals: Option<String>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    case: String,
    way: Way,
    what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "  {} | {:?} | {}",
            self.case, self.way, self.what
        )
    }
}

/// A case that could not be played to its end counts as a difference.
pub fn failed(case: &Case, error: &anyhow::Error) -> Difference {
    Difference {
        case: case.name.clone(),
        way: Way::Operator,
        what: format!("failed: {error:#}"),
    }
}

/// Differences between what a way came to and what the case expects.
pub fn with_expected(case: &Case, way: Way, outcome: &Outcome) -> Vec<Difference> {
    let mut wanted = case.expected.clone();
    for counted in ["flows", "malformed"] {
        if wanted.get(counted).is_none() {
            wanted[counted] = outcome.summary[counted].clone();
        }
    }
    let mut lines = expected::differences(&wanted, &outcome.summary);
    if let Some(exit) = outcome.exit.filter(|exit| *exit != case.exit) {
        lines.push(format!(
            "exit code: expected {}, got {exit}: {}",
            case.exit,
            last_line(&outcome.said)
        ));
    }
    if outcome.exit.is_some() {
        let unsaid = case
            .says
            .iter()
            .filter(|words| !outcome.said.contains(words.as_str()));
        lines
            .extend(unsaid.map(|words| {
                format!("says: expected {words:?}, got {}", last_line(&outcome.said))
            }));
    }
    if let (Some(wanted), Some(got)) = (&case.signals, &outcome.signals)
        && !got.starts_with(wanted.as_str())
    {
        lines.push(format!("SignalsFresh: expected {wanted}, got {got}"));
    }
    lines
        .into_iter()
        .map(|what| Difference {
            case: case.name.clone(),
            way,
            what,
        })
        .collect()
}

/// Differences between two ways: the same pods, with the same signatures, and the same done about each.
pub fn with_each_other(
    case: &Case,
    one: (Way, &Outcome),
    other: (Way, &Outcome),
) -> Vec<Difference> {
    let pods: BTreeSet<_> = one
        .1
        .findings
        .keys()
        .chain(other.1.findings.keys())
        .collect();
    let nothing = BTreeMap::new();
    let of =
        |outcome: &Outcome, pod: &IpAddr| outcome.findings.get(pod).unwrap_or(&nothing).clone();
    pods.into_iter()
        .filter_map(|pod| {
            let (first, second) = (of(one.1, pod), of(other.1, pod));
            let what = format!(
                "{pod}: {:?} has {first:?}, {:?} has {second:?}",
                one.0, other.0
            );
            (first != second).then(|| Difference {
                case: case.name.clone(),
                way: other.0,
                what,
            })
        })
        .collect()
}

/// The summary of findings alone, for a way that does not count contacts as `replay` does.
pub fn summary_of(findings: &BTreeMap<IpAddr, BTreeMap<String, Action>>, like: &Outcome) -> Value {
    let subjects: serde_json::Map<_, _> = findings
        .iter()
        .filter_map(|(pod, of_pod)| {
            let worst = *of_pod.values().max()?;
            let among: Vec<_> = of_pod
                .iter()
                .filter(|(_, action)| **action == worst)
                .map(|(name, _)| name)
                .collect();
            // Of several the one that came first speaks, and this way does not know which that was.
            let first = like.summary["subjects"][pod.to_string()]["signature"].as_str();
            let signature = first.filter(|name| among.iter().any(|known| known == name));
            let signature = signature
                .or_else(|| among.first().map(|name| name.as_str()))?
                .to_owned();
            let entry = json!({
                "verdict": expected::verdict_of(&signature),
                "action": format!("{worst:?}"),
                "signature": signature,
            });
            Some((pod.to_string(), entry))
        })
        .collect();
    json!({ "subjects": subjects })
}

fn last_line(text: &str) -> &str {
    text.trim_end().lines().last().unwrap_or("nothing")
}
