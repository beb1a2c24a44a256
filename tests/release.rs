//! Releases of `deploy/release.sh`, made of a script in place of the binary, and what `deploy/verify.sh` accepts and refuses.
//! Needs umoci, jq and minisign; without them it prints that it skips, and with `CI=true` that is a failure. No network.

// The whole file is a test; clippy.toml allows these in test functions only, not in their helpers.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

const TOOLS: [&str; 4] = ["umoci", "jq", "minisign", "git"];

const VERSION: &str = env!("CARGO_PKG_VERSION");

const BILL: &str = r#"{"bomFormat": "CycloneDX", "specVersion": "1.5", "version": 1,
    "metadata": {"component": {"type": "application", "bom-ref": "binary", "name": "yellowjack"}},
    "components": [{"type": "library", "bom-ref": "ring", "name": "ring", "version": "0.17.0"}]}"#;

/// The one release that all tests copy, and the keys.
struct Made {
    folder: TempDir,
}

impl Made {
    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn release(&self) -> PathBuf {
        self.path("release")
    }
}

/// `None`, and printed, where a tool is missing.
fn made() -> Option<&'static Made> {
    static MADE: OnceLock<Option<Made>> = OnceLock::new();
    MADE.get_or_init(|| {
        let is_here = |tool: &&str| {
            let found = Command::new("sh")
                .args(["-c", &format!("command -v {tool}")])
                .output();
            found.unwrap().status.success()
        };
        let missing: Vec<&str> = TOOLS.into_iter().filter(|tool| !is_here(tool)).collect();
        if missing.is_empty() {
            return Some(make());
        }
        let missing = missing.join(" ");
        assert!(
            std::env::var_os("CI").is_none_or(|value| value != "true"),
            "with CI=true these tools are required, on Debian: apt-get install {missing}"
        );
        println!("skipped: on Debian: apt-get install {missing}");
        None
    })
    .as_ref()
}

fn make() -> Made {
    let made = Made {
        folder: tempfile::tempdir().unwrap(),
    };
    fs::write(made.path("bill.json"), BILL).unwrap();
    write_program(&made.path("program"), VERSION);
    for key in ["release", "other"] {
        let output = Command::new("minisign")
            .args(["-G", "-W", "-p"])
            .arg(made.path(&format!("{key}.pub")))
            .arg("-s")
            .arg(made.path(&format!("{key}.key")))
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", text(&output));
    }
    let output = release(&made, &made.release(), "program", Some("release.key"), &[]);
    assert!(output.status.success(), "{}", text(&output));
    made
}

/// A program that starts everywhere and prints a version, and more, so that it differs from others.
fn write_program(path: &Path, version: &str) {
    let name = path.display();
    fs::write(
        path,
        format!("#!/bin/sh\n# {name}\necho yellowjack {version}\n"),
    )
    .unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

fn script(name: &str) -> Command {
    let mut command = Command::new(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("deploy")
            .join(name),
    );
    command.stdin(Stdio::null());
    for variable in ["RELEASE_KEY", "PUBLIC_KEY", "SOURCE_DATE_EPOCH"] {
        command.env_remove(variable);
    }
    command
}

fn release(
    made: &Made,
    folder: &Path,
    program: &str,
    key: Option<&str>,
    variables: &[(&str, &Path)],
) -> Output {
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let mut command = script("release.sh");
    command
        .arg(folder)
        .arg(architecture)
        .env("IMAGE_BINARY", made.path(program))
        .env("IMAGE_BILL", made.path("bill.json"))
        .envs(variables.iter().copied());
    if let Some(key) = key {
        command.env("RELEASE_KEY", made.path(key));
    }
    command.output().unwrap()
}

fn verify(folder: &Path, key: Option<&Path>) -> Output {
    let mut command = script("verify.sh");
    command.arg(folder);
    if let Some(key) = key {
        command.env("PUBLIC_KEY", key);
    }
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Each file of a folder with its bytes.
fn files(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read(entry.path()).unwrap())
        })
        .collect()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for (name, bytes) in files(from) {
        fs::write(to.join(name), bytes).unwrap();
    }
}

/// The file of a release whose name ends so.
#[track_caller]
fn file(folder: &Path, end: &str) -> PathBuf {
    let names = files(folder).into_keys().filter(|name| name.ends_with(end));
    let names: Vec<String> = names.collect();
    let [name] = names.as_slice() else {
        panic!("files that end in {end}: {names:?}");
    };
    folder.join(name)
}

