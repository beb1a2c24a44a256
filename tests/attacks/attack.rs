//! One attack: two generated logs, with the trick and without it, and what each must lead to.
//!
//! Used by the tables and by `main`, which tries them. The logs go through the same code as those of `yellowjack replay`.

use std::net::IpAddr;
use std::path::PathBuf;

use yellowjack::testing::model::Severity;
use yellowjack::testing::replay::{
    CaptureResult, Setup, SetupFiles, find_captures, replay_capture,
};

use crate::log::{HONEST, Log};

/// See the module.
pub struct Attack {
    /// The kind, and what this variant of it varies.
    pub name: String,
    /// The least action that the attack must lead to.
    pub demand: Severity,
    /// The least action that the same without the trick must lead to.
    pub control: Severity,
    /// For an attack that is known to remain: what its attacker keeps. docs/limits.md has it.
    pub remains: Option<&'static str>,
    build: Box<dyn Fn(bool) -> Log>,
}

impl Attack {
    /// An attack that must be stopped. `build` makes the log with the trick (true) and without it.
    pub fn new(
        name: impl Into<String>,
        demand: Severity,
        build: impl Fn(bool) -> Log + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            demand,
            control: Severity::Quarantine,
            remains: None,
            build: Box::new(build),
        }
    }

    /// The same without the trick is an alert only.
    pub fn with_alert_as_control(mut self) -> Self {
        self.control = Severity::Alert;
        self
    }

    /// The attack is known to remain, and its attacker keeps this.
    pub fn remaining(mut self, keeps: &'static str) -> Self {
        self.remains = Some(keeps);
        self
    }

    /// Tries the attack and its control.
    pub fn run(&self) -> Tried {
        let outcome = Outcome::of(&(self.build)(true));
        let control = Outcome::of(&(self.build)(false));
        Tried {
            is_stopped: outcome.severity >= Some(self.demand),
            is_control_caught: control.severity >= Some(self.control),
            outcome,
            control,
        }
    }
}

/// What came of an attack.
pub struct Tried {
    /// Whether it led to what it must lead to.
    pub is_stopped: bool,
    /// Whether the same without the trick was caught.
    pub is_control_caught: bool,
    /// What it led to.
    pub outcome: Outcome,
    /// What the same without the trick led to.
    pub control: Outcome,
}

/// What a log led to.
#[derive(Debug)]
pub struct Outcome {
    /// The least action among the attackers.
    pub severity: Option<Severity>,
    /// Until then: contacts in the finding, and seconds since the first record of the log.
    pub until: Option<(u64, i64)>,
    /// Attackers with a finding, and attackers.
    pub found: (usize, usize),
    /// Honest pods with a finding.
    pub framed: Vec<IpAddr>,
}

impl Outcome {
    /// Replays a log.
    pub fn of(log: &Log) -> Self {
        let folder = tempfile::tempdir().unwrap();
        log.write(folder.path());
        let runs = folder.path().join("runs.json");
        let mut files = SetupFiles::default();
        if log.is_run {
            let run = serde_json::json!({ "run": log.attackers });
            std::fs::write(&runs, run.to_string()).unwrap();
            files.runs = Some(runs);
        }
        let (setup, notes) = Setup::read(&files).unwrap();
        assert_eq!(notes, Vec::<String>::new());
        let samples: Option<PathBuf> = log
            .has_samples()
            .then(|| folder.path().join("samples.jsonl"));
        let captures = find_captures(&[folder.path().to_owned()], samples.as_deref()).unwrap();
        assert_eq!(captures.len(), 1);
        let result = replay_capture(&captures[0], &setup, &mut |_| {});
        assert_eq!(
            (result.malformed_count, result.unknown_count),
            (0, 0),
            "the log is not what its format's producer writes"
        );
        Self::read(log, &result)
    }

    fn read(log: &Log, result: &CaptureResult) -> Self {
        let honest: IpAddr = HONEST.parse().unwrap();
        let start = result.span.map(|(start, _)| start);
        let mut severity = Some(Severity::Quarantine);
        let mut until = None;
        let mut found = (0, log.attackers.len());
        for attacker in &log.attackers {
            let Some(subject) = result.subjects.get(attacker) else {
                severity = None;
                continue;
            };
            found.0 += usize::from(subject.severity().is_some());
            severity = severity.min(subject.severity());
            let findings = subject.findings.iter();
            let first = findings.map(|found| found.acted().unwrap_or(found.alerted));
            let first = first.min().map(|(time, contacts)| {
                let since = start.map_or(0, |start| time.micros_since(start));
                (contacts, since / 1_000_000)
            });
            until = until.max(first);
        }
        let honest = result.subjects.get_key_value(&honest);
        let framed = honest.filter(|(_, subject)| subject.severity().is_some());
        Self {
            severity,
            until,
            found,
            framed: framed.map(|(ip, _)| *ip).into_iter().collect(),
        }
    }

    /// In words.
    pub fn words(&self) -> String {
        let (found, all) = self.found;
        match (self.severity, self.until) {
            (Some(severity), Some((contacts, seconds))) => {
                let pods = if all == 1 {
                    String::new()
                } else {
                    format!(" of {all} pods")
                };
                format!("{severity:?}{pods} after {contacts} contacts, {seconds} s")
            }
            _ if all > 1 => format!("nothing for {} of {all} pods", all - found),
            _ => "nothing".to_owned(),
        }
    }
}
