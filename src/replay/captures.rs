//! Captures: which files of the given paths belong together.
//!
//! A log with its rotated and compressed files is a capture. In a folder, the Zeek logs (`conn`, `dns`,
//! `ssl`) are one capture, named by the folder, and any other log is one by itself; a folder of such
//! folders has one capture per folder. Other files in them that hold no contacts are recognised by their
//! names, skipped and listed. Called by `cli::replay` first; reads directories, not logs.

use std::io;
use std::path::{Path, PathBuf};

use super::error::ReplayError;
use super::file_name::{FileName, not_read};
use crate::limits;

/// Usual names of files that belong to logs but are options, not logs.
const COMPANIONS: [&str; 4] = ["labels.json", "expected.json", "runs.json", "samples.jsonl"];

/// Files that are replayed together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// Its name, by which labels refer to it.
    pub name: String,
    /// Its files. Empty for standard input.
    pub files: Vec<PathBuf>,
    /// Its file of samples.
    pub samples: Option<PathBuf>,
    /// Files in the same folder that are not read.
    pub left_out: Vec<LeftOut>,
}

/// A file that is not read, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    /// The file.
    pub path: PathBuf,
    /// Why, and what to do if anything.
    pub why: String,
}

impl LeftOut {
    fn new(path: PathBuf, why: &str) -> Self {
        Self {
            path,
            why: why.to_owned(),
        }
    }
}

/// The captures of all paths, in their order; those of a folder by name. `samples` belongs to each of them,
/// and is no log itself where it is in one of the folders.
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
    let mut rest = paths;
    while let Some((path, after)) = rest.split_first() {
        rest = after;
        if path.as_os_str() == "-" {
            captures.push(Capture {
                name: "stdin".to_owned(),
                files: Vec::new(),
                samples: None,
                left_out: Vec::new(),
            });
        } else if path.is_dir() {
            captures.extend(in_folders(path)?);
        } else {
            // Files of one folder, as from a shell's pattern, belong together as in the folder. A file that
            // does not exist is kept: reading it reports the error.
            let is_beside = |other: &&PathBuf| other.parent() == path.parent() && !other.is_dir();
            let beside = rest.iter().take_while(is_beside).count();
            let (files, after) = rest.split_at(beside);
            rest = after;
            let files: Vec<_> = std::iter::once(path).chain(files).cloned().collect();
            captures.extend(together(files, None, Vec::new())?);
        }
        if captures.len() > limits::CAPTURES_MAX {
            return Err(ReplayError::TooMany {
                what: "captures",
                max: limits::CAPTURES_MAX,
            });
        }
    }
    Ok(captures)
}

/// The captures of a folder and of the folders in it.
fn in_folders(path: &Path) -> Result<Vec<Capture>, ReplayError> {
    let read_error = |source| ReplayError::Read {
        path: path.to_owned(),
        source,
    };
    let mut found = in_folder(path)?;
    let entries = entries(path).map_err(read_error)?;
    for folder in entries.into_iter().filter(|entry| entry.is_dir()) {
        found.extend(in_folder(&folder)?);
    }
    if found.iter().all(|capture| capture.files.is_empty()) {
        let beside = found.into_iter().flat_map(|capture| capture.left_out);
        let beside: Vec<_> = beside
            .take(limits::LEFT_OUT_SHOWN_MAX)
            .map(|file| format!("; {}: {}", file.path.display(), file.why))
            .collect();
        return Err(ReplayError::NoLogs(path.to_owned(), beside.concat()));
    }
    found.retain(|capture| !capture.files.is_empty());
    Ok(found)
}

