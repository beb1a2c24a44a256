//! ResourceQuota and LimitRange of a run, and whether the quota counts the run's pods.
//!
//! The controller applies the objects and puts the judgement into `QuotaBound`. Kubernetes' quotas
//! have no label selector, and one that is scoped to a PriorityClass that no pod carries reads as
//! healthy with nothing used; hence the judgement looks at the pods, not at the object alone.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{
    LimitRange, LimitRangeItem, LimitRangeSpec, ResourceQuota, ResourceQuotaSpec, ScopeSelector,
    ScopedResourceSelectorRequirement,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::api::{Reason, ResourceDefaults};

use super::RunOwner;
use super::ceiling::Quota;
use super::quantity::Amount;

/// Resources of which every pod uses some: nothing used beside a live pod means not counted.
const USED_BY_EVERY_POD: &[&str] = &["pods", "count/pods"];

/// The quota of a run.
#[must_use]
pub fn resource_quota(owner: &RunOwner, quota: &Quota) -> ResourceQuota {
    let of_class = quota
        .priority_class
        .iter()
        .map(|class| ScopedResourceSelectorRequirement {
            scope_name: "PriorityClass".to_owned(),
            operator: "In".to_owned(),
            values: Some(vec![class.clone()]),
        });
    ResourceQuota {
        metadata: owner.metadata(),
        spec: Some(ResourceQuotaSpec {
            hard: Some(quantities(&quota.hard)),
            // Written although empty: a scope that somebody adds would make the quota count
            // nothing, and only a field that is applied can be taken back.
            scope_selector: Some(ScopeSelector {
                match_expressions: Some(of_class.collect()),
            }),
            scopes: None,
        }),
        status: None,
    }
}

/// Requests and limits for containers that state none, so that the quota does not refuse them.
#[must_use]
pub fn limit_range(owner: &RunOwner, defaults: &ResourceDefaults) -> LimitRange {
    let limits = quantities(&defaults.limits);
    // A default request that is left out becomes the default limit on the API server; written out,
    // the stored object equals this one.
    let mut requests = limits.clone();
    requests.extend(quantities(&defaults.requests));
    LimitRange {
        metadata: owner.metadata(),
        spec: Some(LimitRangeSpec {
            limits: vec![LimitRangeItem {
                type_: "Container".to_owned(),
                default: (!limits.is_empty()).then_some(limits),
                default_request: (!requests.is_empty()).then_some(requests),
                ..LimitRangeItem::default()
            }],
        }),
    }
}

/// A live pod of the run, as the quota sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QuotaPod<'a> {
    /// The pod's PriorityClass.
    pub priority_class: Option<&'a str>,
}

/// The judgement that `QuotaBound` shows: status, reason, message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuotaBound {
    /// True, false or unknown.
    pub status: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// The sentence behind it.
    pub message: String,
}

/// Whether the quota counts the run's pods, from the stored object and the pods that live.
#[must_use]
pub fn bound(
    quota: Option<&Quota>,
    observed: Option<&ResourceQuota>,
    pods: &[QuotaPod<'_>],
) -> QuotaBound {
    let say = |status, reason, message: String| QuotaBound {
        status,
        reason,
        message,
    };
    let Some(quota) = quota else {
        let message = "neither the run nor its policy names a quota".to_owned();
        return say(Some(false), Reason::NoQuotaRequested, message);
    };
    let missed = missed_by_scope(quota, pods);
    if let Some(class) = &quota.priority_class
        && missed > 0
    {
        let message = format!(
            "{missed} of {} pods do not carry the PriorityClass {class} that the quota counts",
            pods.len()
        );
        return say(Some(false), Reason::ScopeMatchesNoPods, message);
    }
    let Some(used) = observed
        .and_then(|object| object.status.as_ref())
        .and_then(|status| status.used.as_ref())
    else {
        let message = "the quota is not stored, or Kubernetes has not counted yet".to_owned();
        return say(None, Reason::QuotaNotCounted, message);
    };
    let uncounted = USED_BY_EVERY_POD.iter().find(|resource| {
        used.get(**resource)
            .and_then(|amount| Amount::parse(&amount.0))
            .is_some_and(Amount::is_zero)
    });
    if let Some(resource) = uncounted
        && !pods.is_empty()
    {
        let message = format!(
            "the quota counts 0 {resource} beside {} pods of the run",
            pods.len()
        );
        return say(None, Reason::QuotaNotCounted, message);
    }
    say(Some(true), Reason::QuotaCounts, headroom(quota))
}

fn missed_by_scope(quota: &Quota, pods: &[QuotaPod<'_>]) -> usize {
    quota.priority_class.as_deref().map_or(0, |class| {
        pods.iter()
            .filter(|pod| pod.priority_class != Some(class))
            .count()
    })
}

/// The ceilings, not what is used: the usage moves with every pod, and each move would cost a
/// status write.
fn headroom(quota: &Quota) -> String {
    let amounts: Vec<String> = quota
        .hard
        .iter()
        .map(|(resource, amount)| format!("{resource} {amount}"))
        .collect();
    let counted = quota.priority_class.as_ref().map_or_else(
        || "the whole namespace".to_owned(),
        |class| format!("the pods of PriorityClass {class}"),
    );
    format!("the quota counts {counted}: {}", amounts.join(", "))
}

fn quantities(amounts: &BTreeMap<String, String>) -> BTreeMap<String, Quantity> {
    amounts
        .iter()
        .map(|(resource, amount)| (resource.clone(), Quantity(amount.clone())))
        .collect()
}
