//! Paths in code: `a::b::C`, with the groups of `use` written out. Called by `layers`.
//!
//! Names are not resolved: a rename (`use a as b`) hides what it renames from later lines, but
//! the `use` itself is seen.

use crate::source::is_identifier;

/// A path in code, and where it starts.
#[derive(Debug, PartialEq, Eq)]
pub struct CodePath {
    pub segments: Vec<String>,
    pub offset: usize,
}

/// Every path of two or more segments in `code`.
pub fn all(code: &str) -> Vec<CodePath> {
    let mut paths = Vec::new();
    let mut at = 0;
    while at < code.len() {
        if starts_path(code, at) {
            let mut parser = Parser {
                code,
                at,
                paths: &mut paths,
            };
            parser.tree(&[]);
            at = parser.at.max(at + 1);
        } else {
            at += code
                .get(at..)
                .and_then(|rest| rest.chars().next())
                .map_or(1, char::len_utf8);
        }
    }
    paths.retain(|path| path.segments.len() > 1);
    paths
}

/// The segments that `path` has from the root of the crate, for a file of this module; `None`
/// where it leads out of the crate. `is_module` tells which names are modules of ours.
pub fn resolve(
    path: &CodePath,
    module: &str,
    is_module: impl Fn(&str) -> bool,
) -> Option<Vec<String>> {
    let mut base: Vec<String> = module
        .split('/')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    let mut segments = path.segments.iter().peekable();
    match segments.peek().map(|segment| segment.as_str()) {
        Some("crate" | "yellowjack") => {
            base.clear();
            segments.next();
        }
        Some("super") => {
            while segments.next_if(|segment| *segment == "super").is_some() {
                base.pop();
            }
        }
        Some("self") => {
            segments.next();
        }
        Some(child) if is_module(&format!("{module}/{child}")) => {}
        _ => return None,
    }
    base.extend(segments.cloned());
    Some(base)
}

fn starts_path(code: &str, at: usize) -> bool {
    let Some((head, rest)) = code.split_at_checked(at) else {
        return false;
    };
    let starts = rest
        .chars()
        .next()
        .is_some_and(|c| c.is_alphabetic() || c == '_');
    let before = head.chars().next_back();
    let inside = before.is_some_and(|c| is_identifier(c) || c == '.' || c == '\'');
    let continues = head
        .strip_suffix("::")
        .and_then(|head| head.chars().next_back())
        .is_some_and(|c| is_identifier(c) || c == '>');
    starts && !inside && !continues
}

struct Parser<'a> {
    code: &'a str,
    at: usize,
    paths: &'a mut Vec<CodePath>,
}

impl Parser<'_> {
    /// One path, or one branch of a group, below `prefix`.
    fn tree(&mut self, prefix: &[String]) {
        let offset = self.at;
        let mut segments = prefix.to_vec();
        loop {
            let word = self.word();
            if word.is_empty() {
                break;
            }
            segments.push(word);
            if !self.eat("::") {
                break;
            }
            if self.eat("{") {
                return self.group(&segments);
            }
        }
        // `a::{self}` means `a`.
        if !prefix.is_empty() && segments.last().is_some_and(|last| last == "self") {
            segments.pop();
        }
        self.paths.push(CodePath { segments, offset });
    }

    fn group(&mut self, prefix: &[String]) {
        while !self.eat("}") && self.at < self.code.len() {
            let before = self.at;
            self.tree(prefix);
            // Past `as name` and the comma; a group of `use` holds no other brackets here.
            let rest = self.code.get(self.at..).unwrap_or_default();
            self.at += rest.find([',', '}']).unwrap_or(rest.len());
            if !self.eat(",") && self.at == before {
                break;
            }
            self.skip_blanks();
        }
    }

    fn word(&mut self) -> String {
        self.skip_blanks();
        let rest = self.code.get(self.at..).unwrap_or_default();
        let word: String = if rest.starts_with('*') {
            "*".to_owned()
        } else {
            rest.chars().take_while(|c| is_identifier(*c)).collect()
        };
        self.at += word.len();
        word
    }

    fn eat(&mut self, token: &str) -> bool {
        let rest = self.code.get(self.at..).unwrap_or_default();
        let blanks = rest.len() - rest.trim_start().len();
        let found = rest.trim_start().starts_with(token);
        if found {
            self.at += blanks + token.len();
        }
        found
    }

    fn skip_blanks(&mut self) {
        let rest = self.code.get(self.at..).unwrap_or_default();
        self.at += rest.len() - rest.trim_start().len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: &str, expected: &[&str]) {
        let found: Vec<String> = all(code)
            .iter()
            .map(|path| path.segments.join("::"))
            .collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn groups_are_written_out() {
        check(
            "use a::{b, c::{D, self, E as F}, g::*};\nuse h::I;",
            &["a::b", "a::c::D", "a::c", "a::c::E", "a::g::*", "h::I"],
        );
    }

    #[test]
    fn paths_in_expressions_and_types_are_seen() {
        check(
            "let x: Vec<a::B> = c::d::<e::F>(g.h, i::j!());",
            &["a::B", "c::d", "e::F", "i::j"],
        );
    }

    #[test]
    fn paths_lead_from_the_root() {
        let resolved = |code: &str| {
            let path = all(code).remove(0);
            resolve(&path, "signals/source", |name| {
                name == "signals/source/file"
            })
            .map(|segments| segments.join("/"))
        };
        assert_eq!(
            resolved("use crate::model::Flow;").as_deref(),
            Some("model/Flow")
        );
        assert_eq!(
            resolved("use super::attribute::Index;").as_deref(),
            Some("signals/attribute/Index")
        );
        assert_eq!(
            resolved("use super::super::api::X;").as_deref(),
            Some("api/X")
        );
        assert_eq!(
            resolved("pub use file::Tail;").as_deref(),
            Some("signals/source/file/Tail")
        );
        assert_eq!(resolved("use std::fmt;"), None);
    }
}
