//! Watches one kind: fills its store, and passes each change to a callback.
//!
//! A malformed object is reported and skipped; it does not stop the others. A failed watch is retried
//! with backoff without end, and logged once for consecutive failures.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, pin_mut};
use kube::api::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as start_watcher};
use kube::{Api, Resource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;

use crate::api::AgentRun;
use crate::cluster::store::{Change, StoreWriter};
use crate::limits;

/// One event of a watch. The store already has the new state.
#[derive(Debug)]
pub(crate) enum WatchEvent<K: Resource<DynamicType = ()>> {
    /// An object was added or changed.
    Changed {
        /// The old version, if it was in the store.
        old: Option<Arc<K>>,
        /// The new version.
        new: Arc<K>,
    },
    /// An object was deleted.
    Gone(Arc<K>),
    /// The first list is complete. A later list, after a failed watch, is reported as changes and
    /// deletions, so that 20,000 unchanged pods cause no work.
    Listed,
    /// An object that cannot be decoded. The store keeps its last version that could be.
    Malformed {
        /// Namespace of the object; empty for cluster-scoped kinds.
        namespace: String,
        /// Name of the object.
        name: String,
        /// Identifies the version of its spec, so that each is reported once.
        version: String,
        /// Why it cannot be decoded.
        error: String,
    },
}

/// Whether a watch is working.
#[derive(Clone, Debug, Default)]
pub(crate) struct WatchHealth(Arc<Mutex<WatchState>>);

/// The state of a watch.
#[derive(Clone, Copy, Debug, Default)]
enum WatchState {
    /// No event yet.
    #[default]
    Starting,
    /// It delivers events.
    Working,
    /// It failed at this time, after it had worked.
    Failed(Instant),
}

impl WatchHealth {
    /// Whether the watch delivered events and has not failed since. A watch that was restarted delivers
    /// no event before something changes, which for a quiet kind may take long. So a failure counts
    /// until no other one followed for as long as an attempt may take.
    #[must_use]
    pub(crate) fn is_working(&self) -> bool {
        self.is_working_at(Instant::now())
    }

    fn is_working_at(&self, now: Instant) -> bool {
        match self.state() {
            WatchState::Starting => false,
            WatchState::Working => true,
            WatchState::Failed(at) => {
                now.saturating_duration_since(at) > limits::WATCH_FAILURE_RETENTION
            }
        }
    }

    fn state(&self) -> WatchState {
        *self.0.lock()
    }

    fn set(&self, state: WatchState) {
        *self.0.lock() = state;
    }

    fn set_failed(&self, now: Instant) {
        if !matches!(self.state(), WatchState::Starting) {
            self.set(WatchState::Failed(now));
        }
    }
}

/// Watches a kind without end: fills the store of `writer` and passes every event to `handler`.
///
/// The watch timeout is shorter than the idle timeout of common load balancers (240 s), which drop a
/// silent connection without notice; a longer one would leave the store stale for minutes.
pub(crate) async fn follow<K, F, Handled>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    prune: fn(&mut K),
    mut writer: StoreWriter<K>,
    health: WatchHealth,
    mut handler: F,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    F: FnMut(WatchEvent<K>) -> Handled + Send,
    Handled: Future<Output = ()> + Send,
{
    let kind = K::kind(&()).into_owned();
    let config = config
        .timeout(limits::WATCH_TIMEOUT_S)
        .page_size(limits::WATCH_PAGE);
    let stream = guarded(api, config);
    pin_mut!(stream);
    let mut is_failing = false;
    while let Some(item) = stream.next().await {
        match item {
            Ok(event) => {
                is_failing = false;
                // Before its first page a list has no response.
                if !matches!(event, Event::Init) {
                    health.set(WatchState::Working);
                }
                for event in apply_event(event, prune, &mut writer) {
                    handler(event).await;
                }
            }
            Err(error) => {
                health.set_failed(Instant::now());
                if is_failing {
                    tracing::debug!(kind, error = %error, "The watch is still failing.");
                } else {
                    is_failing = true;
                    log_failure::<K>(&error);
                }
            }
        }
    }
}

/// CRDs that are not installed are the most common mistake of an installation.
fn log_failure<K: Resource<DynamicType = ()>>(error: &watcher::Error) {
    let kind = K::kind(&());
    if K::group(&()) == AgentRun::group(&()) && is_not_found(error) {
        tracing::warn!(
            %kind,
            "The API server does not serve this kind: install the CRDs with `yellowjack crds | kubectl apply -f -`. The watch starts when they are installed."
        );
        return;
    }
    let error = crate::observability::chain(error);
    tracing::warn!(%kind, error, "The watch failed; will retry.");
}

fn is_not_found(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
    else {
        return false;
    };
    status.code == 404
}

/// The UID and generation. The resource version would change with every status update.
fn version_of(metadata: &ObjectMeta) -> String {
    match (&metadata.uid, metadata.generation) {
        (Some(uid), Some(generation)) => format!("{uid}/{generation}"),
        _ => metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// The backoff of kube with a lower maximum: a minute without events is too long after a short outage of
/// the API server.
struct Backoff(watcher::DefaultBackoff);

impl Iterator for Backoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|wait| wait.min(limits::WATCH_RETRY_MAX))
    }
}

impl kube::runtime::utils::Backoff for Backoff {
    fn reset(&mut self) {
        self.0.reset();
    }
}

