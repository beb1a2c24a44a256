//! The output of the commands that a person runs: its formats, its styles, and their exit codes.
//!
//! Text from the cluster may come from an attacker (INV-6): it reaches the terminal through
//! `model::escape` alone.

use std::io::{IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use jiff::Timestamp;
use serde::Serialize;

use crate::model::duration;
use crate::model::escape::{for_json, for_terminal};
use crate::report::Colour;

/// The format of a command's output.
#[derive(clap::ValueEnum, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OutputFormat {
    /// Text for people; in colour on a terminal, unless NO_COLOR is set.
    #[default]
    Text,
    /// JSON.
    Json,
    /// YAML. Characters that could control a terminal are escaped.
    Yaml,
}

/// Exit code: bad use, as in clap.
pub(super) const BAD_USE: u8 = 2;
/// Exit code: at least one pod is in quarantine.
pub(super) const QUARANTINED: u8 = 10;
/// Exit code: at least one run is not guarded as its spec requires.
pub(super) const NOT_GUARDED: u8 = 11;
/// Exit code: an Incident is open, and nothing is contained.
pub(super) const SUSPICIOUS: u8 = 12;
/// Exit code: at least one run is not watched, because its signals are stale, lossy or missing.
pub(super) const NOT_WATCHED: u8 = 13;
/// Exit code: the disposition is stored, but was not carried out within the time to wait.
pub(super) const PENDING: u8 = 14;

/// Style of what is as it should be.
pub(super) const GOOD: Style = AnsiColor::Green.on_default();
/// Style of what needs a look.
pub(super) const WARNING: Style = AnsiColor::Yellow.on_default();
/// Style of what needs action.
pub(super) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Style of what matters less.
pub(super) const DIM: Style = Style::new().dimmed();

/// Writes a report to standard output: as `text` makes it, or the report itself as JSON or YAML.
pub(super) fn print_report<T: Serialize>(
    format: OutputFormat,
    report: &T,
    text: impl FnOnce(&T) -> String,
) -> anyhow::Result<()> {
    let output = match format {
        OutputFormat::Text => text(report),
        OutputFormat::Json => for_json(&serde_json::to_string_pretty(report)?) + "\n",
        OutputFormat::Yaml => {
            let mut value = serde_json::to_value(report)?;
            escape_strings(&mut value);
            serde_saphyr::to_string(&value)?
        }
    };
    let mut stdout = anstream::stdout();
    stdout.write_all(output.as_bytes())?;
    stdout.flush()?;
    Ok(())
}

/// Escapes every string of a document for a terminal.
fn escape_strings(value: &mut serde_json::Value) {
    match value {
        serde_json::Value::String(text) => *text = escaped(text),
        serde_json::Value::Array(values) => values.iter_mut().for_each(escape_strings),
        serde_json::Value::Object(fields) => fields.values_mut().for_each(escape_strings),
        _ => {}
    }
}

/// Text from the cluster, with characters escaped that could control a terminal.
#[must_use]
pub(super) fn escaped(text: &str) -> String {
    for_terminal(text)
}

/// Text with a style, which `anstream` removes where there is no terminal.
#[must_use]
pub(super) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// Colours on a terminal, unless the user wants none (no-color.org) or the terminal has none.
#[must_use]
pub(super) fn colour() -> Colour {
    let is_unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    if std::io::stdout().is_terminal() && !is_unwanted && !is_dumb {
        Colour::Ansi
    } else {
        Colour::Plain
    }
}

/// The time since `since`, in the largest unit that fits, as kubectl prints it.
#[must_use]
pub(super) fn age(since: Timestamp, now: Timestamp) -> String {
    duration::compact(now.duration_since(since).as_secs())
}
