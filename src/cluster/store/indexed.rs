//! The store of one kind: the store of kube, with indices and relists in place.
//!
//! `watch` writes it. It adds three properties to the store of kube: reading one namespace does not iterate
//! over all objects, because each of 10,000 runs reads its own namespace; an [`Indexer`] may add further keys, so that
//! the pods of one Incident are found without a look at all others; and a relist changes only the objects that differ,
//! because a second copy of all objects would double the memory while the API server is under stress.

use std::collections::{HashMap, HashSet};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use parking_lot::RwLock;

use super::index_key::IndexKey;

/// Computes the keys under which an object is found besides its namespace and name.
pub(crate) type Indexer<K> = fn(&K) -> Vec<IndexKey>;

type Objects<K> = HashMap<ObjectRef<K>, Arc<K>>;

struct Indices<K: Resource<DynamicType = ()> + 'static> {
    namespaces: HashMap<String, HashMap<String, Arc<K>>>,
    keys: HashMap<IndexKey, Objects<K>>,
}

impl<K: Resource<DynamicType = ()> + 'static> Default for Indices<K> {
    fn default() -> Self {
        Self {
            namespaces: HashMap::new(),
            keys: HashMap::new(),
        }
    }
}

/// The objects of one kind. Clones share one store.
pub(crate) struct Store<K: Resource<DynamicType = ()> + 'static> {
    all: reflector::Store<K>,
    indices: Arc<RwLock<Indices<K>>>,
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Clone for Store<K> {
    fn clone(&self) -> Self {
        Self {
            all: self.all.clone(),
            indices: Arc::clone(&self.indices),
        }
    }
}

/// The methods of the store of kube.
impl<K: Resource<DynamicType = ()> + 'static> Deref for Store<K> {
    type Target = reflector::Store<K>;

    fn deref(&self) -> &Self::Target {
        &self.all
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> Store<K> {
    /// The objects of one namespace, in no particular order.
    #[must_use]
    pub(crate) fn within(&self, namespace: &str) -> Vec<Arc<K>> {
        self.within_where(namespace, |_| true)
    }

    /// The objects of one namespace that are chosen. `chosen` runs under the lock of the store and must
    /// not read the store.
    #[must_use]
    pub(crate) fn within_where(&self, namespace: &str, chosen: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        let indices = self.indices.read();
        let objects = indices
            .namespaces
            .get(namespace)
            .into_iter()
            .flat_map(HashMap::values);
        objects.filter(|object| chosen(object)).cloned().collect()
    }

    /// The objects under a key of the store's [`Indexer`], in no particular order.
    #[must_use]
    pub(crate) fn with_key(&self, key: &IndexKey) -> Vec<Arc<K>> {
        let indices = self.indices.read();
        let objects = indices.keys.get(key);
        objects
            .into_iter()
            .flat_map(HashMap::values)
            .cloned()
            .collect()
    }
}

/// Writes into a store.
pub(crate) struct StoreWriter<K: Resource<DynamicType = ()> + Clone + 'static> {
    writer: reflector::store::Writer<K>,
    store: Store<K>,
    indexer: Indexer<K>,
    /// Whether the first list is complete.
    is_filled: bool,
    /// The objects in the current list so far.
    listed: HashSet<ObjectRef<K>>,
    /// The maximum number of objects; further ones are skipped and counted in `left_out`.
    max: usize,
    first_list: usize,
    left_out: Arc<AtomicU64>,
}

/// A change of one object: the old version, if it was in the store, and the new one.
pub(crate) type Change<K> = (Option<Arc<K>>, Arc<K>);

impl<K: Resource<DynamicType = ()> + Clone + 'static> Default for StoreWriter<K> {
    fn default() -> Self {
        let writer = reflector::store::Writer::default();
        let store = Store {
            all: writer.as_reader(),
            indices: Arc::default(),
        };
        Self {
            writer,
            store,
            indexer: |_| Vec::new(),
            is_filled: false,
            listed: HashSet::new(),
            max: usize::MAX,
            first_list: 0,
            left_out: Arc::default(),
        }
    }
}

