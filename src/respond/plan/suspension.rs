//! Levers: which field of which owner stops its pods from coming back. One table, and what is chosen
//! from it for a chain of owners.
//!
//! Called by the plan and, for what to read and write, by the responder. The topmost owner that
//! drives is the one that is held: whatever stands below it would be resumed by it.

use serde_json::{Value, json};

use crate::api::{GROUP, ObjectTarget, RestoreEntry};
use crate::guardrails::membership::OwnerLink;
use crate::limits;

/// How a field stops the pods of its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// `true` suspends; `false` where it is not set.
    Suspend,
    /// `0` leaves no pod; `1` where it is not set.
    Scale,
    /// `Suspended` deletes the pod; `Running` where it is not set.
    Mode,
    /// `false` takes the admission away; `true` where it is not set.
    Admission,
}

/// One kind of owner and its lever.
#[derive(Debug, PartialEq, Eq)]
pub struct Row {
    group: &'static str,
    /// Only this version; any where it is `None`.
    version: Option<&'static str>,
    kind: &'static str,
    /// The field, as a JSON pointer.
    pub field: &'static str,
    way: Way,
}

const fn row(group: &'static str, kind: &'static str, field: &'static str, way: Way) -> Row {
    let version = None;
    Row {
        group,
        version,
        kind,
        field,
        way,
    }
}

const SUSPEND: &str = "/spec/suspend";
const REPLICAS: &str = "/spec/replicas";

/// Every owner that can be held. A version that differs stands before the row of all versions.
const ROWS: [Row; 14] = [
    row("batch", "Job", SUSPEND, Way::Suspend),
    row("batch", "CronJob", SUSPEND, Way::Suspend),
    row("apps", "Deployment", REPLICAS, Way::Scale),
    row("apps", "StatefulSet", REPLICAS, Way::Scale),
    row("apps", "ReplicaSet", REPLICAS, Way::Scale),
    row("", "ReplicationController", REPLICAS, Way::Scale),
    row("jobset.x-k8s.io", "JobSet", SUSPEND, Way::Suspend),
    row("ray.io", "RayJob", SUSPEND, Way::Suspend),
    row("ray.io", "RayCluster", SUSPEND, Way::Suspend),
    row("trainer.kubeflow.org", "TrainJob", SUSPEND, Way::Suspend),
    Row {
        group: "agents.x-k8s.io",
        version: Some("v1alpha1"),
        kind: "Sandbox",
        field: REPLICAS,
        way: Way::Scale,
    },
    row(
        "agents.x-k8s.io",
        "Sandbox",
        "/spec/operatingMode",
        Way::Mode,
    ),
    row(
        "leaderworkerset.x-k8s.io",
        "LeaderWorkerSet",
        REPLICAS,
        Way::Scale,
    ),
    row(KUEUE_GROUP, WORKLOAD, "/spec/active", Way::Admission),
];

/// Group of Kueue's Workload. Kueue resumes what it admitted, so its Workload is held instead.
pub const KUEUE_GROUP: &str = "kueue.x-k8s.io";

/// Kind of Kueue's Workload.
pub const WORKLOAD: &str = "Workload";

/// Says on an object that Kueue is to admit it.
pub const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Owners that make what they own and never resume it: (group, kind); an empty kind is every kind.
const PASSIVE: [(&str, &str); 4] = [
    (GROUP, ""),
    // The leader of a LeaderWorkerSet owns the StatefulSet of its workers.
    ("", "Pod"),
    ("extensions.agents.x-k8s.io", "SandboxClaim"),
    ("extensions.agents.x-k8s.io", "SandboxWarmPool"),
];

impl Row {
    /// The value that stops the pods.
    #[must_use]
    pub fn set(&self) -> Value {
        match self.way {
            Way::Suspend => json!(true),
            Way::Scale => json!(0),
            Way::Mode => json!("Suspended"),
            Way::Admission => json!(false),
        }
    }

    /// What the field means where it is not set.
    #[must_use]
    pub fn resting(&self) -> Value {
        match self.way {
            Way::Suspend => json!(false),
            Way::Scale => json!(1),
            Way::Mode => json!("Running"),
            Way::Admission => json!(true),
        }
    }

