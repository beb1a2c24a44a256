//! Which module may use which (INV-15), what pure modules may not name (INV-1), and who may write
//! to the API server (INV-4). The tables here are the picture of docs/architecture.md, in code.

use std::collections::BTreeMap;

use crate::paths::CodePath;
use crate::source::{Breach, SourceFile, is_or_below, module_name, word_offsets};

/// The layers, left to right. A module may use what stands to its left. Inside a layer one may
/// use another, never both each other. The longest name that fits a file decides.
const LAYERS: [&[&str]; 12] = [
    &["limits"],
    &["model"],
    &["api"],
    &["signals", "signals/decode", "detect"],
    &[
        "guardrails",
        "respond/plan",
        "respond/verify/proof",
        "notify/payload",
    ],
    &["observability"],
    &["cluster"],
    // All of `respond` that is not named further left: it records, executes, verifies.
    &[
        "signals/source",
        "signals/attribute",
        "pipeline",
        "controller",
        "respond",
    ],
    &["notify", "report"],
    &["operator"],
    &["replay", "cli"],
    &["main"],
];

/// Uses that the layers would allow and the design does not: (user, used, why).
const BARRED: [(&str, &str, &str); 2] = [
    (
        "detect",
        "api",
        "detectors see signals and time, no Kubernetes object",
    ),
    (
        "signals/decode",
        "api",
        "decoders turn bytes into the model, no Kubernetes object",
    ),
];

/// Modules that are pure (INV-1).
const PURE: [&str; 10] = [
    "limits",
    "model",
    "api",
    "signals/decode",
    "detect",
    "guardrails",
    "respond/plan",
    "respond/verify/proof",
    "notify/payload",
    "report",
];

/// Modules that name no Kubernetes type at all.
const WITHOUT_KUBERNETES: [&str; 4] = ["limits", "model", "signals/decode", "detect"];

/// Beginnings of paths that a pure module must not name.
const IMPURE_PATHS: [&str; 23] = [
    "axum",
    "kube::Api",
    "kube::Client",
    "kube::Config",
    "kube::api::Api",
    "kube::client",
    "kube::config",
    "kube::discovery",
    "kube::runtime",
    "std::env",
    "std::fs",
    "std::io::stderr",
    "std::io::stdin",
    "std::io::stdout",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::UdpSocket",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "tokio",
    "tracing",
];

/// Ends of paths that read a clock, whatever they were imported from.
const CLOCKS: [&str; 5] = [
    "Instant::now",
    "SystemTime::now",
    "Timestamp::now",
    "Utc::now",
    "Zoned::now",
];

/// Macros that write to the terminal.
const PRINTING: [&str; 5] = ["print!", "println!", "eprint!", "eprintln!", "dbg!"];

/// Every write through a typed client takes one of these.
const WRITE_PARAMETERS: [&str; 5] = [
    "DeleteParams",
    "EvictParams",
    "PatchParams",
    "PostParams",
    "ValidationDirective",
];

/// Methods of a typed client that write.
const WRITE_METHODS: [&str; 12] = [
    ".create(",
    ".create_subresource(",
    ".delete(",
    ".delete_collection(",
    ".evict(",
    ".patch(",
    ".patch_metadata(",
    ".patch_scale(",
    ".patch_status(",
    ".patch_subresource(",
    ".replace(",
    ".replace_status(",
];

