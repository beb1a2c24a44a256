//! What the docs show: fenced blocks of Markdown, and the manifests and commands in them. Used by `docs`.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::helm::root;

/// A fenced block.
pub struct Block {
    /// The file and the line of its fence.
    pub place: String,
    /// What stands behind the opening fence.
    pub language: String,
    pub text: String,
}

/// Every page that a user reads, the README first.
pub fn pages() -> anyhow::Result<Vec<PathBuf>> {
    let mut pages = vec![root().join("README.md")];
    for folder in ["docs", "docs/examples"] {
        pages.extend(files(&root().join(folder), "md")?);
    }
    Ok(pages)
}

/// The files of a folder with this ending, in order.
pub fn files(folder: &Path, ending: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .with_context(|| format!("failed to list {}", folder.display()))?;
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    Ok(files)
}

/// The fenced blocks of every page.
pub fn blocks() -> anyhow::Result<Vec<Block>> {
    let mut found = Vec::new();
    for page in pages()? {
        let text = std::fs::read_to_string(&page)
            .with_context(|| format!("failed to read {}", page.display()))?;
        let name = page
            .strip_prefix(root())
            .unwrap_or(&page)
            .display()
            .to_string();
        found.extend(blocks_of(&name, &text));
    }
    Ok(found)
}

fn blocks_of(name: &str, text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut is_open = false;
    for (number, line) in text.lines().enumerate() {
        // Blocks in lists are indented.
        let plain = line.trim_start();
        if let Some(language) = plain.strip_prefix("```") {
            if !is_open {
                blocks.push(Block {
                    place: format!("{name}:{}", number + 1),
                    language: language.to_owned(),
                    text: String::new(),
                });
            }
            is_open = !is_open;
        } else if is_open && let Some(block) = blocks.last_mut() {
            block.text.push_str(line);
            block.text.push('\n');
        }
    }
    blocks
}

/// A command of a page, in words.
#[derive(Debug)]
pub struct Command {
    pub place: String,
    pub words: Vec<String>,
}

/// Commands of these programs. A command ends at a pipe; a backslash at the end of a line continues it.
pub fn commands(programs: &[&str]) -> anyhow::Result<Vec<Command>> {
    let mut found = Vec::new();
    for block in blocks()? {
        if !["", "console", "sh"].contains(&block.language.as_str()) {
            continue;
        }
        for line in block.text.replace("\\\n", " ").lines() {
            let line = line.trim().trim_start_matches("$ ");
            let Some(mut words) = shlex::split(line) else {
                // A quote that goes on over lines.
                continue;
            };
            if let Some(pipe) = words.iter().position(|word| word == "|") {
                words.truncate(pipe);
            }
            if words
                .first()
                .is_some_and(|word| programs.contains(&word.as_str()))
            {
                let place = block.place.clone();
                found.push(Command { place, words });
            }
        }
    }
    Ok(found)
}
