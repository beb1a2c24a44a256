//! File names: which files of a folder are logs, which are backups of which log, and in which order
//! the backups were made.
//!
//! Used by the followers and the reader. A name only determines where to look; whether a file has already been read
//! is decided by its content (`generation`).

use std::cmp::Reverse;
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::limits;

use super::generation::FileId;

/// Suffixes of the files in a folder that are read as logs.
const LOG_SUFFIXES: [&str; 3] = [".log", ".json", ".jsonl"];

/// Names of the files in a folder, at most [`limits::FOLDER_ENTRIES_MAX`].
pub(super) fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder)?.take(limits::FOLDER_ENTRIES_MAX) {
        // A logger writes no name that is not UTF-8.
        if let Ok(name) = entry?.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Files of a folder, with their identities.
pub(super) fn files(folder: &Path) -> Vec<(PathBuf, FileId)> {
    // An unreadable folder yields no files; the scan of the reader reports why.
    let names = names(folder).unwrap_or_default();
    let paths = names.into_iter().map(|name| folder.join(name));
    let identified = paths.filter_map(|path| {
        let metadata = std::fs::metadata(&path).ok()?;
        let id = FileId::of(&metadata);
        metadata.is_file().then_some((path, id))
    });
    identified.collect()
}

/// The folder of a file, as a path that can be opened.
pub(super) fn folder_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    }
}

pub(super) fn name_of(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}

/// Whether a file of this name in a folder is a log to read.
pub(super) fn is_log(name: &str) -> bool {
    !name.starts_with('.') && LOG_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// The part of `name` that marks it as a backup of the log `base`: `1` in `a.log.1`, `20260224` in
/// `a.log-20260224`, `2026-02-24T08-43-39.070` in `a-2026-02-24T08-43-39.070.log`. `None` for
/// all other names, including those of compressed files.
pub(super) fn backup_tag<'a>(base: &str, name: &'a str) -> Option<&'a str> {
    if let Some(tag) = name.strip_prefix(base) {
        let tag = tag.strip_prefix(['.', '-'])?;
        return is_tag(tag).then_some(tag);
    }
    let (stem, extension) = base.rsplit_once('.')?;
    let tag = name.strip_prefix(stem)?.strip_prefix(['.', '-'])?;
    let tag = tag.strip_suffix(extension)?.strip_suffix('.')?;
    // If it is shorter than a date, it is a number that is part of the name: `worker-2.log` is a log.
    (is_tag(tag) && tag.len() >= DATE_BYTES).then_some(tag)
}

/// Whether `name` is that of a compressed backup of the log `base`. Compressed backups are not read: a log is read
/// to its end before logrotate or its writer compresses it.
pub(super) fn is_compressed_backup(base: &str, name: &str) -> bool {
    let plain = [".gz", ".zst"]
        .iter()
        .find_map(|end| name.strip_suffix(end));
    plain.is_some_and(|plain| plain == base || backup_tag(base, plain).is_some())
}

/// `20260224`.
const DATE_BYTES: usize = 8;

fn is_tag(tag: &str) -> bool {
    let is_date_byte = |byte: u8| byte.is_ascii_digit() || b"-_.:TZ".contains(&byte);
    tag.starts_with(|c: char| c.is_ascii_digit()) && tag.bytes().all(is_date_byte)
}

/// A key that sorts backups by age, the oldest first: by number where backups are numbered
/// (`.3` is older than `.2`), otherwise by modification time, and by name where that is equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Age {
    is_dated: bool,
    number: Reverse<u32>,
    modified: SystemTime,
    tag: String,
}

impl Age {
    pub(super) fn new(tag: &str, modified: SystemTime) -> Self {
        let number = if tag.len() < DATE_BYTES {
            tag.parse().ok()
        } else {
            None
        };
        Self {
            is_dated: number.is_none(),
            number: Reverse(number.unwrap_or(0)),
            modified,
            tag: tag.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backups_of_lumberjack_logrotate_and_zeek_are_known_by_their_names() {
        for (base, name, tag) in [
            ("a.log", "a.log.1", Some("1")),
            ("a.log", "a.log-20260224", Some("20260224")),
            ("a.log", "a-20260224.log", Some("20260224")),
            (
                "a.log",
                "a-2026-02-24T08-43-39.070.log",
                Some("2026-02-24T08-43-39.070"),
            ),
            (
                "conn.log",
                "conn.2026-02-24-08-00-00.log",
                Some("2026-02-24-08-00-00"),
            ),
            ("a.log", "a.log", None),
            ("a.log", "a.log.1.gz", None),
            ("a.log", "a-2026-02-24T08-43-39.070.log.gz", None),
            ("a.log", "a.log.bak", None),
            ("a.log", "a.log.", None),
            ("a.log", "b.log.1", None),
            ("worker.log", "worker-2.log", None),
            ("conn.log", "conn-summary.log", None),
            ("noextension", "noextension.1", Some("1")),
        ] {
            assert_eq!(backup_tag(base, name), tag, "{name} of {base}");
        }
    }

    #[test]
    fn compressed_backups_are_known_by_their_names() {
        for (name, is_backup) in [
            ("a.log.1.gz", true),
            ("a.log.gz", true),
            ("a-2026-02-24T08-43-39.070.log.zst", true),
            ("a.log.1", false),
            ("b.log.1.gz", false),
        ] {
            assert_eq!(is_compressed_backup("a.log", name), is_backup, "{name}");
        }
    }

    #[test]
    fn logs_of_a_folder_are_chosen_by_suffix() {
        let chosen: Vec<&str> = [
            "a.log", "b.json", "c.jsonl", "a.log.gz", "a.log.1", ".x.log",
        ]
        .into_iter()
        .filter(|name| is_log(name))
        .collect();
        assert_eq!(chosen, ["a.log", "b.json", "c.jsonl"]);
    }

    #[test]
    fn numbered_backups_count_down_and_dated_ones_up() {
        let at = |seconds| SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
        let sorted = |mut ages: Vec<Age>| {
            ages.sort();
            ages.into_iter().map(|age| age.tag).collect::<Vec<_>>()
        };
        let numbered = ["1", "10", "2"].map(|tag| Age::new(tag, at(5)));
        assert_eq!(sorted(numbered.to_vec()), ["10", "2", "1"]);
        let dated = [
            Age::new("20260225", at(6)),
            Age::new("20260224", at(6)),
            Age::new("20260226", at(5)),
        ];
        assert_eq!(sorted(dated.to_vec()), ["20260226", "20260224", "20260225"]);
    }
}
