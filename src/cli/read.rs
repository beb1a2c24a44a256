//! Bounded reads from the API server, for the commands that a person runs.

use std::time::Duration;

use kube::Resource;
use kube::api::{Api, ListParams};
use serde::de::DeserializeOwned;

use super::error::CommandError;
use crate::limits;

/// Runs a command on a runtime of its own.
pub(super) fn block_on<T>(
    work: impl Future<Output = Result<T, CommandError>>,
) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(work)?)
}

/// Waits for an answer of the API server, up to [`limits::COMMAND_TIMEOUT_S`]. `what` names it in errors.
pub(super) async fn read<T>(
    what: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, CommandError> {
    let limit = Duration::from_secs(limits::COMMAND_TIMEOUT_S);
    let answer = tokio::time::timeout(limit, request).await;
    answer
        .map_err(|_| CommandError::TimedOut {
            what: what.to_owned(),
            limit,
        })?
        .map_err(|source| CommandError::Read {
            what: what.to_owned(),
            source,
        })
}

/// A list, or its beginning.
#[derive(Debug)]
pub(super) struct Listed<K> {
    /// The objects that were read.
    pub items: Vec<K>,
    /// Whether there are more.
    pub is_truncated: bool,
}

/// Reads a list page by page, up to [`limits::COMMAND_OBJECTS_MAX`].
pub(super) async fn list<K>(
    what: &str,
    api: &Api<K>,
    params: ListParams,
) -> Result<Listed<K>, CommandError>
where
    K: Resource + Clone + std::fmt::Debug + DeserializeOwned,
{
    let mut params = params.limit(limits::COMMAND_PAGE);
    let mut items = Vec::new();
    loop {
        let page = read(what, api.list(&params)).await?;
        items.extend(page.items);
        let next = page.metadata.continue_.filter(|next| !next.is_empty());
        let is_full = items.len() >= limits::COMMAND_OBJECTS_MAX;
        match next {
            Some(next) if !is_full => params = params.continue_token(&next),
            rest => {
                let is_truncated = rest.is_some();
                return Ok(Listed {
                    items,
                    is_truncated,
                });
            }
        }
    }
}
