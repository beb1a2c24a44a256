//! Waiting for a state with a time limit: tests wait for what must become true, never for time.

use std::time::{Duration, Instant};

use anyhow::bail;

/// How long a state may take. Most come within two seconds; a loaded machine is slower by far.
pub const LIMIT: Duration = Duration::from_mins(2);

/// How often a state is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `look` answers with a value. `Err` is the state as it is now; when the limit has
/// passed, the error says what was waited for and what was seen last.
pub async fn wait_for<T, F>(what: &str, limit: Duration, mut look: F) -> anyhow::Result<T>
where
    F: AsyncFnMut() -> Result<T, String>,
{
    let started = Instant::now();
    loop {
        let state = match tokio::time::timeout(limit, look()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(state)) => state,
            Err(_) => "no answer".to_owned(),
        };
        if started.elapsed() >= limit {
            bail!("waited {limit:?} for {what}; last seen: {state}");
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
