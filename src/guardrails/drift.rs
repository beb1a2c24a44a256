//! Compares stored objects with the wanted ones, and determines their owner.
//!
//! The controller compares before every write, so that nothing is written when nothing changed. The comparison ignores
//! what the API server rewrites (defaults, spelling of quantities, empty lists) and what others may add (labels,
//! annotations, further quota keys, which only make a quota stricter). Any other difference is drift.

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

/// The owner of an object that has the name of a guardrail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ownership {
    /// This run.
    Ours,
    /// Something else, described as well as possible. The object is never written.
    Other(String),
}

/// The owner of the object: ours only if this run's UID is its controller reference.
#[must_use]
pub(crate) fn ownership(owner: &RunOwner, metadata: &ObjectMeta) -> Ownership {
    let references = metadata.owner_references.iter().flatten();
    let controller = references
        .into_iter()
        .find(|reference| reference.controller == Some(true));
    match controller {
        Some(reference) if reference.uid == owner.uid => Ownership::Ours,
        Some(reference) => Ownership::Other(format!("{} {}", reference.kind, reference.name)),
        None => {
            let manager = metadata
                .labels
                .as_ref()
                .and_then(|found| found.get(labels::MANAGED_BY))
                .map_or("an unknown owner", String::as_str);
            Ownership::Other(manager.to_owned())
        }
    }
}

/// Whether the object may be deleted once it is no longer wanted: it is ours and has our label, so that an object that a
/// human adopted by removing the label is kept.
#[must_use]
pub(crate) fn is_ours_to_delete(owner: &RunOwner, metadata: &ObjectMeta) -> bool {
    let is_managed = metadata.labels.as_ref().is_some_and(|found| {
        found.get(labels::MANAGED_BY).map(String::as_str) == Some(labels::MANAGED_BY_VALUE)
    });
    ownership(owner, metadata) == Ownership::Ours && is_managed
}

/// Whether the stored NetworkPolicy matches the wanted one.
#[must_use]
pub(crate) fn network_policy_matches(wanted: &NetworkPolicy, observed: &NetworkPolicy) -> bool {
    metadata_matches(&wanted.metadata, &observed.metadata)
        && normal(&wanted.spec) == normal(&observed.spec)
}

/// Whether the stored ResourceQuota matches the wanted one.
#[must_use]
pub(crate) fn resource_quota_matches(wanted: &ResourceQuota, observed: &ResourceQuota) -> bool {
    let (Some(want), Some(have)) = (&wanted.spec, &observed.spec) else {
        return false;
    };
    let hard_matches = want.hard.iter().flatten().all(|(resource, amount)| {
        let have = have.hard.as_ref().and_then(|hard| hard.get(resource));
        have.is_some_and(|have| quantity::same(&have.0, &amount.0))
    });
    hard_matches
        && !keeps_dropped_key(want, observed)
        && metadata_matches(&wanted.metadata, &observed.metadata)
        && scope_expressions(want) == scope_expressions(have)
        && want.scopes.as_deref().unwrap_or_default() == have.scopes.as_deref().unwrap_or_default()
}

/// Whether a key remains that Yellowjack applied once and no longer wants. The managed fields record which manager applied
/// a key. A key of another manager is kept.
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

/// A scope selector without expressions is equal to none.
fn scope_expressions(spec: &ResourceQuotaSpec) -> &[ScopedResourceSelectorRequirement] {
    spec.scope_selector
        .as_ref()
        .and_then(|chosen| chosen.match_expressions.as_deref())
        .unwrap_or_default()
}

/// Whether the stored LimitRange matches the wanted one.
#[must_use]
pub(crate) fn limit_range_matches(wanted: &LimitRange, observed: &LimitRange) -> bool {
    let (Some(want), Some(have)) = (&wanted.spec, &observed.spec) else {
        return false;
    };
    metadata_matches(&wanted.metadata, &observed.metadata)
        && want.limits.len() == have.limits.len()
        && want
            .limits
            .iter()
            .zip(&have.limits)
            .all(|(want, have)| limit_item_matches(want, have))
}

/// Whether the stored ClusterNetworkPolicy, read as JSON, matches the wanted one.
#[must_use]
pub(crate) fn cluster_policy_matches(wanted: &Value, observed: &Value) -> bool {
    let label = |object: &Value| object.pointer("/metadata/labels").cloned();
    let wanted_labels = label(wanted);
    let observed_labels = label(observed);
    let labels_match = wanted_labels
        .as_ref()
        .and_then(Value::as_object)
        .is_none_or(|wanted| {
            wanted.iter().all(|(key, value)| {
                observed_labels.as_ref().and_then(|found| found.get(key)) == Some(value)
            })
        });
    labels_match && normal(&wanted.get("spec")) == normal(&observed.get("spec"))
}

fn limit_item_matches(want: &LimitRangeItem, have: &LimitRangeItem) -> bool {
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

/// Whether Yellowjack's labels and owner reference are present. Additions of others are ignored.
fn metadata_matches(wanted: &ObjectMeta, observed: &ObjectMeta) -> bool {
    let labels_match = wanted.labels.iter().flatten().all(|(key, value)| {
        observed.labels.as_ref().and_then(|found| found.get(key)) == Some(value)
    });
    let owners_match = wanted.owner_references.iter().flatten().all(|reference| {
        observed
            .owner_references
            .iter()
            .flatten()
            .any(|found| found == reference)
    });
    labels_match && owners_match
}

/// JSON without null, empty lists, and the empty maps inside a selector. Other empty objects are kept, because `{}` as a
/// selector means everything.
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
