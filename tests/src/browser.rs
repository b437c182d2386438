//! A headless Chromium, driven through chromedriver, and the dashboard that it opens. Elements are
//! found as assistive technology finds them: by their role and accessible name.

use crate::process::{Supervised, tail};
use anyhow::{Context, Result, bail, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use control_plane::BrowserTools;
use http::{Method, Request};
use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::time::sleep;

/// The timeout of each step.
const PATIENCE: Duration = Duration::from_secs(180);
/// How often a condition is checked.
const PAUSE: Duration = Duration::from_millis(20);
/// The key of an element in WebDriver's JSON.
const ELEMENT: &str = "element-6066-11e4-a52e-4f735466cecf";
/// The maximum number of stops of the Tab key on a page.
const STOPS: usize = 100;

/// The keys that tests press.
pub mod keys {
    /// Moves the focus forward.
    pub const TAB: &str = "\u{e004}";
    /// Activates a link or a button.
    pub const ENTER: &str = "\u{e007}";
    /// Closes a dialog.
    pub const ESCAPE: &str = "\u{e00c}";
}

/// How a page is shown.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// The width in CSS pixels.
    pub width: u32,
    /// The height in CSS pixels.
    pub height: u32,
    /// Whether the user prefers a dark color scheme.
    pub dark: bool,
}

/// A browser with one page.
pub struct Browser {
    client: Client<HttpConnector, Full<Bytes>>,
    /// The URL of the WebDriver session.
    session: String,
    // In this order, so that the programs are killed before their folder is removed.
    _driver: Supervised,
    _folder: TempDir,
}

/// An element of the page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Element(String);

