//! The story as text for a terminal: what matters in the first lines, wrapped, coloured whole words.

use textwrap::Options;

use super::story::{Event, EventKind, Judgement, Moment, Story, offset};
use crate::limits;

/// Whether a text may hold colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// None: for files, pipes, and who set `NO_COLOR`.
    Plain,
    /// ANSI escapes.
    Ansi,
}

impl Colour {
    /// A text in the colour of this code.
    #[must_use]
    pub fn paint(self, code: &str, text: &str) -> String {
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

/// The story for a person at a terminal of this width.
#[must_use]
pub fn text(story: &Story, colour: Colour, columns: usize) -> String {
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

    /// A paragraph: its first line begins with `first`, the others with as many blanks. A beginning
    /// that is too long for that is a part of the text: its length is whoever's.
    fn say(&mut self, first: &str, text: &str) {
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
            story.stance.sign(),
            story.stance_title.to_uppercase()
        );
        self.lines
            .push(self.colour.tone(story.stance.tone(), &title));
        self.say("", &format!("{}.", story.headline));
        self.say("", &story.summary);
        self.lines.push(String::new());
        for answer in &story.answers {
            let since = answer
                .since
                .map(|time| format!(" since {}", minute(time)))
                .unwrap_or_default();
            let head = format!("  {:<10}{:<8}", answer.question, answer.answer);
            self.say(
                &head,
                &format!("{}{since}: {}", answer.reason, answer.sentence),
            );
        }
        self.lines.push(String::new());
        self.say(
            "  incident  ",
            &format!("{}/{}", story.incident.namespace, story.incident.name),
        );
        if let Some(run) = &story.run {
            let note = story.run_note.as_deref().unwrap_or_default();
            self.say("  run       ", &format!("{run}. {note}"));
        }
        let pod = &story.pod;
        let node = pod
            .node
            .as_ref()
            .map(|node| format!(" on {node}"))
            .unwrap_or_default();
        self.say(
            "  pod       ",
            &format!(
                "{}{node}, {}. {}",
                pod.name,
                pod.addresses.join(", "),
                pod.now
            ),
        );
        if let Some(owner) = &pod.owner {
            self.say("  owner     ", owner);
        }
        for pair in &story.trace {
            self.say("  trace     ", &format!("{} {}", pair.name, pair.value));
        }
    }

    fn next(&mut self, story: &Story) {
        self.section("What to do next");
        for (number, step) in (1..).zip(&story.next) {
            self.say(
                &format!("  {number}. "),
                &format!("{}. {}", step.title, step.why),
            );
            if let Some(command) = &step.command {
                // Not wrapped: it is there to be copied.
                self.lines
                    .push(format!("     {}", self.colour.paint("36", command)));
            }
        }
    }

    fn why(&mut self, story: &Story) {
        self.section("Why");
        for judgement in &story.evidence {
            self.judgement(judgement);
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
            self.say("  techniques: ", &names.join(", "));
        }
    }

    fn judgement(&mut self, judgement: &Judgement) {
        let observe = if judgement.observe_only {
            ", observed only"
        } else {
            ""
        };
        self.say(
            "  ",
            &format!(
                "{}: {}{observe}, seen by {}",
                judgement.title, judgement.severity, judgement.node
            ),
        );
        self.lines.push(format!("    {}", gauge(judgement)));
        self.say("    ", &judgement.summary);
        for sentence in &judgement.why {
            self.say("    ", sentence);
        }
        for sentence in &judgement.against {
            self.say("    against it: ", sentence);
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
            self.say(&head, &format!("{title}{detail}"));
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
            self.say(&format!("  {}{name}: ", row.place), &services.join(", "));
        }
        if targets.left_out > 0 {
            self.say("  ", &format!("and {} more", targets.left_out));
        }
    }

    fn policies(&mut self, story: &Story) {
        self.section("Network policies that select the pod");
        for policy in &story.policies.selecting {
            let widens = if policy.widens {
                ". It lets more through than what should hold the pod"
            } else {
                ""
            };
            self.say(
                "  ",
                &format!(
                    "{} ({}): {}{widens}",
                    policy.name,
                    policy.whose,
                    policy.allows.join("; ")
                ),
            );
        }
        if let Some(note) = &story.policies.note {
            self.say("  ", note);
        }
    }

    fn rest(&mut self, story: &Story) {
        if !story.restore.is_empty() {
            self.section("What a release sets back");
            for part in &story.restore {
                self.say(
                    "  ",
                    &format!(
                        "{} {}: {} instead of {}",
                        part.object, part.field, part.before, part.set
                    ),
                );
            }
        }
        self.section("What cannot be known");
        for sentence in &story.unknown {
            self.say("  - ", sentence);
        }
    }
}

fn minute(time: Moment) -> String {
    format!("{} {}", time.day(), time.clock())
}

/// The score against its line, as a bar: filled up to the score, with a mark at the line.
fn gauge(judgement: &Judgement) -> String {
    const CELLS: usize = 40;
    let most = judgement
        .score
        .max(judgement.threshold)
        .max(f64::MIN_POSITIVE);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss
    )] // 0 to 40
    let cell = |nats: f64| ((nats.max(0.0) / most) * CELLS as f64).round() as usize;
    let (filled, line) = (cell(judgement.score), cell(judgement.threshold).min(CELLS));
    let bar: String = (0..=CELLS)
        .map(|at| match at {
            _ if at == line => '|',
            _ if at < filled => '█',
            _ => '·',
        })
        .collect();
    format!(
        "{bar} {:.1} nats, line {:.1}",
        judgement.score, judgement.threshold
    )
}