#[track_caller]
fn replace(path: &Path, from: &str, to: &str) {
    let before = fs::read_to_string(path).unwrap();
    assert!(before.contains(from), "{from} is not in {before}");
    fs::write(path, before.replace(from, to)).unwrap();
}

#[track_caller]
fn shell(folder: &Path, command: &str) {
    let output = Command::new("bash")
        .args(["-euc", command])
        .current_dir(folder)
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

/// What an attacker does who has no key: checksums of the files as they are now.
fn write_sums(folder: &Path) {
    let all = "rm -f SHA256SUMS*; LC_ALL=C; sha256sum * >../sums; mv ../sums SHA256SUMS";
    shell(folder, all);
}

/// A copy of the release is accepted with this key, and after the change refused with these words.
#[track_caller]
fn check_refused(key: Option<&str>, change: impl FnOnce(&Made, &Path), words: &[&str]) {
    let Some(made) = made() else { return };
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("copy");
    copy(&made.release(), &folder);
    let key = key.map(|key| made.path(key));
    let control = verify(&folder, key.as_deref());
    assert!(control.status.success(), "{}", text(&control));

    change(made, &folder);
    let output = verify(&folder, key.as_deref());
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    for word in words.iter().chain(&["REFUSED", "wanted", "found"]) {
        assert!(printed.contains(word), "no '{word}' in: {printed}");
    }
    assert!(!printed.contains("ACCEPTED"), "{printed}");
}

#[test]
fn a_release_is_accepted_with_its_key() {
    let Some(made) = made() else { return };
    let output = verify(&made.release(), Some(&made.path("release.pub")));
    let printed = text(&output);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("signature: by the key in"), "{printed}");
    assert!(printed.contains("one layer, no base"), "{printed}");
    assert!(!printed.contains("NOT CHECKED"), "{printed}");
}

#[test]
fn without_a_key_it_is_printed_that_only_checksums_were_checked() {
    let Some(made) = made() else { return };
    let output = verify(&made.release(), None);
    let printed = text(&output);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("SIGNATURE NOT CHECKED"), "{printed}");
}

#[test]
fn a_release_without_a_key_is_not_signed_and_that_is_printed() {
    let Some(made) = made() else { return };
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("release");
    let output = release(made, &folder, "program", None, &[]);
    let printed = text(&output);
    assert!(output.status.success(), "{printed}");
    assert!(printed.contains("NOT SIGNED"), "{printed}");
    let mut signed = files(&made.release());
    assert!(signed.remove("SHA256SUMS.minisig").is_some());
    assert_eq!(files(&folder), signed);
}

#[test]
fn two_releases_are_the_same_bytes_in_other_folders_zones_and_languages() {
    let Some(made) = made() else { return };
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("other name");
    let variables = [
        ("TMPDIR", place.path()),
        ("HOME", place.path()),
        ("TZ", Path::new("Asia/Tokyo")),
        ("LC_ALL", Path::new("C.UTF-8")),
    ];
    let output = release(made, &folder, "program", Some("release.key"), &variables);
    assert!(output.status.success(), "{}", text(&output));
    assert!(files(&folder) == files(&made.release()));

    let changed = place.path().join("changed");
    let later = [("SOURCE_DATE_EPOCH", Path::new("1"))];
    let output = release(made, &changed, "program", Some("release.key"), &later);
    assert!(output.status.success(), "{}", text(&output));
    assert!(files(&changed) != files(&folder), "the control is the same");
}

#[test]
fn a_binary_of_another_version_is_no_release() {
    let Some(made) = made() else { return };
    let place = tempfile::tempdir().unwrap();
    write_program(&made.path("elder"), "0.0.1");
    let output = release(made, &place.path().join("release"), "elder", None, &[]);
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("found 'yellowjack 0.0.1'"), "{printed}");
    assert!(files_below(place.path()).is_empty(), "a part was left");
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder.join("release")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn a_key_that_is_not_there_ends_the_release_before_it_is_built() {
    let Some(made) = made() else { return };
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("release");
    let output = release(made, &folder, "program", Some("absent.key"), &[]);
    let printed = text(&output);
    assert_eq!(output.status.code(), Some(1), "{printed}");
    assert!(printed.contains("RELEASE_KEY: wanted"), "{printed}");
    assert!(!folder.exists());
}

