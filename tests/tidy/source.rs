//! One file of the tree, as the rules see it: its text, and the same text with comments and
//! strings blanked out, so that a word in a comment is never taken for code.
//!
//! Blanked text keeps every line break and every byte offset. This is a lexer, not a parser: it
//! knows comments, strings, characters and braces, which is all that the rules need.

use std::fmt;
use std::ops::Range;

/// A file that people write.
pub struct TextFile {
    /// Path from the root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// A Rust file.
pub struct SourceFile {
    /// Path from the root, with `/`.
    pub path: String,
    /// The text as it stands.
    pub text: String,
    /// The text without comments.
    pub uncommented: String,
    /// The text without comments and without what strings and characters hold.
    pub code: String,
    /// `code` without test-only items; empty where the whole file is a test.
    pub production: String,
    /// The lines of the file that are not test-only.
    pub production_line_count: usize,
    /// `code` of test-only items alone; all of it where the whole file is a test.
    pub test_code: String,
}

/// One breach of one rule: where, what and how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub struct Breach {
    pub path: String,
    pub line: usize,
    pub what: String,
    pub fix: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}: {}\n    fix: {}",
            self.path, self.line, self.what, self.fix
        )
    }
}

/// A function with a body.
pub struct Function {
    pub name: String,
    pub line: usize,
    /// Lines of its body that hold more than blanks and comments.
    pub line_count: usize,
    /// Whether its attributes allow more lines and say why.
    pub has_reason: bool,
}

impl SourceFile {
    pub fn new(path: &str, text: &str) -> Self {
        let (uncommented, code) = mask(text);
        let tests = if is_test_file(path) {
            std::iter::once(0..code.len()).collect()
        } else {
            test_only_items(&code)
        };
        let production = blank(&code, |at| tests.iter().any(|range| range.contains(&at)));
        let test_code = blank(&code, |at| !tests.iter().any(|range| range.contains(&at)));
        let test_line_count: usize = tests
            .iter()
            .map(|range| {
                text.get(range.clone())
                    .map_or(0, |item| item.lines().count())
            })
            .sum();
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            production_line_count: text.lines().count().saturating_sub(test_line_count),
            uncommented,
            code,
            production,
            test_code,
        }
    }

    /// Whether the file is under this folder (or is this file) below `src/`.
    pub fn is_in(&self, module: &str) -> bool {
        module_name(&self.path).is_some_and(|name| is_or_below(&name, module))
    }

    pub fn breach(&self, offset: usize, what: String, fix: &str) -> Breach {
        Breach {
            path: self.path.clone(),
            line: line_of(&self.text, offset),
            what,
            fix: fix.to_owned(),
        }
    }

    pub fn functions(&self) -> Vec<Function> {
        word_offsets(&self.code, "fn")
            .into_iter()
            .filter_map(|at| self.function_at(at))
            .collect()
    }

    fn function_at(&self, at: usize) -> Option<Function> {
        let rest = self.code.get(at + 2..)?;
        let name: String = rest
            .trim_start()
            .chars()
            .take_while(|c| is_identifier(*c))
            .collect();
        let end = item_end(&self.code, at)?;
        if name.is_empty() || !self.code.get(..end)?.ends_with('}') {
            return None; // a function type, or a declaration without a body
        }
        let open = at + self.code.get(at..end)?.find('{')?;
        let body = self.uncommented.get(open + 1..end - 1)?;
        let line_count = body.lines().filter(|line| !line.trim().is_empty()).count();
        Some(Function {
            name,
            line: line_of(&self.code, at),
            line_count,
            has_reason: self.has_length_reason(at),
        })
    }

    /// `#[allow(clippy::too_many_lines)] // why`, or with `reason = "why"`, above the function.
    fn has_length_reason(&self, at: usize) -> bool {
        let head = self.code.get(..at).unwrap_or_default();
        let start = head.rfind(['}', ';', '{']).map_or(0, |end| end + 1);
        let attributes = self.text.get(start..at).unwrap_or_default();
        attributes.lines().any(|line| {
            line.split_once("clippy::too_many_lines")
                .is_some_and(|(_, rest)| rest.contains("//") || rest.contains("reason"))
        })
    }
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are `a/b`; files outside `src/` have no module.
pub fn module_name(path: &str) -> Option<String> {
    let inner = path.strip_prefix("src/")?.strip_suffix(".rs")?;
    Some(inner.strip_suffix("/mod").unwrap_or(inner).to_owned())
}

