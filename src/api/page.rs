//! The page on conditions, made from the enums. Called by the test that compares it.

use std::fmt::Write as _;

use super::{AgentRunCondition, IncidentCondition, Reason};

/// Separates the meaning of a reason from what to do about it.
const DO: &str = " Do: ";

impl Reason {
    /// The conditions that have this reason, by name.
    pub fn conditions(self) -> impl Iterator<Item = &'static str> {
        let named = self.doc().split_once(": ").map_or("", |(named, _)| named);
        named
            .split([',', ' '])
            .filter(|word| !matches!(*word, "" | "or"))
    }

    /// What it means.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        let doc = self.doc();
        let doc = doc.split_once(": ").map_or(doc, |(_, meaning)| meaning);
        doc.split_once(DO).map_or(doc, |(meaning, _)| meaning)
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        self.doc().split_once(DO).map_or("", |(_, remedy)| remedy)
    }
}

/// docs/conditions.md, but for the Events.
#[must_use]
pub fn conditions_page() -> String {
    let mut page = String::from(
        "# Conditions and their reasons\n\n\
         Generated from `src/api/conditions.rs` by `make docs`. A condition states what was observed. Unknown is\n\
         neither good nor bad: it is not known yet, and the reason explains why.\n",
    );
    let run = AgentRunCondition::ALL.iter().map(|c| (c.name(), c.doc()));
    section(&mut page, "AgentRun", run);
    let incident = IncidentCondition::ALL.iter().map(|c| (c.name(), c.doc()));
    section(&mut page, "Incident", incident);
    page
}

fn section<'c>(
    page: &mut String,
    kind: &str,
    conditions: impl Iterator<Item = (&'c str, &'c str)>,
) {
    // Writing to a String cannot fail.
    let _ = write!(page, "\n## {kind}\n");
    for (name, meaning) in conditions {
        let _ = write!(page, "\n### {name}\n\nTrue: {}\n", lower(meaning));
        let reasons = Reason::ALL
            .iter()
            .filter(|reason| reason.conditions().any(|condition| condition == name));
        let _ = write!(page, "\n| reason | means | do |\n|---|---|---|\n");
        for reason in reasons {
            let (meaning, remedy) = (reason.meaning(), reason.remedy());
            let _ = writeln!(page, "| {} | {meaning} | {remedy} |", reason.name());
        }
    }
}

/// The sentence with a lower-case first letter, to follow a colon. Names keep their capital.
fn lower(sentence: &str) -> String {
    let mut letters = sentence.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() || second == ' ' => {
            first.to_lowercase().collect::<String>()
                + sentence.get(first.len_utf8()..).unwrap_or("")
        }
        _ => sentence.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_names_its_conditions_and_what_to_do() {
        let run = AgentRunCondition::ALL.iter().map(|c| c.name());
        let incident = IncidentCondition::ALL.iter().map(|c| c.name());
        let known: Vec<&str> = run.chain(incident).collect();
        for reason in Reason::ALL {
            let conditions: Vec<&str> = reason.conditions().collect();
            assert!(!conditions.is_empty(), "{reason:?} names no condition");
            for condition in conditions {
                assert!(known.contains(&condition), "{reason:?} names {condition}");
            }
            assert!(
                reason.meaning().ends_with('.'),
                "{reason:?}: {}",
                reason.meaning()
            );
            assert!(
                reason.remedy().ends_with('.'),
                "{reason:?} lacks what to do"
            );
        }
    }
}
