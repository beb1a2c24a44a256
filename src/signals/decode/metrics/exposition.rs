//! One line of the Prometheus text format: `name{label="value",...} value [milliseconds]`.
//!
//! Called by the readers of kubelets and DCGM exporters. Borrows from the line. Comments and blank
//! lines are skipped; anything else that does not follow the format is [`Malformed`].

use std::borrow::Cow;

use super::super::Malformed;
use super::super::time::plausible;
use crate::limits;
use crate::model::EventTime;

/// One value of one series.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Series<'a> {
    pub(super) name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    pub(super) value: f64,
    /// The time in the line, if any.
    pub(super) time: Option<EventTime>,
}

impl<'a> Series<'a> {
    /// The value of a label. As in Prometheus, an empty label is the same as an absent one.
    pub(super) fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(label, _)| *label == name)?;
        Some(found.1.as_ref()).filter(|value| !value.is_empty())
    }

    /// Whether there is a label of this name, even an empty one.
    pub(super) fn has_label(&self, name: &str) -> bool {
        self.labels.iter().any(|(label, _)| *label == name)
    }

    /// Reads a line. `wants` decides by the name of a series whether it is read.
    pub(super) fn read(
        line: &'a str,
        wants: impl Fn(&str) -> bool,
    ) -> Result<Option<Self>, Malformed> {
        if line.len() > limits::LINE_BYTES_MAX {
            return Err(Malformed::TooLong);
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            return Ok(None);
        }
        let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace());
        let (name, rest) = line.split_at(end.ok_or(Malformed::Truncated)?);
        if name.is_empty() {
            return Err(Malformed::MissingField);
        }
        if !wants(name) {
            return Ok(None);
        }
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => read_labels(rest)?,
            None => (Vec::new(), rest),
        };
        let mut words = rest.split_ascii_whitespace();
        let value = words.next().ok_or(Malformed::Truncated)?;
        let value = value.parse().map_err(|_| Malformed::BadNumber)?;
        let time = words.next().map(milliseconds).transpose()?;
        if words.next().is_some_and(|more| !more.starts_with('#')) {
            return Err(Malformed::BadNumber);
        }
        Ok(Some(Self {
            name,
            labels,
            value,
            time,
        }))
    }
}

fn milliseconds(text: &str) -> Result<EventTime, Malformed> {
    let number: i64 = text.parse().map_err(|_| Malformed::BadTime)?;
    let time = EventTime::from_micros(number.saturating_mul(1_000));
    plausible(time).ok_or(Malformed::BadTime)
}

type Labels<'a> = Vec<(&'a str, Cow<'a, str>)>;

/// The labels after `{`, and the text after `}`. A duplicate name is an error: pod labels chosen
/// by the agent may be among them, and two readers could obtain two different pods.
fn read_labels(text: &str) -> Result<(Labels<'_>, &str), Malformed> {
    let mut labels: Labels<'_> = Vec::new();
    let mut rest = text.trim_start();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return Ok((labels, after));
        }
        let (name, after) = rest.split_once('=').ok_or(Malformed::Truncated)?;
        let name = name.trim();
        let after = after.trim_start().strip_prefix('"');
        let (value, after) = quoted(after.ok_or(Malformed::MissingField)?)?;
        if labels.iter().any(|(known, _)| *known == name) {
            return Err(Malformed::DuplicateKey);
        }
        if labels.len() >= limits::SERIES_LABELS_MAX {
            return Err(Malformed::TooLong);
        }
        labels.push((name, value));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.starts_with('}') => after,
            None => return Err(Malformed::Truncated),
        };
    }
}

/// The text up to the closing quote, and the text after it.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), Malformed> {
    let mut unescaped: Option<String> = None;
    let mut is_escaped = false;
    for (at, c) in text.char_indices() {
        let so_far = text.get(..at).unwrap_or_default();
        match (is_escaped, c) {
            (false, '"') => {
                let value = unescaped.map_or(Cow::Borrowed(so_far), Cow::Owned);
                return Ok((value, text.get(at + 1..).unwrap_or_default()));
            }
            (false, '\\') => {
                is_escaped = true;
                unescaped.get_or_insert_with(|| so_far.to_owned());
                continue;
            }
            (true, 'n') => push(&mut unescaped, '\n'),
            (_, other) => push(&mut unescaped, other),
        }
        is_escaped = false;
    }
    Err(Malformed::Truncated)
}

fn push(text: &mut Option<String>, c: char) {
    if let Some(text) = text {
        text.push(c);
    }
}
