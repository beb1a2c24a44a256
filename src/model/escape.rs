//! Escapes untrusted text for a terminal, JSON and Markdown.
//!
//! An agent chooses names in a log (INV-6), and names of files and texts in the cluster are untrusted as well. Called by the
//! reports of `replay` and by the command line for all text from other sources.

use std::fmt::Write as _;

use super::clip;
use super::text::is_unsafe_to_show;

/// Longest text in a report, in bytes. Summaries have at most 256.
const SHOWN_BYTES_MAX: usize = 512;

/// For a terminal: characters that move the cursor, hide text or change its direction become visible.
#[must_use]
pub(crate) fn for_terminal(text: &str) -> String {
    let mut shown = String::new();
    for c in clip(text, SHOWN_BYTES_MAX).chars() {
        if is_unsafe_to_show(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// For a document in JSON: line breaks are kept, and unsafe characters become JSON escapes, so that a program reads the
/// original text.
#[must_use]
pub(crate) fn for_json(document: &str) -> String {
    let mut shown = String::with_capacity(document.len());
    for c in document.chars() {
        if c != '\n' && is_unsafe_to_show(c) {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                // Writing to a String cannot fail.
                let _ = write!(shown, "\\u{unit:04x}");
            }
        } else {
            shown.push(c);
        }
    }
    shown
}

/// For Markdown, as a code span: there no link, mention, image or HTML works.
#[must_use]
pub(crate) fn for_markdown(text: &str) -> String {
    let shown = for_terminal(text).replace('`', "'").replace('|', "\\|");
    format!("`{}`", shown.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_control_characters_become_visible() {
        assert_eq!(
            for_terminal("a\u{1b}[2Jb\u{202e}c\n"),
            "a\\u{1b}[2Jb\\u{202e}c\\u{a}"
        );
        assert_eq!(for_terminal("pod-ä"), "pod-ä");
    }

    #[test]
    fn json_keeps_its_content() {
        let text = "a\u{9b}2J\u{202e}\u{e0001}\n\u{1b}";
        let document = serde_json::to_string_pretty(&[text]).unwrap();
        let shown = for_json(&document);
        assert!(
            shown.chars().all(|c| c == '\n' || !is_unsafe_to_show(c)),
            "{shown:?}"
        );
        assert_eq!(serde_json::from_str::<Vec<String>>(&shown).unwrap(), [text]);
    }

    #[test]
    fn a_name_cannot_leave_its_code_span_or_cell() {
        assert_eq!(
            for_markdown("x` | <img src=x> @team [a](b)"),
            "`x' \\| <img src=x> @team [a](b)`"
        );
    }
}
