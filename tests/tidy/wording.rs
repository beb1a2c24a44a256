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
    for message in &file.items.messages {
        let text = message.text.as_str();
        let shown = message.sources.iter().find(|source| shows(text, source));
        let fault = if text.starts_with(char::is_uppercase) {
            "starts in upper case".to_owned()
        } else if text.ends_with(['.', '!']) {
            "ends as a sentence".to_owned()
        } else if let Some(source) = shown {
            format!("shows its source `{source}`")
        } else {
            continue;
        };
        breaches.push(file.breach(
            message.offset,
            format!("the error message \"{text}\" {fault}"),
            "\"failed to ...\" or \"unable to ...\", no final stop; the log prints the chain of sources",
        ));
    }
    breaches
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
        let code = format!("enum A {{ {text} }}");
        let breaches = error_message_breaches(&SourceFile::new("src/a.rs", &code));
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