/// Uses of a module to the right, of a barred one, and of two modules of one layer by each other.
pub fn order_breaches(files: &[SourceFile]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    let mut sideways: BTreeMap<(&str, &str), (&SourceFile, usize)> = BTreeMap::new();
    for file in files {
        let Some(name) = module_name(&file.path).filter(|name| name != "lib" && name != "testing")
        else {
            continue;
        };
        let Some((from, from_layer)) = layer_of(&name) else {
            breaches.push(file.breach(
                0,
                format!("module `{name}` stands in no layer"),
                "name it in LAYERS of tests/tidy/layers.rs and in docs/architecture.md",
            ));
            continue;
        };
        for path in &file.paths {
            let Some((target, target_layer)) = target_of(path, &name) else {
                continue;
            };
            if target_layer > from_layer {
                breaches.push(order_breach(file, path, from, target));
            } else if let Some(why) = barred(from, target) {
                breaches.push(file.breach(
                    path.offset,
                    format!("`{from}` uses `{target}`: {why}"),
                    "take what is needed as a value of `model`",
                ));
            } else if target_layer == from_layer && from != target {
                sideways.insert((from, target), (file, path.offset));
            }
        }
    }
    for ((from, target), (file, offset)) in &sideways {
        if from < target && sideways.contains_key(&(target, from)) {
            breaches.push(file.breach(
                *offset,
                format!("`{from}` and `{target}` use each other"),
                "move what both need into a module to their left",
            ));
        }
    }
    breaches
}

fn order_breach(file: &SourceFile, path: &CodePath, from: &str, target: &str) -> Breach {
    file.breach(
        path.offset,
        format!(
            "`{from}` uses `{target}` (`{}`), which stands to its right",
            path.segments.join("::")
        ),
        "take it as a parameter, or move it left: see the order in docs/architecture.md",
    )
}

fn target_of(path: &CodePath, module: &str) -> Option<(&'static str, usize)> {
    let is_module = |name: &str| {
        LAYERS
            .iter()
            .flat_map(|layer| layer.iter())
            .any(|known| *known == name)
    };
    layer_of(&resolve(path, module, is_module)?.join("/"))
}

/// The segments that `path` has from the root of the crate, for a file of this module; `None` where it leads out of
/// the crate.
fn resolve(path: &CodePath, module: &str, is_module: impl Fn(&str) -> bool) -> Option<Vec<String>> {
    let mut base: Vec<String> = module
        .split('/')
        .filter(|part| !part.is_empty())
        .map(str::to_owned)
        .collect();
    let mut segments = path.segments.iter().peekable();
    match segments.peek().map(|segment| segment.as_str()) {
        Some("crate" | "yellowjack") => {
            base.clear();
            segments.next();
        }
        Some("super") => {
            while segments.next_if(|segment| *segment == "super").is_some() {
                base.pop();
            }
        }
        Some("self") => {
            segments.next();
        }
        Some(child) if is_module(&format!("{module}/{child}")) => {}
        _ => return None,
    }
    base.extend(segments.cloned());
    Some(base)
}

/// The module of the layers that `name` belongs to, and its place from the left.
fn layer_of(name: &str) -> Option<(&'static str, usize)> {
    LAYERS
        .iter()
        .enumerate()
        .flat_map(|(place, layer)| layer.iter().map(move |module| (*module, place)))
        .filter(|(module, _)| is_or_below(name, module))
        .max_by_key(|(module, _)| module.len())
}

fn barred(from: &str, target: &str) -> Option<&'static str> {
    BARRED
        .iter()
        .find(|(one, other, _)| *one == from && *other == target)
        .map(|(_, _, why)| *why)
}

/// Clients, clocks, files, the environment and the terminal in a pure module.
pub fn purity_breaches(file: &SourceFile) -> Vec<Breach> {
    let is_in = |modules: &[&str]| modules.iter().any(|module| file.is_in(module));
    if !is_in(&PURE) {
        return Vec::new();
    }
    let without_kubernetes = is_in(&WITHOUT_KUBERNETES);
    let mut breaches = Vec::new();
    for path in &file.paths {
        let name = path.segments.join("::");
        if IMPURE_PATHS.iter().any(|impure| names(&name, impure))
            || CLOCKS.iter().any(|clock| name.ends_with(clock))
        {
            breaches.push(file.breach(
                path.offset,
                format!("`{name}` in a pure module (INV-1)"),
                "take time, text and settings as parameters; return problems as data",
            ));
        } else if without_kubernetes && (names(&name, "kube") || names(&name, "k8s_openapi")) {
            breaches.push(file.breach(
                path.offset,
                format!("`{name}` is a Kubernetes type, and this module knows none (INV-1)"),
                "use a type of `model`",
            ));
        }
    }
    for word in PRINTING {
        for at in word_offsets(&file.production, word) {
            breaches.push(file.breach(
                at,
                format!("`{word}` in a pure module (INV-1)"),
                "return the text as data; the shell prints it",
            ));
        }
    }
    breaches
}

