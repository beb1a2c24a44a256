//! Which file of `src/` uses which: no circles. A name is followed through imports to the file that defines it, so a
//! `mod.rs` that only passes names on is part of no circle. A module and those inside it are one unit: a child may use
//! what its parent defines, and a parent calls its children.

use std::collections::{BTreeMap, BTreeSet};

use crate::items::Import;
use crate::source::{Breach, SourceFile, is_or_below, is_test_file, module_name, word_offsets};

/// Files that are in a circle today. A file leaves the list with its circle; none comes in.
const IN_CIRCLES: [&str; 2] = [
    "src/notify/payload/cloud_event.rs",
    "src/notify/payload/ocsf.rs",
];

/// Longest chain of imports that is followed.
const IMPORTS_MAX: usize = 8;

/// Files that are in a circle and not on the list, and those on the list that are in none.
pub fn circle_breaches(files: &[SourceFile]) -> Vec<Breach> {
    breaches_beside(files, &IN_CIRCLES)
}

fn breaches_beside(files: &[SourceFile], known: &[&str]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut found = BTreeSet::new();
    for circle in circles(files) {
        found.extend(circle.iter().cloned());
        let new: Vec<&str> = circle
            .iter()
            .map(String::as_str)
            .filter(|path| !known.contains(path))
            .collect();
        if let Some(first) = new.first() {
            breaches.push(Breach {
                path: (*first).to_owned(),
                line: 1,
                what: format!(
                    "new in a circle of files: {}; the whole circle: {}",
                    new.join(", "),
                    circle.join(", ")
                ),
                fix: "move what both sides need into a file of its own, or pass it as a parameter"
                    .to_owned(),
            });
        }
    }
    for path in known.iter().filter(|path| !found.contains(**path)) {
        breaches.push(Breach {
            path: (*path).to_owned(),
            line: 1,
            what: "is in no circle of files any more".to_owned(),
            fix: "take it off IN_CIRCLES of tests/tidy/graph.rs".to_owned(),
        });
    }
    breaches
}

/// Groups of files that use each other, directly or through others.
fn circles(files: &[SourceFile]) -> Vec<Vec<String>> {
    let crate_files = CrateFiles::new(files);
    let edges = crate_files.edges();
    let reaches: BTreeMap<&str, BTreeSet<&str>> = edges
        .keys()
        .map(|from| (*from, reachable(from, &edges)))
        .collect();
    let mut circles: Vec<Vec<String>> = Vec::new();
    for (from, targets) in &reaches {
        if !targets.contains(from) || circles.iter().flatten().any(|known| known == from) {
            continue;
        }
        let back = |target: &&&str| {
            reaches
                .get(**target)
                .is_some_and(|from_it| from_it.contains(from))
        };
        circles.push(
            targets
                .iter()
                .filter(back)
                .map(|path| (*path).to_owned())
                .collect(),
        );
    }
    circles
}

fn reachable<'a>(from: &str, edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open: Vec<&str> = edges.get(from).into_iter().flatten().copied().collect();
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(edges.get(next).into_iter().flatten());
        }
    }
    found
}

/// The files of `src/` by module, inline modules included.
struct CrateFiles<'a> {
    modules: BTreeMap<String, &'a SourceFile>,
}

/// Where a path leads.
enum Target {
    Module(String),
    Item(String),
}

impl<'a> CrateFiles<'a> {
    fn new(files: &'a [SourceFile]) -> Self {
        let mut modules = BTreeMap::new();
        for file in files.iter().filter(|file| !is_test_file(&file.path)) {
            let Some(mut name) = module_name(&file.path).filter(|name| name != "testing") else {
                continue;
            };
            if name == "lib" {
                name.clear();
            }
            for (inner, _) in &file.items.inline {
                modules.insert(join(&name, &inner.join("/")), file);
            }
            modules.insert(name, file);
        }
        Self { modules }
    }

