//! One Rust file of the tree, as the rules see it. `proc_macro2` splits it into tokens and `syn` reads its items, so
//! a word in a comment or a string is never taken for code.
//!
//! Everything is copied out of the tokens at once: tokens belong to one thread, and tests run on several.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use crate::items::{self, Items};
use crate::paths::{self, CodePath};

/// A file that people write.
pub struct TextFile {
    /// Path from the root, with `/`.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// A Rust file. The blanked texts keep every line break and every byte offset of `text`.
pub struct SourceFile {
    /// Path from the root, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
    /// The text without comments and without the content of strings and characters.
    pub code: String,
    /// `code` without test-only items; empty where the whole file is a test.
    pub production: String,
    /// `code` of test-only items alone; all of it where the whole file is a test.
    pub test_code: String,
    /// The lines of the file that are not test-only.
    pub production_line_count: usize,
    /// Paths of two or more segments in production code.
    pub paths: Vec<CodePath>,
    /// Items, imports and error messages, by `syn`.
    pub items: Items,
    pub functions: Vec<Function>,
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
    /// Whether its attributes allow more lines and give a reason.
    pub has_reason: bool,
}

impl SourceFile {
    /// Reads a file. Panics on one that does not parse: the compiler has refused it before.
    #[allow(clippy::expect_used)]
    pub fn new(path: &str, text: &str) -> Self {
        let tokens = TokenStream::from_str(text).expect("tokens of Rust code");
        let mut leaves = Vec::new();
        collect_leaves(text, tokens.clone(), &mut leaves);
        let code = blank_code(text, &leaves);
        let mut tests = Vec::new();
        if is_test_file(path) {
            tests.push(0..text.len());
        } else {
            collect_test_items(tokens.clone(), &mut tests);
        }
        let is_test = |at: usize| tests.iter().any(|range| range.contains(&at));
        let test_line_count: usize = tests
            .iter()
            .filter_map(|range| text.get(range.clone()))
            .map(|item| item.lines().count())
            .sum();
        let mut paths = paths::all(tokens.clone());
        paths.retain(|path| !is_test(path.offset));
        let mut functions = Vec::new();
        collect_functions(text, tokens.clone(), &mut functions);
        let items = items::of(&syn::parse2(tokens).unwrap_or_else(|error| panic_at(path, &error)));
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            production: blank(&code, is_test),
            test_code: blank(&code, |at| !is_test(at)),
            production_line_count: text.lines().count().saturating_sub(test_line_count),
            code,
            paths,
            items,
            functions,
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
}

#[allow(clippy::panic)] // a file that does not parse is a failed test
fn panic_at(path: &str, error: &syn::Error) -> ! {
    panic!("unable to parse {path}: {error}")
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

/// Offsets of `word` where no letter, digit or underscore touches it.
pub fn word_offsets(text: &str, word: &str) -> Vec<usize> {
    let is_identifier = |c: char| c.is_alphanumeric() || c == '_';
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

/// Integration tests, the e2e package, and `tests.rs` beside a module.
pub fn is_test_file(path: &str) -> bool {
    path.starts_with("tests/")
        || path.starts_with("e2e/")
        || path.starts_with("benches/")
        || path.ends_with("/tests.rs")
        || path.contains("/tests/")
}

/// A token without tokens inside, or a bracket of a group.
struct Leaf {
    range: Range<usize>,
    is_text: bool,
}

/// All leaves but doc comments, which `proc_macro2` reads as attributes.
fn collect_leaves(text: &str, tokens: TokenStream, leaves: &mut Vec<Leaf>) {
    for token in tokens {
        let range = token.span().byte_range();
        let is_comment = text
            .get(range.clone())
            .is_some_and(|source| source.starts_with("//") || source.starts_with("/*"));
        if is_comment {
            continue;
        }
        let mut push = |range, is_text| leaves.push(Leaf { range, is_text });
        match token {
            TokenTree::Group(group) => {
                push(group.span_open().byte_range(), false);
                collect_leaves(text, group.stream(), leaves);
                leaves.push(Leaf {
                    range: group.span_close().byte_range(),
                    is_text: false,
                });
            }
            TokenTree::Literal(_) => {
                let source = text.get(range.clone()).unwrap_or_default();
                push(range, source.ends_with(['"', '\'', '#']));
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) => push(range, false),
        }
    }
}

/// `text` with only the leaves kept, and of a string no more than its quotes.
fn blank_code(text: &str, leaves: &[Leaf]) -> String {
    let mut kept = vec![false; text.len()];
    for leaf in leaves {
        let shown = if leaf.is_text {
            let ends = [leaf.range.start, leaf.range.end.saturating_sub(1)];
            for at in ends {
                let is_quote = matches!(text.as_bytes().get(at), Some(b'"' | b'\''));
                if let Some(kept) = kept.get_mut(at) {
                    *kept = is_quote;
                }
            }
            continue;
        } else {
            leaf.range.clone()
        };
        if let Some(kept) = kept.get_mut(shown) {
            kept.fill(true);
        }
    }
    blank(text, |at| !kept.get(at).copied().unwrap_or_default())
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

/// Ranges of items under `#[cfg(test)]`, with the attribute.
fn collect_test_items(tokens: TokenStream, found: &mut Vec<Range<usize>>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        let start = tree.span().byte_range().start;
        let attribute = match (tree, trees.get(at + 1)) {
            (TokenTree::Punct(mark), Some(TokenTree::Group(group))) if mark.as_char() == '#' => {
                Some(group)
            }
            _ => None,
        };
        if attribute.is_some_and(is_test_condition) {
            at = item_end(&trees, at + 2);
            let last = trees.get(at.saturating_sub(1)).unwrap_or(tree);
            found.push(start..last.span().byte_range().end);
            continue;
        }
        if let TokenTree::Group(group) = tree {
            collect_test_items(group.stream(), found);
        }
        at += 1;
    }
}

fn is_test_condition(attribute: &Group) -> bool {
    let text = attribute.stream().to_string().replace(' ', "");
    text.starts_with("cfg(")
        && !word_offsets(&text, "test").is_empty()
        && !text.contains("not(test")
}

/// The index after the item that starts at `at`: after its body, its semicolon or its comma.
fn item_end(trees: &[TokenTree], mut at: usize) -> usize {
    let mut is_use = false;
    while let Some(tree) = trees.get(at) {
        at += 1;
        match tree {
            TokenTree::Punct(mark) if matches!(mark.as_char(), ';' | ',') => break,
            TokenTree::Group(group) if group.delimiter() == Delimiter::Brace && !is_use => break,
            TokenTree::Ident(word) if word == "use" => is_use = true,
            _ => {}
        }
    }
    at
}

fn collect_functions(text: &str, tokens: TokenStream, functions: &mut Vec<Function>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    for (at, tree) in trees.iter().enumerate() {
        if let TokenTree::Group(group) = tree {
            collect_functions(text, group.stream(), functions);
        }
        let (TokenTree::Ident(word), Some(TokenTree::Ident(name))) = (tree, trees.get(at + 1))
        else {
            continue;
        };
        let end = item_end(&trees, at);
        let Some(TokenTree::Group(body)) = trees.get(end.saturating_sub(1)) else {
            continue; // a declaration without a body
        };
        if word == "fn" && body.delimiter() == Delimiter::Brace {
            let start = word.span().byte_range().start;
            functions.push(Function {
                name: name.to_string(),
                line: line_of(text, start),
                line_count: lines_of(text, body),
                has_reason: has_length_reason(text, &trees, at),
            });
        }
    }
}

/// Lines on which a token of the group is.
fn lines_of(text: &str, group: &Group) -> usize {
    let mut leaves = Vec::new();
    collect_leaves(text, group.stream(), &mut leaves);
    let mut lines = BTreeSet::new();
    let mut known = (0, 1); // an offset and its line: leaves come in order
    for leaf in leaves {
        for (start, shift) in [(leaf.range.start, 0), (leaf.range.end, 0)] {
            let between = text.get(known.0..start).unwrap_or_default();
            known = (start, known.1 + between.matches('\n').count() + shift);
            lines.insert(known.1);
        }
    }
    lines.len()
}

/// `#[allow(clippy::too_many_lines)] // why`, or with `reason = "why"`, among the attributes before the function.
fn has_length_reason(text: &str, trees: &[TokenTree], at: usize) -> bool {
    let before = trees.get(..at).unwrap_or_default();
    let is_end = |tree: &TokenTree| match tree {
        TokenTree::Punct(mark) => mark.as_char() == ';',
        TokenTree::Group(group) => group.delimiter() == Delimiter::Brace,
        _ => false,
    };
    let first = before.iter().rposition(is_end).map_or(0, |end| end + 1);
    let start = before
        .get(first)
        .map_or(0, |tree| tree.span().byte_range().start);
    let end = trees
        .get(at)
        .map_or(start, |tree| tree.span().byte_range().start);
    let attributes = text.get(start..end).unwrap_or_default();
    attributes.lines().any(|line| {
        line.split_once("clippy::too_many_lines")
            .is_some_and(|(_, rest)| rest.contains("//") || rest.contains("reason"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_strings_are_no_code() {
        let text = "/// q\nconst A: B = \"x // y\"; // let b\n/* c /* d */ e */ fn f() { r#\"g\"h\"#; 'i'; }";
        let file = SourceFile::new("src/a.rs", text);
        for hidden in ["x", "y", "let b", "c ", "d", " e ", "g", "h", "i", "q"] {
            assert!(
                !file.code.replace("const", "").contains(hidden),
                "{hidden:?} is seen in {:?}",
                file.code
            );
        }
        assert!(file.code.contains("fn f() {"));
        assert_eq!(file.code.len(), text.len());
    }

    #[test]
    fn test_modules_are_no_production() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n    fn b() {}\n}\nfn c() {}\n#[cfg(test)]\nuse x::{y};\nfn d() {}\n";
        let file = SourceFile::new("src/a.rs", text);
        for shown in ["fn a", "fn c", "fn d"] {
            assert!(file.production.contains(shown), "{shown}");
        }
        assert!(!file.production.contains("fn b") && !file.production.contains("use x"));
        assert!(file.test_code.contains("fn b") && !file.test_code.contains("fn a"));
        assert_eq!(file.production_line_count, 3);
    }

    #[test]
    fn a_function_is_counted_without_comments_and_blank_lines() {
        let text = "/// Doc.\nfn a(x: [u8; 2]) {\n    // why\n\n    one();\n    two();\n}\ntrait T { fn b(); }";
        let functions = SourceFile::new("src/a.rs", text).functions;
        assert_eq!(functions.len(), 1);
        assert_eq!(functions[0].name, "a");
        assert_eq!((functions[0].line, functions[0].line_count), (2, 2));
    }

    #[test]
    fn words_stand_alone() {
        assert_eq!(word_offsets("a ab a_ (a)", "a"), [0, 9]);
    }
}
