//! Names that come near to one that does not exist. Called by the commands for people; pure.

use crate::limits;

/// How alike two names must be; 1 is the same.
const ALIKE: f64 = 0.75;

/// A question that names what the reader may have meant.
#[must_use]
pub fn near<'n>(wanted: &str, names: impl IntoIterator<Item = &'n str>) -> Option<String> {
    let mut ranked: Vec<(f64, &str)> = names
        .into_iter()
        .map(|name| (likeness(wanted, name), name))
        .filter(|(alike, _)| *alike >= ALIKE)
        .collect();
    ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    ranked.truncate(limits::SUGGESTIONS_MAX);
    let names: Vec<&str> = ranked.into_iter().map(|(_, name)| name).collect();
    (!names.is_empty()).then(|| format!("did you mean {}?", names.join(" or ")))
}

fn likeness(wanted: &str, name: &str) -> f64 {
    // Names of Incidents are long and made by a program: whoever types one types a part of it.
    if wanted.len() >= 3 && name.contains(wanted) {
        return 0.99;
    }
    strsim::jaro_winkler(wanted, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_and_a_part_of_a_name_are_recognised_and_nothing_far_off() {
        let names = ["rogue-54618a15de", "honest", "other"];
        let wanted = |text| near(text, names);
        assert_eq!(wanted("honset").unwrap(), "did you mean honest?");
        assert_eq!(wanted("54618").unwrap(), "did you mean rogue-54618a15de?");
        assert_eq!(wanted("zzz"), None);
        assert_eq!(near("a", []), None);
    }
}