    fn edges(&self) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
        let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, file) in &self.modules {
            if module_name(&file.path).is_none_or(|own| own != *name) {
                continue; // inline, or the root: its file is visited under its own name
            }
            let used = edges.entry(&file.path).or_default();
            for path in &file.paths {
                let scope = file
                    .items
                    .inline
                    .iter()
                    .filter(|(_, range)| range.contains(&path.offset));
                let inner = scope
                    .map(|(inner, _)| inner.join("/"))
                    .next_back()
                    .unwrap_or_default();
                let from = join(name, &inner);
                if passes_on(file, &path.segments, path.offset) {
                    continue;
                }
                let Some(Target::Item(module)) = self.resolve(&from, &path.segments, 0) else {
                    continue;
                };
                let target = self.modules.get(&module).map(|target| target.path.as_str());
                let is_kin = is_or_below(&module, name) || is_or_below(name, &module);
                used.extend(target.filter(|_| !is_kin));
            }
        }
        edges
    }

    fn resolve(&self, from: &str, segments: &[String], depth: usize) -> Option<Target> {
        let (first, rest) = segments.split_first()?;
        let mut rest = rest;
        let mut at = match first.as_str() {
            "crate" => String::new(),
            "self" => from.to_owned(),
            "super" => {
                let mut at = parent(from);
                while let Some((next, after)) =
                    rest.split_first().filter(|(next, _)| *next == "super")
                {
                    debug_assert_eq!(next, "super");
                    at = parent(&at);
                    rest = after;
                }
                at
            }
            _ => return self.name_in(from, segments, depth),
        };
        while let Some((next, after)) = rest.split_first() {
            let child = join(&at, next);
            if !self.modules.contains_key(&child) {
                return self.name_in(&at, rest, depth).or(Some(Target::Item(at)));
            }
            at = child;
            rest = after;
        }
        Some(Target::Module(at))
    }

    /// What the first segment is in this module, and from there on.
    fn name_in(&self, module: &str, segments: &[String], depth: usize) -> Option<Target> {
        let (first, rest) = segments.split_first()?;
        let file = self.modules.get(module)?;
        let own = module_name(&file.path)
            .filter(|name| name != "lib")
            .unwrap_or_default();
        let scope = module
            .strip_prefix(&own)
            .unwrap_or_default()
            .trim_start_matches('/');
        let is_here = |inner: &[String]| inner.join("/") == scope;
        if first == "*" {
            return Some(Target::Item(module.to_owned()));
        }
        if self.modules.contains_key(&join(module, first)) {
            let inner: Vec<String> = std::iter::once("self".to_owned())
                .chain(segments.iter().cloned())
                .collect();
            return self.resolve(module, &inner, depth);
        }
        if file
            .items
            .names
            .iter()
            .any(|(inner, name)| is_here(inner) && name == first)
        {
            return Some(Target::Item(module.to_owned()));
        }
        if depth == IMPORTS_MAX {
            return None;
        }
        let imports = || {
            file.items
                .imports
                .iter()
                .filter(|import| is_here(&import.scope))
        };
        let follow = |import: &Import, rest: &[String]| {
            let path: Vec<String> = import
                .path
                .iter()
                .filter(|one| *one != "*")
                .chain(rest)
                .cloned()
                .collect();
            self.resolve(module, &path, depth + 1)
        };
        if let Some(import) = imports().find(|import| import.name == *first) {
            return follow(import, rest);
        }
        imports()
            .filter(|import| import.name == "*" && import.path.len() > 1)
            .find_map(|import| {
                let base = follow(import, &[])?;
                let (Target::Module(base) | Target::Item(base)) = base;
                self.name_in(&base, segments, depth + 1)
            })
    }
}