/// Whether `path` is `start`, lies below it, or takes it in by a `*`.
fn names(path: &str, start: &str) -> bool {
    let below = |path: &str, start: &str| {
        path.strip_prefix(start)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
    };
    below(path, start)
        || path
            .strip_suffix("::*")
            .is_some_and(|parent| below(start, parent))
}

/// Writes to the API server outside `src/cluster/`.
pub fn write_breaches(file: &SourceFile) -> Vec<Breach> {
    if module_name(&file.path).is_none() || file.is_in("cluster") {
        return Vec::new();
    }
    let has_client = file.paths.iter().any(|path| {
        let name = path.segments.join("::");
        [
            "kube::Api",
            "kube::api::Api",
            "kube::Client",
            "kube::client::Client",
        ]
        .contains(&name.as_str())
    });
    let parameters = WRITE_PARAMETERS.iter().flat_map(|word| {
        word_offsets(&file.production, word)
            .into_iter()
            .map(move |at| (*word, at))
    });
    let methods = WRITE_METHODS
        .iter()
        .filter(|_| has_client)
        .flat_map(|word| {
            file.production
                .match_indices(word)
                .map(move |(at, _)| (*word, at))
        })
        .filter(|(word, at)| is_request(&file.production, at + word.len()));
    parameters
        .chain(methods)
        .map(|(word, at)| {
            file.breach(
                at,
                format!("`{word}` outside src/cluster (INV-4)"),
                "call the writer in `cluster`, which adds field manager, timeout, pacing and counter",
            )
        })
        .collect()
}

