//! How owners of pods are suspended: one table of kinds and fields, and the choice of the owner in a
//! chain of owners.
//!
//! Used by the plan, and by `execute`, which reads and writes the fields. The topmost controlling owner
//! is suspended: it would resume any owner below it.

use serde_json::{Value, json};

use crate::api::{GROUP, ObjectTarget, RestoreEntry};
use crate::guardrails::membership::OwnerLink;
use crate::limits;

/// How a field suspends its object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    /// `true` suspends; the default is `false`.
    Suspend,
    /// `0` deletes all pods; the default is `1`.
    Scale,
    /// `Suspended` deletes the pod; the default is `Running`.
    Mode,
    /// `false` revokes the admission; the default is `true`.
    Admission,
}

/// How one kind of owner is suspended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    group: &'static str,
    /// The only version that this rule applies to; `None` is any version.
    version: Option<&'static str>,
    kind: &'static str,
    /// The field, as a JSON pointer.
    pub field: &'static str,
    method: Method,
}

const fn rule(
    group: &'static str,
    kind: &'static str,
    field: &'static str,
    method: Method,
) -> Rule {
    let version = None;
    Rule {
        group,
        version,
        kind,
        field,
        method,
    }
}

const SUSPEND: &str = "/spec/suspend";
const REPLICAS: &str = "/spec/replicas";

/// Every kind that can be suspended. A rule for one version comes before the rule for all versions.
const RULES: [Rule; 14] = [
    rule("batch", "Job", SUSPEND, Method::Suspend),
    rule("batch", "CronJob", SUSPEND, Method::Suspend),
    rule("apps", "Deployment", REPLICAS, Method::Scale),
    rule("apps", "StatefulSet", REPLICAS, Method::Scale),
    rule("apps", "ReplicaSet", REPLICAS, Method::Scale),
    rule("", "ReplicationController", REPLICAS, Method::Scale),
    rule("jobset.x-k8s.io", "JobSet", SUSPEND, Method::Suspend),
    rule("ray.io", "RayJob", SUSPEND, Method::Suspend),
    rule("ray.io", "RayCluster", SUSPEND, Method::Suspend),
    rule("trainer.kubeflow.org", "TrainJob", SUSPEND, Method::Suspend),
    Rule {
        group: "agents.x-k8s.io",
        version: Some("v1alpha1"),
        kind: "Sandbox",
        field: REPLICAS,
        method: Method::Scale,
    },
    rule(
        "agents.x-k8s.io",
        "Sandbox",
        "/spec/operatingMode",
        Method::Mode,
    ),
    rule(
        "leaderworkerset.x-k8s.io",
        "LeaderWorkerSet",
        REPLICAS,
        Method::Scale,
    ),
    rule(KUEUE_GROUP, WORKLOAD, "/spec/active", Method::Admission),
];

/// Group of Kueue's Workload. Kueue resumes the jobs that it admitted, so their Workload is suspended
/// instead.
pub(crate) const KUEUE_GROUP: &str = "kueue.x-k8s.io";

/// Kind of Kueue's Workload.
pub(crate) const WORKLOAD: &str = "Workload";

/// The label with the queue of an object that Kueue manages.
pub(crate) const KUEUE_QUEUE: &str = "kueue.x-k8s.io/queue-name";

/// Owners that create their dependents and never resume them: (group, kind); an empty kind is every kind.
const PASSIVE: [(&str, &str); 4] = [
    (GROUP, ""),
    // The leader of a LeaderWorkerSet owns the StatefulSet of its workers.
    ("", "Pod"),
    ("extensions.agents.x-k8s.io", "SandboxClaim"),
    ("extensions.agents.x-k8s.io", "SandboxWarmPool"),
];

impl Rule {
    /// The value that suspends the object.
    #[must_use]
    pub(crate) fn suspended_value(&self) -> Value {
        match self.method {
            Method::Suspend => json!(true),
            Method::Scale => json!(0),
            Method::Mode => json!("Suspended"),
            Method::Admission => json!(false),
        }
    }

    /// The default value of the field.
    #[must_use]
    pub(crate) fn default_value(&self) -> Value {
        match self.method {
            Method::Suspend => json!(false),
            Method::Scale => json!(1),
            Method::Mode => json!("Running"),
            Method::Admission => json!(true),
        }
    }

    /// Whether Kueue may set the same field on objects of this kind. It admits the Jobs of a CronJob,
    /// never the CronJob.
    #[must_use]
    pub(crate) fn is_managed_by_kueue(&self) -> bool {
        self.method == Method::Suspend && self.kind != "CronJob"
    }
}

