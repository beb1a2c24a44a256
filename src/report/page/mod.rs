//! The report as one self-contained HTML page without scripts and external resources.
//!
//! The templates are in `templates/`. askama escapes everything that they show, and no text is marked as safe. In addition,
//! the page's Content-Security-Policy forbids scripts and requests.

mod map;
mod plot;

use askama::Template;

use super::story::{Answer, Moment, ReportedFinding, Story, counted, offset};
use map::Map;
use plot::Plot;

use crate::limits;

/// The page could not be rendered.
#[derive(Debug, thiserror::Error)]
#[error("failed to fill in the page")]
pub struct PageError(#[from] askama::Error);

/// The report as a page.
pub fn page(story: &Story) -> Result<String, PageError> {
    let seen: Vec<_> = story
        .evidence
        .iter()
        .enumerate()
        .map(|(index, finding)| Seen {
            finding,
            number: index + 1,
            plot: (index < limits::REPORT_PLOTS_MAX).then(|| Plot::new(story, finding)),
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
    finding: &'s ReportedFinding,
    number: usize,
    plot: Option<Plot>,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // templates pass references
impl Page<'_> {
    /// Time after the first event.
    fn after(&self, time: &Moment) -> String {
        let begin = self.begin.map_or(0, Moment::micros);
        offset(time.micros().saturating_sub(begin))
    }

    /// Tooltip of a time.
    fn tip(&self, time: &Moment) -> String {
        format!("{}, {} after the first event", time.iso(), self.after(time))
    }

    /// Whether the event at this position is the first of its day.
    fn is_new_day(&self, place: &usize) -> bool {
        let day = |at: Option<usize>| self.story.timeline.get(at?).map(|event| event.time.day());
        day(Some(*place)) != day(place.checked_sub(1))
    }

    /// A symbol beside an answer, so that the meaning does not depend on colour.
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
