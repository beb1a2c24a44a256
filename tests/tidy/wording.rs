//! Rules about words: error messages, leftovers, and lines that name a machine.

use crate::source::{Breach, SourceFile, TextFile, line_of, word_offsets};

/// Words that mark unfinished work. Split, so that this file does not hold them.
const LEFTOVERS: [&str; 6] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("HA", "CK"),
    concat!("todo", "!"),
    concat!("unimple", "mented!"),
];

/// Folders of a developer's machine.
const MACHINE_FOLDERS: [&str; 5] = [
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
    concat!("/wo", "rk/"),
    concat!("/Us", "ers/"),
    concat!("/fa", "rm/"),
];

pub fn leftover_breaches(file: &TextFile) -> Vec<Breach> {
    find(
        file,
        &LEFTOVERS,
        word_offsets,
        "marks work left for later",
        "do it, or say it in docs/limits.md",
    )
}

pub fn machine_path_breaches(file: &TextFile) -> Vec<Breach> {
    let plain = |text: &str, word: &str| text.match_indices(word).map(|(at, _)| at).collect();
    find(
        file,
        &MACHINE_FOLDERS,
        plain,
        "is a folder of one machine",
        "use a path from the repository, a variable, or a temporary folder",
    )
}

fn find(
    file: &TextFile,
    words: &[&str],
    offsets: fn(&str, &str) -> Vec<usize>,
    what: &str,
    fix: &str,
) -> Vec<Breach> {
    words
        .iter()
        .flat_map(|word| {
            offsets(&file.text, word)
                .into_iter()
                .map(move |at| (word, at))
        })
        .map(|(word, at)| Breach {
            path: file.path.clone(),
            line: line_of(&file.text, at),
            what: format!("`{word}` {what}"),
            fix: fix.to_owned(),
        })
        .collect()
}

/// Messages in `#[error("...")]`. They are joined into one chain ("failed to a: failed to b"), so
/// they start in lower case, have no full stop, and leave their source to the chain.
pub fn error_message_breaches(file: &SourceFile) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (at, _) in file.code.match_indices("#[error(") {
        let Some(message) = string_after(&file.uncommented, at) else {
            continue; // transparent
        };
        let fault = if message.starts_with(char::is_uppercase) {
            Some("starts in upper case".to_owned())
        } else if message.ends_with(['.', '!']) {
            Some("ends as a sentence".to_owned())
        } else {
            sources_of(file, at)
                .into_iter()
                .find(|source| shows(message, source))
                .map(|source| format!("shows its source `{source}`"))
        };
        if let Some(fault) = fault {
            breaches.push(file.breach(
                at,
                format!("the error message \"{message}\" {fault}"),
                "\"failed to ...\" or \"unable to ...\", no final stop; the log prints the chain of sources",
            ));
        }
    }
    breaches
}

/// The string that follows `at`, when nothing but the attribute's own opening stands between.
fn string_after(text: &str, at: usize) -> Option<&str> {
    let rest = text.get(at..)?.strip_prefix("#[error(")?.trim_start();
    let inner = rest.trim_start_matches(['r', '#']).strip_prefix('"')?;
    let mut escaped = false;
    let end = inner.find(|c| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends
    })?;
    inner.get(..end)
}

/// The names of the fields that hold the source of the variant or type whose `#[error` stands at
/// `at`: a position for a tuple, a name for a struct.
fn sources_of(file: &SourceFile, at: usize) -> Vec<String> {
    let code = &file.code;
    let rest = code.get(at..).unwrap_or_default();
    // Past this attribute: the next bracket that opens is the fields' or another attribute's.
    let start = at + rest.find(']').map_or(rest.len(), |end| end + 1);
    let fields = fields_after(code, start).unwrap_or_default();
    let mut sources = Vec::new();
    for (position, field) in split_fields(fields).into_iter().enumerate() {
        let name = field
            .rsplit(']')
            .next()
            .and_then(|last| last.split(':').next())
            .map(|name| name.trim().trim_start_matches("pub ").to_owned())
            .filter(|_| field.contains(':') && fields_are_named(field))
            .unwrap_or_else(|| position.to_string());
        if name == "source" || field.contains("#[source]") || field.contains("#[from]") {
            sources.push(name);
        }
    }
    sources
}

