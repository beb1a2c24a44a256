//! Registered domains: which part of a name somebody registered, and which part they chose freely.
//!
//! Called by `dns` per query. Not the whole public suffix list, which is thousands of entries that
//! change weekly: the second-level suffixes of countries follow a few words, and the providers whose
//! names agents ask for in masses are few. One that is missing here makes its customers one domain,
//! which can bring an alert, never a quarantine.

/// Second labels under which countries register names: `co.uk`, `com.au`, `ac.jp`.
const COUNTRY_SECOND: [&str; 13] = [
    "co", "com", "net", "org", "ac", "edu", "gov", "go", "or", "ne", "nom", "mil", "gob",
];

/// Domains whose names only their operator answers, whoever rents one: nothing can be tunnelled in
/// them, and honest workloads ask for thousands.
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

/// Suffixes that a resolver adds by itself (`ndots`, `search`), and names that answer about an
/// address. The longest that matches is taken off.
const SEARCH: [&str; 6] = [
    "svc.cluster.local",
    "cluster.local",
    "google.internal",
    "ec2.internal",
    "compute.internal",
    "internal.cloudapp.net",
];

/// What a name is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts<'a> {
    /// What its owner chose.
    pub(super) below: &'a str,
    /// What was registered.
    pub(super) registered: &'a str,
}

/// Splits a name; `None` where nothing was chosen below a registered domain, or where the name is
/// not one of the Internet's.
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

/// Takes off what the resolver added: `api.example.com.team-a.svc.cluster.local` is a question
/// about `api.example.com`, asked once per entry of the search list.
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
        // The namespace stands before it. What is left of a service's own name has no dot.
        return rest
            .rsplit_once('.')
            .map_or("", |(asked, _namespace)| asked);
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
    fn what_was_chosen_is_told_from_what_was_registered() {
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
