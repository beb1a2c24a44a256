//! Checks of clocks: the proof of containment compares times of logs, nodes and the API server.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Api;
use kube::api::ListParams;
use kube::client::Body;

use super::check::{Check, Verdict};
use super::context::Context;
use crate::cli::error::CommandError;
use crate::cli::read::{list, read};

/// Times of the API and of HTTP headers are whole seconds, so that a smaller offset proves nothing.
const TOLERATED: SignedDuration = SignedDuration::from_secs(2);
/// From this offset on, evidence and actions are out of order.
const TOO_MUCH: SignedDuration = SignedDuration::from_secs(30);
/// A kubelet renews its Lease every 10 s; Kubernetes considers it unreachable after 40 s.
const RENEWED_WITHIN: SignedDuration = SignedDuration::from_secs(40);
/// Maximum number of names in a sentence.
const NAMED_MAX: usize = 3;

pub(super) async fn checks(context: &Context<'_>) -> Vec<Check> {
    let wanted = "this machine's clock within 2 s of the API server's";
    let offset = match offset(context).await {
        Ok(offset) => offset,
        Err(error) => return vec![Check::cannot("clock", wanted, &error)],
    };
    let Some(ahead) = offset else {
        let found = "the API server's answer has no Date";
        let check = Check::new("clock", Verdict::Unknown, wanted, found, "");
        return vec![check];
    };
    let server_now = Timestamp::now().saturating_add(ahead).unwrap_or_default();
    vec![judge_own(ahead), nodes(context, server_now).await]
}

/// How far the API server's clock is ahead of this machine's. `None` where its answer has no date.
async fn offset(context: &Context<'_>) -> Result<Option<SignedDuration>, CommandError> {
    let request = http::Request::get("/version").body(Body::empty());
    let Ok(request) = request else {
        return Ok(None);
    };
    let before = Timestamp::now();
    let response = read(
        "the API server's clock",
        context.cluster.client.send(request),
    )
    .await?;
    let after = Timestamp::now();
    let date = response.headers().get(http::header::DATE);
    let date = date.and_then(|date| date.to_str().ok());
    Ok(date.and_then(|date| ahead(date, before, after)))
}

/// The smallest offset that explains a date header, which is truncated to whole seconds and was created
/// between `before` and `after`.
fn ahead(date: &str, before: Timestamp, after: Timestamp) -> Option<SignedDuration> {
    let server = jiff::fmt::rfc2822::parse(date).ok()?.timestamp();
    let earliest = server.duration_since(after);
    let latest = server.duration_since(before) + SignedDuration::from_secs(1);
    Some(if earliest > SignedDuration::ZERO {
        earliest
    } else if latest < SignedDuration::ZERO {
        latest
    } else {
        SignedDuration::ZERO
    })
}

fn judge_own(ahead: SignedDuration) -> Check {
    let wanted = "this machine's clock within 2 s of the API server's";
    let off = ahead.abs();
    let side = if ahead > SignedDuration::ZERO {
        "behind"
    } else {
        "ahead of"
    };
    let seconds = off.as_millis_f64() / 1000.0;
    let found = if off.is_zero() {
        "this machine and the API server agree".to_owned()
    } else {
        format!("this machine is {seconds:.1} s {side} the API server")
    };
    let verdict = if off <= TOLERATED {
        Verdict::Ok
    } else if off <= TOO_MUCH {
        Verdict::Warn
    } else {
        Verdict::Fail
    };
    let todo = if verdict == Verdict::Ok {
        ""
    } else {
        "synchronize the clocks with NTP; ages in the output are off by this much"
    };
    Check::new("clock", verdict, wanted, found, todo)
}

async fn nodes(context: &Context<'_>, server_now: Timestamp) -> Check {
    let wanted = "every node renewed its Lease within 40 s, and none in the future";
    let api: Api<Lease> = Api::namespaced(context.cluster.client.clone(), "kube-node-lease");
    match list("leases", &api, ListParams::default()).await {
        Ok(found) => judge_nodes(&renewals(&found.items), server_now),
        Err(error) => Check::cannot("node-clocks", wanted, &error),
    }
}

