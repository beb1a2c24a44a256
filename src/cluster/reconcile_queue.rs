//! The queue of objects to reconcile, after the work queue of client-go: an object waits in it once, is reconciled by one
//! task at a time, and waits again if it is added during that time. Namespaces take turns, so that a tenant with many objects
//! does not delay those of others.
//!
//! The watches add to it. Adding never waits, so a slow reconciler never blocks a watch. It holds references to objects that
//! the API server stores, and is bounded by their number.
//!
//! kube's `applier` takes whatever a stream yields at once, and picks the next of what it took by hash. So the stream yields
//! no more objects than are reconciled at a time, and [`ReconcileQueue::done`] makes room for the next.

use std::collections::{HashMap, HashSet, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;

use futures::{Stream, stream};
use kube::Resource;
use kube::runtime::controller::{Action, Error};
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::limits;

/// How many objects are reconciled at a time.
const PLACES: usize = limits::RECONCILE_CONCURRENCY as usize;

/// Objects of one kind that wait for reconciliation. Cheap to clone; all clones share one queue.
pub(crate) struct ReconcileQueue<K: Resource<DynamicType = ()>>(Arc<Inner<K>>);

struct Inner<K: Resource<DynamicType = ()>> {
    state: Mutex<State<K>>,
    any: Notify,
}

struct State<K: Resource<DynamicType = ()>> {
    /// The waiting objects of each namespace, in order of arrival. Objects without a namespace are under the empty name.
    namespaces: HashMap<String, VecDeque<ObjectRef<K>>>,
    /// The namespaces with waiting objects, in the order of their turns.
    turns: VecDeque<String>,
    /// All waiting objects.
    waiting: HashSet<ObjectRef<K>>,
    /// Objects that were yielded and are not done.
    processing: HashSet<ObjectRef<K>>,
}

impl<K: Resource<DynamicType = ()>> Clone for ReconcileQueue<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Resource<DynamicType = ()>> Default for ReconcileQueue<K> {
    fn default() -> Self {
        let state = State {
            namespaces: HashMap::new(),
            turns: VecDeque::new(),
            waiting: HashSet::new(),
            processing: HashSet::new(),
        };
        Self(Arc::new(Inner {
            state: Mutex::new(state),
            any: Notify::new(),
        }))
    }
}

impl<K: Resource<DynamicType = ()>> ReconcileQueue<K> {
    /// Adds an object.
    pub(crate) fn add(&self, object: ObjectRef<K>) {
        if self.0.state.lock().add(object) {
            self.0.any.notify_one();
        }
    }

    /// Yields the next objects, at most [`limits::RECONCILE_CONCURRENCY`] that are not done. For a single consumer.
    pub(crate) fn stream(
        &self,
    ) -> impl Stream<Item = Result<ObjectRef<K>, Infallible>> + Send + use<K>
    where
        K: Send + Sync + 'static,
    {
        stream::unfold(Arc::clone(&self.0), async |inner| {
            loop {
                let next = inner.state.lock().next();
                if let Some(object) = next {
                    return Some((Ok(object), inner));
                }
                inner.any.notified().await;
            }
        })
    }

    /// An object was reconciled, or does not exist.
    pub(crate) fn done(&self, object: &ObjectRef<K>) {
        if self.0.state.lock().processing.remove(object) {
            self.0.any.notify_one();
        }
    }

    /// Takes a result of kube's `applier`: that object is done. Errors were handled by its error policy, and a deleted object
    /// needs nothing.
    pub(crate) fn on_result<E, Q>(&self, result: Result<(ObjectRef<K>, Action), Error<E, Q>>) {
        match result {
            Ok((object, _)) => self.done(&object),
            Err(Error::ObjectNotFound(object) | Error::ReconcilerFailed(_, object)) => {
                self.done(&object.into_kind_unchecked(()));
            }
            Err(Error::QueueError(_) | Error::RunnerError(_)) => {}
        }
    }
}

impl<K: Resource<DynamicType = ()>> State<K> {
    /// Adds an object. Returns whether it was not waiting.
    fn add(&mut self, object: ObjectRef<K>) -> bool {
        if !self.waiting.insert(object.clone()) {
            return false;
        }
        let namespace = object.namespace.clone().unwrap_or_default();
        let objects = self.namespaces.entry(namespace.clone()).or_default();
        if objects.is_empty() {
            self.turns.push_back(namespace);
        }
        objects.push_back(object);
        true
    }

    /// The next object that is not being processed, and the turn of the next namespace.
    fn next(&mut self) -> Option<ObjectRef<K>> {
        if self.processing.len() >= PLACES {
            return None;
        }
        for _ in 0..self.turns.len() {
            let namespace = self.turns.pop_front()?;
            let objects = self.namespaces.get_mut(&namespace)?;
            let is_free = |object: &ObjectRef<K>| !self.processing.contains(object);
            // At most as many as are processed at a time are passed over.
            let found = objects.iter().position(is_free);
            let object = found.and_then(|place| objects.remove(place));
            if objects.is_empty() {
                self.namespaces.remove(&namespace);
            } else {
                self.turns.push_back(namespace);
            }
            if let Some(object) = object {
                self.waiting.remove(&object);
                self.processing.insert(object.clone());
                return Some(object);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    fn pod(namespace: &str, number: usize) -> ObjectRef<Pod> {
        ObjectRef::new(&format!("p{number}")).within(namespace)
    }

    /// What the stream yields before it has to wait.
    fn take(queue: &ReconcileQueue<Pod>) -> Vec<ObjectRef<Pod>> {
        let mut stream = Box::pin(queue.stream());
        let mut taken = Vec::new();
        while let Some(Some(Ok(object))) = stream.next().now_or_never() {
            taken.push(object);
        }
        taken
    }

    #[test]
    fn a_burst_about_one_object_is_one_reconciliation_and_later_events_are_not_lost() {
        let queue = ReconcileQueue::default();
        queue.add(pod("ns", 1));
        queue.add(pod("ns", 1));
        assert_eq!(take(&queue), [pod("ns", 1)]);
        // While it is processed it waits.
        queue.add(pod("ns", 1));
        queue.add(pod("ns", 2));
        assert_eq!(take(&queue), [pod("ns", 2)]);
        queue.done(&pod("ns", 1));
        assert_eq!(take(&queue), [pod("ns", 1)]);
        queue.done(&pod("ns", 1));
        assert_eq!(take(&queue), []);
    }

    #[test]
    fn no_more_objects_are_yielded_than_are_reconciled_at_a_time() {
        let queue = ReconcileQueue::default();
        (0..100).for_each(|number| queue.add(pod("ns", number)));
        let first = take(&queue);
        assert_eq!(first.len(), PLACES);
        assert_eq!(first[0], pod("ns", 0), "in order of arrival");
        assert_eq!(take(&queue), []);
        queue.done(&first[3]);
        assert_eq!(take(&queue), [pod("ns", PLACES)]);
    }

    #[test]
    fn namespaces_take_turns() {
        let queue = ReconcileQueue::default();
        (0..1_000).for_each(|number| queue.add(pod("large", number)));
        queue.add(pod("small", 1));
        queue.add(pod("small", 2));
        let first = take(&queue);
        assert_eq!(
            first[..4],
            [
                pod("large", 0),
                pod("small", 1),
                pod("large", 1),
                pod("small", 2)
            ]
        );
        // All places are taken by one namespace, and one becomes free.
        queue.done(&first[0]);
        queue.add(pod("late", 1));
        assert_eq!(take(&queue).len(), 1);
        queue.done(&first[2]);
        assert_eq!(take(&queue), [pod("late", 1)]);
    }

    #[tokio::test]
    async fn a_waiting_consumer_is_woken_by_a_new_object_and_by_one_that_is_done() {
        let queue = ReconcileQueue::<Pod>::default();
        let mut stream = Box::pin(queue.stream());
        let other = queue.clone();
        let added = tokio::spawn(async move { other.add(pod("ns", 1)) });
        assert_eq!(stream.next().await, Some(Ok(pod("ns", 1))));
        added.await.unwrap();
        queue.add(pod("ns", 1));
        let other = queue.clone();
        let finished = tokio::spawn(async move { other.done(&pod("ns", 1)) });
        assert_eq!(stream.next().await, Some(Ok(pod("ns", 1))));
        finished.await.unwrap();
    }
}
