//! The plot of one finding: its score and threshold over time, the actions, and how long the log continued without the
//! pod. Geometry only; the template draws it.
//!
//! A scan takes a second, its verification ten, a human's decision an hour. Therefore the time axis is logarithmic and
//! starts at the first contact.

use std::fmt::Write as _;

use crate::model::duration;
use crate::report::story::{Event, EventKind, Moment, ReportedFinding, Story, counted};

const WIDTH: f64 = 640.0;
const LEFT: f64 = 46.0;
const RIGHT: f64 = 632.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 236.0;
/// Least room between two labels on the axis of time.
const TICK_ROOM: f64 = 64.0;
/// Most marks with labels that fit above the plot.
const MARKS_MAX: usize = 6;
/// Lines of labels above the plot.
const MARK_ROWS: usize = 3;
/// Width of the label in the band without traffic.
const SILENCE_LABEL_WIDTH: f64 = 140.0;
/// Longest label of a mark to which another one is added.
const LABEL_BYTES_MAX: usize = 24;
/// About the width of a letter of a mark's label.
const LETTER: f64 = 6.4;

/// Possible ticks of the time axis, in microseconds.
const TICKS: [i64; 14] = [
    100_000,
    1_000_000,
    5_000_000,
    10_000_000,
    30_000_000,
    60_000_000,
    300_000_000,
    600_000_000,
    3_600_000_000,
    21_600_000_000,
    86_400_000_000,
    604_800_000_000,
    2_592_000_000_000,
    31_536_000_000_000,
];

/// The elements that the template draws.
pub(super) struct Plot {
    pub width: f64,
    pub left: f64,
    pub right: f64,
    pub top: f64,
    pub bottom: f64,
    /// Height of the line, and its label.
    pub line_y: f64,
    pub line_label: String,
    /// The threshold of an alert, if the history starts with one.
    pub alert: Option<(f64, String)>,
    /// Corners of the score's curve, as SVG wants them.
    pub curve: String,
    /// Whether only the last point is in the record.
    pub is_sketch: bool,
    pub points: Vec<Point>,
    /// Times of example contacts, and whether they failed.
    pub contacts: Vec<(f64, bool)>,
    pub marks: Vec<Mark>,
    /// Start and end of the band in which the log continued without the pod.
    pub silence: Option<(f64, f64)>,
    /// Whether its label fits into it.
    pub silence_is_wide: bool,
    pub x_ticks: Vec<(f64, String)>,
    pub y_ticks: Vec<(f64, String)>,
    pub description: String,
}

pub(super) struct Point {
    pub x: f64,
    pub y: f64,
    pub tip: String,
}

/// A vertical line with a label above the plot.
pub(super) struct Mark {
    pub x: f64,
    pub label_x: f64,
    pub label_y: f64,
    pub anchor: &'static str,
    pub label: String,
    pub tip: String,
    pub is_failure: bool,
}

impl Plot {
    pub(super) fn new(story: &Story, finding: &ReportedFinding) -> Self {
        let axis = Axis::new(story, finding);
        let most = finding
            .course
            .iter()
            .flat_map(|point| [point.score, point.threshold])
            .fold(finding.score.max(finding.threshold).max(1.0), f64::max)
            * 1.08;
        let y = |nats: f64| BOTTOM - (nats.clamp(0.0, most) / most) * (BOTTOM - TOP);
        let is_sketch = finding.course.len() < 2;
        let silence = silence(story, &axis);
        let points = points(finding, &axis, y);
        let curve = curve(&points, y(0.0));
        let alert = finding
            .course
            .iter()
            .map(|point| point.threshold)
            .find(|threshold| *threshold < finding.threshold * 0.99)
            .map(|threshold| (y(threshold), format!("alert line {threshold:.1}")))
            // Else its label would lie on the axis or on the other line.
            .filter(|(height, _)| BOTTOM - height > 20.0 && height - y(finding.threshold) > 2.0);
        Self {
            width: WIDTH,
            left: LEFT,
            right: RIGHT,
            top: TOP,
            bottom: BOTTOM,
            line_y: y(finding.threshold),
            line_label: format!(
                "{} line {:.1}",
                finding.severity.to_lowercase(),
                finding.threshold
            ),
            alert,
            curve,
            is_sketch,
            points,
            contacts: finding
                .examples
                .iter()
                .map(|contact| {
                    (
                        axis.x(contact.time),
                        crate::report::findings::is_failed(contact),
                    )
                })
                .collect(),
            marks: marks(story, &axis),
            silence,
            silence_is_wide: silence.is_some_and(|(from, to)| to - from > SILENCE_LABEL_WIDTH),
            x_ticks: axis.ticks(),
            y_ticks: y_ticks(most)
                .into_iter()
                .map(|nats| (y(nats), format!("{nats:.0}")))
                .collect(),
            description: describe(story, finding, is_sketch),
        }
    }
}

