//! Suggests existing names for one that does not exist. Pure.

use crate::limits;

/// The least similarity of a suggestion; 1 is equality.
const SIMILARITY_MIN: f64 = 0.75;

/// A question with the existing names that are similar to `wanted`. `None` where none is.
#[must_use]
pub(super) fn did_you_mean<'n>(
    wanted: &str,
    names: impl IntoIterator<Item = &'n str>,
) -> Option<String> {
    let mut ranked: Vec<(f64, &str)> = names
        .into_iter()
        .map(|name| (similarity(wanted, name), name))
        .filter(|(similarity, _)| *similarity >= SIMILARITY_MIN)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    ranked.truncate(limits::SUGGESTIONS_MAX);
    let names: Vec<&str> = ranked.into_iter().map(|(_, name)| name).collect();
    (!names.is_empty()).then(|| format!("did you mean {}?", names.join(" or ")))
}

fn similarity(wanted: &str, name: &str) -> f64 {
    // Names of Incidents are long and generated, so a user types a part of one.
    if wanted.len() >= 3 && name.contains(wanted) {
        return 0.99;
    }
    strsim::jaro_winkler(wanted, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelling_and_a_part_of_a_name_are_recognised_and_nothing_dissimilar() {
        let names = ["rogue-54618a15de", "honest", "other"];
        let wanted = |text| did_you_mean(text, names);
        assert_eq!(wanted("honset").unwrap(), "did you mean honest?");
        assert_eq!(wanted("54618").unwrap(), "did you mean rogue-54618a15de?");
        assert_eq!(wanted("zzz"), None);
        assert_eq!(did_you_mean("a", []), None);
    }
}
