//! Waits until the store of Incidents is as new as the API server. A new leader does this before it
//! acts: it must not respond again to an Incident that the previous leader has just closed.

use std::collections::HashMap;
use std::time::Duration;

use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource};
use tokio::time::Instant;

use super::reader::read;
use crate::api::Incident;
use crate::cluster::error::ApiError;
use crate::cluster::store::Store;
use crate::limits;

/// How often to compare the store with the list.
const CHECK_EVERY: Duration = Duration::from_millis(20);

/// Lists the Incidents and waits until the store has each of them in this version or a later one.
/// Returns how many it still lacks after [`limits::CATCH_UP_MAX`]: those that cannot be decoded, or
/// were deleted since.
pub(crate) async fn catch_up(
    incidents: &Store<Incident>,
    client: &Client,
    namespace: Option<&str>,
) -> Result<usize, ApiError> {
    let api = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let mut lacking = versions(&api).await?;
    let start = Instant::now();
    loop {
        lacking.retain(|incident, version| {
            let stored = incidents.get(incident);
            let stored = stored.and_then(|stored| stored.metadata.resource_version.clone());
            !stored.is_some_and(|stored| is_as_new(&stored, version))
        });
        if lacking.is_empty() || start.elapsed() >= limits::CATCH_UP_MAX {
            return Ok(lacking.len());
        }
        tokio::time::sleep(CHECK_EVERY).await;
    }
}

/// The resource version of every Incident, from etcd and not from the API server's watch cache.
async fn versions(api: &Api<Incident>) -> Result<HashMap<ObjectRef<Incident>, String>, ApiError> {
    let mut versions = HashMap::new();
    let mut params = ListParams::default().limit(limits::CATCH_UP_PAGE);
    loop {
        let page = read(api.list_metadata(&params)).await?;
        for item in &page.items {
            let meta = item.meta();
            let mut reference = ObjectRef::new(meta.name.as_deref().unwrap_or_default());
            reference.namespace.clone_from(&meta.namespace);
            let version = meta.resource_version.clone().unwrap_or_default();
            versions.insert(reference, version);
        }
        match page.metadata.continue_ {
            Some(next) if !next.is_empty() => params = params.continue_token(&next),
            _ => return Ok(versions),
        }
    }
}

/// Numeric resource versions are ordered; others are only compared for equality.
fn is_as_new(stored: &str, version: &str) -> bool {
    match (stored.parse::<u64>(), version.parse::<u64>()) {
        (Ok(stored), Ok(version)) => stored >= version,
        _ => stored == version,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_numeric_version_is_as_new_and_any_other_version_must_be_equal() {
        assert!(is_as_new("1000", "999"));
        assert!(is_as_new("999", "999"));
        assert!(!is_as_new("999", "1000"));
        assert!(is_as_new("a-1", "a-1"));
        assert!(!is_as_new("a-2", "a-1"));
    }
}
