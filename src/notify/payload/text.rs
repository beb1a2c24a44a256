//! Text for people: bounded, on one line, and without what a chat takes for markup.

use crate::model::clean;

/// Cuts `text` and takes out what chats and templates read as a mention, a link or code. A domain
/// that an agent asks for may hold any of it.
pub(super) fn plain(text: &str, bytes_max: usize) -> String {
    clean(text, bytes_max)
        .chars()
        .map(|c| match c {
            '<' | '[' => '(',
            '>' | ']' => ')',
            '`' | '|' => '\'',
            '@' => ' ',
            '{' | '}' | '*' | '~' => '.',
            _ => c,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_of_an_agent_is_no_markup() {
        let hostile = "<!channel> [pay](http://a) @here {{ .Labels }} `rm`\n\u{202e}x";
        let text = plain(hostile, 256);
        assert!(!text.contains(['<', '>', '[', '@', '{', '`', '\n', '\u{202e}']));
        assert!(plain(&"ä".repeat(999), 64).len() <= 64);
    }
}
