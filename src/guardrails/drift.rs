//! Whether an observed object still is what we want, and whose it is.
//!
//! The controller asks before every write: at rest nothing is written. The comparison sees through
//! what the API server rewrites (defaults, spelling of quantities, empty lists) and through what
//! others may add (labels, annotations, further quota keys, which only tighten). Anything else
//! that differs is drift.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LimitRange, LimitRangeItem, ResourceQuota, ResourceQuotaSpec, ScopedResourceSelectorRequirement,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde::Serialize;
use serde_json::Value;

use crate::api::labels;

use super::{RunOwner, quantity};

/// Whose an object of our name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// This run's.
    Ours,
    /// Somebody else's, with the best word for whom. It is never written.
    Other(String),
}

/// Whose the object is: ours only with this run's UID as its controller.
#[must_use]
pub fn holder(owner: &RunOwner, metadata: &ObjectMeta) -> Holder {
    let references = metadata.owner_references.iter().flatten();
    let controller = references
        .into_iter()
        .find(|reference| reference.controller == Some(true));
    match controller {
        Some(reference) if reference.uid == owner.uid => Holder::Ours,
        Some(reference) => Holder::Other(format!("{} {}", reference.kind, reference.name)),
        None => {
            let manager = metadata
                .labels
                .as_ref()
                .and_then(|found| found.get(labels::MANAGED_BY))
                .map_or("nobody that it names", String::as_str);
            Holder::Other(manager.to_owned())
        }
    }
}

/// Whether the object may be deleted once it is no longer wanted: ours, and said to be managed by
/// us, so that an object that a human adopted by removing the label is left alone.
#[must_use]
pub fn is_ours_to_delete(owner: &RunOwner, metadata: &ObjectMeta) -> bool {
    let is_managed = metadata.labels.as_ref().is_some_and(|found| {
        found.get(labels::MANAGED_BY).map(String::as_str) == Some(labels::MANAGED_BY_VALUE)
    });
    holder(owner, metadata) == Holder::Ours && is_managed
}

/// Whether the stored NetworkPolicy says what is wanted.
#[must_use]
pub fn network_policy_stands(wanted: &NetworkPolicy, observed: &NetworkPolicy) -> bool {
    metadata_stands(&wanted.metadata, &observed.metadata)
        && normal(&wanted.spec) == normal(&observed.spec)
}

/// Whether the stored ResourceQuota says what is wanted.
#[must_use]
pub fn resource_quota_stands(wanted: &ResourceQuota, observed: &ResourceQuota) -> bool {
    let (Some(want), Some(have)) = (&wanted.spec, &observed.spec) else {
        return false;
    };
    let hard_stands = want.hard.iter().flatten().all(|(resource, amount)| {
        let have = have.hard.as_ref().and_then(|hard| hard.get(resource));
        have.is_some_and(|have| quantity::same(&have.0, &amount.0))
    });
    hard_stands
        && !keeps_dropped_key(want, observed)
        && metadata_stands(&wanted.metadata, &observed.metadata)
        && scope_expressions(want) == scope_expressions(have)
        && want.scopes.as_deref().unwrap_or_default() == have.scopes.as_deref().unwrap_or_default()
}

/// Whether a key is still there that we applied once and no longer want. Who applied a key, the API
/// server keeps in the managed fields; a key of somebody else is left alone.
fn keeps_dropped_key(want: &ResourceQuotaSpec, observed: &ResourceQuota) -> bool {
    let is_ours = |entry: &&ManagedFieldsEntry| {
        let manager = entry.manager.as_deref().unwrap_or_default();
        manager.starts_with(labels::FIELD_MANAGER_PREFIX)
    };
    let entries = observed.metadata.managed_fields.iter().flatten();
    entries
        .filter(is_ours)
        .filter_map(|entry| {
            entry
                .fields_v1
                .as_ref()?
                .0
                .pointer("/f:spec/f:hard")?
                .as_object()
        })
        .flat_map(|keys| keys.keys().filter_map(|key| key.strip_prefix("f:")))
        .any(|key| {
            want.hard
                .as_ref()
                .is_none_or(|hard| !hard.contains_key(key))
        })
}