    /// Whether Kueue may drive objects of this kind by the same field. It admits the Jobs of a
    /// CronJob, never the CronJob.
    #[must_use]
    pub fn is_admitted(&self) -> bool {
        self.way == Way::Suspend && self.kind != "CronJob"
    }
}

/// The lever of a kind, if it has one.
#[must_use]
pub fn row_of(api_version: &str, kind: &str) -> Option<&'static Row> {
    let (group, version) = group_and_version(api_version);
    ROWS.iter().find(|row| {
        row.group == group && row.kind == kind && row.version.is_none_or(|only| only == version)
    })
}

fn group_and_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}

fn is_passive(link: &OwnerLink) -> bool {
    let (group, _) = group_and_version(&link.api_version);
    PASSIVE
        .iter()
        .any(|(g, kind)| *g == group && (kind.is_empty() || *kind == link.kind))
}

/// What is to be held of a chain of owners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// These owners, in this order.
    Hold(Vec<OwnerLink>),
    /// Nothing drives the pod.
    Nobody,
    /// An owner that cannot be held, in words.
    Unsupported(String),
}

/// Chooses from the owners of a pod, nearest first.
#[must_use]
pub fn choose(chain: &[OwnerLink]) -> Choice {
    let has_row = |link: &OwnerLink| row_of(&link.api_version, &link.kind).is_some();
    let top = chain.iter().rposition(has_row);
    let above = chain.iter().skip(top.map_or(0, |top| top + 1));
    let mut drivers = above.filter(|link| !is_passive(link));
    if let Some(driver) = drivers.next_back() {
        return Choice::Unsupported(format!(
            "{} {} drives the pod and Yellowjack knows no field that suspends it: stop it by hand",
            clip(&driver.kind),
            clip(&driver.name)
        ));
    }
    let Some(top) = top.and_then(|top| chain.get(..=top)) else {
        return Choice::Nobody;
    };
    let mut owners = top.iter().rev().filter(|link| has_row(link));
    let mut held: Vec<OwnerLink> = owners.next().cloned().into_iter().collect();
    // A suspended CronJob makes no new Job, and lets the one that runs go on.
    if held.first().is_some_and(|link| link.kind == "CronJob") {
        held.extend(owners.next().cloned());
    }
    Choice::Hold(held)
}

/// Why this object cannot be held although its kind can, if so.
#[must_use]
pub fn objection(link: &OwnerLink, object: &Value) -> Option<String> {
    if link.kind != "RayJob" {
        return None;
    }
    // KubeRay calls such a RayJob invalid once it says `suspend`, and lets its pods run.
    let ends_cluster = object.pointer("/spec/shutdownAfterJobFinishes") == Some(&json!(true));
    let is_selector = object
        .pointer("/spec/clusterSelector")
        .and_then(Value::as_object)
        .is_some_and(|labels| !labels.is_empty());
    (!ends_cluster || is_selector).then(|| {
        format!(
            "RayJob {} cannot be suspended: KubeRay wants shutdownAfterJobFinishes and no \
             clusterSelector for that; stop it by hand",
            clip(&link.name)
        )
    })
}

/// An owner as it is now, and the field that holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Hold {
    /// The owner.
    pub target: ObjectTarget,
    /// The field, as a JSON pointer.
    pub field: String,
    /// The value that stops the pods.
    pub set: Value,
    /// The value now; absent where it is not set.
    pub now: Option<Value>,
    /// What absent means.
    pub resting: Value,
}

impl Hold {
    /// From an owner as the API server has it.
    #[must_use]
    pub fn new(link: &OwnerLink, row: &Row, object: &Value) -> Self {
        Self {
            target: ObjectTarget {
                api_version: link.api_version.clone(),
                kind: link.kind.clone(),
                name: link.name.clone(),
                uid: link.uid.clone(),
            },
            field: row.field.to_owned(),
            set: row.set(),
            now: value_at(object, row.field),
            resting: row.resting(),
        }
    }