/// What stands inside the brackets of the variant that starts at `start`, if it has any.
fn fields_after(code: &str, start: usize) -> Option<&str> {
    let rest = code.get(start..)?;
    let mut at = start;
    // Other attributes of the variant, such as documentation that is code.
    let mut trimmed = rest.trim_start();
    while trimmed.starts_with("#[") {
        at = code.len() - trimmed.len() + trimmed.find(']')? + 1;
        trimmed = code.get(at..)?.trim_start();
    }
    let open = at + code.get(at..)?.find(['(', '{', ',', '}'])?;
    let bracket = code.get(open..=open)?;
    if bracket != "(" && bracket != "{" {
        return None;
    }
    let mut depth = 0_usize;
    let close = code.get(open..)?.find(|c: char| {
        depth = match c {
            '(' | '{' | '[' => depth + 1,
            ')' | '}' | ']' => depth.saturating_sub(1),
            _ => depth,
        };
        depth == 0
    })?;
    code.get(open + 1..open + close)
}

fn split_fields(fields: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    fields
        .split(|c: char| {
            depth += match c {
                '(' | '[' | '{' | '<' => 1,
                ')' | ']' | '}' | '>' => -1,
                _ => 0,
            };
            c == ',' && depth == 0
        })
        .filter(|field| !field.trim().is_empty())
        .collect()
}

/// `name: Type`, and not the `::` of a path in a tuple.
fn fields_are_named(field: &str) -> bool {
    let last = field.rsplit(']').next().unwrap_or(field);
    last.find(':')
        .is_some_and(|at| last.get(at..at + 2) != Some("::"))
}

/// Whether a message formats this field.
fn shows(message: &str, field: &str) -> bool {
    message.match_indices('{').any(|(at, _)| {
        let inside = message.get(at + 1..).unwrap_or_default();
        inside
            .strip_prefix(field)
            .is_some_and(|rest| rest.starts_with(['}', ':', '.']))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        let breaches = error_message_breaches(&SourceFile::new("src/a.rs", text));
        match expected {
            None => assert_eq!(breaches, [], "for {text}"),
            Some(expected) => {
                assert_eq!(breaches.len(), 1, "for {text}: {breaches:?}");
                assert!(
                    breaches[0].what.contains(expected),
                    "{:?} in {}",
                    expected,
                    breaches[0]
                );
            }
        }
    }

    #[test]
    fn messages_that_break_a_chain_are_found() {
        check("#[error(\"Failed to read\")] A,", Some("upper case"));
        check("#[error(\"failed to read.\")] A,", Some("sentence"));
        check(
            "#[error(\"failed to read {path}\")] A { path: P, source: E },",
            None,
        );
        check("#[error(transparent)] A(#[from] E),", None);
    }

    #[test]
    fn a_message_that_shows_its_source_is_found() {
        check(
            "#[error(\"failed to read: {source}\")] A { source: E },",
            Some("source"),
        );
        check(
            "#[error(\"failed to read: {0}\")] A(#[source] std::io::Error),",
            Some("`0`"),
        );
        check(
            "#[error(\"failed to read {0}: {1:?}\")] A(String, #[from] E),",
            Some("`1`"),
        );
        check(
            "#[error(\"failed to read {0}\")] A(String, #[from] E),",
            None,
        );
        check(
            "#[error(\"failed: {error}\")] A { path: Map<P, Q>, #[source] error: E },",
            Some("`error`"),
        );
    }

    fn text_file(text: &str) -> TextFile {
        TextFile {
            path: "a.md".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn leftovers_are_found_as_whole_words() {
        for word in LEFTOVERS {
            let breaches = leftover_breaches(&text_file(&format!("one\n// {word} two")));
            assert_eq!(
                breaches
                    .iter()
                    .map(|breach| breach.line)
                    .collect::<Vec<_>>(),
                [2],
                "{word}"
            );
        }
        assert_eq!(
            leftover_breaches(&text_file(&format!("mktemp a.{}", "X".repeat(6)))),
            []
        );
    }

    #[test]
    fn folders_of_a_machine_are_found() {
        for folder in MACHINE_FOLDERS {
            assert_eq!(
                machine_path_breaches(&text_file(&format!("see {folder}a"))).len(),
                1,
                "{folder}"
            );
        }
        assert_eq!(
            machine_path_breaches(&text_file("see target/debug and src/home.rs")),
            []
        );
    }
}