/// A scope selector without expressions selects as much as none.
fn scope_expressions(spec: &ResourceQuotaSpec) -> &[ScopedResourceSelectorRequirement] {
    spec.scope_selector
        .as_ref()
        .and_then(|chosen| chosen.match_expressions.as_deref())
        .unwrap_or_default()
}

/// Whether the stored LimitRange says what is wanted.
#[must_use]
pub fn limit_range_stands(wanted: &LimitRange, observed: &LimitRange) -> bool {
    let (Some(want), Some(have)) = (&wanted.spec, &observed.spec) else {
        return false;
    };
    metadata_stands(&wanted.metadata, &observed.metadata)
        && want.limits.len() == have.limits.len()
        && want
            .limits
            .iter()
            .zip(&have.limits)
            .all(|(want, have)| limit_item_stands(want, have))
}

/// Whether the stored ClusterNetworkPolicy, read as JSON, says what is wanted.
#[must_use]
pub fn cluster_policy_stands(wanted: &Value, observed: &Value) -> bool {
    let label = |object: &Value| object.pointer("/metadata/labels").cloned();
    let wanted_labels = label(wanted);
    let observed_labels = label(observed);
    let labels_stand = wanted_labels
        .as_ref()
        .and_then(Value::as_object)
        .is_none_or(|wanted| {
            wanted.iter().all(|(key, value)| {
                observed_labels.as_ref().and_then(|found| found.get(key)) == Some(value)
            })
        });
    labels_stand && normal(&wanted.get("spec")) == normal(&observed.get("spec"))
}

fn limit_item_stands(want: &LimitRangeItem, have: &LimitRangeItem) -> bool {
    want.type_ == have.type_
        && amounts_equal(want.default.as_ref(), have.default.as_ref())
        && amounts_equal(want.default_request.as_ref(), have.default_request.as_ref())
        && amounts_equal(want.max.as_ref(), have.max.as_ref())
        && amounts_equal(want.min.as_ref(), have.min.as_ref())
        && amounts_equal(
            want.max_limit_request_ratio.as_ref(),
            have.max_limit_request_ratio.as_ref(),
        )
}

type Amounts = BTreeMap<String, Quantity>;

fn amounts_equal(want: Option<&Amounts>, have: Option<&Amounts>) -> bool {
    let none = Amounts::new();
    let (want, have) = (want.unwrap_or(&none), have.unwrap_or(&none));
    want.len() == have.len()
        && want
            .iter()
            .zip(have)
            .all(|(left, right)| left.0 == right.0 && quantity::same(&left.1.0, &right.1.0))
}

/// Our labels and our owner reference are there; what others added is theirs.
fn metadata_stands(wanted: &ObjectMeta, observed: &ObjectMeta) -> bool {
    let labels_stand = wanted.labels.iter().flatten().all(|(key, value)| {
        observed.labels.as_ref().and_then(|found| found.get(key)) == Some(value)
    });
    let owners_stand = wanted.owner_references.iter().flatten().all(|reference| {
        observed
            .owner_references
            .iter()
            .flatten()
            .any(|found| found == reference)
    });
    labels_stand && owners_stand
}

/// JSON without what says nothing: null, empty lists, and the empty maps inside a selector.
/// Other empty objects stay, because `{}` as a selector means everything.
fn normal<T: Serialize>(value: &T) -> Option<Value> {
    let mut json = serde_json::to_value(value).ok()?;
    drop_empty(&mut json);
    Some(json)
}

fn drop_empty(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(drop_empty);
            fields.retain(|key, field| match field {
                Value::Null => false,
                Value::Array(items) => !items.is_empty(),
                Value::Object(inner) => !(inner.is_empty() && key == "matchLabels"),
                _ => true,
            });
        }
        Value::Array(items) => items.iter_mut().for_each(drop_empty),
        _ => {}
    }
}