    /// Whether the owner is stopped.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.now.as_ref().unwrap_or(&self.resting) == &self.set
    }

    /// Whether an entry is about this field of this object.
    #[must_use]
    pub fn is_of(&self, entry: &RestoreEntry) -> bool {
        entry.target == self.target && entry.field == self.field
    }

    /// What must be restored, were it held now.
    #[must_use]
    pub fn entry(&self) -> RestoreEntry {
        RestoreEntry {
            target: self.target.clone(),
            field: self.field.clone(),
            before: self.now.clone(),
            set: self.set.clone(),
        }
    }
}

/// What the field of an entry means where it is not set.
#[must_use]
pub fn resting(entry: &RestoreEntry) -> Option<Value> {
    row_of(&entry.target.api_version, &entry.target.kind)
        .filter(|row| row.field == entry.field)
        .map(Row::resting)
}

/// The value of a field; `None` where it is not set.
#[must_use]
pub fn value_at(object: &Value, field: &str) -> Option<Value> {
    object
        .pointer(field)
        .filter(|value| !value.is_null())
        .cloned()
}

/// A merge patch of one field. The fields of [`Row`] name objects only, no list.
#[must_use]
pub fn patch_of(field: &str, value: &Value) -> Value {
    let names = field.split('/').filter(|name| !name.is_empty());
    names
        .rev()
        .fold(value.clone(), |inner, name| json!({ name: inner }))
}

