//! The annotation with the verdict on a node agent's sources: serialization and parsing. Pure.

use crate::limits;
use crate::signals::health::{Lacking, SignalsVerdict, UnusableReason};

/// Maximum number of names in a condition; the rest is a count.
const NODES_NAMED_MAX: usize = 5;

/// Serializes a verdict.
pub(super) fn write(verdict: &SignalsVerdict) -> String {
    match verdict {
        SignalsVerdict::Fresh => "Fresh".to_owned(),
        SignalsVerdict::NoSource => "NoSource".to_owned(),
        SignalsVerdict::Stale(names) => format!("FlowsStale: {}", names.join(", ")),
        SignalsVerdict::NodesUnseen { nodes, .. } => {
            format!("NodesUnseen: {}", shorten_list(nodes.clone()).join(", "))
        }
        SignalsVerdict::AnswersNotShown { lacking, .. } => {
            format!("AnswersNotShown: {}", describe_lacking(lacking).join(", "))
        }
        SignalsVerdict::MetricsStale(names) => format!("MetricsStale: {}", names.join(", ")),
        SignalsVerdict::Lossy(names) => format!("EventsLost: {}", names.join(", ")),
        SignalsVerdict::Unusable { why, details } => {
            let details = shorten_list(details.clone()).join("; ");
            format!("{}: {details}", why.name())
        }
        // A controller of an earlier version reads only the first word.
        SignalsVerdict::PartlyUnreadable(names) => format!("Fresh: {}", names.join(", ")),
    }
}

/// Parses a verdict. `None` for an unknown text.
pub(super) fn read(text: &str) -> Option<SignalsVerdict> {
    let (word, names) = text.split_once(": ").unwrap_or((text, ""));
    let details = crate::model::clip(names, limits::AGENT_SUMMARY_BYTES_MAX);
    let names = || vec![crate::model::clip(names, limits::NAME_BYTES_MAX).to_owned()];
    if let Some(why) = UnusableReason::ALL
        .into_iter()
        .find(|why| why.name() == word)
    {
        let details = vec![details.to_owned()];
        return Some(SignalsVerdict::Unusable { why, details });
    }
    match word {
        "Fresh" if !details.is_empty() => Some(SignalsVerdict::PartlyUnreadable(names())),
        "Fresh" => Some(SignalsVerdict::Fresh),
        "NoSource" => Some(SignalsVerdict::NoSource),
        "FlowsStale" => Some(SignalsVerdict::Stale(names())),
        "NodesUnseen" => Some(SignalsVerdict::NodesUnseen {
            nodes: names(),
            others: Box::new(SignalsVerdict::Fresh),
        }),
        "AnswersNotShown" => Some(SignalsVerdict::AnswersNotShown {
            lacking: vec![Lacking {
                node: None,
                what: details.to_owned(),
            }],
            others: Box::new(SignalsVerdict::Fresh),
        }),
        "MetricsStale" => Some(SignalsVerdict::MetricsStale(names())),
        "EventsLost" => Some(SignalsVerdict::Lossy(names())),
        _ => None,
    }
}

/// Texts about the evidence that logs lack.
pub(super) fn describe_lacking(lacking: &[Lacking]) -> Vec<String> {
    shorten_list(lacking.iter().map(|lacking| lacking.what.clone()).collect())
}

/// The first names, and the number of the others.
pub(super) fn shorten_list(mut names: Vec<String>) -> Vec<String> {
    let more = names.len().saturating_sub(NODES_NAMED_MAX);
    names.truncate(NODES_NAMED_MAX);
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_controller_parses_what_an_agent_serializes() {
        for verdict in [
            SignalsVerdict::Fresh,
            SignalsVerdict::NoSource,
            SignalsVerdict::Stale(vec!["a".to_owned()]),
            SignalsVerdict::NodesUnseen {
                nodes: vec!["a".to_owned()],
                others: Box::new(SignalsVerdict::Fresh),
            },
            SignalsVerdict::MetricsStale(vec!["a".to_owned()]),
            SignalsVerdict::Lossy(vec!["a".to_owned()]),
            SignalsVerdict::PartlyUnreadable(vec!["a".to_owned()]),
            SignalsVerdict::AnswersNotShown {
                lacking: vec![Lacking {
                    node: None,
                    what: "a shows no answers over tcp".to_owned(),
                }],
                others: Box::new(SignalsVerdict::Fresh),
            },
            SignalsVerdict::Unusable {
                why: UnusableReason::NotUnderstood,
                details: vec![
                    "a delivers lines, none of them readable as zeek: look at it".to_owned(),
                ],
            },
        ] {
            assert_eq!(read(&write(&verdict)), Some(verdict));
        }
    }
}
