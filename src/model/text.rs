//! Text that an agent can choose: names, labels, DNS queries. Decoders return it bounded and without control characters
//! (INV-6).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits;

/// Cuts `text` to at most `length_max` bytes at a character boundary.
#[must_use]
pub(crate) fn clip(text: &str, length_max: usize) -> &str {
    if text.len() <= length_max {
        return text;
    }
    let mut end = length_max;
    while end > 0 && !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

/// Cuts `text` to at most `length_max` bytes and replaces unsafe characters by `?`.
#[must_use]
pub(crate) fn clean(text: &str, length_max: usize) -> String {
    let clean = |c: char| if is_unsafe_to_show(c) { '?' } else { c };
    clip(text, length_max).chars().map(clean).collect()
}

/// Text that an attacker may have chosen, at most [`limits::NAME_BYTES_MAX`] bytes, with control characters replaced by `?`,
/// so that it can be stored in a status and shown on a terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "String")]
pub struct BoundedText(String);

impl BoundedText {
    /// Clips and cleans `text`.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(clean(text, limits::NAME_BYTES_MAX))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Saved text is untrusted input: it is clipped and cleaned again.
impl From<String> for BoundedText {
    fn from(text: String) -> Self {
        Self::new(&text)
    }
}

/// Control characters, and the format characters that reorder or hide text on a terminal.
fn is_unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

impl fmt::Display for BoundedText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_cut_and_cleaned() {
        let hostile = format!(
            "\u{1b}[31mred\u{202e}{}",
            "ä".repeat(limits::NAME_BYTES_MAX)
        );
        let text = BoundedText::new(&hostile);
        assert!(text.as_str().len() <= limits::NAME_BYTES_MAX);
        assert!(text.as_str().starts_with("?[31mred?ä"));
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(clip("aä", 2), "a");
        assert_eq!(clip("aä", 3), "aä");
    }
}