/// Whether module `name` is `module` or lies below it.
pub fn is_or_below(name: &str, module: &str) -> bool {
    name.strip_prefix(module)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The line of an offset, counted from one.
pub fn line_of(text: &str, offset: usize) -> usize {
    text.bytes()
        .take(offset)
        .filter(|byte| *byte == b'\n')
        .count()
        + 1
}

pub fn is_identifier(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Offsets of `word` where it stands alone: no letter, digit or underscore touches it.
pub fn word_offsets(text: &str, word: &str) -> Vec<usize> {
    text.match_indices(word)
        .map(|(at, _)| at)
        .filter(|at| {
            let before = text.get(..*at).and_then(|head| head.chars().next_back());
            let after = text
                .get(at + word.len()..)
                .and_then(|tail| tail.chars().next());
            let touches = |c: Option<char>| c.is_some_and(is_identifier);
            (!touches(before) || !word.starts_with(is_identifier))
                && (!touches(after) || !word.ends_with(is_identifier))
        })
        .collect()
}

/// Where the item that starts at `start` ends: after the brace that closes its body, or after its
/// semicolon. Brackets of attributes and signatures are skipped.
pub fn item_end(code: &str, start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (at, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' => depth = depth.saturating_sub(1),
            b'}' => {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            b';' if depth == 0 => return Some(at + 1),
            _ => {}
        }
    }
    None
}

/// Integration tests, the e2e package, and `tests.rs` beside a module.
fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/")
        || path.starts_with("e2e/")
        || path.starts_with("benches/")
        || path.starts_with("src/testing/")
        || path.ends_with("/tests.rs")
        || path.contains("/tests/")
}

fn test_only_items(code: &str) -> Vec<Range<usize>> {
    code.match_indices("#[cfg(")
        .filter(|(at, _)| {
            let condition = code
                .get(*at..)
                .and_then(|rest| rest.split(']').next())
                .unwrap_or_default();
            !word_offsets(condition, "test").is_empty() && !condition.contains("not(test")
        })
        .filter_map(|(at, _)| item_end(code, at).map(|end| at..end))
        .collect()
}

fn blank(text: &str, hide: impl Fn(usize) -> bool) -> String {
    text.char_indices()
        .flat_map(|(at, c)| {
            let hidden = hide(at) && c != '\n';
            let (shown, count) = if hidden { (' ', c.len_utf8()) } else { (c, 1) };
            std::iter::repeat_n(shown, count)
        })
        .collect()
}

/// What a stretch of text is.
enum Piece {
    Code,
    Comment,
    /// A string or character; so many bytes of delimiter at its start and its end.
    Literal {
        open: usize,
        close: usize,
    },
}

/// The text without comments, and without comments and literals.
fn mask(text: &str) -> (String, String) {
    let mut comments = Vec::new();
    let mut literals = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let (piece, length) = next_piece(text, at);
        match piece {
            Piece::Code => {}
            Piece::Comment => comments.push(at..at + length),
            Piece::Literal { open, close } => literals.push(at + open..at + length - close),
        }
        at += length;
    }
    let inside = |ranges: &[Range<usize>], at: usize| {
        let next = ranges.partition_point(|range| range.end <= at);
        ranges.get(next).is_some_and(|range| range.contains(&at))
    };
    let uncommented = blank(text, |at| inside(&comments, at));
    let code = blank(&uncommented, |at| inside(&literals, at));
    (uncommented, code)
}