/// The names and renewal times of Leases.
pub(super) fn renewals(leases: &[Lease]) -> Vec<(String, Timestamp)> {
    let renewal = |lease: &Lease| {
        let spec = lease.spec.as_ref()?;
        let name = lease.metadata.name.clone()?;
        Some((name, spec.renew_time.as_ref()?.0))
    };
    leases.iter().filter_map(renewal).collect()
}

fn judge_nodes(renewed: &[(String, Timestamp)], now: Timestamp) -> Check {
    let wanted = "every node renewed its Lease within 40 s, and none in the future";
    let check = |verdict, found: String, todo: &str| {
        Check::new("node-clocks", verdict, wanted, found, todo)
    };
    if renewed.is_empty() {
        let found = "there is no Lease of a node".to_owned();
        return check(Verdict::Unknown, found, "is there a node?");
    }
    let chosen = |is: &dyn Fn(SignedDuration) -> bool| -> Vec<&str> {
        let of = renewed.iter().filter(|(_, at)| is(now.duration_since(*at)));
        of.map(|(name, _)| name.as_str()).collect()
    };
    let ahead = chosen(&|age| age < -TOLERATED);
    if !ahead.is_empty() {
        let found = format!("in the future: {}", some(&ahead));
        let todo = "set the clocks of these nodes: their evidence has wrong times";
        return check(Verdict::Fail, found, todo);
    }
    let old = chosen(&|age| age > RENEWED_WITHIN);
    if !old.is_empty() {
        let found = format!("not renewed for 40 s: {}", some(&old));
        let todo = "the kubelet is unreachable, or the node's clock is behind";
        return check(Verdict::Warn, found, todo);
    }
    check(
        Verdict::Ok,
        format!("{} nodes renew their Leases", renewed.len()),
        "",
    )
}

/// The first few names, and how many more.
pub(super) fn some(names: &[&str]) -> String {
    let shown = names.get(..NAMED_MAX.min(names.len())).unwrap_or_default();
    let more = names.len() - shown.len();
    if more == 0 {
        shown.join(", ")
    } else {
        format!("{} and {more} more", shown.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    #[test]
    fn an_offset_below_the_resolution_of_the_header_is_not_reported() {
        let date = "Thu, 01 Jan 1970 00:01:40 GMT";
        let ahead = |before, after| ahead(date, at(before), at(after)).unwrap().as_millis();
        assert_eq!(ahead(100_300, 100_400), 0);
        assert_eq!(ahead(99_900, 100_100), 0);
        assert_eq!(ahead(101_500, 101_600), -500);
        assert_eq!(ahead(90_000, 90_100), 9_900);
        assert_eq!(super::ahead("yesterday", at(0), at(0)), None);
    }

    #[test]
    fn a_clock_that_is_far_off_fails() {
        let verdict = |seconds| judge_own(SignedDuration::from_secs(seconds)).verdict;
        assert_eq!(verdict(0), Verdict::Ok);
        assert_eq!(verdict(-10), Verdict::Warn);
        assert_eq!(verdict(3_600), Verdict::Fail);
        assert!(
            judge_own(SignedDuration::from_secs(10))
                .found
                .contains("behind")
        );
    }

    #[test]
    fn a_node_of_the_future_fails_and_a_silent_one_is_named() {
        let node = |name: &str, second: i64| (name.to_owned(), at(second * 1_000));
        let verdict = |renewed: &[(String, Timestamp)]| judge_nodes(renewed, at(100_000));
        assert_eq!(verdict(&[node("a", 95)]).verdict, Verdict::Ok);
        assert_eq!(verdict(&[]).verdict, Verdict::Unknown);
        let silent = verdict(&[node("a", 95), node("b", 10)]);
        assert_eq!(silent.verdict, Verdict::Warn);
        assert!(silent.found.ends_with('b'), "{}", silent.found);
        assert_eq!(
            verdict(&[node("a", 10), node("b", 200)]).verdict,
            Verdict::Fail
        );
    }
}