/// The rule for a kind, if it can be suspended.
#[must_use]
pub(crate) fn rule_for(api_version: &str, kind: &str) -> Option<&'static Rule> {
    let (group, version) = group_and_version(api_version);
    RULES.iter().find(|rule| {
        rule.group == group && rule.kind == kind && rule.version.is_none_or(|only| only == version)
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

/// Which owners of a chain to suspend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// These owners, in this order.
    Suspend(Vec<OwnerLink>),
    /// No owner controls the pod.
    NoOwner,
    /// An owner that cannot be suspended, and why.
    Unsupported(String),
}

/// Chooses from the owners of a pod, nearest first.
#[must_use]
pub(crate) fn choose(chain: &[OwnerLink]) -> Choice {
    let has_rule = |link: &OwnerLink| rule_for(&link.api_version, &link.kind).is_some();
    let top = chain.iter().rposition(has_rule);
    let above = chain.iter().skip(top.map_or(0, |top| top + 1));
    let mut controlling = above.filter(|link| !is_passive(link));
    if let Some(owner) = controlling.next_back() {
        return Choice::Unsupported(format!(
            "{} {} controls the pod and Yellowjack does not know how to suspend it: stop it by hand",
            clip(&owner.kind),
            clip(&owner.name)
        ));
    }
    let Some(top) = top.and_then(|top| chain.get(..=top)) else {
        return Choice::NoOwner;
    };
    let mut owners = top.iter().rev().filter(|link| has_rule(link));
    let mut chosen: Vec<OwnerLink> = owners.next().cloned().into_iter().collect();
    // A suspended CronJob creates no new Job, but its running Job continues.
    if chosen.first().is_some_and(|link| link.kind == "CronJob") {
        chosen.extend(owners.next().cloned());
    }
    Choice::Suspend(chosen)
}

/// Why this object cannot be suspended although its kind can, if so.
#[must_use]
pub(crate) fn unsupported_reason(link: &OwnerLink, object: &Value) -> Option<String> {
    if link.kind != "RayJob" {
        return None;
    }
    // KubeRay rejects such a RayJob when `suspend` is set, and its pods continue to run.
    let ends_cluster = object.pointer("/spec/shutdownAfterJobFinishes") == Some(&json!(true));
    let is_selector = object
        .pointer("/spec/clusterSelector")
        .and_then(Value::as_object)
        .is_some_and(|labels| !labels.is_empty());
    (!ends_cluster || is_selector).then(|| {
        format!(
            "RayJob {} cannot be suspended: KubeRay requires shutdownAfterJobFinishes and no \
             clusterSelector for that; stop it by hand",
            clip(&link.name)
        )
    })
}

/// An owner as it was read, and the field that suspends it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Suspension {
    /// The owner.
    pub target: ObjectTarget,
    /// The field, as a JSON pointer.
    pub field: String,
    /// The value that suspends the owner.
    pub suspended_value: Value,
    /// The current value; `None` if it is not set.
    pub current: Option<Value>,
    /// The default value.
    pub default_value: Value,
}

impl Suspension {
    /// From the owner's object.
    #[must_use]
    pub(crate) fn new(link: &OwnerLink, rule: &Rule, object: &Value) -> Self {
        Self {
            target: ObjectTarget {
                api_version: link.api_version.clone(),
                kind: link.kind.clone(),
                name: link.name.clone(),
                uid: link.uid.clone(),
            },
            field: rule.field.to_owned(),
            suspended_value: rule.suspended_value(),
            current: value_at(object, rule.field),
            default_value: rule.default_value(),
        }
    }

    /// Whether the owner is suspended.
    #[must_use]
    pub(crate) fn is_suspended(&self) -> bool {
        self.current.as_ref().unwrap_or(&self.default_value) == &self.suspended_value
    }

    /// Whether a restore entry is about this field of this object.
    #[must_use]
    pub(crate) fn matches(&self, entry: &RestoreEntry) -> bool {
        entry.target == self.target && entry.field == self.field
    }

    /// The restore entry to record before suspending.
    #[must_use]
    pub(crate) fn restore_entry(&self) -> RestoreEntry {
        RestoreEntry {
            target: self.target.clone(),
            field: self.field.clone(),
            original_value: self.current.clone(),
            applied_value: self.suspended_value.clone(),
        }
    }
}

/// The default value of the field of a restore entry.
#[must_use]
pub(crate) fn default_of(entry: &RestoreEntry) -> Option<Value> {
    rule_for(&entry.target.api_version, &entry.target.kind)
        .filter(|rule| rule.field == entry.field)
        .map(Rule::default_value)
}

/// The value of a field; `None` if it is not set.
#[must_use]
pub(crate) fn value_at(object: &Value, field: &str) -> Option<Value> {
    object
        .pointer(field)
        .filter(|value| !value.is_null())
        .cloned()
}