/// The piece that starts at `at`, and its length; never zero.
fn next_piece(text: &str, at: usize) -> (Piece, usize) {
    let rest = text.get(at..).unwrap_or_default();
    let before = text.get(..at).and_then(|head| head.chars().next_back());
    if rest.starts_with("//") {
        return (Piece::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (Piece::Comment, block_comment_length(rest));
    }
    if rest.starts_with('"') {
        return (Piece::Literal { open: 1, close: 1 }, string_length(rest));
    }
    if rest.starts_with('r') && !before.is_some_and(|c| is_identifier(c) && c != 'b' && c != 'c') {
        let hashes = rest
            .get(1..)
            .unwrap_or_default()
            .bytes()
            .take_while(|b| *b == b'#')
            .count();
        if rest
            .get(1 + hashes..)
            .is_some_and(|tail| tail.starts_with('"'))
        {
            let end = format!("\"{}", "#".repeat(hashes));
            let open = 2 + hashes;
            let inner = rest.get(open..).and_then(|tail| tail.find(&end));
            let length = inner.map_or(rest.len(), |inner| open + inner + end.len());
            let close = if inner.is_some() { end.len() } else { 0 };
            return (Piece::Literal { open, close }, length);
        }
    }
    if rest.starts_with('\'')
        && let Some(length) = character_length(rest)
    {
        return (Piece::Literal { open: 1, close: 1 }, length);
    }
    (Piece::Code, rest.chars().next().map_or(1, char::len_utf8))
}

fn block_comment_length(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..) {
        if tail.is_empty() {
            break;
        } else if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += tail.chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

fn string_length(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// `None` for a lifetime.
fn character_length(rest: &str) -> Option<usize> {
    let mut characters = rest.char_indices().skip(1);
    let (_, first) = characters.next()?;
    if first == '\\' {
        characters.next(); // the escaped character may itself be a quote
        return characters.find(|(_, c)| *c == '\'').map(|(at, _)| at + 1);
    }
    let (at, second) = characters.next()?;
    (second == '\'').then_some(at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        let text = "let a = \"x // y\"; // let b\n/* c /* d */ e */ let f = r#\"g\"h\"#; 'i'";
        let file = SourceFile::new("src/a.rs", text);
        for hidden in ["x", "y", "let b", "c", "d", " e ", "g", "h", "i"] {
            assert!(
                !file.code.contains(hidden),
                "{hidden:?} is seen in {:?}",
                file.code
            );
        }
        assert!(file.code.contains("let f"));
        assert!(file.uncommented.contains("x // y"));
        assert_eq!(file.code.len(), text.len());
    }

    #[test]
    fn a_quote_character_opens_no_string_and_a_lifetime_no_character() {
        let file = SourceFile::new(
            "src/a.rs",
            "let q = '\"'; fn f<'a>(x: &'a str) {} '\\'' end",
        );
        assert!(file.code.contains("fn f<'a>(x: &'a str) {}"));
        assert!(file.code.contains("end"));
    }

    #[test]
    fn test_modules_are_no_production() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n";
        let file = SourceFile::new("src/a.rs", text);
        assert!(file.production.contains("fn a") && file.production.contains("fn c"));
        assert!(!file.production.contains("fn b"));
        assert!(file.test_code.contains("fn b") && !file.test_code.contains("fn a"));
        assert_eq!(file.production_line_count, 2);
    }

    #[test]
    fn a_function_is_counted_without_comments_and_blank_lines() {
        let text = "/// Doc.\nfn a(x: [u8; 2]) {\n    // why\n\n    one();\n    two();\n}\ntrait T { fn b(); }";
        let functions = SourceFile::new("src/a.rs", text).functions();
        assert_eq!(functions.len(), 1);
        assert_eq!(functions[0].name, "a");
        assert_eq!((functions[0].line, functions[0].line_count), (2, 2));
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(word_offsets("a ab a_ (a)", "a"), [0, 9]);
    }
}
