//! What goes wrong and when: the script that a test writes and the requests consume. No I/O.

use std::time::Duration;

use http::{Method, StatusCode, Uri};
use jiff::Timestamp;

/// What happens to a request that matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is answered with this status and never reaches the server. 429 carries a Retry-After.
    Reply(StatusCode),
    /// A watch is answered as the API server does where it no longer knows what changed since: list again.
    Expired,
    /// It is forwarded after this time.
    Delay(Duration),
    /// The connection drops, and the server never sees the request.
    DropBefore,
    /// The server serves the request, and the reply is lost.
    DropAfter,
}

/// Which requests a fault is for.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    method: Option<Method>,
    parts: Vec<String>,
    skip: usize,
}

impl Matcher {
    /// Any request.
    #[must_use]
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests of this method.
    #[must_use]
    pub fn method(method: Method) -> Self {
        Self {
            method: Some(method),
            ..Self::default()
        }
    }

    /// Only those whose path and query contain this text, for example `/incidents/` or
    /// `watch=true`.
    #[must_use]
    pub fn containing(mut self, part: &str) -> Self {
        self.parts.push(part.to_owned());
        self
    }

    /// Not the first `count` of them.
    #[must_use]
    pub const fn after(mut self, count: usize) -> Self {
        self.skip = count;
        self
    }

    fn matches(&self, method: &Method, target: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && self.parts.iter().all(|part| target.contains(part))
    }
}

/// When a kill happens in the life of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KillTime {
    /// The operator sent the write, and the server never sees it.
    Before,
    /// The server has served the write, and the operator never learns it.
    After,
}

/// A kill that was asked for.
#[derive(Debug, Clone)]
pub(super) struct Kill {
    /// Only writes whose path contains one of these count; all do where there is none.
    pub(super) paths: Vec<String>,
    /// Only writes of this method count; all do where there is none.
    pub(super) method: Option<Method>,
    pub(super) writes_left: usize,
    pub(super) time: KillTime,
    pub(super) pid: u32,
}

impl Kill {
    fn counts(&self, method: &Method, path: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted == method)
            && (self.paths.is_empty() || self.paths.iter().any(|part| path.contains(part)))
    }
}

/// A write that was answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Write {
    /// Method.
    pub method: Method,
    /// Path without the query.
    pub path: String,
    /// The field manager that it named.
    pub field_manager: Option<String>,
    /// The body, `Null` where it was no JSON.
    pub body: serde_json::Value,
    /// What it was answered.
    pub status: StatusCode,
    /// When it came.
    pub asked_at: Timestamp,
    /// When the server had answered.
    pub answered_at: Timestamp,
}

/// The faults to come and the writes so far.
#[derive(Debug, Default)]
pub(super) struct Script {
    faults: Vec<(Matcher, Fault, usize)>,
    pub(super) kill: Option<Kill>,
    pub(super) writes: Vec<Write>,
}

impl Script {
    pub(super) fn add(&mut self, matcher: Matcher, fault: Fault, times: usize) {
        self.faults.push((matcher, fault, times));
    }

    pub(super) fn clear(&mut self) {
        self.faults.clear();
        self.kill = None;
    }

    pub(super) fn faults_left(&self) -> usize {
        self.faults.iter().map(|(_, _, times)| times).sum()
    }

    /// The fault of this request: that of the first matching entry, which it uses up by one.
    pub(super) fn fault_for(&mut self, method: &Method, uri: &Uri) -> Option<Fault> {
        let target = uri.path_and_query().map_or("", |target| target.as_str());
        let (matcher, fault, times) = self
            .faults
            .iter_mut()
            .find(|(matcher, _, _)| matcher.matches(method, target))?;
        if matcher.skip > 0 {
            matcher.skip -= 1;
            return None;
        }
        *times -= 1;
        let fault = fault.clone();
        self.faults.retain(|(_, _, times)| *times > 0);
        Some(fault)
    }

    /// Counts a write, and tells whether the process must die for it.
    pub(super) fn kill_for(&mut self, method: &Method, uri: &Uri) -> Option<Kill> {
        if !counts_as_write(method, uri) {
            return None;
        }
        let kill = self
            .kill
            .as_mut()
            .filter(|kill| kill.counts(method, uri.path()))?;
        kill.writes_left = kill.writes_left.saturating_sub(1);
        if kill.writes_left > 0 {
            return None;
        }
        self.kill.take()
    }
}

/// Whether a request changes something that tests count.
pub(super) fn counts_as_write(method: &Method, uri: &Uri) -> bool {
    let changes = matches!(
        *method,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE
    );
    let path = uri.path();
    // Reviews are questions in the form of a POST.
    let ignored = ["/leases", "/events", "accessreviews", "tokenreviews"];
    changes && !ignored.iter().any(|part| path.contains(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri {
        text.parse().unwrap()
    }

    #[test]
    fn a_fault_meets_the_nth_matching_request_and_no_other() {
        let mut script = Script::default();
        let matcher = Matcher::method(Method::PATCH).containing("/pods/").after(1);
        script.add(matcher, Fault::DropBefore, 1);
        let pod = uri("/api/v1/namespaces/a/pods/x?fieldManager=m");
        assert_eq!(script.fault_for(&Method::GET, &pod), None, "a read");
        assert_eq!(script.fault_for(&Method::PATCH, &pod), None, "the first");
        assert_eq!(
            script.fault_for(&Method::PATCH, &pod),
            Some(Fault::DropBefore)
        );
        assert_eq!(script.fault_for(&Method::PATCH, &pod), None, "used up");
        assert_eq!(script.faults_left(), 0);
    }

    #[test]
    fn a_kill_counts_the_writes_it_is_for_but_neither_reads_nor_leases() {
        let mut script = Script {
            kill: Some(Kill {
                paths: vec!["/pods/".to_owned()],
                method: None,
                writes_left: 2,
                time: KillTime::After,
                pid: 1,
            }),
            ..Script::default()
        };
        let pod = uri("/api/v1/namespaces/a/pods/x");
        let lease = uri("/apis/coordination.k8s.io/v1/namespaces/a/leases/x");
        assert!(script.kill_for(&Method::GET, &pod).is_none());
        assert!(
            script.kill_for(&Method::PATCH, &pod).is_none(),
            "the first write"
        );
        assert!(script.kill_for(&Method::PUT, &lease).is_none());
        let job = uri("/apis/batch/v1/namespaces/a/jobs/x");
        assert!(
            script.kill_for(&Method::PATCH, &job).is_none(),
            "not asked for"
        );
        assert!(
            script.kill_for(&Method::DELETE, &pod).is_some(),
            "the second write"
        );
        assert!(
            script.kill_for(&Method::PATCH, &pod).is_none(),
            "it happens once"
        );
        script.kill = Some(Kill {
            paths: vec!["/pods/".to_owned()],
            method: Some(Method::DELETE),
            writes_left: 1,
            time: KillTime::Before,
            pid: 1,
        });
        assert!(
            script.kill_for(&Method::PATCH, &pod).is_none(),
            "no deletion"
        );
        assert!(script.kill_for(&Method::DELETE, &pod).is_some());
    }
}