/// Whether the path only hands a name on to other modules: a public import that the file itself does not use.
fn passes_on(file: &SourceFile, segments: &[String], offset: usize) -> bool {
    let end = |import: &Import| {
        let rest = file.code.get(import.offset..).unwrap_or_default();
        import.offset + rest.find(';').unwrap_or(rest.len())
    };
    let import =
        file.items.imports.iter().find(|import| {
            import.path == segments && (import.offset..end(import)).contains(&offset)
        });
    import.is_some_and(|import| {
        let uses = file
            .items
            .imports
            .iter()
            .map(|other| other.offset..end(other))
            .collect::<Vec<_>>();
        let is_used = word_offsets(&file.production, &import.name)
            .iter()
            .any(|at| !uses.iter().any(|range| range.contains(at)));
        import.is_public && !is_used
    })
}

fn join(module: &str, name: &str) -> String {
    match (module.is_empty(), name.is_empty()) {
        (true, _) => name.to_owned(),
        (_, true) => module.to_owned(),
        _ => format!("{module}/{name}"),
    }
}

fn parent(module: &str) -> String {
    module
        .rsplit_once('/')
        .map_or_else(String::new, |(parent, _)| parent.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<SourceFile> = files
            .iter()
            .map(|(path, text)| SourceFile::new(path, text))
            .collect();
        circles(&files)
            .iter()
            .map(|circle| circle.join(" "))
            .collect()
    }

    const ROOT: (&str, &str) = ("src/lib.rs", "mod a;");
    const FOLDER: (&str, &str) = ("src/a/mod.rs", "mod one; mod two;");

    #[test]
    fn files_that_use_each_other_are_found() {
        let one = ("src/a/one.rs", "use super::two::Two; pub struct One;");
        let two = (
            "src/a/two.rs",
            "pub struct Two; fn f() { g!(crate::a::one::One) }",
        );
        assert_eq!(
            found(&[ROOT, FOLDER, one, two]),
            ["src/a/one.rs src/a/two.rs"]
        );
    }

    #[test]
    fn a_name_is_followed_to_its_file() {
        let facade = (
            "src/a/mod.rs",
            "mod one; mod two; pub use one::One; pub use two::*;",
        );
        let one = ("src/a/one.rs", "use super::Two; pub struct One;");
        let two = ("src/a/two.rs", "pub struct Two;");
        assert_eq!(found(&[ROOT, facade, one, two]), Vec::<String>::new());
        let back = ("src/a/two.rs", "use super::One; pub struct Two;");
        assert_eq!(
            found(&[ROOT, facade, one, back]),
            ["src/a/one.rs src/a/two.rs"]
        );
    }

    #[test]
    fn a_parent_and_its_child_may_use_each_other() {
        let parent = (
            "src/a/mod.rs",
            "mod one; use one::One; pub struct Config(One);",
        );
        let one = ("src/a/one.rs", "use super::Config; pub struct One;");
        assert_eq!(found(&[ROOT, parent, one]), Vec::<String>::new());
    }

    #[test]
    fn tests_make_no_circle() {
        let one = (
            "src/a/one.rs",
            "pub struct One; #[cfg(test)] mod tests { use crate::a::two::Two; }",
        );
        let two = ("src/a/two.rs", "use super::one::One; pub struct Two;");
        assert_eq!(found(&[ROOT, FOLDER, one, two]), Vec::<String>::new());
    }

    #[test]
    fn the_list_of_known_circles_is_exact() {
        let folder = SourceFile::new(FOLDER.0, FOLDER.1);
        let one = SourceFile::new("src/a/one.rs", "use super::two::Two; pub struct One;");
        let two = SourceFile::new("src/a/two.rs", "use super::one::One; pub struct Two;");
        let known = ["src/a/one.rs", "src/a/two.rs"];
        assert_eq!(breaches_beside(&[folder, one, two], &known), []);
        let alone = SourceFile::new("src/a/one.rs", "pub struct One;");
        assert_eq!(breaches_beside(&[alone], &known).len(), 2);
    }
}
