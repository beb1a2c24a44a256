//! Captures: which files of the given paths belong together.
//!
//! A file is a capture. In a folder, the Zeek logs (`conn`, `dns`, `ssl`) are one capture, named
//! by the folder, and any other log is one by itself; a folder of such folders holds one capture
//! each. Called by `cli::replay` first; reads directories, not logs.

use std::io;
use std::path::{Path, PathBuf};

use super::ReplayError;
use crate::limits;

/// File name endings of logs. Other files in a folder (lists, scripts, notes) are passed over.
const LOG_EXTENSIONS: [&str; 4] = ["log", "json", "jsonl", "ndjson"];

/// Files that go with logs, by the names that they usually have. They are options, not logs.
const COMPANIONS: [&str; 4] = ["labels.json", "expected.json", "runs.json", "samples.jsonl"];

/// What a folder's Zeek logs are called before the first dot or dash.
const ZEEK_LOGS: [&str; 3] = ["conn", "dns", "ssl"];

/// Files that are replayed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// What labels call it.
    pub name: String,
    /// Its files; none means standard input.
    pub files: Vec<PathBuf>,
    /// A file of samples that belongs to it.
    pub samples: Option<PathBuf>,
}

/// The captures of all paths, in their order; those of a folder by name. `samples` goes with each
/// of them, and is no log itself where it lies in one of the folders.
pub fn find_captures(
    paths: &[PathBuf],
    samples: Option<&Path>,
) -> Result<Vec<Capture>, ReplayError> {
    let mut captures = find_logs(paths)?;
    if let Some(samples) = samples {
        let real = samples.canonicalize().ok();
        captures.retain(|capture| match capture.files.as_slice() {
            [file] => real.is_none() || file.canonicalize().ok() != real,
            _ => true,
        });
        for capture in &mut captures {
            capture.samples = Some(samples.to_owned());
        }
    }
    Ok(captures)
}

fn find_logs(paths: &[PathBuf]) -> Result<Vec<Capture>, ReplayError> {
    let mut captures = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            captures.push(Capture {
                name: "stdin".to_owned(),
                files: Vec::new(),
                samples: None,
            });
            continue;
        }
        let read_error = |source| ReplayError::Read {
            path: path.clone(),
            source,
        };
        if !std::fs::metadata(path).map_err(read_error)?.is_dir() {
            captures.push(Capture {
                name: stem(path),
                files: vec![path.clone()],
                samples: None,
            });
            continue;
        }
        let mut found = in_folder(path)?;
        for folder in entries(path)
            .map_err(read_error)?
            .into_iter()
            .filter(|entry| entry.is_dir())
        {
            found.extend(in_folder(&folder)?);
        }
        if found.is_empty() {
            return Err(ReplayError::NoLogs(path.clone()));
        }
        captures.extend(found);
        if captures.len() > limits::CAPTURES_MAX {
            return Err(ReplayError::TooMany {
                what: "captures",
                max: limits::CAPTURES_MAX,
            });
        }
    }
    Ok(captures)
}

fn in_folder(folder: &Path) -> Result<Vec<Capture>, ReplayError> {
    let read_error = |source| ReplayError::Read {
        path: folder.to_owned(),
        source,
    };
    let files = entries(folder).map_err(read_error)?;
    let logs = files
        .into_iter()
        .filter(|path| path.is_file() && is_log(path));
    let (zeek, others): (Vec<_>, Vec<_>) = logs.partition(|path| is_zeek(path));
    if zeek.len() > limits::MERGE_FILES_MAX {
        return Err(ReplayError::TooMany {
            what: "files of one capture",
            max: limits::MERGE_FILES_MAX,
        });
    }
    let mut captures = Vec::new();
    if !zeek.is_empty() {
        captures.push(Capture {
            name: folder_name(folder),
            files: zeek,
            samples: None,
        });
    }
    captures.extend(others.into_iter().map(|path| Capture {
        name: stem(&path),
        files: vec![path],
        samples: None,
    }));
    Ok(captures)
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

fn is_log(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let name = path.file_name().and_then(|name| name.to_str());
    let is_companion = name.is_some_and(|name| COMPANIONS.contains(&name));
    !is_companion && extension.is_some_and(|extension| LOG_EXTENSIONS.contains(&extension))
}

fn is_zeek(path: &Path) -> bool {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let kind = name.split(['.', '-', '_']).next().unwrap_or_default();
    ZEEK_LOGS.contains(&kind)
}

fn stem(path: &Path) -> String {
    path.file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

/// The name of a folder, also of one that is given as `.` or ends with `..`.
fn folder_name(folder: &Path) -> String {
    let name = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    name.or_else(|| {
        let full = folder.canonicalize().ok()?;
        Some(full.file_name()?.to_string_lossy().into_owned())
    })
    .unwrap_or_else(|| "capture".to_owned())
}