fn clip(text: &str) -> &str {
    crate::model::clip(text, limits::NAME_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(owners: &[(&str, &str)]) -> Vec<OwnerLink> {
        let link = |(api_version, kind): &(&str, &str)| OwnerLink {
            api_version: (*api_version).to_owned(),
            kind: (*kind).to_owned(),
            name: format!("the-{}", kind.to_lowercase()),
            uid: format!("uid-{kind}"),
        };
        owners.iter().map(link).collect()
    }

    /// The kinds that are held for these owners, nearest first.
    fn held(owners: &[(&str, &str)]) -> Vec<String> {
        match choose(&chain(owners)) {
            Choice::Hold(links) => links.into_iter().map(|link| link.kind).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_kind_is_stopped_by_its_own_field() {
        let levers = [
            ("batch/v1", "Job", "/spec/suspend", json!(true)),
            ("batch/v1", "CronJob", "/spec/suspend", json!(true)),
            ("apps/v1", "Deployment", "/spec/replicas", json!(0)),
            ("apps/v1", "StatefulSet", "/spec/replicas", json!(0)),
            ("apps/v1", "ReplicaSet", "/spec/replicas", json!(0)),
            ("v1", "ReplicationController", "/spec/replicas", json!(0)),
            (
                "jobset.x-k8s.io/v1alpha2",
                "JobSet",
                "/spec/suspend",
                json!(true),
            ),
            ("ray.io/v1", "RayJob", "/spec/suspend", json!(true)),
            ("ray.io/v1", "RayCluster", "/spec/suspend", json!(true)),
            (
                "trainer.kubeflow.org/v1alpha1",
                "TrainJob",
                "/spec/suspend",
                json!(true),
            ),
            (
                "agents.x-k8s.io/v1alpha1",
                "Sandbox",
                "/spec/replicas",
                json!(0),
            ),
            (
                "agents.x-k8s.io/v1beta1",
                "Sandbox",
                "/spec/operatingMode",
                json!("Suspended"),
            ),
            (
                "leaderworkerset.x-k8s.io/v1",
                "LeaderWorkerSet",
                "/spec/replicas",
                json!(0),
            ),
            (
                "kueue.x-k8s.io/v1beta1",
                "Workload",
                "/spec/active",
                json!(false),
            ),
        ];
        for (api_version, kind, field, set) in levers {
            let row = row_of(api_version, kind).unwrap();
            assert_eq!((row.field, row.set()), (field, set), "{kind}");
            assert_ne!(row.set(), row.resting(), "{kind}");
        }
        assert_eq!(row_of("apps/v1", "DaemonSet"), None);
        assert_eq!(row_of("example.com/v1", "Job"), None);
    }

    #[test]
    fn the_topmost_owner_that_drives_is_held() {
        let job = ("batch/v1", "Job");
        let job_set = ("jobset.x-k8s.io/v1alpha2", "JobSet");
        let train_job = ("trainer.kubeflow.org/v1alpha1", "TrainJob");
        assert_eq!(held(&[job]), ["Job"]);
        assert_eq!(held(&[job, job_set]), ["JobSet"]);
        assert_eq!(held(&[job, job_set, train_job]), ["TrainJob"]);
        let (set, deployment) = (("apps/v1", "ReplicaSet"), ("apps/v1", "Deployment"));
        assert_eq!(held(&[set]), ["ReplicaSet"]);
        assert_eq!(held(&[set, deployment]), ["Deployment"]);
    }

    #[test]
    fn a_cron_job_is_held_with_the_job_that_it_made() {
        assert_eq!(
            held(&[("batch/v1", "Job"), ("batch/v1", "CronJob")]),
            ["CronJob", "Job"]
        );
    }

    #[test]
    fn what_only_makes_its_dependents_drives_nothing() {
        assert_eq!(
            held(&[("batch/v1", "Job"), ("yellowjack.dev/v1alpha1", "AgentRun")]),
            ["Job"]
        );
        let sandbox = ("agents.x-k8s.io/v1beta1", "Sandbox");
        let claim = ("extensions.agents.x-k8s.io/v1beta1", "SandboxClaim");
        assert_eq!(held(&[sandbox, claim]), ["Sandbox"]);
        let workers = [
            ("apps/v1", "StatefulSet"),
            ("v1", "Pod"),
            ("apps/v1", "StatefulSet"),
            ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
        ];
        assert_eq!(held(&workers), ["LeaderWorkerSet"]);
        assert_eq!(choose(&[]), Choice::Nobody);
        assert_eq!(choose(&chain(&[claim])), Choice::Nobody);
    }

    #[test]
    fn a_driver_of_a_kind_that_is_not_known_is_named_and_nothing_below_it_is_held() {
        for owners in [
            &[("apps/v1", "DaemonSet")][..],
            &[("batch/v1", "Job"), ("example.com/v1", "Pipeline")],
        ] {
            let Choice::Unsupported(why) = choose(&chain(owners)) else {
                panic!("{owners:?} is held");
            };
            assert!(why.contains(owners.last().unwrap().1), "{why}");
        }
    }

    #[test]
    fn a_ray_job_that_kuberay_would_call_invalid_is_not_suspended() {
        let link = &chain(&[("ray.io/v1", "RayJob")])[0];
        let job = |spec: Value| json!({ "spec": spec });
        let ends = json!({ "shutdownAfterJobFinishes": true });
        assert_eq!(objection(link, &job(ends)), None);
        let stays = job(json!({ "shutdownAfterJobFinishes": false }));
        assert!(objection(link, &stays).is_some());
        assert!(objection(link, &job(json!({}))).is_some());
        let shared = json!({ "shutdownAfterJobFinishes": true, "clusterSelector": { "a": "b" } });
        assert!(objection(link, &job(shared)).is_some());
    }

    #[test]
    fn absent_means_the_default_and_is_what_a_release_goes_back_to() {
        let link = &chain(&[("apps/v1", "Deployment")])[0];
        let row = row_of(&link.api_version, &link.kind).unwrap();
        let hold = |object: Value| Hold::new(link, row, &object);
        assert!(!hold(json!({ "spec": {} })).is_set());
        assert_eq!(hold(json!({ "spec": {} })).entry().before, None);
        assert_eq!(
            hold(json!({ "spec": { "replicas": 3 } })).entry().before,
            Some(json!(3))
        );
        assert!(hold(json!({ "spec": { "replicas": 0 } })).is_set());
    }

    #[test]
    fn the_page_for_users_names_every_lever() {
        let page = include_str!("../../../docs/response.md");
        for row in ROWS {
            let is_named = |line: &str| {
                line.contains(row.kind) && line.contains(row.group) && line.contains(row.field)
            };
            assert!(page.lines().any(is_named), "{} {}", row.group, row.kind);
        }
    }

    #[test]
    fn a_patch_names_the_field_and_nothing_else() {
        let patch = patch_of("/spec/operatingMode", &json!("Suspended"));
        assert_eq!(patch, json!({ "spec": { "operatingMode": "Suspended" } }));
    }
}
