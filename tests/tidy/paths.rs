//! Paths in code: `a::b::C`, with the groups of `use` written out. They are read from tokens, so that those in the
//! arguments of macros are found too. Called by `source`.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// A path in code, and where it starts.
#[derive(Debug, PartialEq, Eq)]
pub struct CodePath {
    pub segments: Vec<String>,
    pub offset: usize,
}

/// Every path of two or more segments.
pub fn all(tokens: TokenStream) -> Vec<CodePath> {
    let mut paths = Vec::new();
    collect(tokens, &mut paths);
    paths.retain(|path| path.segments.len() > 1);
    paths
}

fn collect(tokens: TokenStream, paths: &mut Vec<CodePath>) {
    let trees: Vec<TokenTree> = tokens.into_iter().collect();
    let mut at = 0;
    while let Some(tree) = trees.get(at) {
        match tree {
            TokenTree::Group(group) => {
                collect(group.stream(), paths);
                at += 1;
            }
            // After a point comes a method, after `'` a lifetime, after `::` the rest of `<T as U>::x`.
            TokenTree::Ident(_) if !is_mark(&trees, at.wrapping_sub(1), ['.', '\'', ':']) => {
                at = one(&trees, at, &[], paths);
            }
            // A type after one colon starts a path.
            TokenTree::Ident(_)
                if is_mark(&trees, at.wrapping_sub(1), [':'])
                    && !is_mark(&trees, at.wrapping_sub(2), [':']) =>
            {
                at = one(&trees, at, &[], paths);
            }
            _ => at += 1,
        }
    }
}

/// One path, or one branch of a group of `use`, below `prefix`; the index after it.
fn one(trees: &[TokenTree], mut at: usize, prefix: &[String], paths: &mut Vec<CodePath>) -> usize {
    let offset = trees
        .get(at)
        .map_or(0, |tree| tree.span().byte_range().start);
    let mut segments = prefix.to_vec();
    loop {
        match trees.get(at) {
            Some(TokenTree::Ident(word)) => segments.push(word.to_string()),
            Some(TokenTree::Punct(mark)) if mark.as_char() == '*' => segments.push("*".to_owned()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner: Vec<TokenTree> = group.stream().into_iter().collect();
                let branches = inner.split(|tree| is_punct(tree, ','));
                for branch in branches.filter(|branch| !branch.is_empty()) {
                    one(branch, 0, &segments, paths);
                }
                return at + 1;
            }
            _ => break,
        }
        at += 1;
        if !(is_mark(trees, at, [':']) && is_mark(trees, at + 1, [':'])) {
            break;
        }
        at += 2;
    }
    // `a::{self}` means `a`.
    if !prefix.is_empty() && segments.last().is_some_and(|last| last == "self") {
        segments.pop();
    }
    paths.push(CodePath { segments, offset });
    at
}

fn is_mark<const N: usize>(trees: &[TokenTree], at: usize, marks: [char; N]) -> bool {
    trees
        .get(at)
        .is_some_and(|tree| marks.iter().any(|mark| is_punct(tree, *mark)))
}

fn is_punct(tree: &TokenTree, mark: char) -> bool {
    matches!(tree, TokenTree::Punct(found) if found.as_char() == mark)
}

#[cfg(test)]
mod tests {
    use std::str::FromStr;

    use super::*;

    fn check(code: &str, expected: &[&str]) {
        let found: Vec<String> = all(TokenStream::from_str(code).unwrap())
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
    fn paths_in_expressions_types_and_macros_are_seen() {
        check(
            "let x: Vec<a::B> = c::d::<e::F>(g.h, i::j!(k::L, \"m::n\"));",
            &["a::B", "c::d", "e::F", "i::j", "k::L"],
        );
    }

    #[test]
    fn a_type_after_a_colon_is_a_path_and_a_method_is_none() {
        check(
            "fn f(x: a::B, y: &c::D) { x.e::<f::G>() }",
            &["a::B", "c::D", "f::G"],
        );
    }
}
