//! The page in a real browser, light and dark, on a screen and on a phone, over a recorded Incident
//! and over one whose every text is the adversary's.

use std::path::Path;

use anyhow::Context;
use serde_json::{Value, json};
use yellowjack::testing::report::{self, Lookup, ReportInput};

use super::{audit, browser};

const ROGUE: &str = include_str!("../../../tests/samples/report/rogue.json");

const PAYLOAD: &str = "</style></title></code></svg><script>window.pwned=1</script>\"'><img src=http://192.0.2.1/x onerror=window.pwned=2><svg onload=window.pwned=3>\u{202e}\u{1b}[31m";

/// Texts that whoever makes an Incident's objects can choose, as JSON pointers.
const TEXTS: [&str; 14] = [
    "/incident/metadata/name",
    "/incident/spec/subject/name",
    "/incident/spec/subject/node",
    "/incident/spec/evidence/0/observer",
    "/incident/spec/evidence/0/summary",
    "/incident/spec/evidence/0/counterEvidence/0",
    "/incident/spec/evidence/1/signature",
    "/incident/spec/evidence/1/examples/0/name",
    "/incident/spec/evidence/1/examples/0/destination",
    "/incident/spec/evidence/1/examples/0/protocol",
    "/incident/spec/trace/episode",
    "/incident/status/actions/0/target/name",
    "/incident/status/conditions/0/message",
    "/incident/status/techniques/0",
];

fn page(sample: &Value) -> anyhow::Result<String> {
    let input = ReportInput {
        incident: serde_json::from_value(sample["incident"].clone())?,
        run: Lookup::Found(serde_json::from_value(sample["run"].clone())?),
        pod: Lookup::Found(serde_json::from_value(sample["pod"].clone())?),
        policies: Lookup::Found(serde_json::from_value(sample["policies"].clone())?),
        now: sample["now"].as_str().context("no time")?.parse()?,
    };
    Ok(report::page(&report::story(&input))?)
}

fn hostile() -> anyhow::Result<Value> {
    let mut sample: Value = serde_json::from_str(ROGUE)?;
    for pointer in TEXTS {
        let text = sample
            .pointer_mut(pointer)
            .with_context(|| format!("no {pointer}"))?;
        *text = format!("a{PAYLOAD}{}", "w".repeat(64 * 1024)).into();
    }
    sample["pod"]["metadata"]["ownerReferences"][0]["name"] = PAYLOAD.into();
    sample["policies"][1]["metadata"]["name"] = PAYLOAD.into();
    Ok(sample)
}

#[test]
fn the_page_is_safe_readable_and_whole_in_a_browser() -> anyhow::Result<()> {
    let Some(program) = browser::find() else {
        println!("skipped: no Chromium is installed (apt-get install chromium)");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let mut browser = browser::Browser::start(&program)?;
    let rogue: Value = serde_json::from_str(ROGUE)?;
    for (name, sample) in [("rogue", rogue), ("hostile", hostile()?)] {
        let path = folder.path().join(format!("{name}.html"));
        std::fs::write(&path, page(&sample)?)?;
        let mut grounds = Vec::new();
        for scheme in ["light", "dark"] {
            for width in [390, 1280] {
                let what = format!("{name}, {scheme}, {width} px");
                grounds.push(check(&mut browser, &path, width, scheme).context(what)?);
            }
        }
        assert_eq!(grounds[0], grounds[1], "{name}: one ground per scheme");
        assert_ne!(
            grounds[0], grounds[2],
            "{name}: dark is another ground than light"
        );
    }
    Ok(())
}

/// The check itself: a page whose texts were not escaped must not pass it, with and without the
/// page's own policy.
#[test]
fn a_page_whose_texts_are_not_escaped_does_not_pass() -> anyhow::Result<()> {
    let Some(program) = browser::find() else {
        println!("skipped: no Chromium is installed (apt-get install chromium)");
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let mut browser = browser::Browser::start(&program)?;
    let careless = page(&hostile()?)?
        .replace("&#60;", "<")
        .replace("&#62;", ">")
        .replace("&#34;", "\"")
        .replace("&#39;", "'");
    let policy = "default-src 'none'; style-src 'unsafe-inline'";
    assert!(careless.contains(policy));
    for (name, text) in [
        ("with", careless.clone()),
        (
            "without",
            careless.replace(policy, "default-src * 'unsafe-inline'"),
        ),
    ] {
        let path = folder.path().join(format!("{name}.html"));
        std::fs::write(&path, text)?;
        let outcome = check(&mut browser, &path, 1280, "light");
        assert!(outcome.is_err(), "{name} the policy");
        // The policy is the second wall: behind it nothing runs and nothing leaves.
        let is_free = name == "without";
        let has_run = browser.ask("window.pwned || 0")? != 0;
        let has_left = browser.sent().iter().any(|url| url.contains("192.0.2.1"));
        assert_eq!((has_run, has_left), (is_free, is_free), "{name} the policy");
    }
    Ok(())
}

/// Opens the page once and asserts what holds for every one. Returns the colour of its ground.
fn check(
    browser: &mut browser::Browser,
    path: &Path,
    width: u32,
    scheme: &str,
) -> anyhow::Result<String> {
    let url = format!("file://{}", path.display());
    browser.open(&url, (width, 900), scheme)?;
    let structure = browser.ask(audit::STRUCTURE)?;
    let contrast = browser.ask(audit::CONTRAST)?;
    keep_picture(browser, path, width, scheme)?;
    anyhow::ensure!(
        browser.requests() == [url],
        "it asked for {:?}",
        browser.requests()
    );
    anyhow::ensure!(
        browser.complaints().is_empty(),
        "{:?}",
        browser.complaints()
    );
    let expected = json!({
        "pwned": "undefined", "scripts": 0, "handlers": 0, "loads": 0, "lang": "en", "title": true,
        "landmarks": [1, 1, 1], "h1": 1, "jumps": 0, "sections_without_name": 0,
        "tables_without_caption": 0, "svgs": 3, "svgs_without_name": 0, "repeated_ids": 0,
        "regions_without_key": 0, "times_without_tip": 0, "sticks_out": 0,
        "ground": structure["ground"],
    });
    anyhow::ensure!(
        structure == expected,
        "expected {expected:#}, found {structure:#}"
    );
    let bad = contrast["bad"].as_array().context("no contrasts")?;
    anyhow::ensure!(bad.is_empty(), "too little contrast: {bad:#?}");
    let checked = contrast["checked"].as_u64().unwrap_or_default();
    anyhow::ensure!(checked > 100, "only {checked} texts were looked at");
    println!(
        "{width} px {scheme}: {checked} texts, lowest contrast {}",
        contrast["lowest"]
    );
    Ok(structure["ground"].to_string())
}

/// For people: what the browser showed, where they ask for it.
fn keep_picture(
    browser: &mut browser::Browser,
    path: &Path,
    width: u32,
    scheme: &str,
) -> anyhow::Result<()> {
    let Some(folder) = std::env::var_os("YELLOWJACK_PICTURES") else {
        return Ok(());
    };
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let picture = Path::new(&folder).join(format!("{name}-{width}-{scheme}.png"));
    std::fs::write(&picture, browser.picture()?)
        .with_context(|| format!("failed to write {}", picture.display()))
}
