//! Every invariant that the code cites stands in the docs, and every one of the docs is cited
//! where it is kept or tested. Without this, numbers drift and promises lose their place.

use std::collections::BTreeMap;

use crate::source::{Breach, SourceFile, line_of};

/// Where the invariants are written down.
pub const DOCS: &str = "docs/architecture.md";

const MARK: &str = "INV-";

pub fn breaches(docs: &str, files: &[SourceFile]) -> Vec<Breach> {
    let defined = definitions(docs);
    let mut cited = Vec::new();
    let mut breaches = Vec::new();
    for file in files {
        for (number, offset) in citations(&file.text) {
            cited.push(number);
            if !defined.contains_key(&number) {
                breaches.push(file.breach(
                    offset,
                    format!("{MARK}{number} does not stand in {DOCS}"),
                    "write the invariant down there, or cite the right one",
                ));
            }
        }
    }
    for (number, line) in defined {
        if !cited.contains(&number) {
            breaches.push(Breach {
                path: DOCS.to_owned(),
                line,
                what: format!("{MARK}{number} is cited by no source file and no test"),
                fix: "cite it in the comment of the code that keeps it, or of the test that checks it".to_owned(),
            });
        }
    }
    breaches
}

/// Definitions are list items: `- **INV-7: ...`; their lines by number.
fn definitions(docs: &str) -> BTreeMap<u32, usize> {
    let start = format!("- **{MARK}");
    docs.match_indices(&start)
        .filter_map(|(at, _)| Some((number(docs.get(at + start.len()..)?)?, line_of(docs, at))))
        .collect()
}

fn citations(text: &str) -> Vec<(u32, usize)> {
    text.match_indices(MARK)
        .filter_map(|(at, _)| Some((number(text.get(at + MARK.len()..)?)?, at)))
        .collect()
}

fn number(text: &str) -> Option<u32> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    // Numbers are put together at run time: this file's own text is checked too.
    fn source(number: u32) -> SourceFile {
        SourceFile::new("src/a.rs", &format!("//! Keeps {MARK}{number}."))
    }

    #[test]
    fn an_invariant_without_docs_and_one_without_code_are_found() {
        let docs = format!("# A\n- **{MARK}901: pure.** More.\n");
        assert_eq!(breaches(&docs, &[source(901)]), []);
        let found = breaches(&docs, &[source(902)]);
        let places: Vec<_> = found
            .iter()
            .map(|breach| (breach.path.as_str(), breach.line))
            .collect();
        assert_eq!(places, [("src/a.rs", 1), (DOCS, 2)]);
    }
}
