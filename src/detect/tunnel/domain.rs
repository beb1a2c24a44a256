//! Registered domains: which part of a name was registered, and which part its owner chose.
//!
//! Called by `dns` per query. Does not use the public suffix list, which has thousands of entries that change weekly:
//! the second-level suffixes of countries use a few words, and agents look up names of few providers in large numbers.
//! The customers of a provider that is missing here count as one domain, which can lead to an alert, never to a
//! quarantine.

/// Second-level labels under which countries register names: `co.uk`, `com.au`, `ac.jp`.
const COUNTRY_SECOND: [&str; 13] = [
    "co", "com", "net", "org", "ac", "edu", "gov", "go", "or", "ne", "nom", "mil", "gob",
];

/// Domains in which only the operator answers queries, also for names of customers: they cannot be used for tunnels,
/// and honest workloads look up thousands of these names.
const OPERATED: [&str; 44] = [
    "amazonaws.com",
    "cloudfront.net",
    "elasticbeanstalk.com",
    "awsapprunner.com",
    "on.aws",
    "azurewebsites.net",
    "azureedge.net",
    "windows.net",
    "cloudapp.net",
    "azure.com",
    "trafficmanager.net",
    "azurefd.net",
    "googleusercontent.com",
    "googleapis.com",
    "appspot.com",
    "run.app",
    "web.app",
    "firebaseapp.com",
    "googlevideo.com",
    "gvt1.com",
    "github.io",
    "githubusercontent.com",
    "gitlab.io",
    "pages.dev",
    "workers.dev",
    "r2.dev",
    "cloudflarestorage.com",
    "herokuapp.com",
    "vercel.app",
    "netlify.app",
    "onrender.com",
    "fly.dev",
    "blogspot.com",
    "wordpress.com",
    "tumblr.com",
    "medium.com",
    "substack.com",
    "wikipedia.org",
    "fastly.net",
    "akamaiedge.net",
    "akamaized.net",
    "akadns.net",
    "edgekey.net",
    "hf.space",
];

/// Suffixes that a resolver adds (`ndots`, `search`), and names that resolvers answer about an address. The longest
/// match is removed.
const SEARCH: [&str; 6] = [
    "svc.cluster.local",
    "cluster.local",
    "google.internal",
    "ec2.internal",
    "compute.internal",
    "internal.cloudapp.net",
];

/// The parts of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// The part that its owner chose.
    pub(super) below: &'a str,
    /// The registered part.
    pub(super) registered: &'a str,
}

/// Splits a name. `None` if there is nothing below the registered domain, or if the name is not one of the Internet.
pub(super) fn split(name: &str) -> Option<Parts<'_>> {
    let name = without_search(name.trim_end_matches('.'));
    let (rest, top) = name.rsplit_once('.')?;
    if ["arpa", "local", "internal", "localhost", "home", "lan"]
        .iter()
        .any(|special| top.eq_ignore_ascii_case(special))
    {
        return None;
    }
    let second = rest.rsplit('.').next().unwrap_or_default();
    let is_country = top.len() == 2 && is_one_of(second, &COUNTRY_SECOND);
    if OPERATED.iter().any(|operated| is_below(name, operated)) {
        return None;
    }
    let label_count = if is_country { 3 } else { 2 };
    let start = nth_label_from_end(name, label_count)?;
    let below = name.get(..start.checked_sub(1)?)?;
    let registered = name.get(start..)?;
    (!below.is_empty()).then_some(Parts { below, registered })
}

/// Removes what the resolver added: `api.example.com.team-a.svc.cluster.local` is a query for `api.example.com`,
/// repeated once per entry of the search list.
fn without_search(name: &str) -> &str {
    for suffix in SEARCH {
        if !is_below(name, suffix) {
            continue;
        }
        let end = name.len() - suffix.len() - 1;
        let rest = name.get(..end).unwrap_or_default();
        if suffix != "svc.cluster.local" {
            return rest;
        }
        // The namespace precedes it. The rest of a service's own name has no dot.
        return rest
            .rsplit_once('.')
            .map_or("", |(queried, _namespace)| queried);
    }
    name
}

fn is_below(name: &str, suffix: &str) -> bool {
    let Some(start) = name.len().checked_sub(suffix.len()) else {
        return false;
    };
    let tail = name.get(start..);
    let has_dot = start > 0 && name.as_bytes().get(start - 1) == Some(&b'.');
    has_dot && tail.is_some_and(|tail| tail.eq_ignore_ascii_case(suffix))
}

fn is_one_of(label: &str, list: &[&str]) -> bool {
    list.iter().any(|entry| entry.eq_ignore_ascii_case(label))
}

fn nth_label_from_end(name: &str, count: usize) -> Option<usize> {
    let mut dots = name.rmatch_indices('.').map(|(at, _)| at);
    dots.nth(count - 1).map(|at| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, expected: Option<(&str, &str)>) {
        let parts = split(name).map(|parts| (parts.below, parts.registered));
        assert_eq!(parts, expected, "{name}");
    }

    #[test]
    fn the_chosen_part_is_separated_from_the_registered_part() {
        check("a.b.example.com", Some(("a.b", "example.com")));
        check("a.example.co.uk.", Some(("a", "example.co.uk")));
        check("bucket.s3.us-east-1.amazonaws.com", None);
        check("d111abcdef8.cloudfront.net", None);
        check("example.com", None);
        check("com", None);
        check("", None);
        check("..", None);
    }

    #[test]
    fn what_a_resolver_adds_is_taken_off() {
        check(
            "a.example.com.team.svc.cluster.local",
            Some(("a", "example.com")),
        );
        check("a.example.com.cluster.local", Some(("a", "example.com")));
        check("a.example.com.ec2.internal", Some(("a", "example.com")));
        check("kafka-0.kafka.team.svc.cluster.local", None);
        check("5.0.244.10.in-addr.arpa", None);
    }
}
