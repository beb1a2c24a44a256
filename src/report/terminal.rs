//! The report as text for a terminal: the most important facts first, wrapped, with coloured words.

use textwrap::Options;

use super::story::{Event, EventKind, Moment, ReportedFinding, Story, offset};
use crate::limits;

/// Whether a text may hold colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colour {
    /// No colours: for files, pipes, and with `NO_COLOR`.
    Plain,
    /// ANSI escapes.
    Ansi,
}

impl Colour {
    /// A text in the colour with this ANSI code.
    #[must_use]
    pub(crate) fn paint(self, code: &str, text: &str) -> String {
        match self {
            Self::Plain => text.to_owned(),
            Self::Ansi => format!("\u{1b}[{code}m{text}\u{1b}[0m"),
        }
    }

    fn tone(self, tone: &str, text: &str) -> String {
        match tone {
            "good" => self.paint("1;32", text),
            "bad" => self.paint("1;31", text),
            "wait" => self.paint("1;33", text),
            _ => self.paint("1", text),
        }
    }
}

/// The report for a terminal of this width.
#[must_use]
pub(crate) fn text(story: &Story, colour: Colour, columns: usize) -> String {
    let mut page = Page {
        lines: Vec::new(),
        colour,
        columns: columns.clamp(40, limits::SCREEN_COLUMNS_MAX),
    };
    page.head(story);
    page.next(story);
    page.why(story);
    page.timeline(&story.timeline);
    page.targets(story);
    page.policies(story);
    page.rest(story);
    let mut text = page.lines.join("\n");
    text.push('\n');
    text
}

struct Page {
    lines: Vec<String>,
    colour: Colour,
    columns: usize,
}

impl Page {
    fn section(&mut self, title: &str) {
        self.lines.push(String::new());
        self.lines.push(self.colour.paint("1", title));
    }

    /// A paragraph: its first line begins with `first`, the others are indented by its width. A `first` that is too long
    /// becomes part of the text: it may contain a name of any length.
    fn paragraph(&mut self, first: &str, text: &str) {
        let width = first.chars().count();
        let (first, rest, text) = if width <= self.columns / 2 {
            (first, " ".repeat(width), text.to_owned())
        } else {
            (
                "  ",
                "    ".to_owned(),
                format!("{}{text}", first.trim_start()),
            )
        };
        let options = Options::new(self.columns)
            .initial_indent(first)
            .subsequent_indent(&rest);
        let wrapped = textwrap::wrap(&text, options);
        self.lines
            .extend(wrapped.into_iter().map(|line| line.trim_end().to_owned()));
    }

    fn head(&mut self, story: &Story) {
        let title = format!(
            "{} {}",
            story.phase.sign(),
            story.phase_title.to_uppercase()
        );
        self.lines
            .push(self.colour.tone(story.phase.tone(), &title));
        self.paragraph("", &format!("{}.", story.headline));
        self.paragraph("", &story.summary);
        self.lines.push(String::new());
        for answer in &story.answers {
            let since = answer
                .since
                .map(|time| format!(" since {}", minute(time)))
                .unwrap_or_default();
            let head = format!("  {:<10}{:<8}", answer.question, answer.answer);
            self.paragraph(
                &head,
                &format!("{}{since}: {}", answer.reason, answer.sentence),
            );
        }
        self.lines.push(String::new());
        self.paragraph(
            "  incident  ",
            &format!("{}/{}", story.incident.namespace, story.incident.name),
        );
        if let Some(run) = &story.run {
            let note = story.run_note.as_deref().unwrap_or_default();
            self.paragraph("  run       ", &format!("{run}. {note}"));
        }
        let pod = &story.pod;
        let node = pod
            .node
            .as_ref()
            .map(|node| format!(" on {node}"))
            .unwrap_or_default();
        self.paragraph(
            "  pod       ",
            &format!(
                "{}{node}, {}. {}",
                pod.name,
                pod.addresses.join(", "),
                pod.now
            ),
        );
        if let Some(owner) = &pod.owner {
            self.paragraph("  owner     ", owner);
        }
        for pair in &story.trace {
            self.paragraph("  trace     ", &format!("{} {}", pair.name, pair.value));
        }
    }

    fn next(&mut self, story: &Story) {
        self.section("What to do next");
        for (number, step) in (1..).zip(&story.next) {
            self.paragraph(
                &format!("  {number}. "),
                &format!("{}. {}", step.title, step.why),
            );
            if let Some(command) = &step.command {
                // Not wrapped, so that it can be copied.
                self.lines
                    .push(format!("     {}", self.colour.paint("36", command)));
            }
        }
    }