fn in_folder(folder: &Path) -> Result<Vec<Capture>, ReplayError> {
    let read_error = |source| ReplayError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut left_out = Vec::new();
    let mut logs = Vec::new();
    for path in entries(folder).map_err(read_error)? {
        if !path.is_file() || is_companion(&path) {
            continue;
        }
        if FileName::of(&path).is_log {
            logs.push(path);
        } else if let Some(advice) = not_read(&path) {
            left_out.push(LeftOut::new(path, &format!("not read: {advice}")));
        }
    }
    let named: Vec<_> = logs.iter().map(|path| FileName::of(path)).collect();
    let has_zeek = named.iter().any(|name| name.zeek_kind().is_some());
    let has_eve = named.iter().any(FileName::is_eve);
    let mut kept = Vec::new();
    for (path, name) in logs.into_iter().zip(named) {
        if has_zeek && name.is_other_of_zeek() {
            left_out.push(LeftOut::new(path, "a log of Zeek's without connections"));
        } else if has_eve && name.is_other_of_suricata() {
            left_out.push(LeftOut::new(path, "a log of Suricata's beside its events"));
        } else {
            kept.push(path);
        }
    }
    together(kept, Some(folder), left_out)
}

/// The captures of files of one folder: all of them, or those that the user named.
fn together(
    files: Vec<PathBuf>,
    folder: Option<&Path>,
    mut left_out: Vec<LeftOut>,
) -> Result<Vec<Capture>, ReplayError> {
    let mut groups: Vec<(Option<String>, Vec<PathBuf>)> = Vec::new();
    for path in without_copies(files, &mut left_out) {
        let name = FileName::of(&path);
        // None: the logs of Zeek, which form one capture.
        let key = name.zeek_kind().is_none().then_some(name.family);
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, files)) => files.push(path),
            None => groups.push((key, vec![path])),
        }
    }
    // Those of Zeek first, because they have the name of the folder.
    groups.sort_by_key(|(key, _)| key.is_some());
    if groups.is_empty() && !left_out.is_empty() {
        groups.push((None, Vec::new()));
    }
    let mut captures = Vec::new();
    for (key, files) in groups {
        if files.len() > limits::CHAIN_FILES_MAX {
            return Err(ReplayError::TooMany {
                what: "files of one capture",
                max: limits::CHAIN_FILES_MAX,
            });
        }
        let parent = files.first().and_then(|file| file.parent());
        let name = match (files.as_slice(), folder) {
            (_, Some(folder)) if key.is_none() => folder_name(folder),
            ([only], _) => stem(only),
            (_, None) if key.is_none() => folder_name(parent.unwrap_or(Path::new("."))),
            ([first, ..], _) => FileName::of(first).stem,
            ([], _) => String::new(),
        };
        captures.push(Capture {
            name,
            files,
            samples: None,
            left_out: std::mem::take(&mut left_out),
        });
    }
    Ok(captures)
}

/// The files without duplicates: a compressed file beside its uncompressed one, and the logs of the package
/// json-streaming-logs beside Zeek's own.
fn without_copies(files: Vec<PathBuf>, left_out: &mut Vec<LeftOut>) -> Vec<PathBuf> {
    let named: Vec<_> = files.iter().map(|path| FileName::of(path)).collect();
    let is_there = |name: &FileName| {
        let same =
            |other: &FileName| !other.is_compressed && other.uncompressed == name.uncompressed;
        named.iter().any(same)
    };
    let has_own_log = |name: &FileName| {
        let same =
            |other: &FileName| !other.is_streaming() && other.zeek_kind() == name.zeek_kind();
        named.iter().any(same)
    };
    let mut kept = Vec::new();
    for (path, name) in files.into_iter().zip(&named) {
        if name.is_compressed && is_there(name) {
            left_out.push(LeftOut::new(
                path,
                "the same lines as its uncompressed file",
            ));
        } else if name.is_streaming() && name.zeek_kind().is_some() && has_own_log(name) {
            left_out.push(LeftOut::new(
                path,
                "the same lines as Zeek's own log beside it",
            ));
        } else {
            kept.push(path);
        }
    }
    kept
}

fn entries(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut paths = entries.collect::<io::Result<Vec<_>>>()?;
    paths.sort();
    Ok(paths)
}

/// Whether a file belongs to logs but is none.
fn is_companion(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    name.is_some_and(|name| COMPANIONS.contains(&name))
}

/// The name of a file without its ending and that of its compression.
fn stem(path: &Path) -> String {
    let name = FileName::of(path).uncompressed;
    let stem = Path::new(&name).file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
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
