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

/// Characters that break a line, move the cursor, change the direction of text, or are not visible: control characters,
/// line separators, annotations, and the property `Default_Ignorable_Code_Point` of Unicode 16.
pub(super) fn is_unsafe_to_show(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
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
    fn invisible_characters_are_replaced_and_letters_are_not() {
        for hidden in
            "\u{ad}\u{61c}\u{180e}\u{2028}\u{2029}\u{202e}\u{3164}\u{fe0f}\u{e0041}".chars()
        {
            let text = BoundedText::new(&format!("a{hidden}b"));
            assert_eq!(text.as_str(), "a?b", "{hidden:?}");
        }
        let letters = "aä語한😀";
        assert_eq!(BoundedText::new(letters).as_str(), letters);
    }

    #[test]
    fn a_cut_never_splits_a_character() {
        assert_eq!(clip("aä", 2), "a");
        assert_eq!(clip("aä", 3), "aä");
    }
}