    fn why(&mut self, story: &Story) {
        self.section("Why");
        for finding in &story.evidence {
            self.finding(finding);
        }
        if !story.techniques.is_empty() {
            let names: Vec<_> = story
                .techniques
                .iter()
                .map(|technique| match &technique.name {
                    Some(name) => format!("{} ({name})", technique.id),
                    None => technique.id.clone(),
                })
                .collect();
            self.paragraph("  techniques: ", &names.join(", "));
        }
    }

    fn finding(&mut self, finding: &ReportedFinding) {
        let observe = if finding.observe_only {
            ", observed only"
        } else {
            ""
        };
        self.paragraph(
            "  ",
            &format!(
                "{}: {}{observe}, seen by {}",
                finding.title, finding.severity, finding.node
            ),
        );
        self.lines.push(format!("    {}", gauge(finding)));
        self.paragraph("    ", &finding.summary);
        for sentence in &finding.why {
            self.paragraph("    ", sentence);
        }
        for sentence in &finding.against {
            self.paragraph("    against it: ", sentence);
        }
    }

    fn timeline(&mut self, events: &[Event]) {
        self.section("Timeline (UTC)");
        let mut day = String::new();
        let begin = events.first().map(|event| event.time);
        for event in events {
            if event.time.day() != day {
                day = event.time.day();
                self.lines.push(format!("  {day}"));
            }
            let after = begin.map_or(0, |begin| {
                event.time.micros().saturating_sub(begin.micros())
            });
            let head = format!(
                "  {:<10} {:>8}  {:<7} ",
                event.time.clock(),
                format!("+{}", offset(after)),
                event.kind.word()
            );
            let title = if event.kind == EventKind::Failed {
                format!("{} !", event.title)
            } else {
                event.title.clone()
            };
            let detail = if event.detail.is_empty() {
                String::new()
            } else {
                format!(". {}", event.detail)
            };
            self.paragraph(&head, &format!("{title}{detail}"));
        }
    }

    fn targets(&mut self, story: &Story) {
        let targets = &story.targets;
        if targets.rows.is_empty() {
            return;
        }
        self.section("Targets among the examples");
        for row in &targets.rows {
            let name = row
                .name
                .as_ref()
                .map(|name| format!(" ({name})"))
                .unwrap_or_default();
            let services: Vec<_> = targets
                .services
                .iter()
                .zip(&row.counts)
                .filter(|(_, (_, all))| *all > 0)
                .map(|(service, (failed, all))| format!("{service} {all} ({failed} failed)"))
                .collect();
            self.paragraph(&format!("  {}{name}: ", row.place), &services.join(", "));
        }
        if targets.left_out > 0 {
            self.paragraph("  ", &format!("and {} more", targets.left_out));
        }
    }

    fn policies(&mut self, story: &Story) {
        self.section("Network policies that select the pod");
        for policy in &story.policies.selecting {
            let widens = if policy.widens {
                ". It allows more than the policy that restricts the pod"
            } else {
                ""
            };
            self.paragraph(
                "  ",
                &format!(
                    "{} ({}): {}{widens}",
                    policy.name,
                    policy.role,
                    policy.allows.join("; ")
                ),
            );
        }
        if let Some(note) = &story.policies.note {
            self.paragraph("  ", note);
        }
    }

    fn rest(&mut self, story: &Story) {
        if !story.restore.is_empty() {
            self.section("What a release restores");
            for part in &story.restore {
                self.paragraph(
                    "  ",
                    &format!(
                        "{} {}: {} instead of {}",
                        part.object, part.field, part.before, part.set
                    ),
                );
            }
        }
        self.section("What this report cannot show");
        for sentence in &story.caveats {
            self.paragraph("  - ", sentence);
        }
    }
}

fn minute(time: Moment) -> String {
    format!("{} {}", time.day(), time.clock())
}

/// The score and its threshold as a bar: filled up to the score, with a mark at the threshold.
fn gauge(finding: &ReportedFinding) -> String {
    const CELLS: usize = 40;
    let most = finding.score.max(finding.threshold).max(f64::MIN_POSITIVE);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // 0 to 40
    let cell = |nats: f64| ((nats.max(0.0) / most) * CELLS as f64).round() as usize;
    let (filled, line) = (cell(finding.score), cell(finding.threshold).min(CELLS));
    let bar: String = (0..=CELLS)
        .map(|at| match at {
            _ if at == line => '|',
            _ if at < filled => '█',
            _ => '·',
        })
        .collect();
    format!(
        "{bar} {:.1} nats, line {:.1}",
        finding.score, finding.threshold
    )
}
