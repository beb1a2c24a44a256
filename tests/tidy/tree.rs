//! Walks the repository. Called by the tests in `main`; must not read build output or recordings.

#![allow(clippy::expect_used, clippy::panic)] // a tree that cannot be read is a failed test

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::source::{SourceFile, TextFile};

/// Folders of the root whose content is not ours to judge.
const SKIPPED_FOLDERS: [&str; 3] = [".git", "target", "shared"];

/// Files that people write and read. Recordings (`jsonl`, `json`) and lock files are not.
const TEXT_EXTENSIONS: [&str; 9] = ["rs", "go", "sh", "py", "yaml", "yml", "md", "toml", "tpl"];

/// Text files that have no extension.
const TEXT_NAMES: [&str; 8] = [
    "Makefile",
    "run",
    "tools",
    "step",
    "advisories",
    ".gitignore",
    "Dockerfile",
    "Containerfile",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The text of one file, by its path from the root.
pub fn read(path: &str) -> String {
    let full = root().join(path);
    fs::read_to_string(&full)
        .unwrap_or_else(|error| panic!("unable to read {}: {error}", full.display()))
}

/// Every Rust file of the repository.
pub fn rust_files() -> &'static [SourceFile] {
    static FILES: OnceLock<Vec<SourceFile>> = OnceLock::new();
    FILES.get_or_init(read_rust_files)
}

fn read_rust_files() -> Vec<SourceFile> {
    text_files()
        .iter()
        .filter(|file| {
            Path::new(&file.path)
                .extension()
                .is_some_and(|end| end == "rs")
        })
        .map(|file| SourceFile::new(&file.path, &file.text))
        .collect()
}

/// Every file that people write, in the order of their paths.
pub fn text_files() -> &'static [TextFile] {
    static FILES: OnceLock<Vec<TextFile>> = OnceLock::new();
    FILES.get_or_init(read_text_files)
}

fn read_text_files() -> Vec<TextFile> {
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    paths.sort();
    paths
        .into_iter()
        .filter(|path| is_text(path))
        .map(|path| {
            let relative = path.strip_prefix(root()).expect("walked from the root");
            let path = relative.to_string_lossy().replace('\\', "/");
            TextFile {
                text: read(&path),
                path,
            }
        })
        .collect()
}

fn walk(folder: &Path, paths: &mut Vec<PathBuf>) {
    let entries = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("unable to list {}: {error}", folder.display()));
    for entry in entries {
        let entry = entry.expect("a folder entry can be read");
        let kind = entry.file_type().expect("a file type can be read");
        let at_root = folder == root();
        let skipped = at_root
            && SKIPPED_FOLDERS
                .iter()
                .any(|name| entry.file_name() == *name);
        if kind.is_dir() && !skipped {
            walk(&entry.path(), paths);
        } else if kind.is_file() {
            paths.push(entry.path());
        }
    }
}

fn is_text(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    let name = path.file_name().and_then(|name| name.to_str());
    extension.is_some_and(|extension| TEXT_EXTENSIONS.contains(&extension))
        || name.is_some_and(|name| TEXT_NAMES.contains(&name))
}
