//! Words that the code does not use: verbs of speech for data, and archaic words. No folder has any of them.

use std::collections::BTreeMap;

use crate::source::{Breach, SourceFile, module_name, word_offsets};

/// Whole words, in comments, texts and names.
const BANNED: [&str; 28] = [
    "say",
    "says",
    "said",
    "saying",
    "tell",
    "tells",
    "told",
    "telling",
    "speak",
    "speaks",
    "spoke",
    "spoken",
    "ask",
    "asks",
    "asked",
    "asking",
    "hear",
    "hears",
    "heard",
    "nobody",
    "somebody",
    "whom",
    "whose",
    "anew",
    "lately",
    "meanwhile",
    "stands",
    "stood",
];

/// Two words that are banned together.
const BANNED_PAIRS: [&str; 3] = ["for ever", "goes on", "be it"];

/// How many of them each folder may still have: no folder is left here, and none may be added.
const ALLOWED: [(&str, usize); 0] = [];

/// Places that a breach shows.
const SHOWN_MAX: usize = 20;

/// Folders with more of these words than they are allowed.
pub fn breaches(files: &[SourceFile]) -> Vec<Breach> {
    breaches_beside(files, &ALLOWED)
}

fn breaches_beside(files: &[SourceFile], allowed: &[(&str, usize)]) -> Vec<Breach> {
    let mut found: BTreeMap<String, Vec<(&SourceFile, usize, &str)>> = BTreeMap::new();
    for (folder, _) in allowed {
        found.entry((*folder).to_owned()).or_default();
    }
    for file in files {
        let Some(module) = module_name(&file.path) else {
            continue;
        };
        let folder = module.split('/').next().unwrap_or_default();
        let places = places(&file.text);
        let of_folder = found.entry(format!("src/{folder}")).or_default();
        of_folder.extend(places.into_iter().map(|(at, word)| (file, at, word)));
    }
    let mut breaches = Vec::new();
    for (folder, places) in found {
        let count_max = allowed.iter().find(|(known, _)| *known == folder);
        let count_max = count_max.map_or(0, |(_, count)| *count);
        let count = places.len();
        if count > count_max {
            let shown = places.iter().take(SHOWN_MAX);
            breaches.extend(shown.map(|(file, at, word)| {
                file.breach(
                    *at,
                    format!("`{word}`: {count} of the banned words in {folder}, where {count_max} are allowed"),
                    "write plain technical English; for data: shows, contains, reports, requests, is named",
                )
            }));
        }
    }
    breaches
}

/// The banned words of a text and their offsets. A name in snake or camel case is as many words as it has parts.
fn places(text: &str) -> Vec<(usize, &'static str)> {
    let mut found = Vec::new();
    let mut start = None;
    let mut before = ' ';
    for (at, c) in text.char_indices().chain([(text.len(), ' ')]) {
        let is_new = c.is_ascii_uppercase() && before.is_ascii_lowercase();
        if let Some(from) = start.filter(|_| is_new || !c.is_ascii_alphabetic()) {
            let word = text.get(from..at).unwrap_or_default();
            let known = BANNED.iter().find(|known| known.eq_ignore_ascii_case(word));
            found.extend(known.map(|known| (from, *known)));
            start = None;
        }
        if c.is_ascii_alphabetic() && start.is_none() {
            start = Some(at);
        }
        before = c;
    }
    for pair in BANNED_PAIRS {
        found.extend(word_offsets(text, pair).into_iter().map(|at| (at, pair)));
    }
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_in_comments_texts_and_names_are_found() {
        let text =
            "// What was told.\nfn say_once() { WhatIsAsked; let taskset = \"heard for ever\"; }";
        let words: Vec<&str> = places(text).iter().map(|(_, word)| *word).collect();
        assert_eq!(words, ["told", "say", "asked", "heard", "for ever"]);
    }

    #[test]
    fn a_folder_keeps_to_its_number() {
        let file = || SourceFile::new("src/a/b.rs", "//! It says.\n// And tells.\n");
        let count = |allowed: &[(&str, usize)]| breaches_beside(&[file()], allowed).len();
        assert_eq!(count(&[]), 2);
        assert_eq!(count(&[("src/a", 1)]), 2);
        assert_eq!(count(&[("src/a", 2)]), 0);
    }
}
