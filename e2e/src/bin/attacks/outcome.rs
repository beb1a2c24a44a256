//! What became of one attack, and its line in the list.

use std::collections::BTreeMap;
use std::fmt;

use yellowjack_e2e::attacks::{ApiAttack, TestPath};

/// What became of a test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TestResult {
    Passed,
    /// It lacks something on this machine.
    Skipped,
    Failed,
}

/// What became of an attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Result {
    Stopped,
    /// It is known to remain, and docs/limits.md has it.
    Remains,
    Skipped,
    Succeeded,
}

/// One line of the list.
#[derive(Debug)]
pub struct Row {
    pub name: String,
    /// How it was tried: `replay`, `api` or `unit`.
    pub kind: String,
    pub result: Result,
    /// What stopped it.
    pub stopped_by: String,
    /// What who tries it keeps.
    pub keeps: String,
    pub is_control_caught: bool,
    /// What its control is or led to.
    pub control: String,
}

impl Row {
    /// The row of an attack with these results of tests. A test that did not run counts as failed.
    pub fn of(attack: &ApiAttack, results: &BTreeMap<TestPath, TestResult>) -> Self {
        let result_of = |test: &TestPath| results.get(test).copied().unwrap_or(TestResult::Failed);
        let result = match result_of(&attack.test) {
            TestResult::Passed => Result::Stopped,
            TestResult::Skipped => Result::Skipped,
            TestResult::Failed => Result::Succeeded,
        };
        let kind = if attack.test.program == "lib" {
            "unit"
        } else {
            "api"
        };
        Self {
            name: attack.name.to_owned(),
            kind: kind.to_owned(),
            result,
            stopped_by: attack.stopped_by.to_owned(),
            keeps: attack.keeps.to_owned(),
            is_control_caught: result_of(&attack.control) != TestResult::Failed,
            control: attack.control.path.to_owned(),
        }
    }

    /// The row in a line of `tests/attacks`; `None` for another line.
    pub fn of_line(line: &str) -> Option<Self> {
        let (_, fields) = line.split_once("attack:\t")?;
        let fields: Vec<_> = fields.split('\t').collect();
        let [name, kind, result, outcome, keeps, control, without] = fields.as_slice() else {
            return None;
        };
        Some(Self {
            name: (*name).to_owned(),
            kind: (*kind).to_owned(),
            result: match *result {
                "stopped" => Result::Stopped,
                "remains" => Result::Remains,
                _ => Result::Succeeded,
            },
            stopped_by: (*outcome).to_owned(),
            keeps: (*keeps).to_owned(),
            is_control_caught: *control == "caught",
            control: (*without).to_owned(),
        })
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let result = match self.result {
            Result::Stopped => "stopped",
            Result::Remains => "REMAINS",
            Result::Skipped => "skipped",
            Result::Succeeded => "SUCCEEDED",
        };
        writeln!(f, "{result:<9} {:<6} {}", self.kind, self.name)?;
        let indent = " ".repeat(17);
        writeln!(f, "{indent}by: {}", self.stopped_by)?;
        writeln!(f, "{indent}keeps: {}", self.keeps)?;
        let failed = if self.is_control_caught {
            ""
        } else {
            " FAILED"
        };
        write!(f, "{indent}control{failed}: {}", self.control)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_replayed_attacks_is_read_behind_the_name_of_its_test() {
        let line =
            "test scans ... attack:\tevict\treplay\tremains\tnothing\tall of it\tFAILED\tnothing";
        let row = Row::of_line(line).unwrap();
        assert_eq!(
            (row.result, row.is_control_caught),
            (Result::Remains, false)
        );
        assert!(
            row.to_string().ends_with("control FAILED: nothing"),
            "{row}"
        );
        assert!(Row::of_line("test scans ... ok").is_none());
    }

    #[test]
    fn a_test_that_failed_or_did_not_run_is_an_attack_that_succeeded() {
        let attack = yellowjack_e2e::attacks::all().next().unwrap();
        for (result, expected) in [
            (None, Result::Succeeded),
            (Some(TestResult::Failed), Result::Succeeded),
            (Some(TestResult::Skipped), Result::Skipped),
            (Some(TestResult::Passed), Result::Stopped),
        ] {
            let results = result.map(|result| (attack.test, result));
            let row = Row::of(attack, &results.into_iter().collect());
            assert_eq!(row.result, expected);
            assert!(!row.is_control_caught, "its control did not run");
        }
    }
}