#[test]
fn a_damaged_image_is_refused() {
    let damage = |_: &Made, folder: &Path| {
        let path = file(folder, ".tar");
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        if let Some(byte) = bytes.get_mut(middle) {
            *byte ^= 1;
        }
        fs::write(path, bytes).unwrap();
    };
    check_refused(Some("release.pub"), damage, &[".tar: wanted SHA-256"]);
    check_refused(None, damage, &[".tar: wanted SHA-256"]);
    let with_sums = |made: &Made, folder: &Path| {
        damage(made, folder);
        write_sums(folder);
    };
    check_refused(None, with_sums, &[".tar: wanted a blob with the digest"]);
}

#[test]
fn an_image_with_another_binary_is_refused_also_with_checksums_of_its_own() {
    let exchange = |made: &Made, folder: &Path| {
        let place = tempfile::tempdir().unwrap();
        write_program(&made.path("other-program"), VERSION);
        let other = place.path().join("release");
        let output = release(made, &other, "other-program", None, &[]);
        assert!(output.status.success(), "{}", text(&output));
        fs::copy(file(&other, ".tar"), file(folder, ".tar")).unwrap();
        write_sums(folder);
    };
    check_refused(None, exchange, &["wanted the binary", "in the image"]);
}

#[test]
fn an_image_with_a_base_is_refused() {
    let add_layer = |_: &Made, folder: &Path| {
        let tar = file(folder, ".tar");
        let tar = tar.display();
        shell(
            folder,
            &format!(
                "work=$(mktemp -d); mkdir $work/l; tar -xf {tar} -C $work/l; tar -cf $work/layer.tar -C /etc passwd; \
                 sed -i 's|yellowjack:{VERSION}|{VERSION}|' $work/l/index.json; \
                 umoci raw add-layer --image $work/l:{VERSION} $work/layer.tar; umoci gc --layout $work/l; \
                 tar -C $work/l -cf {tar} .; rm -r $work"
            ),
        );
        write_sums(folder);
    };
    check_refused(
        None,
        add_layer,
        &["wanted one SHA-256 at .layers", "2 of them"],
    );
}

#[test]
fn a_changed_bill_of_materials_is_refused_also_with_checksums_of_its_own() {
    let hide = |_: &Made, folder: &Path| {
        replace(&file(folder, ".cdx.json"), "0.17.0", "0.17.9");
    };
    check_refused(Some("release.pub"), hide, &[".cdx.json: wanted SHA-256"]);
    let with_sums = |made: &Made, folder: &Path| {
        hide(made, folder);
        write_sums(folder);
    };
    check_refused(None, with_sums, &["found other components"]);
    let of_another_image = |_: &Made, folder: &Path| {
        let path = file(folder, ".cdx.json");
        replace(&path, "\"content\": \"", "\"content\": \"0");
        write_sums(folder);
    };
    check_refused(
        None,
        of_another_image,
        &["wanted a bill of materials of the image"],
    );
}

#[test]
fn a_changed_provenance_is_refused_also_with_checksums_of_its_own() {
    let rename = |_: &Made, folder: &Path| {
        let path = file(folder, ".provenance.json");
        replace(&path, ".cdx.json\"", ".other.json\"");
        write_sums(folder);
    };
    check_refused(
        None,
        rename,
        &["wanted the digests of all files and images"],
    );
    let of_another_commit = |_: &Made, folder: &Path| {
        let path = file(folder, ".provenance.json");
        replace(&path, "\"revision\": \"", "\"revision\": \"0");
        write_sums(folder);
    };
    check_refused(None, of_another_commit, &["of revision 0"]);
}

