//! Registered domains: which part of a name was registered, and which part its owner chose.
//!
//! Called per query by `tunnel`, and per named contact by `scan`. Does not use the public suffix list, which has thousands
//! of entries that change weekly: the second-level suffixes of countries use a few words, and agents look up names of few
//! providers in large numbers. The customers of a provider that is missing here count as one domain, which can lead to an
//! alert, never to a quarantine.

/// Top-level names that are reserved for networks without a registrar: RFC 6762, RFC 8375, ICANN's `internal`, and what
/// routers use.
const LOCAL_TOP: [&str; 6] = ["arpa", "local", "internal", "localhost", "home", "lan"];

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
    if is_one_of(top, &LOCAL_TOP) || OPERATED.iter().any(|operated| is_below(name, operated)) {
        return None;
    }
    let start = nth_label_from_end(name, registered_label_count(top, rest))?;
    let below = name.get(..start.checked_sub(1)?)?;
    let registered = name.get(start..)?;
    (!below.is_empty()).then_some(Parts { below, registered })
}

/// The registered part of a name; the whole name if there is nothing below it. Of a Service it includes the namespace,
/// because who may create Services there can have their names resolve to any address.
pub(super) fn registered(name: &str) -> &str {
    let Some((rest, top)) = name.rsplit_once('.') else {
        return name;
    };
    let third = rest.rsplit('.').nth(1);
    let is_service = is_one_of(top, &LOCAL_TOP) && third.is_some_and(is_svc);
    let label_count = if is_service {
        4
    } else {
        registered_label_count(top, rest)
    };
    let start = nth_label_from_end(name, label_count).unwrap_or_default();
    name.get(start..).unwrap_or_default()
}

/// Whether a name cannot be registered: a single label, or one below a reserved top-level name. The cluster's DNS gives
/// such names to pods and Services.
pub(super) fn is_local(name: &str) -> bool {
    let top = name.rsplit_once('.').map(|(_, top)| top);
    top.is_none_or(|top| is_one_of(top, &LOCAL_TOP))
}

/// Whether a name has the label of Services. Where the cluster has a registered domain of its own, its names do.
pub(super) fn has_service_label(name: &str) -> bool {
    name.split('.').any(is_svc)
}

fn is_svc(label: &str) -> bool {
    label.eq_ignore_ascii_case("svc")
}

fn registered_label_count(top: &str, rest: &str) -> usize {
    let second = rest.rsplit('.').next().unwrap_or_default();
    let is_country = top.len() == 2 && is_one_of(second, &COUNTRY_SECOND);
    if is_country { 3 } else { 2 }
}

/// FNV-1a over the lower-case bytes, finalized so that the upper half is mixed too.
pub(super) fn hash_name(text: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in text.bytes() {
        hash = (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(0x0100_0000_01b3);
    }
    (hash ^ (hash >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15)
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