impl Browser {
    /// Starts chromedriver and Chromium, with an empty profile.
    ///
    /// # Errors
    /// Returns an error if either does not start.
    pub async fn start(tools: &BrowserTools) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("chromedriver.log");
        let mut command = Command::new(&tools.chromedriver);
        command.arg("--port=0").env("HOME", folder.path());
        let driver = Supervised::spawn(command, &log)?;
        let started = "started successfully on port ";
        let line = until_logged(&driver, &log, started).await?;
        let port = line.split(started).nth(1).unwrap_or_default();
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        let mut browser = Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            session: format!("http://127.0.0.1:{port}"),
            _driver: driver,
            _folder: folder,
        };
        let profile = browser._folder.path().join("profile");
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            // Colored edges of letters would double the size of a picture.
            "--disable-lcd-text",
            &format!("--user-data-dir={}", profile.display()),
        ];
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "binary": tools.chromium, "args": arguments },
        } } });
        let answer = browser.post("/session", &capabilities).await?;
        let id = answer["sessionId"].as_str().context("no session")?;
        browser.session = format!("{}/session/{id}", browser.session);
        Ok(browser)
    }

    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value> {
        let content = if method == Method::POST {
            body.to_string()
        } else {
            String::new()
        };
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.session))
            .header("content-type", "application/json")
            .body(Full::from(content))?;
        let exchange = async {
            let response = self.client.request(request).await?;
            anyhow::Ok(response.into_body().collect().await?.to_bytes())
        };
        let body = tokio::time::timeout(PATIENCE, exchange).await;
        let body = body.with_context(|| format!("{path}: chromedriver does not respond"))??;
        let mut answer: Value = serde_json::from_slice(&body)?;
        if let Some(error) = answer["value"]["error"].as_str() {
            let message = answer["value"]["message"].as_str().unwrap_or_default();
            bail!(
                "{path}: {error}: {}",
                message.lines().next().unwrap_or_default()
            );
        }
        Ok(answer["value"].take())
    }

    async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::POST, path, body).await
    }

    async fn get(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, &Value::Null).await
    }

    /// Sends a command of the Chrome DevTools Protocol.
    async fn devtools(&self, command: &str, params: Value) -> Result<Value> {
        let body = json!({ "cmd": command, "params": params });
        self.post("/goog/cdp/execute", &body).await
    }

    /// Loads a page.
    ///
    /// # Errors
    /// Returns an error if the page cannot be loaded.
    pub async fn open(&self, url: &str) -> Result<()> {
        self.post("/url", &json!({ "url": url })).await?;
        Ok(())
    }

    /// Changes the size and the color scheme of the screen.
    ///
    /// # Errors
    /// Returns an error if Chromium rejects it.
    pub async fn show_on(&self, screen: Screen) -> Result<()> {
        let size = json!({
            "width": screen.width, "height": screen.height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await?;
        let scheme = if screen.dark { "dark" } else { "light" };
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await?;
        Ok(())
    }

    /// Returns the page as PNG.
    ///
    /// # Errors
    /// Returns an error if Chromium takes no screenshot.
    pub async fn screenshot(&self) -> Result<Vec<u8>> {
        let image = self.get("/screenshot").await?;
        Ok(STANDARD.decode(image.as_str().context("no image")?)?)
    }

    /// Runs the body of a function in the page, and returns its result.
    ///
    /// # Errors
    /// Returns an error if the script throws.
    pub async fn script(&self, body: &str) -> Result<Value> {
        self.post("/execute/sync", &json!({ "script": body, "args": [] }))
            .await
    }

    /// Waits until an expression of the page is true.
    ///
    /// # Errors
    /// Returns an error if it does not become true.
    pub async fn until(&self, expression: &str) -> Result<()> {
        let start = Instant::now();
        loop {
            let value = self
                .script(&format!("return Boolean({expression})"))
                .await?;
            if value == true {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                let text = self.script("return document.body.innerText").await?;
                bail!("timed out waiting until {expression}; the page is:\n{text:#}");
            }
            sleep(PAUSE).await;
        }
    }

    /// Returns what the browser has logged since the last call, such as violations of the policy.
    ///
    /// # Errors
    /// Returns an error if chromedriver has no log.
    pub async fn log(&self) -> Result<Vec<String>> {
        let entries = self.post("/se/log", &json!({ "type": "browser" })).await?;
        let entries = entries.as_array().cloned().unwrap_or_default();
        let messages = entries.iter().filter_map(|entry| entry["message"].as_str());
        Ok(messages.map(str::to_owned).collect())
    }

    /// Returns the element with a role and an accessible name, if the page has it now.
    async fn locate(&self, role: &str, name: &str) -> Result<Option<Element>> {
        let selector = match role {
            "link" => "a[href]",
            "heading" => "h1, h2, h3, h4",
            "textbox" | "searchbox" => "input",
            other => other,
        };
        let query = json!({ "using": "css selector", "value": selector });
        let found = self.post("/elements", &query).await?;
        for element in found.as_array().into_iter().flatten() {
            let id = element[ELEMENT].as_str().context("no element")?;
            // The page may have removed it meanwhile.
            let Ok(label) = self.get(&format!("/element/{id}/computedlabel")).await else {
                continue;
            };
            if label != name {
                continue;
            }
            let actual = self.get(&format!("/element/{id}/computedrole")).await?;
            if actual == role {
                return Ok(Some(Element(id.to_owned())));
            }
        }
        Ok(None)
    }

    /// Waits for the element with a role and an accessible name.
    ///
    /// # Errors
    /// Returns an error if it does not appear.
    pub async fn find(&self, role: &str, name: &str) -> Result<Element> {
        let start = Instant::now();
        loop {
            if let Some(element) = self.locate(role, name).await? {
                return Ok(element);
            }
            if start.elapsed() > PATIENCE {
                let text = self.script("return document.body.innerText").await?;
                bail!("there is no {role} {name:?}; the page is:\n{text:#}");
            }
            sleep(PAUSE).await;
        }
    }

    /// Waits until no element has this role and accessible name.
    ///
    /// # Errors
    /// Returns an error if it does not disappear.
    pub async fn until_gone(&self, role: &str, name: &str) -> Result<()> {
        let start = Instant::now();
        while self.locate(role, name).await?.is_some() {
            ensure!(
                start.elapsed() < PATIENCE,
                "there is still a {role} {name:?}"
            );
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// Returns the role and the accessible name of the element that has the focus.
    ///
    /// # Errors
    /// Returns an error if no element has it.
    pub async fn focused(&self) -> Result<(String, String)> {
        let Element(id) = self.active().await?;
        let mut parts = Vec::new();
        for part in ["computedrole", "computedlabel"] {
            let value = self.get(&format!("/element/{id}/{part}")).await?;
            parts.push(value.as_str().unwrap_or_default().to_owned());
        }
        let name = parts.pop().unwrap_or_default();
        Ok((parts.pop().unwrap_or_default(), name))
    }

    async fn active(&self) -> Result<Element> {
        let element = self.get("/element/active").await?;
        let id = element[ELEMENT].as_str().context("nothing has the focus")?;
        Ok(Element(id.to_owned()))
    }

    /// Presses keys, or types text, in the element that has the focus.
    ///
    /// # Errors
    /// Returns an error if the element does not accept keys.
    pub async fn press(&self, keys: &str) -> Result<()> {
        let actions = keys.chars().flat_map(|key| {
            ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": key.to_string() }))
        });
        let actions: Vec<Value> = actions.collect();
        let keyboard = json!([{ "type": "key", "id": "keyboard", "actions": actions }]);
        self.post("/actions", &json!({ "actions": keyboard }))
            .await?;
        Ok(())
    }

    /// Moves the focus with the Tab key to the element with a role and an accessible name.
    ///
    /// # Errors
    /// Returns an error if the Tab key does not reach it.
    pub async fn tab_to(&self, role: &str, name: &str) -> Result<()> {
        let mut passed = Vec::new();
        for _ in 0..STOPS {
            self.press(keys::TAB).await?;
            let focused = self.focused().await?;
            if (focused.0.as_str(), focused.1.as_str()) == (role, name) {
                return Ok(());
            }
            passed.push(focused);
        }
        bail!("the Tab key does not reach {role} {name:?}, but {passed:?}")
    }
}

/// Waits for a line in the log of a program.
async fn until_logged(program: &Supervised, log: &Path, words: &str) -> Result<String> {
    let start = Instant::now();
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        // A line may not be complete yet.
        let mut lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        if let Some(line) = lines.find(|line| line.contains(words)) {
            return Ok(line.trim().to_owned());
        }
        if !program.is_running() || start.elapsed() > PATIENCE {
            bail!("not logged: {words}\n{}", tail(log, 20));
        }
        sleep(PAUSE).await;
    }
}

/// A running `kubectl-oaat dashboard`. Dropping it kills the process.
pub struct Dashboard {
    /// The URL with the token.
    pub url: String,
    /// The process.
    pub process: Supervised,
    _folder: TempDir,
}

impl Dashboard {
    /// Starts the dashboard with these arguments, and waits until it prints its URL.
    ///
    /// # Errors
    /// Returns an error if it does not start.
    pub async fn start(command_line: &Path, kubeconfig: &Path, args: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let log = folder.path().join("dashboard.log");
        let mut command = Command::new(command_line);
        command
            .arg("dashboard")
            .args(args)
            .arg("--kubeconfig")
            .arg(kubeconfig);
        let process = Supervised::spawn(command, &log)?;
        let line = until_logged(&process, &log, "http://").await?;
        let url = line
            .split_whitespace()
            .find(|word| word.starts_with("http://"));
        Ok(Self {
            url: url.context("no URL")?.to_owned(),
            process,
            _folder: folder,
        })
    }
}