fn guarded<K>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<DeserializeGuard<K>>>>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    start_watcher(api, config).backoff(Backoff(watcher::DefaultBackoff::default()))
}

/// Applies one event to the store and returns the events for the handler.
fn apply_event<K>(
    event: Event<DeserializeGuard<K>>,
    prune: fn(&mut K),
    writer: &mut StoreWriter<K>,
) -> Vec<WatchEvent<K>>
where
    K: Resource<DynamicType = ()> + Clone + Debug,
{
    let changed = |(old, new): Change<K>| WatchEvent::Changed { old, new };
    match event {
        Event::Apply(DeserializeGuard(Ok(mut object))) => {
            prune(&mut object);
            if !writer.has_room_for(&object) {
                return Vec::new();
            }
            vec![changed(writer.apply(object))]
        }
        Event::Delete(DeserializeGuard(Ok(mut object))) => {
            prune(&mut object);
            let gone = Arc::new(object.clone());
            writer.remove(object);
            vec![WatchEvent::Gone(gone)]
        }
        Event::Delete(DeserializeGuard(Err(invalid))) => {
            let last = writer.as_reader().get(&reference_to(&invalid));
            if let Some(last) = &last {
                writer.remove((**last).clone());
            }
            last.map(WatchEvent::Gone).into_iter().collect()
        }
        Event::Init => {
            writer.list_begins();
            Vec::new()
        }
        Event::InitApply(DeserializeGuard(Ok(mut object))) => {
            prune(&mut object);
            if !writer.has_room_for(&object) {
                return Vec::new();
            }
            writer.listed(object).map(changed).into_iter().collect()
        }
        Event::InitDone => {
            let is_first = !writer.is_filled();
            let gone = writer.list_ends();
            let first = is_first.then_some(WatchEvent::Listed);
            gone.into_iter()
                .map(WatchEvent::Gone)
                .chain(first)
                .collect()
        }
        Event::InitApply(DeserializeGuard(Err(invalid))) => {
            writer.listed_unreadable(reference_to(&invalid));
            vec![malformed(invalid)]
        }
        Event::Apply(DeserializeGuard(Err(invalid))) => vec![malformed(invalid)],
    }
}

fn reference_to<K: Resource<DynamicType = ()>>(invalid: &InvalidObject) -> ObjectRef<K> {
    let mut reference = ObjectRef::new(invalid.metadata.name.as_deref().unwrap_or_default());
    reference.namespace.clone_from(&invalid.metadata.namespace);
    reference
}

fn malformed<K: Resource<DynamicType = ()>>(invalid: InvalidObject) -> WatchEvent<K> {
    WatchEvent::Malformed {
        version: version_of(&invalid.metadata),
        namespace: invalid.metadata.namespace.unwrap_or_default(),
        name: invalid.metadata.name.unwrap_or_default(),
        error: invalid.error,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;

    type Listed = Event<DeserializeGuard<ConfigMap>>;

    fn listed(count: usize, version: usize) -> Vec<Listed> {
        let object = |number: usize| ConfigMap {
            metadata: ObjectMeta {
                name: Some(format!("map-{number}")),
                namespace: Some("ns".to_owned()),
                uid: Some(format!("uid-{number}")),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            ..ConfigMap::default()
        };
        let objects =
            (0..count).map(|number| Event::InitApply(DeserializeGuard(Ok(object(number)))));
        let begin = std::iter::once(Event::Init);
        begin.chain(objects).chain([Event::InitDone]).collect()
    }

    /// How many events the handler gets: changed, gone, listed.
    fn handled(writer: &mut StoreWriter<ConfigMap>, events: Vec<Listed>) -> [usize; 3] {
        let mut counts = [0; 3];
        for event in events {
            for seen in apply_event(event, |_| {}, writer) {
                match seen {
                    WatchEvent::Changed { .. } => counts[0] += 1,
                    WatchEvent::Gone(_) => counts[1] += 1,
                    WatchEvent::Listed => counts[2] += 1,
                    WatchEvent::Malformed { .. } => panic!("{seen:?}"),
                }
            }
        }
        counts
    }

    #[test]
    fn a_relist_reports_only_the_differences() {
        let mut writer = StoreWriter::default();
        assert_eq!(handled(&mut writer, listed(1_000, 1)), [0, 0, 1]);
        assert_eq!(handled(&mut writer, listed(1_000, 1)), [0, 0, 0]);
        assert_eq!(handled(&mut writer, listed(990, 1)), [0, 10, 0]);
        assert_eq!(handled(&mut writer, listed(995, 1)), [5, 0, 0]);
        assert_eq!(handled(&mut writer, listed(995, 2)), [995, 0, 0]);
    }

    #[test]
    fn a_watch_of_a_quiet_kind_counts_as_working_when_no_other_failure_follows() {
        let health = WatchHealth::default();
        let mut now = Instant::now();
        assert!(!health.is_working_at(now));
        health.set(WatchState::Working);
        assert!(health.is_working_at(now));
        for _ in 0..3 {
            health.set_failed(now);
            now += limits::WATCH_FAILURE_RETENTION;
            assert!(!health.is_working_at(now));
        }
        now += Duration::from_millis(1);
        assert!(health.is_working_at(now));
    }

    #[test]
    fn a_watch_that_never_listed_never_counts_as_working() {
        let health = WatchHealth::default();
        let now = Instant::now();
        health.set_failed(now);
        assert!(!health.is_working_at(now + 10 * limits::WATCH_FAILURE_RETENTION));
    }
}
