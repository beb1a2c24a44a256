//! Reads a file that the user gives besides the logs. Bounded.

use std::path::Path;

use super::error::ReplayError;
use crate::limits;

/// Reads a file whole, up to [`limits::SETUP_BYTES_MAX`].
pub(super) fn read_text(what: &'static str, path: &Path) -> Result<String, ReplayError> {
    let failed = |source| ReplayError::ReadSetup {
        what,
        path: path.to_owned(),
        source,
    };
    let length = std::fs::metadata(path).map_err(failed)?.len();
    if length > limits::SETUP_BYTES_MAX {
        return Err(failed(std::io::Error::other(format!(
            "it has {length} bytes, more than {}",
            limits::SETUP_BYTES_MAX
        ))));
    }
    std::fs::read_to_string(path).map_err(failed)
}