/// The axis of time.
struct Axis {
    begin: i64,
    /// Where the axis changes from linear to logarithmic.
    knee: f64,
    length: f64,
}

impl Axis {
    fn new(story: &Story, finding: &ReportedFinding) -> Self {
        let begin = finding.first.micros();
        let ends = story
            .timeline
            .iter()
            .filter(|event| event.kind != EventKind::Human)
            .map(|event| event.time.micros());
        let course_end = finding.course.iter().map(|point| point.time.micros());
        let end = ends
            .chain(course_end)
            .max()
            .unwrap_or(begin)
            .max(finding.last.micros());
        let active = finding
            .course
            .last()
            .map_or(finding.last, |point| point.time);
        #[allow(clippy::cast_precision_loss)] // a plot
        let (active, length) = (
            active.micros().saturating_sub(begin).max(0) as f64,
            end.saturating_sub(begin).max(1_000_000) as f64,
        );
        Self {
            begin,
            knee: (active / 4.0).clamp(200_000.0, f64::MAX),
            length,
        }
    }

    fn x(&self, time: Moment) -> f64 {
        self.place(time.micros().saturating_sub(self.begin))
    }

    #[allow(clippy::cast_precision_loss)] // a plot
    fn place(&self, after: i64) -> f64 {
        let share = (after.max(0) as f64 / self.knee).ln_1p() / (self.length / self.knee).ln_1p();
        LEFT + share.clamp(0.0, 1.0) * (RIGHT - LEFT)
    }

    fn ticks(&self) -> Vec<(f64, String)> {
        let mut ticks = vec![(LEFT, "first contact".to_owned())];
        // Room for the first label.
        let mut last = LEFT + TICK_ROOM / 2.0;
        #[allow(clippy::cast_precision_loss)] // a plot
        for tick in TICKS
            .into_iter()
            .filter(|tick| (*tick as f64) < self.length)
        {
            let x = self.place(tick);
            if x - last >= TICK_ROOM {
                ticks.push((x, format!("+{}", brief(tick))));
                last = x;
            }
        }
        ticks
    }
}

fn brief(micros: i64) -> String {
    if micros < 1_000_000 {
        duration::precise(micros)
    } else {
        duration::precise(micros).replace(".0 s", " s")
    }
}

fn points(finding: &ReportedFinding, axis: &Axis, y: impl Fn(f64) -> f64) -> Vec<Point> {
    if finding.course.is_empty() {
        return vec![Point {
            x: axis.x(finding.last),
            y: y(finding.score),
            tip: format!(
                "{}: {} contacts, {:.1} nats",
                finding.last.iso(),
                finding.contacts,
                finding.score
            ),
        }];
    }
    finding
        .course
        .iter()
        .map(|point| Point {
            x: axis.x(point.time),
            y: y(point.score),
            tip: format!(
                "{}: {} contacts, {:.1} nats, line {:.1}",
                point.time.iso(),
                point.contacts,
                point.score,
                point.threshold
            ),
        })
        .collect()
}

fn curve(points: &[Point], floor: f64) -> String {
    let mut corners = format!("{LEFT:.1},{floor:.1}");
    for point in points {
        // Writing to a String cannot fail.
        let _ = write!(corners, " {:.1},{:.1}", point.x, point.y);
    }
    corners
}