impl<K: Resource<DynamicType = ()> + Clone + 'static> StoreWriter<K> {
    /// A writer for a store of at most `max` objects.
    #[must_use]
    pub(crate) fn bounded(max: usize) -> Self {
        Self {
            max,
            ..Self::default()
        }
    }

    /// A writer for a store with the keys of this indexer.
    #[must_use]
    pub(crate) fn indexed(indexer: Indexer<K>) -> Self {
        Self {
            indexer,
            ..Self::default()
        }
    }

    /// Counts the objects that were skipped because the store was full.
    #[must_use]
    pub(crate) fn left_out(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.left_out)
    }

    /// Whether this object is in the store or has room; counts it otherwise.
    pub(crate) fn has_room_for(&self, object: &K) -> bool {
        let held = if self.is_filled {
            self.store.len()
        } else {
            self.first_list
        };
        let has_room = held < self.max || self.store.get(&ObjectRef::from_obj(object)).is_some();
        if !has_room {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// The store.
    #[must_use]
    pub(crate) fn as_reader(&self) -> Store<K> {
        self.store.clone()
    }

    /// Whether the first list is complete.
    #[must_use]
    pub(crate) const fn is_filled(&self) -> bool {
        self.is_filled
    }

    /// Adds an object, or replaces its old version.
    pub(crate) fn apply(&mut self, object: K) -> Change<K> {
        let key = ObjectRef::from_obj(&object);
        let old = self.store.get(&key);
        self.writer
            .apply_watcher_event(&Event::Apply(object.clone()));
        // Share the copy in the store.
        let new = self.store.get(&key).unwrap_or_else(|| Arc::new(object));
        self.index(old.as_deref(), &new);
        (old, new)
    }

    /// Removes an object.
    pub(crate) fn remove(&mut self, object: K) {
        let key = ObjectRef::from_obj(&object);
        // The deleted version may have other keys than the stored one.
        let stored = self.store.get(&key);
        let mut indices = self.store.indices.write();
        if let Some(stored) = stored {
            indices.remove_keys(&key, (self.indexer)(&stored));
        }
        let namespace = object.namespace().unwrap_or_default();
        if let Some(objects) = indices.namespaces.get_mut(&namespace) {
            objects.remove(&object.name_any());
            if objects.is_empty() {
                indices.namespaces.remove(&namespace);
            }
        }
        drop(indices);
        self.writer.apply_watcher_event(&Event::Delete(object));
    }

    /// Begins a list.
    pub(crate) fn list_begins(&mut self) {
        self.listed = HashSet::new();
        self.first_list = 0;
        if !self.is_filled {
            self.writer.apply_watcher_event(&Event::Init);
        }
    }

    /// Adds an object of the list. Returns the change if the object differs from the stored one; nothing
    /// for the first list.
    pub(crate) fn listed(&mut self, object: K) -> Option<Change<K>> {
        if !self.is_filled {
            self.first_list += 1;
            self.writer.apply_watcher_event(&Event::InitApply(object));
            return None;
        }
        let key = ObjectRef::from_obj(&object);
        let known = self.store.get(&key);
        self.listed.insert(key);
        let is_same = known.is_some_and(|known| {
            known.meta().uid == object.meta().uid
                && known.meta().resource_version == object.meta().resource_version
        });
        (!is_same).then(|| self.apply(object))
    }

    /// An object of the list that cannot be decoded: its last version stays in the store.
    pub(crate) fn listed_unreadable(&mut self, key: ObjectRef<K>) {
        self.listed.insert(key);
    }

    /// Completes the list: removes and returns the objects that were not in it.
    pub(crate) fn list_ends(&mut self) -> Vec<Arc<K>> {
        let listed = std::mem::take(&mut self.listed);
        if !self.is_filled {
            self.writer.apply_watcher_event(&Event::InitDone);
            self.is_filled = true;
            for object in self.store.state() {
                self.index(None, &object);
            }
            return Vec::new();
        }
        let mut gone = self.store.state();
        gone.retain(|object| !listed.contains(&ObjectRef::from_obj(&**object)));
        for object in &gone {
            self.remove((**object).clone());
        }
        gone
    }

    fn index(&self, old: Option<&K>, new: &Arc<K>) {
        let namespace = new.namespace().unwrap_or_default();
        let key = ObjectRef::from_obj(&**new);
        let mut indices = self.store.indices.write();
        if let Some(old) = old {
            indices.remove_keys(&key, (self.indexer)(old));
        }
        for index_key in (self.indexer)(new) {
            let objects = indices.keys.entry(index_key).or_default();
            objects.insert(key.clone(), Arc::clone(new));
        }
        let objects = indices.namespaces.entry(namespace).or_default();
        objects.insert(new.name_any(), Arc::clone(new));
    }
}

impl<K: Resource<DynamicType = ()> + 'static> Indices<K> {
    fn remove_keys(&mut self, object: &ObjectRef<K>, keys: Vec<IndexKey>) {
        for key in keys {
            if let Some(objects) = self.keys.get_mut(&key) {
                objects.remove(object);
                if objects.is_empty() {
                    self.keys.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use kube::api::ObjectMeta;

    use super::*;
    use crate::cluster::Pod;

    fn pod(namespace: &str, name: &str, version: &str) -> Pod {
        Pod {
            metadata: ObjectMeta {
                namespace: Some(namespace.to_owned()),
                name: Some(name.to_owned()),
                uid: Some(format!("uid-of-{name}")),
                resource_version: Some(version.to_owned()),
                ..ObjectMeta::default()
            },
            ..Pod::default()
        }
    }

    fn filled(pods: impl IntoIterator<Item = Pod>) -> StoreWriter<Pod> {
        let mut writer = StoreWriter::default();
        writer.list_begins();
        for pod in pods {
            assert!(
                writer.listed(pod).is_none(),
                "reported before the list is complete"
            );
        }
        assert!(writer.list_ends().is_empty());
        writer
    }

    #[test]
    fn a_bounded_store_counts_the_objects_that_it_skips() {
        let mut writer = StoreWriter::bounded(2);
        writer.list_begins();
        for name in ["a", "b", "c"] {
            if writer.has_room_for(&pod("ns", name, "1")) {
                writer.listed(pod("ns", name, "1"));
            }
        }
        writer.list_ends();
        assert_eq!(names(&writer.as_reader().within("ns")), ["a", "b"]);
        assert!(writer.has_room_for(&pod("ns", "a", "2")), "known");
        assert!(!writer.has_room_for(&pod("ns", "d", "1")));
        assert_eq!(writer.left_out().load(Ordering::Relaxed), 2);
        writer.remove(pod("ns", "a", "1"));
        assert!(writer.has_room_for(&pod("ns", "d", "1")));
    }

    fn names(objects: &[Arc<Pod>]) -> Vec<String> {
        let mut names: Vec<_> = objects.iter().map(|object| object.name_any()).collect();
        names.sort();
        names
    }

    #[test]
    fn reading_a_namespace_touches_no_object_of_another() {
        let pods = (0..1_000).map(|n| pod(&format!("ns-{}", n % 100), &format!("p-{n}"), "1"));
        let writer = filled(pods);
        let visited = Cell::new(0);
        let found = writer.as_reader().within_where("ns-7", |_| {
            visited.set(visited.get() + 1);
            true
        });
        assert_eq!((found.len(), visited.get()), (10, 10));
    }

    #[test]
    fn a_change_is_visible_in_the_store_and_in_its_index() {
        let mut writer = filled([pod("ns", "a", "1")]);
        let store = writer.as_reader();
        let (old, new) = writer.apply(pod("ns", "a", "2"));
        assert_eq!(old.unwrap().resource_version(), Some("1".to_owned()));
        let within = store.within("ns");
        assert!(Arc::ptr_eq(&within[0], &new));
        assert!(Arc::ptr_eq(&store.state()[0], &new), "there are two copies");
        writer.remove(pod("ns", "a", "2"));
        assert!(store.within("ns").is_empty() && store.is_empty());
    }

    #[test]
    fn a_relist_keeps_unchanged_copies_and_returns_the_changes() {
        let mut writer = filled([
            pod("ns", "same", "1"),
            pod("ns", "old", "1"),
            pod("ns", "gone", "1"),
        ]);
        let store = writer.as_reader();
        let key = ObjectRef::new("same").within("ns");
        let before = store.get(&key).unwrap();
        writer.list_begins();
        assert!(writer.listed(pod("ns", "same", "1")).is_none());
        assert!(writer.listed(pod("ns", "old", "2")).is_some());
        assert!(writer.listed(pod("ns", "new", "3")).is_some());
        assert_eq!(
            store.len(),
            4,
            "nothing is removed before the list is complete"
        );
        assert_eq!(names(&writer.list_ends()), ["gone"]);
        assert!(Arc::ptr_eq(&before, &store.get(&key).unwrap()));
        assert_eq!(names(&store.within("ns")), ["new", "old", "same"]);
        assert_eq!(names(&store.state()), ["new", "old", "same"]);
    }

    fn by_name(pod: &Pod) -> Vec<IndexKey> {
        let label = pod.labels().get("key");
        label
            .map(|uid| IndexKey::Subject(uid.clone()))
            .into_iter()
            .collect()
    }

    #[test]
    fn an_object_is_found_under_the_keys_of_its_latest_version_only() {
        let labelled = |name: &str, version: &str, label: &str| {
            let mut pod = pod("ns", name, version);
            pod.labels_mut().insert("key".to_owned(), label.to_owned());
            pod
        };
        let mut writer = StoreWriter::indexed(by_name);
        writer.list_begins();
        writer.listed(labelled("a", "1", "x"));
        writer.listed(labelled("b", "1", "x"));
        writer.list_ends();
        let store = writer.as_reader();
        let found = |label: &str| names(&store.with_key(&IndexKey::Subject(label.to_owned())));
        assert_eq!(found("x"), ["a", "b"]);
        writer.apply(labelled("a", "2", "y"));
        assert_eq!(
            (found("x"), found("y")),
            (vec!["b".to_owned()], vec!["a".to_owned()])
        );
        // The last version of a deleted object was never stored.
        writer.remove(labelled("a", "3", "z"));
        assert!(found("y").is_empty() && found("z").is_empty());
        writer.list_begins();
        writer.list_ends();
        assert!(found("x").is_empty());
    }

    #[test]
    fn an_object_that_was_created_again_under_its_name_is_a_change() {
        let mut writer = filled([pod("ns", "a", "1")]);
        let mut another = pod("ns", "a", "1");
        another.metadata.uid = Some("another".to_owned());
        writer.list_begins();
        assert!(writer.listed(another).is_some());
        assert!(writer.list_ends().is_empty());
    }

    #[test]
    fn an_incomplete_list_removes_nothing_and_an_unreadable_object_stays() {
        let mut writer = filled([pod("ns", "a", "1"), pod("ns", "b", "1")]);
        writer.list_begins();
        writer.listed(pod("ns", "a", "1"));
        writer.list_begins();
        writer.listed_unreadable(ObjectRef::new("a").within("ns"));
        assert_eq!(names(&writer.list_ends()), ["b"]);
        assert_eq!(names(&writer.as_reader().within("ns")), ["a"]);
    }
}