/// Whether the call whose name ends at `at`, after its opening bracket, looks like a request: it
/// is awaited, or takes parameters by default. `text.replace('a', "b")` is none.
fn is_request(code: &str, at: usize) -> bool {
    let rest = code.get(at..).unwrap_or_default();
    let mut depth = 1_usize;
    let close = rest.find(|c: char| {
        depth = match c {
            '(' => depth + 1,
            ')' => depth - 1,
            _ => depth,
        };
        depth == 0
    });
    let Some((arguments, after)) = close.and_then(|close| rest.split_at_checked(close + 1)) else {
        return false;
    };
    after.trim_start().starts_with(".await") || arguments.contains("default()")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<SourceFile> = files
            .iter()
            .map(|(path, text)| SourceFile::new(path, text))
            .collect();
        order_breaches(&files)
            .iter()
            .map(|breach| breach.what.clone())
            .collect()
    }

    fn check_order(path: &str, text: &str, expected: &str) {
        let found = order(&[(path, text)]).join("; ");
        assert!(
            found.contains(expected),
            "expected {expected:?} in {found:?} for {text:?}"
        );
    }

    #[test]
    fn a_use_to_the_right_is_found() {
        check_order(
            "src/model/a.rs",
            "use crate::{limits, api::X};",
            "`model` uses `api`",
        );
        check_order(
            "src/detect/mod.rs",
            "fn f() { crate::cluster::w() }",
            "`detect` uses `cluster`",
        );
        check_order(
            "src/signals/decode/a.rs",
            "use super::super::source::X;",
            "uses `signals/source`",
        );
        check_order(
            "src/signals/mod.rs",
            "pub use source::Tail;",
            "`signals` uses `signals/source`",
        );
        check_order(
            "src/respond/plan.rs",
            "use super::execute::X;",
            "`respond/plan` uses `respond`",
        );
        check_order(
            "src/cluster/mod.rs",
            "use crate::controller::X;",
            "`cluster` uses `controller`",
        );
    }

    #[test]
    fn detectors_see_no_api() {
        check_order(
            "src/detect/a.rs",
            "use crate::api::Mode;",
            "`detect` uses `api`",
        );
    }

    #[test]
    fn an_unknown_module_is_found() {
        check_order("src/helpers.rs", "", "`helpers` stands in no layer");
    }

    #[test]
    fn modules_of_one_layer_do_not_use_each_other() {
        let one_way = ("src/controller/a.rs", "use crate::respond::X;");
        let other_way = ("src/respond/execute.rs", "use crate::controller::Y;");
        assert_eq!(order(&[one_way]), Vec::<String>::new());
        assert_eq!(
            order(&[one_way, other_way]),
            ["`controller` and `respond` use each other"]
        );
    }

    #[test]
    fn uses_to_the_left_and_in_tests_are_fine() {
        let text = "use crate::{limits, model::Flow}; // crate::cluster\n\
                    #[cfg(test)] mod tests { use crate::cluster::X; }";
        assert_eq!(order(&[("src/detect/mod.rs", text)]), Vec::<String>::new());
    }

    fn check_pure(path: &str, text: &str, expected: &[&str]) {
        let breaches = purity_breaches(&SourceFile::new(path, text));
        assert_eq!(breaches.len(), expected.len(), "for {text:?}: {breaches:?}");
        for (breach, expected) in breaches.iter().zip(expected) {
            assert!(
                breach.what.contains(expected),
                "expected {expected:?} in {breach}"
            );
        }
    }

    #[test]
    fn clocks_files_and_clients_are_found_in_pure_modules() {
        check_pure("src/detect/a.rs", "use std::{fs, fmt};", &["std::fs"]);
        check_pure(
            "src/model/a.rs",
            "fn f() { let t = std::time::Instant::now(); }",
            &["Instant::now"],
        );
        check_pure(
            "src/model/a.rs",
            "fn f() { let t = Timestamp::now(); }",
            &["Timestamp::now"],
        );
        check_pure(
            "src/model/a.rs",
            "fn f() { let t = jiff::Timestamp::now(); }",
            &["jiff::Timestamp::now"],
        );
        check_pure(
            "src/guardrails/a.rs",
            "use kube::{Client, ResourceExt};",
            &["kube::Client"],
        );
        check_pure("src/guardrails/a.rs", "use kube::*;", &["kube::*"]);
        check_pure(
            "src/respond/plan.rs",
            "fn f() { tracing::info!(a); println!(); }",
            &["tracing::info", "println!"],
        );
        check_pure("src/signals/decode/a.rs", "use tokio::io;", &["tokio::io"]);
    }

    #[test]
    fn kubernetes_types_are_found_where_none_belongs() {
        let text = "use k8s_openapi::api::core::v1::Pod;";
        check_pure("src/model/a.rs", text, &["Kubernetes type"]);
        check_pure("src/guardrails/a.rs", text, &[]);
    }

    #[test]
    fn shells_may_have_clocks_and_files() {
        let text = "use std::fs; use tokio::time::Instant; fn f() { Instant::now(); }";
        check_pure("src/respond/execute.rs", text, &[]);
        check_pure("src/signals/source/file.rs", text, &[]);
    }

    fn check_writes(path: &str, text: &str, expected: usize) {
        let breaches = write_breaches(&SourceFile::new(path, text));
        assert_eq!(breaches.len(), expected, "for {text:?}: {breaches:?}");
    }

    #[test]
    fn writes_are_found_outside_the_cluster_module() {
        let text = "use kube::Api; async fn f(a: Api<Pod>) { a.patch(n, &PatchParams::apply(m), p).await }";
        check_writes("src/controller/a.rs", text, 2);
        check_writes("src/cluster/a.rs", text, 0);
        check_writes("e2e/src/lib.rs", text, 0);
        let by_default =
            "use kube::Api; fn f(a: Api<Pod>) { timeout(t, a.delete(n, &Default::default())) }";
        check_writes("src/controller/a.rs", by_default, 1);
        let no_write = "use kube::Api; async fn f() { a.get(n).await; s.replace('a', \"b\"); index.delete(f(k), now); }";
        check_writes("src/controller/a.rs", no_write, 0);
        check_writes(
            "src/signals/attribute.rs",
            "fn f() { index.delete(uid); }",
            0,
        );
    }
}
