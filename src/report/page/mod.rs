//! The story as one self-contained page: no script, nothing from elsewhere.
//!
//! The templates stand in `templates/`; askama escapes whatever they show, and nothing here marks
//! a text as safe. The page's own policy (CSP) forbids scripts and requests besides.

mod map;
mod plot;

use askama::Template;

use super::story::{Answer, Judgement, Moment, Story, counted, offset};
use map::Map;
use plot::Plot;

use crate::limits;

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
#[error("failed to fill in the page")]
pub struct PageError(#[from] askama::Error);

/// The story as a page.
pub fn page(story: &Story) -> Result<String, PageError> {
    let seen: Vec<_> = story
        .evidence
        .iter()
        .enumerate()
        .map(|(index, judgement)| Seen {
            judgement,
            number: index + 1,
            plot: (index < limits::REPORT_PLOTS_MAX).then(|| Plot::new(story, judgement)),
        })
        .collect();
    let page = Page {
        story,
        seen,
        map: Map::new(&story.targets),
        begin: story.timeline.first().map(|event| event.time),
    };
    Ok(page.render()?)
}

#[derive(Template)]
#[template(path = "incident.html")]
struct Page<'s> {
    story: &'s Story,
    seen: Vec<Seen<'s>>,
    map: Option<Map>,
    begin: Option<Moment>,
}

/// One entry of evidence with its plot.
struct Seen<'s> {
    judgement: &'s Judgement,
    number: usize,
    plot: Option<Plot>,
}

impl Page<'_> {
    /// How long after the first event.
    fn after(&self, time: &Moment) -> String {
        let begin = self.begin.map_or(0, Moment::micros);
        offset(time.micros().saturating_sub(begin))
    }

    /// What a pointer on a time shows.
    fn tip(&self, time: &Moment) -> String {
        format!("{}, {} after the first event", time.iso(), self.after(time))
    }

    /// A sign beside an answer, so that colour is not all that tells.
    fn sign(answer: &Answer) -> &'static str {
        match answer.tone.as_str() {
            "good" => "✓",
            "bad" => "✕",
            "wait" => "?",
            _ => "·",
        }
    }

    fn contacts(count: &i64) -> String {
        counted(*count, "contact", "contacts")
    }

    fn nats(number: &f64) -> String {
        format!("{number:.1}")
    }
}