/// A merge patch that sets one field. The path of a field in [`RULES`] contains no list.
#[must_use]
pub(crate) fn patch_of(field: &str, value: &Value) -> Value {
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

    /// The kinds that are suspended for these owners, nearest first.
    fn suspended(owners: &[(&str, &str)]) -> Vec<String> {
        match choose(&chain(owners)) {
            Choice::Suspend(links) => links.into_iter().map(|link| link.kind).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_kind_is_suspended_by_its_own_field() {
        let rules = [
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
        for (api_version, kind, field, set) in rules {
            let rule = rule_for(api_version, kind).unwrap();
            assert_eq!((rule.field, rule.suspended_value()), (field, set), "{kind}");
            assert_ne!(rule.suspended_value(), rule.default_value(), "{kind}");
        }
        assert_eq!(rule_for("apps/v1", "DaemonSet"), None);
        assert_eq!(rule_for("example.com/v1", "Job"), None);
    }

    #[test]
    fn the_topmost_controlling_owner_is_suspended() {
        let job = ("batch/v1", "Job");
        let job_set = ("jobset.x-k8s.io/v1alpha2", "JobSet");
        let train_job = ("trainer.kubeflow.org/v1alpha1", "TrainJob");
        assert_eq!(suspended(&[job]), ["Job"]);
        assert_eq!(suspended(&[job, job_set]), ["JobSet"]);
        assert_eq!(suspended(&[job, job_set, train_job]), ["TrainJob"]);
        let (set, deployment) = (("apps/v1", "ReplicaSet"), ("apps/v1", "Deployment"));
        assert_eq!(suspended(&[set]), ["ReplicaSet"]);
        assert_eq!(suspended(&[set, deployment]), ["Deployment"]);
    }

    #[test]
    fn a_cron_job_is_suspended_with_the_job_that_it_created() {
        assert_eq!(
            suspended(&[("batch/v1", "Job"), ("batch/v1", "CronJob")]),
            ["CronJob", "Job"]
        );
    }

    #[test]
    fn an_owner_that_only_creates_its_dependents_is_not_suspended() {
        assert_eq!(
            suspended(&[("batch/v1", "Job"), ("yellowjack.dev/v1alpha1", "AgentRun")]),
            ["Job"]
        );
        let sandbox = ("agents.x-k8s.io/v1beta1", "Sandbox");
        let claim = ("extensions.agents.x-k8s.io/v1beta1", "SandboxClaim");
        assert_eq!(suspended(&[sandbox, claim]), ["Sandbox"]);
        let workers = [
            ("apps/v1", "StatefulSet"),
            ("v1", "Pod"),
            ("apps/v1", "StatefulSet"),
            ("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
        ];
        assert_eq!(suspended(&workers), ["LeaderWorkerSet"]);
        assert_eq!(choose(&[]), Choice::NoOwner);
        assert_eq!(choose(&chain(&[claim])), Choice::NoOwner);
    }

    #[test]
    fn an_owner_of_an_unknown_kind_is_named_and_no_owner_below_it_is_suspended() {
        for owners in [
            &[("apps/v1", "DaemonSet")][..],
            &[("batch/v1", "Job"), ("example.com/v1", "Pipeline")],
        ] {
            let Choice::Unsupported(why) = choose(&chain(owners)) else {
                panic!("{owners:?} is suspended");
            };
            assert!(why.contains(owners.last().unwrap().1), "{why}");
        }
    }

    #[test]
    fn a_ray_job_that_kuberay_would_reject_is_not_suspended() {
        let link = &chain(&[("ray.io/v1", "RayJob")])[0];
        let job = |spec: Value| json!({ "spec": spec });
        let ends = json!({ "shutdownAfterJobFinishes": true });
        assert_eq!(unsupported_reason(link, &job(ends)), None);
        let stays = job(json!({ "shutdownAfterJobFinishes": false }));
        assert!(unsupported_reason(link, &stays).is_some());
        assert!(unsupported_reason(link, &job(json!({}))).is_some());
        let shared = json!({ "shutdownAfterJobFinishes": true, "clusterSelector": { "a": "b" } });
        assert!(unsupported_reason(link, &job(shared)).is_some());
    }

    #[test]
    fn a_field_that_is_not_set_has_its_default_and_is_unset_again_by_a_release() {
        let link = &chain(&[("apps/v1", "Deployment")])[0];
        let rule = rule_for(&link.api_version, &link.kind).unwrap();
        let read = |object: Value| Suspension::new(link, rule, &object);
        assert!(!read(json!({ "spec": {} })).is_suspended());
        assert_eq!(
            read(json!({ "spec": {} })).restore_entry().original_value,
            None
        );
        assert_eq!(
            read(json!({ "spec": { "replicas": 3 } }))
                .restore_entry()
                .original_value,
            Some(json!(3))
        );
        assert!(read(json!({ "spec": { "replicas": 0 } })).is_suspended());
    }

    #[test]
    fn the_documentation_names_every_rule() {
        let page = include_str!("../../../docs/response.md");
        for rule in RULES {
            let is_named = |line: &str| {
                line.contains(rule.kind) && line.contains(rule.group) && line.contains(rule.field)
            };
            assert!(page.lines().any(is_named), "{} {}", rule.group, rule.kind);
        }
    }

    #[test]
    fn a_patch_names_the_field_and_nothing_else() {
        let patch = patch_of("/spec/operatingMode", &json!("Suspended"));
        assert_eq!(patch, json!({ "spec": { "operatingMode": "Suspended" } }));
    }
}