/// Actions and failures, each label in the first row above the plot where it fits. Events at the same position share a
/// mark.
fn marks(story: &Story, axis: &Axis) -> Vec<Mark> {
    let is_marked = |event: &&Event| matches!(event.kind, EventKind::Done | EventKind::Failed);
    let mut marks: Vec<Mark> = Vec::new();
    for event in story.timeline.iter().filter(is_marked) {
        let x = axis.x(event.time);
        let label = label_of(event);
        let is_failure = event.kind == EventKind::Failed;
        let tip = format!("{} {}", event.time.iso(), event.title);
        let same = |mark: &&mut Mark| (mark.x - x).abs() < 2.0 && mark.is_failure == is_failure;
        if let Some(mark) = marks.iter_mut().find(same) {
            if mark.label.len() < LABEL_BYTES_MAX && !mark.label.contains(label) {
                mark.label = format!("{}, {label}", mark.label);
                mark.tip = format!("{}; {tip}", mark.tip);
            }
        } else if marks.len() < MARKS_MAX {
            marks.push(Mark {
                x,
                label_x: x,
                label_y: TOP,
                anchor: "start",
                label: label.to_owned(),
                tip,
                is_failure,
            });
        }
    }
    let mut ends = [0.0_f64; MARK_ROWS];
    for mark in &mut marks {
        place_label(mark, &mut ends);
    }
    marks
}

#[allow(clippy::cast_precision_loss)] // a plot
fn place_label(mark: &mut Mark, ends: &mut [f64; MARK_ROWS]) {
    let wide = mark.label.chars().count() as f64 * LETTER + 8.0;
    let is_late = mark.x + wide > RIGHT;
    let begin = if is_late { mark.x - wide } else { mark.x };
    let row = ends
        .iter()
        .position(|end| *end <= begin)
        .unwrap_or(MARK_ROWS - 1);
    if let Some(end) = ends.get_mut(row) {
        *end = begin + wide;
    }
    mark.label_x = if is_late { mark.x - 4.0 } else { mark.x + 4.0 };
    mark.label_y = TOP - 10.0 - (row as f64) * 16.0;
    mark.anchor = if is_late { "end" } else { "start" };
}

/// From the isolation, or the last traffic after it, to the newest line of the log.
fn silence(story: &Story, axis: &Axis) -> Option<(f64, f64)> {
    let of = |title: &str| {
        story
            .timeline
            .iter()
            .filter(move |event| event.title.starts_with(title))
            .map(|event| event.time)
            .max()
    };
    let end = of("Newest line of the log")?;
    let begin = of("Traffic passed")
        .into_iter()
        .chain(of("Isolate:"))
        .max()?;
    let (begin, end) = (axis.x(begin), axis.x(end));
    (end > begin + 1.0).then_some((begin, end))
}

/// The action without its target.
fn label_of(event: &Event) -> &str {
    let label = event.title.split([':', '(']).next();
    label.unwrap_or_default().trim()
}

fn y_ticks(most: f64) -> Vec<f64> {
    let step = [
        5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0, 5_000.0, 10_000.0, 100_000.0,
    ]
    .into_iter()
    .find(|step| most / step <= 5.0)
    .unwrap_or(most);
    (0..=5_u32)
        .map(|n| f64::from(n) * step)
        .filter(|nats| *nats < most)
        .collect()
}

fn describe(story: &Story, finding: &ReportedFinding, is_sketch: bool) -> String {
    let mut text = format!(
        "The score rose to {:.1} nats with {}; the {} line is {:.1}.",
        finding.score,
        counted(finding.contacts, "contact", "contacts"),
        finding.severity.to_lowercase(),
        finding.threshold
    );
    if is_sketch {
        text.push_str(
            " The record holds only its last value, so the dotted way to it is a sketch.",
        );
    }
    let done = story
        .timeline
        .iter()
        .find(|event| event.kind == EventKind::Done);
    if let Some(event) = done {
        let after = event.time.micros().saturating_sub(finding.first.micros());
        let _ = write!(
            text,
            " First action: {}, {} after the first contact.",
            label_of(event),
            duration::precise(after.max(0))
        );
    }
    text
}
