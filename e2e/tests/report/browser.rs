//! A headless Chromium that is spoken to over a pipe: navigate, ask the page, and hear what it asked
//! for. The DevTools protocol is JSON with a zero byte behind each message; the two calls that the
//! tests need are not worth a client library, which would compile the whole protocol.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

/// How long an answer may take; a loaded machine needs seconds to start a browser.
const LIMIT: Duration = Duration::from_mins(1);

/// Messages that wait to be read; the browser waits when there are more.
const MESSAGES_MAX: usize = 1024;

/// Where Debian and others put it.
const NAMES: [&str; 4] = [
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
];

/// The browser of this machine, if there is one.
pub fn find() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    let candidates = NAMES
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)));
    candidates.into_iter().find(|candidate| candidate.is_file())
}

/// A running browser with one tab.
pub struct Browser {
    process: Child,
    to: File,
    from: Receiver<Value>,
    session: String,
    next_id: u64,
    events: Vec<Value>,
    _folder: tempfile::TempDir,
}

impl Browser {
    /// Starts it and opens an empty tab.
    pub fn start(program: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let (to, from) = (folder.path().join("to"), folder.path().join("from"));
        let made = Command::new("mkfifo").arg(&to).arg(&from).status()?;
        anyhow::ensure!(made.success(), "failed to make the pipes");
        let script = "exec \"$1\" --headless=new --no-sandbox --disable-gpu --no-first-run --disable-extensions \
             --disable-background-networking --disable-component-update --user-data-dir=\"$2\" \
             --remote-debugging-pipe about:blank 3<\"$3\" 4>\"$4\"";
        let process = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(program)
            .arg(folder.path().join("profile"))
            .args([&to, &from])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .context("failed to start the browser")?;
        // In the order in which the shell opens its ends: each open waits for the other side.
        let to = OpenOptions::new().write(true).open(to)?;
        let from = follow(File::open(from)?);
        let mut browser = Self {
            process,
            to,
            from,
            session: String::new(),
            next_id: 0,
            events: Vec::new(),
            _folder: folder,
        };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }))?;
        let attached = browser.call(
            "Target.attachToTarget",
            json!({ "targetId": target["targetId"], "flatten": true }),
        )?;
        let session = attached["sessionId"].as_str();
        browser.session.push_str(session.context("no session")?);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.call(&format!("{domain}.enable"), json!({}))?;
        }
        Ok(browser)
    }

    /// Opens a page in a window of this size, and waits until it is loaded. What was heard before is
    /// forgotten.
    pub fn open(&mut self, url: &str, size: (u32, u32), scheme: &str) -> anyhow::Result<()> {
        let metrics =
            json!({ "width": size.0, "height": size.1, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", metrics)?;
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        self.call(
            "Emulation.setEmulatedMedia",
            json!({ "features": features }),
        )?;
        self.events.clear();
        self.call("Page.navigate", json!({ "url": url }))?;
        let begin = Instant::now();
        while !self
            .events
            .iter()
            .any(|event| event["method"] == "Page.loadEventFired")
        {
            let event = self.hear(begin)?;
            self.events.push(event);
        }
        Ok(())
    }

    /// What an expression of the page is, as JSON.
    pub fn ask(&mut self, expression: &str) -> anyhow::Result<Value> {
        let parameters = json!({ "expression": expression, "returnByValue": true });
        let mut answer = self.call("Runtime.evaluate", parameters)?;
        if let Some(details) = answer.get("exceptionDetails") {
            bail!("the expression failed: {details}");
        }
        Ok(answer["result"]["value"].take())
    }

    /// The whole page as a picture.
    pub fn picture(&mut self) -> anyhow::Result<Vec<u8>> {
        use base64::Engine;
        let parameters = json!({ "format": "png", "captureBeyondViewport": true });
        let answer = self.call("Page.captureScreenshot", parameters)?;
        let text = answer["data"].as_str().context("no picture")?;
        Ok(base64::engine::general_purpose::STANDARD.decode(text)?)
    }

    /// What the page asked the network for.
    pub fn requests(&self) -> Vec<String> {
        let of = |event: &&Value| event["method"] == "Network.requestWillBeSent";
        let url = |event: &Value| {
            event["params"]["request"]["url"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        self.events.iter().filter(of).map(url).collect()
    }

    /// What of that left the page: not what its own policy refused.
    pub fn sent(&self) -> Vec<String> {
        let id = |event: &Value| event["params"]["requestId"].clone();
        let is_refused = |event: &&Value| event["params"]["blockedReason"] == "csp";
        let refused: Vec<Value> = self.events.iter().filter(is_refused).map(id).collect();
        let of = |event: &&Value| {
            event["method"] == "Network.requestWillBeSent" && !refused.contains(&id(event))
        };
        let url = |event: &Value| {
            event["params"]["request"]["url"]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        self.events.iter().filter(of).map(url).collect()
    }

    /// What the page complained of: errors, refused requests, anything on the console.
    pub fn complaints(&self) -> Vec<String> {
        let methods = [
            "Runtime.consoleAPICalled",
            "Runtime.exceptionThrown",
            "Log.entryAdded",
        ];
        let of = |event: &&Value| methods.iter().any(|method| event["method"] == *method);
        self.events
            .iter()
            .filter(of)
            .map(|event| event["params"].to_string())
            .collect()
    }

    #[allow(clippy::needless_pass_by_value)] // as json! makes it
    fn call(&mut self, method: &str, parameters: Value) -> anyhow::Result<Value> {
        self.next_id += 1;
        let mut message = json!({ "id": self.next_id, "method": method, "params": parameters });
        if !self.session.is_empty() {
            message["sessionId"] = self.session.clone().into();
        }
        let mut bytes = serde_json::to_vec(&message)?;
        bytes.push(0);
        self.to
            .write_all(&bytes)
            .context("failed to write to the browser")?;
        let begin = Instant::now();
        loop {
            let mut answer = self.hear(begin)?;
            if answer["id"] != self.next_id {
                self.events.push(answer);
            } else if let Some(error) = answer.get("error") {
                bail!("{method} failed: {error}");
            } else {
                return Ok(answer["result"].take());
            }
        }
    }

    fn hear(&mut self, begin: Instant) -> anyhow::Result<Value> {
        let left = LIMIT.saturating_sub(begin.elapsed());
        self.from
            .recv_timeout(left)
            .context("failed to hear from the browser in time")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The tests are over; a browser that is gone already is fine too.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Messages from the pipe, read by a thread so that waiting for one has a limit.
fn follow(from: File) -> Receiver<Value> {
    let (sender, receiver) = sync_channel(MESSAGES_MAX);
    std::thread::spawn(move || {
        let mut reader = BufReader::new(from);
        let mut bytes = Vec::new();
        while reader
            .read_until(0, &mut bytes)
            .is_ok_and(|count| count > 0)
        {
            bytes.pop();
            let Ok(message) = serde_json::from_slice(&bytes) else {
                return;
            };
            if sender.send(message).is_err() {
                return;
            }
            bytes.clear();
        }
    });
    receiver
}
