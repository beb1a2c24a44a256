//! The report of `status` as text for a terminal. Pure. Text from the cluster is escaped.

use std::fmt::Write as _;

use anstyle::Style;
use jiff::Timestamp;

use super::report::{ConditionLine, OpenIncident, RunReport, State, StatusReport};
use crate::cli::output::{BAD, DIM, GOOD, WARNING, age, escaped, styled};

const HEADINGS: [&str; 7] = [
    "NAMESPACE",
    "RUN",
    "STATE",
    "PODS",
    "INCIDENTS",
    "SIGNALS",
    "SINCE",
];

/// The whole text.
pub(super) fn of(report: &StatusReport, now: Timestamp) -> String {
    let mut text = String::new();
    if report.runs.is_empty() {
        text.push_str("no AgentRun here; --all-namespaces looks everywhere\n");
    } else {
        table(&mut text, report, now);
    }
    for note in &report.notes {
        let _ = writeln!(text, "{}", styled(DIM, &format!("note: {}", escaped(note))));
    }
    text
}

fn table(text: &mut String, report: &StatusReport, now: Timestamp) {
    let rows: Vec<[String; 7]> = report.runs.iter().map(|run| cells(run, now)).collect();
    let mut widths = HEADINGS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    row(text, &HEADINGS.map(ToOwned::to_owned), &widths, None);
    for (run, cells) in report.runs.iter().zip(&rows) {
        row(text, cells, &widths, Some(colour_of(run.state)));
        details(text, run, report.is_whole, now);
    }
}

/// A row of the table. The state, its third cell, is in colour.
fn row(text: &mut String, cells: &[String; 7], widths: &[usize; 7], state: Option<Style>) {
    let mut row = String::new();
    for (place, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let padded = format!("{cell:width$}");
        match state {
            Some(style) if place == 2 => row.push_str(&styled(style, &padded)),
            _ => row.push_str(&padded),
        }
        row.push_str("  ");
    }
    text.push_str(row.trim_end());
    text.push('\n');
}

fn cells(run: &RunReport, now: Timestamp) -> [String; 7] {
    let pods = run.pods.as_ref().map_or_else(
        || "?".to_owned(),
        |pods| match pods.quarantined {
            0 => pods.total.to_string(),
            quarantined => format!("{} ({quarantined} held)", pods.total),
        },
    );
    [
        escaped(&run.namespace),
        escaped(&run.name),
        run.state.name().to_owned(),
        pods,
        run.incidents.len().to_string(),
        escaped(&run.signals),
        run.since
            .map_or_else(|| "?".to_owned(), |since| age(since, now)),
    ]
}

const fn colour_of(state: State) -> Style {
    match state {
        State::Quarantined | State::Unguarded => BAD,
        State::Suspicious | State::Unwatched => WARNING,
        State::Guarded | State::Ended => GOOD,
    }
}

fn details(text: &mut String, run: &RunReport, is_whole: bool, now: Timestamp) {
    for line in &run.conditions {
        let is_shown = is_whole || (!line.is_fine && !repeats(line));
        if is_shown {
            condition(text, line, now);
        }
    }
    for incident in &run.incidents {
        open(text, incident, now);
    }
    for next in &run.next {
        let _ = writeln!(text, "    {} {}", styled(DIM, "next:"), escaped(next));
    }
}

/// Whether a condition only repeats another one.
fn repeats(line: &ConditionLine) -> bool {
    matches!(line.kind.as_str(), "Ready" | "Reconciling" | "Suspicious")
}

fn condition(text: &mut String, line: &ConditionLine, now: Timestamp) {
    let style = if line.is_fine { DIM } else { WARNING };
    let name = format!("{}={}", line.kind, line.status);
    let _ = writeln!(
        text,
        "    {} {} ({}): {}",
        styled(style, &escaped(&name)),
        escaped(&line.reason),
        age(line.since, now),
        escaped(&line.message)
    );
}

fn open(text: &mut String, incident: &OpenIncident, now: Timestamp) {
    let mut words = vec![format!("incident {}", escaped(&incident.name))];
    if !incident.pod.is_empty() {
        words.push(format!("pod {}", escaped(&incident.pod)));
    }
    if !incident.signatures.is_empty() {
        words.push(escaped(&incident.signatures.join("+")));
    }
    words.push(format!(
        "contained: {}, verified: {}",
        escaped(&incident.contained),
        escaped(&incident.verified)
    ));
    if let Some(since) = incident.since {
        words.push(age(since, now));
    }
    if incident.is_confirmed {
        words.push("confirmed by a human".to_owned());
    }
    let _ = writeln!(text, "    {}", words.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::PodsSummary;

    fn report(state: State) -> StatusReport {
        let at = Timestamp::from_second(0).unwrap();
        let line = |kind: &str, is_fine| ConditionLine {
            kind: kind.to_owned(),
            status: "True".to_owned(),
            reason: "R\u{1b}[2J".to_owned(),
            message: "m\u{9b}1A\r".to_owned(),
            since: at,
            is_fine,
        };
        StatusReport {
            runs: vec![RunReport {
                namespace: "ns".to_owned(),
                name: "r".to_owned(),
                state,
                pods: Some(PodsSummary {
                    total: 2,
                    quarantined: 1,
                }),
                reason: "R".to_owned(),
                since: Some(at),
                signals: "SourcesFresh".to_owned(),
                conditions: vec![line("Quarantined", false), line("Accepted", true)],
                incidents: Vec::new(),
                next: vec!["do \u{202e}this".to_owned()],
            }],
            notes: Vec::new(),
            is_whole: false,
        }
    }

    fn plain(report: &StatusReport) -> String {
        let text = of(report, Timestamp::from_second(60).unwrap());
        anstream::adapter::strip_str(&text).to_string()
    }

    #[test]
    fn a_run_takes_one_line_and_its_problems_follow() {
        let text = plain(&report(State::Quarantined));
        let lines: Vec<&str> = text.lines().collect();
        assert!(
            lines[1].starts_with("ns         r    Quarantined  2 (1 held)"),
            "{text}"
        );
        assert!(lines[2].contains("Quarantined=True"), "{text}");
        assert!(!text.contains("Accepted"), "{text}");
        assert!(lines[3].contains("next:"), "{text}");
    }

    #[test]
    fn a_single_run_is_shown_in_full() {
        let whole = StatusReport {
            is_whole: true,
            ..report(State::Guarded)
        };
        assert!(plain(&whole).contains("Accepted=True"));
    }

    #[test]
    fn text_from_the_cluster_is_escaped() {
        let text = plain(&report(State::Quarantined));
        assert!(
            text.chars().all(|c| c == '\n' || !c.is_control()),
            "{text:?}"
        );
        assert!(
            text.contains("\\u{1b}[2J") && text.contains("\\u{202e}"),
            "{text}"
        );
    }
}
