//! The queue of objects to reconcile. It is a set, so a burst of events about one object leads to one
//! reconciliation.
//!
//! The watches add to it. Adding never waits, so a slow reconciler never blocks a watch. The set holds
//! references to objects that the API server stores, and is bounded by their number.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;

use futures::{Stream, stream};
use kube::Resource;
use kube::runtime::reflector::ObjectRef;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Objects of one kind that wait for reconciliation. Cheap to clone; all clones share one set.
pub(crate) struct ReconcileQueue<K: Resource<DynamicType = ()>>(Arc<Inner<K>>);

struct Inner<K: Resource<DynamicType = ()>> {
    waiting: Mutex<HashSet<ObjectRef<K>>>,
    any: Notify,
}

impl<K: Resource<DynamicType = ()>> Clone for ReconcileQueue<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Resource<DynamicType = ()>> Default for ReconcileQueue<K> {
    fn default() -> Self {
        Self(Arc::new(Inner {
            waiting: Mutex::default(),
            any: Notify::new(),
        }))
    }
}

impl<K: Resource<DynamicType = ()>> ReconcileQueue<K> {
    /// Adds an object.
    pub(crate) fn add(&self, object: ObjectRef<K>) {
        let is_new = self.0.waiting.lock().insert(object);
        if is_new {
            self.0.any.notify_one();
        }
    }

    /// Yields queued objects as they arrive. For a single consumer.
    pub(crate) fn stream(
        &self,
    ) -> impl Stream<Item = Result<ObjectRef<K>, Infallible>> + Send + use<K>
    where
        K: Send + Sync + 'static,
    {
        let start = (Arc::clone(&self.0), Vec::new());
        stream::unfold(start, |(inner, mut batch): (_, Vec<ObjectRef<K>>)| async {
            loop {
                if let Some(object) = batch.pop() {
                    return Some((Ok(object), (inner, batch)));
                }
                batch = inner.take();
                if batch.is_empty() {
                    inner.any.notified().await;
                }
            }
        })
    }
}

impl<K: Resource<DynamicType = ()>> Inner<K> {
    fn take(&self) -> Vec<ObjectRef<K>> {
        let mut waiting = self.waiting.lock();
        std::mem::take(&mut *waiting).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, StreamExt};
    use k8s_openapi::api::core::v1::Pod;

    use super::*;

    #[tokio::test]
    async fn a_burst_about_one_object_is_one_look_and_later_events_are_not_lost() {
        let queue = ReconcileQueue::<Pod>::default();
        let pod = || ObjectRef::<Pod>::new("p").within("ns");
        queue.add(pod());
        queue.add(pod());
        let mut stream = Box::pin(queue.stream());
        assert_eq!(stream.next().await, Some(Ok(pod())));
        assert_eq!(stream.next().now_or_never(), None);
        queue.add(pod());
        assert_eq!(stream.next().await, Some(Ok(pod())));
    }
}
