//! Text for people: bounded, on one line, and without chat markup.

use crate::model::clean;

/// Cuts `text` and replaces what chats and templates interpret as a mention, a link or code. The name of a domain
/// that an agent looks up may contain any of it.
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
    fn markup_in_text_of_an_agent_is_replaced() {
        let hostile = "<!channel> [pay](http://a) @here {{ .Labels }} `rm`\n\u{202e}x";
        let text = plain(hostile, 256);
        assert!(!text.contains(['<', '>', '[', '@', '{', '`', '\n', '\u{202e}']));
        assert!(plain(&"ä".repeat(999), 64).len() <= 64);
    }
}
