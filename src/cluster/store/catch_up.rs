//! Whether a store has come as far as the API server. Whoever comes to lead asks before it acts: an
//! Incident that the last leader closed a moment ago must not be answered once more.

use std::collections::HashMap;
use std::time::Duration;

use kube::api::ListParams;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, Client, Resource};
use tokio::time::Instant;

use super::stores::Stores;
use crate::api::Incident;
use crate::cluster::error::WriteError;
use crate::limits;

/// How often the store is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(20);

impl Stores {
    /// Lists the Incidents and waits until the store has each of them in this version or a later one.
    /// Returns how many it still lacks in the end: such as cannot be read, or are gone by now.
    pub async fn catch_up(
        &self,
        client: &Client,
        namespace: Option<&str>,
    ) -> Result<usize, WriteError> {
        let api = match namespace {
            Some(namespace) => Api::namespaced(client.clone(), namespace),
            None => Api::all(client.clone()),
        };
        let mut lacking = versions(&api).await?;
        let start = Instant::now();
        loop {
            lacking.retain(|incident, version| {
                let stored = self.incidents.get(incident);
                let stored = stored.and_then(|stored| stored.metadata.resource_version.clone());
                !stored.is_some_and(|stored| is_as_new(&stored, version))
            });
            if lacking.is_empty() || start.elapsed() >= limits::CATCH_UP_MAX {
                return Ok(lacking.len());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

/// The version of every Incident, from the API server and not from its cache.
async fn versions(api: &Api<Incident>) -> Result<HashMap<ObjectRef<Incident>, String>, WriteError> {
    let limit = Duration::from_secs(limits::API_TIMEOUT_S);
    let mut versions = HashMap::new();
    let mut params = ListParams::default().limit(limits::CATCH_UP_PAGE);
    loop {
        let page = tokio::time::timeout(limit, api.list_metadata(&params))
            .await
            .map_err(|_| WriteError::TimedOut(limit))?
            .map_err(WriteError::from_kube)?;
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

/// Versions are numbers that grow, as far as one can tell; others are as good only where they are the
/// same.
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
    fn a_later_version_is_as_good_and_an_unknown_kind_of_version_must_be_the_same() {
        assert!(is_as_new("1000", "999"));
        assert!(is_as_new("999", "999"));
        assert!(!is_as_new("999", "1000"));
        assert!(is_as_new("a-1", "a-1"));
        assert!(!is_as_new("a-2", "a-1"));
    }
}
