//! One check of `doctor` and its text. Pure.

use std::fmt::Write as _;

use anstyle::Style;
use serde::Serialize;

use crate::cli::people::{BAD, DIM, GOOD, PeopleError, WORTH_A_LOOK, painted, shown};
use crate::observability::chain;

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// As wanted.
    Ok,
    /// It works, with a limit that somebody should know.
    Warn,
    /// Something Yellowjack rests on is missing.
    Fail,
    /// It could not be found out.
    Unknown,
}

impl Verdict {
    const fn word(self) -> (&'static str, Style) {
        match self {
            Self::Ok => ("ok", GOOD),
            Self::Warn => ("warn", WORTH_A_LOOK),
            Self::Fail => ("FAIL", BAD),
            Self::Unknown => ("?", WORTH_A_LOOK),
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Check {
    /// Its name, which stays the same.
    pub name: &'static str,
    /// How it ended.
    pub verdict: Verdict,
    /// What was wanted.
    pub wanted: String,
    /// What was found.
    pub found: String,
    /// What to do; empty where nothing is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub todo: String,
}

impl Check {
    /// A check with this end.
    pub fn new(
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

    /// As wanted.
    pub fn ok(name: &'static str, wanted: impl Into<String>, found: impl Into<String>) -> Self {
        Self::new(name, Verdict::Ok, wanted, found, "")
    }

    /// A check that could not be made.
    pub fn cannot(name: &'static str, wanted: impl Into<String>, error: &PeopleError) -> Self {
        let todo = error.hint().unwrap_or_default();
        Self::new(name, Verdict::Unknown, wanted, chain(error), todo)
    }
}

/// The answer.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The checks, in the order in which they were made.
    pub checks: Vec<Check>,
}

impl Report {
    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for check in &self.checks {
            let (word, style) = check.verdict.word();
            let _ = writeln!(
                text,
                "{} {}: {}",
                painted(style, &format!("{word:>4}")),
                check.name,
                shown(&check.found)
            );
            if check.verdict == Verdict::Ok {
                continue;
            }
            let _ = writeln!(
                text,
                "     {} {}",
                painted(DIM, "wanted:"),
                shown(&check.wanted)
            );
            if !check.todo.is_empty() {
                let _ = writeln!(
                    text,
                    "     {} {}",
                    painted(DIM, "to do:"),
                    shown(&check.todo)
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
    fn what_is_wanted_and_to_do_is_said_where_it_matters() {
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
