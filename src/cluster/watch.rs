//! One watch per kind: into a store, and on to whoever follows.
//!
//! A malformed object is reported and skipped; it never stops the others. A watch that fails is
//! tried again with backoff for ever, and says so once per streak.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt, pin_mut};
use kube::api::ObjectMeta;
use kube::core::DeserializeGuard;
use kube::core::error_boundary::InvalidObject;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as start_watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::api::AgentRun;
use crate::cluster::store::{Change, StoreWriter};
use crate::limits;

/// What a watch saw. The store already holds the new state when a follower hears of it.
#[derive(Debug)]
pub enum WatchEvent<K: Resource<DynamicType = ()>> {
    /// An object is there or changed.
    Changed {
        /// As it was, if it was known.
        old: Option<Arc<K>>,
        /// As it is.
        new: Arc<K>,
    },
    /// An object is gone.
    Gone(Arc<K>),
    /// Everything was listed for the first time. A list that comes again, after a watch that failed, is told as what
    /// changed and what is gone, so that 20,000 pods that are as they were wake nobody.
    Listed,
    /// An object that cannot be read. The store keeps what was last readable.
    Malformed {
        /// Namespace; empty for cluster-scoped kinds.
        namespace: String,
        /// Name.
        name: String,
        /// Tells one state of its spec from another, so that each is reported once.
        version: String,
        /// What is wrong with it.
        error: String,
    },
}

/// Whether a watch is working.
#[derive(Clone, Debug, Default)]
pub struct WatchHealth(Arc<Mutex<Heard>>);

/// What was heard of a watch.
#[derive(Clone, Copy, Debug, Default)]
enum Heard {
    /// Nothing good yet.
    #[default]
    Nothing,
    /// Objects, or that all are listed.
    News,
    /// After news, a failure.
    Failure(Instant),
}

impl WatchHealth {
    /// Whether objects were heard of, and no failure since. A watch that is taken up again says nothing
    /// before something changes, which for a quiet kind may be never: so a failure counts until no other
    /// one came for as long as a try may take.
    #[must_use]
    pub fn is_working(&self) -> bool {
        self.is_working_at(Instant::now())
    }

    fn is_working_at(&self, now: Instant) -> bool {
        match self.heard() {
            Heard::Nothing => false,
            Heard::News => true,
            Heard::Failure(at) => now.saturating_duration_since(at) > limits::WATCH_FAILURE_STANDS,
        }
    }

    fn heard(&self) -> Heard {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, news: Heard) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = news;
    }

    fn hear_failure(&self, now: Instant) {
        if !matches!(self.heard(), Heard::Nothing) {
            self.hear(Heard::Failure(now));
        }
    }
}

/// Watches a kind into `writer`'s store for ever and hands every change to `follower`.
///
/// The watch timeout is below the idle timeout of common load balancers (240 s), which drop a
/// silent connection without a word; a longer one would leave the store stale for minutes.
pub async fn follow<K, F, Followed>(
    api: Api<DeserializeGuard<K>>,
    config: watcher::Config,
    prune: fn(&mut K),
    mut writer: StoreWriter<K>,
    health: WatchHealth,
    mut follower: F,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    F: FnMut(WatchEvent<K>) -> Followed + Send,
    Followed: Future<Output = ()> + Send,
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
                // A list that begins has no answer yet.
                if !matches!(event, Event::Init) {
                    health.hear(Heard::News);
                }
                for seen in take_in(event, prune, &mut writer) {
                    follower(seen).await;
                }
            }
            Err(error) => {
                health.hear_failure(Instant::now());
                if is_failing {
                    tracing::debug!(kind, error = %error, "Watch is still failing.");
                } else {
                    is_failing = true;
                    say_failure::<K>(&error);
                }
            }
        }
    }
}

/// A kind of ours that the API server does not know is the commonest mistake of an installation.
fn say_failure<K: Resource<DynamicType = ()>>(error: &watcher::Error) {
    let kind = K::kind(&());
    if K::group(&()) == AgentRun::group(&()) && is_not_found(error) {
        tracing::warn!(
            %kind,
            "The API server does not know this kind: install the CRDs with `yellowjack crds | kubectl apply -f -`. Work begins once they are there."
        );
        return;
    }
    let error = crate::observability::chain(error);
    tracing::warn!(%kind, error, "Watch failed and is tried again.");
}

fn is_not_found(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))) = error
    else {
        return false;
    };
    status.code == 404
}

/// The UID and generation. A resource version would change with every condition that we set.
fn version_of(metadata: &ObjectMeta) -> String {
    match (&metadata.uid, metadata.generation) {
        (Some(uid), Some(generation)) => format!("{uid}/{generation}"),
        _ => metadata.resource_version.clone().unwrap_or_default(),
    }
}

/// Kube's own waiting times, cut: they go up to a minute, a long time to be blind after an API
/// server was away for a moment.
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

/// Applies one event to the store and says what followers must hear.
fn take_in<K>(
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

    /// What followers hear of these events: changed, gone, listed.
    fn heard(writer: &mut StoreWriter<ConfigMap>, events: Vec<Listed>) -> [usize; 3] {
        let mut counts = [0; 3];
        for event in events {
            for seen in take_in(event, |_| {}, writer) {
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
    fn a_list_that_comes_again_tells_what_differs_and_nothing_else() {
        let mut writer = StoreWriter::default();
        assert_eq!(heard(&mut writer, listed(1_000, 1)), [0, 0, 1]);
        assert_eq!(heard(&mut writer, listed(1_000, 1)), [0, 0, 0]);
        assert_eq!(heard(&mut writer, listed(990, 1)), [0, 10, 0]);
        assert_eq!(heard(&mut writer, listed(995, 1)), [5, 0, 0]);
        assert_eq!(heard(&mut writer, listed(995, 2)), [995, 0, 0]);
    }

    #[test]
    fn a_watch_of_a_quiet_kind_works_again_when_no_other_failure_comes() {
        let health = WatchHealth::default();
        let mut now = Instant::now();
        assert!(!health.is_working_at(now));
        health.hear(Heard::News);
        assert!(health.is_working_at(now));
        for _ in 0..3 {
            health.hear_failure(now);
            now += limits::WATCH_FAILURE_STANDS;
            assert!(!health.is_working_at(now));
        }
        now += Duration::from_millis(1);
        assert!(health.is_working_at(now));
    }

    #[test]
    fn a_watch_that_never_listed_does_not_work_however_long_it_is_silent() {
        let health = WatchHealth::default();
        let now = Instant::now();
        health.hear_failure(now);
        assert!(!health.is_working_at(now + 10 * limits::WATCH_FAILURE_STANDS));
    }
}
