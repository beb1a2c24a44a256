//! A check of `doctor`, and the text of the report. Pure.

use std::fmt::Write as _;

use anstyle::Style;
use serde::Serialize;

use crate::cli::error::CommandError;
use crate::cli::output::{BAD, DIM, GOOD, WARNING, escaped, styled};
use crate::observability::chain;

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Verdict {
    /// As wanted.
    Ok,
    /// It works, with a limitation.
    Warn,
    /// Something that Yellowjack needs is missing.
    Fail,
    /// The check could not be made.
    Unknown,
}

impl Verdict {
    const fn word(self) -> (&'static str, Style) {
        match self {
            Self::Ok => ("ok", GOOD),
            Self::Warn => ("warn", WARNING),
            Self::Fail => ("FAIL", BAD),
            Self::Unknown => ("?", WARNING),
        }
    }
}

/// A check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Check {
    /// Its name, which is stable.
    pub name: &'static str,
    /// Its result.
    pub verdict: Verdict,
    /// What was wanted.
    pub wanted: String,
    /// What was found.
    pub found: String,
    /// What to do. Empty where there is nothing to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub todo: String,
}

impl Check {
    /// A check with this result.
    pub(super) fn new(
        name: &'static str,
        verdict: Verdict,
        wanted: impl Into<String>,
        found: impl Into<String>,
        todo: impl Into<String>,
    ) -> Self {
        Self {
            name,
            verdict,
            wanted: wanted.into(),
            found: found.into(),
            todo: todo.into(),
        }
    }

    /// A check that found what was wanted.
    pub(super) fn ok(
        name: &'static str,
        wanted: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::new(name, Verdict::Ok, wanted, found, "")
    }

    /// A check that could not be made.
    pub(super) fn cannot(
        name: &'static str,
        wanted: impl Into<String>,
        error: &CommandError,
    ) -> Self {
        let todo = error.hint().unwrap_or_default();
        Self::new(name, Verdict::Unknown, wanted, chain(error), todo)
    }
}

/// The report.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The checks, in the order in which they were made.
    pub checks: Vec<Check>,
}

impl Report {
    /// The report as text for a terminal.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let (word, style) = check.verdict.word();
            let _ = writeln!(
                text,
                "{} {}: {}",
                styled(style, &format!("{word:>4}")),
                check.name,
                escaped(&check.found)
            );
            if check.verdict == Verdict::Ok {
                continue;
            }
            let _ = writeln!(
                text,
                "     {} {}",
                styled(DIM, "wanted:"),
                escaped(&check.wanted)
            );
            if !check.todo.is_empty() {
                let _ = writeln!(
                    text,
                    "     {} {}",
                    styled(DIM, "to do:"),
                    escaped(&check.todo)
                );
            }
        }
        let count = |verdict| {
            self.checks
                .iter()
                .filter(|check| check.verdict == verdict)
                .count()
        };
        let _ = writeln!(
            text,
            "{} ok, {} to know, {} failed, {} unknown",
            count(Verdict::Ok),
            count(Verdict::Warn),
            count(Verdict::Fail),
            count(Verdict::Unknown)
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_that_is_not_ok_has_what_is_wanted_and_what_to_do() {
        let report = Report {
            checks: vec![
                Check::ok("crds", "three", "three"),
                Check::new(
                    "clock",
                    Verdict::Fail,
                    "within 2 s",
                    "a\u{1b}[31m day",
                    "set it",
                ),
            ],
        };
        let text = anstream::adapter::strip_str(&report.text()).to_string();
        assert_eq!(
            text,
            "  ok crds: three\nFAIL clock: a\\u{1b}[31m day\n     wanted: within 2 s\n     to do: set it\n\
             1 ok, 0 to know, 1 failed, 0 unknown\n"
        );
    }
}