#[test]
fn exchanged_checksums_are_refused() {
    let own_sums = |made: &Made, folder: &Path| {
        replace(&file(folder, ".cdx.json"), "0.17.0", "0.17.9");
        write_sums(folder);
        let signature = "SHA256SUMS.minisig";
        fs::copy(made.release().join(signature), folder.join(signature)).unwrap();
    };
    check_refused(
        Some("release.pub"),
        own_sums,
        &["minisig: wanted a signature"],
    );
    // Signed by the right key, but for other files.
    let of_another_release = |made: &Made, folder: &Path| {
        let place = tempfile::tempdir().unwrap();
        let other = place.path().join("release");
        let later = [("SOURCE_DATE_EPOCH", Path::new("1"))];
        let output = release(made, &other, "program", Some("release.key"), &later);
        assert!(output.status.success(), "{}", text(&output));
        for name in ["SHA256SUMS", "SHA256SUMS.minisig"] {
            fs::copy(other.join(name), folder.join(name)).unwrap();
        }
    };
    check_refused(
        Some("release.pub"),
        of_another_release,
        &["as SHA256SUMS has it"],
    );
}

#[test]
fn the_signature_of_another_key_or_none_is_refused() {
    let Some(made) = made() else { return };
    let place = tempfile::tempdir().unwrap();
    let other = place.path().join("release");
    let output = release(made, &other, "program", Some("other.key"), &[]);
    assert!(output.status.success(), "{}", text(&output));
    let control = verify(&other, Some(&made.path("other.pub")));
    assert!(control.status.success(), "{}", text(&control));

    let sign = |_: &Made, folder: &Path| {
        let name = "SHA256SUMS.minisig";
        fs::copy(other.join(name), folder.join(name)).unwrap();
    };
    check_refused(Some("release.pub"), sign, &["minisig: wanted a signature"]);
    let unsign = |_: &Made, folder: &Path| {
        fs::remove_file(folder.join("SHA256SUMS.minisig")).unwrap();
    };
    check_refused(Some("release.pub"), unsign, &["found none"]);
}

#[test]
fn a_file_too_many_or_too_few_is_refused() {
    let add = |_: &Made, folder: &Path| fs::write(folder.join("@"), "").unwrap();
    check_refused(
        Some("release.pub"),
        add,
        &["@: wanted the files of SHA256SUMS"],
    );
    let remove = |_: &Made, folder: &Path| fs::remove_file(file(folder, ".cdx.json")).unwrap();
    check_refused(Some("release.pub"), remove, &[".cdx.json: wanted a file"]);
}

/// `.ci/advisories` with a cargo-deny that reads its settings, fetches and checks with these exit statuses.
fn advisories(settings: u8, fetch: u8, check: u8) -> Output {
    let cache = tempfile::tempdir().unwrap();
    let tools = include_str!("../.ci/tools");
    let version = tools
        .lines()
        .find_map(|line| line.strip_prefix("readonly CARGO_DENY_VERSION="));
    let version = version.unwrap();
    let folder = cache.path().join(format!("tools/cargo-deny-{version}/bin"));
    fs::create_dir_all(&folder).unwrap();
    let program = folder.join("cargo-deny");
    let text = format!(
        "#!/bin/sh\ncase \"$*\" in
        '--log-level error check sources') exit {settings} ;;
        '--log-level error fetch db') exit {fetch} ;;
        '--log-level error check advisories') exit {check} ;;
        esac\nexit 64\n"
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join(".ci/advisories"))
        .env("YELLOWJACK_CACHE", cache.path())
        .output()
        .unwrap()
}

#[test]
fn an_advisory_fails_and_a_database_that_cannot_be_fetched_is_printed() {
    let not_checked = "NOT CHECKED";
    let output = advisories(0, 0, 0);
    assert!(output.status.success(), "{}", text(&output));
    assert!(!text(&output).contains(not_checked), "{}", text(&output));
    let output = advisories(0, 0, 3);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    let output = advisories(4, 1, 0);
    assert_eq!(output.status.code(), Some(4), "{}", text(&output));
    let output = advisories(0, 1, 3);
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains(not_checked), "{}", text(&output));
}

/// The image that ships has no base; the one that builds it in a Containerfile is named by its digest.
#[test]
fn the_containerfile_takes_no_image_by_a_tag() {
    let file = include_str!("../Containerfile");
    let from: Vec<&str> = file
        .lines()
        .filter(|line| line.starts_with("FROM"))
        .collect();
    let wanted = [
        "FROM --platform=$BUILDPLATFORM $RUST_IMAGE AS build",
        "FROM scratch",
    ];
    assert_eq!(from, wanted);
    assert!(file.contains("\nARG RUST_IMAGE\n"), "no default");
    assert!(file.contains("*@sha256:*) ;;"), "the digest is required");
}
