//! The explorer in a browser, headless: what people see of it, on a phone and on a desk.
//!
//! Needs Chromium and its driver. Screenshots are kept in `artifacts/`, which is not in git.

#![cfg(unix)]

mod web;

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use mastaba_test::servers::{Program, missing};
use serde_json::{Value, json};

use self::web::{Answer, Explorer, connect, package, read};

/// A phone, a small one, and a desk: width, height, and how many pixels are one.
const PHONE: (u32, u32, u32) = (390, 844, 2);
const SMALL: (u32, u32, u32) = (360, 740, 2);
const DESK: (u32, u32, u32) = (1280, 900, 1);

/// A browser with one page, over its driver. Ends with it.
struct Browser {
    driver: Child,
    host: String,
    session: String,
    /// Where it keeps what it must not leave behind.
    _profile: tempfile::TempDir,
}

impl Browser {
    /// None, and a word about it, where there is no browser.
    fn start() -> Option<Self> {
        if missing(&[Program::Chromium, Program::Chromedriver]) {
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let mut driver = Command::new(Program::Chromedriver.find().expect("it was there before"))
            .arg("--port=0")
            .env("TMPDIR", profile.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let out = BufReader::new(driver.stdout.take().unwrap());
        let (send, port) = mpsc::channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some((_, port)) = line.split_once("started successfully on port ") {
                    let _ = send.send(port.trim_end_matches('.').to_owned());
                }
            }
        });
        let port = port.recv_timeout(Duration::from_secs(30)).expect("the driver says its port");
        let mut browser =
            Self { driver, host: format!("127.0.0.1:{port}"), session: String::new(), _profile: profile };
        let options = json!({
            "args": [
                "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars",
                "--disable-background-networking", "--disable-component-update", "--disable-sync",
                "--disable-dev-shm-usage",
                format!("--user-data-dir={}", browser._profile.path().join("profile").display()),
            ],
        });
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"},
        }}});
        let made = browser.call("POST", "/session", &wanted);
        browser.session = format!("/session/{}", made["sessionId"].as_str().unwrap());
        Some(browser)
    }

    fn call(&self, method: &str, address: &str, body: &Value) -> Value {
        let answer = self.send(method, address, body);
        let value: Value = serde_json::from_str(&answer.body).unwrap();
        assert_eq!(answer.status, 200, "{method} {address}: {value}");
        value["value"].clone()
    }

    fn send(&self, method: &str, address: &str, body: &Value) -> Answer {
        let (host, body) = (&self.host, if method == "POST" { body.to_string() } else { String::new() });
        let head = format!(
            "{method} {address} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len(),
        );
        let mut stream = connect(host);
        stream.write_all(head.as_bytes()).unwrap();
        read(&mut BufReader::new(stream))
    }

    fn post(&self, command: &str, body: &Value) -> Value {
        self.call("POST", &format!("{}/{command}", self.session), body)
    }

    fn open(&self, address: &str) {
        self.post("url", &json!({ "url": address }));
    }

    fn address(&self) -> String {
        self.call("GET", &format!("{}/url", self.session), &Value::Null).as_str().unwrap().to_owned()
    }

    /// What a piece of script comes to.
    fn asks(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": format!("return {script};"), "args": []}))
    }

    fn text(&self, selector: &str) -> String {
        let script = format!("document.querySelector({selector:?}).innerText");
        self.asks(&script).as_str().unwrap().to_owned()
    }

    fn find(&self, selector: &str) -> String {
        let found = self.post("element", &json!({"using": "css selector", "value": selector}));
        found.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned()
    }

    fn click(&self, selector: &str) {
        let element = self.find(selector);
        self.post(&format!("element/{element}/click"), &json!({}));
    }

    /// Clicks on what leads to another page, and waits until that is there: the click itself may come back before.
    fn follow(&self, selector: &str) {
        self.asks("window.before = true");
        self.click(selector);
        let script =
            json!({"script": "return !window.before && document.readyState === 'complete';", "args": []});
        let began = Instant::now();
        // between two pages there is none that could be asked
        let arrived = || {
            let answer = self.send("POST", &format!("{}/execute/sync", self.session), &script);
            answer.status == 200 && answer.body.contains("true")
        };
        while !arrived() {
            assert!(began.elapsed() < Duration::from_secs(10), "{selector} has led nowhere");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn types(&self, selector: &str, text: &str) {
        let element = self.find(selector);
        self.post(&format!("element/{element}/clear"), &json!({}));
        self.post(&format!("element/{element}/value"), &json!({ "text": text }));
    }

    fn devtools(&self, command: &str, params: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": params}))
    }

    fn screen(&self, (width, height, pixels): (u32, u32, u32)) {
        let mobile = width < 600;
        let params = json!({"width": width, "height": height, "deviceScaleFactor": pixels, "mobile": mobile});
        self.devtools("Emulation.setDeviceMetricsOverride", &params);
    }

    fn colours(&self, scheme: &str) {
        let params = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", &params);
    }

    /// Keeps a picture of the page, and sees that nothing is wider than the screen.
    fn picture(&self, name: &str) {
        let [wide, screen] = ["document.documentElement.scrollWidth", "document.documentElement.clientWidth"]
            .map(|script| self.asks(script).as_u64().unwrap());
        assert!(wide <= screen, "{name}: {wide} on a screen of {screen}");
        let taken = self.devtools("Page.captureScreenshot", &json!({"format": "png"}));
        let picture = decoded(taken["data"].as_str().unwrap());
        assert!(picture.starts_with(b"\x89PNG"));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../artifacts");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("explorer-{name}.png")), picture).unwrap();
    }

    /// What the page has complained of since the last time.
    fn complaints(&self) -> Vec<Value> {
        self.post("se/log", &json!({"type": "browser"})).as_array().unwrap().clone()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.send("DELETE", &self.session, &Value::Null);
        } else if !self.session.is_empty() {
            // a second panic would end everything; the browser ends with its session
            let (host, session) = (self.host.clone(), self.session.clone());
            let _ = std::panic::catch_unwind(move || {
                let mut stream = connect(&host);
                let request =
                    format!("DELETE {session} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
                let _ = stream.write_all(request.as_bytes());
                read(&mut BufReader::new(stream));
            });
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Bytes from base64.
fn decoded(text: &str) -> Vec<u8> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::with_capacity(text.len()));
    for six in text.bytes().filter_map(value) {
        bits = (bits << 6) | u32::from(six);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

#[test]
fn pages_the_switch_and_the_form_work_in_a_browser() {
    let Some(browser) = Browser::start() else { return };
    let explorer = Explorer::start(&[]);
    let at = format!("http://{}", explorer.host);
    let serde = package(&explorer, "serde");
    browser.screen(DESK);

    // from the list to a package, by search
    browser.open(&format!("{at}/"));
    assert!(browser.text("h1").ends_with("crates"));
    assert!(browser.asks("document.querySelectorAll('.card').length").as_u64().unwrap() > 10);
    browser.types("input[name=q]", "serde");
    browser.follow(".search button");
    assert!(browser.address().ends_with("/?q=serde"), "{}", browser.address());
    browser.follow(".card h3 a");
    assert_eq!(browser.address(), format!("{at}{serde}"));
    assert!(browser.text("h1").starts_with("serde "));

    // the switch shows what each way of reading costs
    let figure = || -> u64 { browser.text("[data-figure=statements]").parse().unwrap() };
    let mut costs = Vec::new();
    for mode in ["naive", "dataloader", "mastaba"] {
        browser.follow(&format!(".modes .{mode}"));
        assert_eq!(browser.text(".modes [aria-current]").to_lowercase(), mode);
        costs.push(figure());
    }
    assert!(costs[0] > costs[1] && costs[1] > costs[2] && costs[2] == 0, "{costs:?}");
    let widths = browser.asks(
        "[...document.querySelectorAll('.versus section:first-child .part')].map(bar => bar.getBoundingClientRect().width)",
    );
    let widths: Vec<f64> = widths.as_array().unwrap().iter().map(|width| width.as_f64().unwrap()).collect();
    assert!(
        widths.len() == 3 && widths[0] > widths[1] && widths[1] > widths[2] && widths[2] > 0.0,
        "{widths:?}"
    );

    // another page knows the package by its old words, and by its new ones once they are saved
    browser.open(&format!("{at}/?q=serde"));
    assert!(browser.text(".cards").contains("A generic serialization/deserialization framework"));
    browser.open(&format!("{at}{serde}"));
    browser.follow(".actions a");
    browser.types("#description", "Edited in a browser: <b>& more</b>");
    browser.types("#keywords", "browsers edits");
    browser.follow(".edit button");
    assert!(browser.address().contains("saved"), "{}", browser.address());
    assert!(browser.text(".saved").contains("Saved and published"));
    assert!(browser.text(".heading").contains("Edited in a browser: <b>& more</b>"));
    assert!(browser.text(".heading").contains("#browsers"));
    browser.open(&format!("{at}/?q=serde"));
    assert!(browser.text(".cards").contains("Edited in a browser: <b>& more</b>"));
    assert_eq!(browser.complaints(), Vec::<Value>::new());

    // a refusal is a page too; only it may complain, of its own status
    browser.open(&format!("{at}/nothing"));
    assert_eq!(browser.text("h1"), "Not Found");
    let complaints = browser.complaints();
    assert!(
        complaints.iter().all(|said| said["message"].as_str().unwrap().contains("404")),
        "{complaints:?}"
    );
}

#[test]
fn pages_fit_a_phone_and_a_desk_in_light_and_dark() {
    let Some(browser) = Browser::start() else { return };
    let explorer = Explorer::start(&[]);
    let at = format!("http://{}", explorer.host);
    let (serde, demo) = (package(&explorer, "serde"), package(&explorer, "demo"));
    let author = web::links(&explorer.get(&serde).page(), "/authors/").remove(1);
    let license = web::links(&explorer.get(&serde).page(), "/licences/").remove(0);
    for mode in ["naive", "dataloader", "mastaba"] {
        for address in ["/", &serde, &demo] {
            explorer.get(&format!("{address}?mode={mode}")).page();
        }
    }
    let pages = [
        ("list", "/".to_owned()),
        ("search", "/?q=to&mode=dataloader".to_owned()),
        ("package", serde.clone()),
        ("package-naive", format!("{demo}?mode=naive")),
        ("edit", format!("{serde}/edit")),
        ("author", author.clone()),
        ("author-edit", format!("{author}/edit")),
        ("license", license),
        ("refusal", "/nothing".to_owned()),
    ];
    for (screen, name) in [(PHONE, "phone"), (SMALL, "small"), (DESK, "desk")] {
        browser.screen(screen);
        for colours in ["light", "dark"] {
            browser.colours(colours);
            let mut papers = Vec::new();
            for (page, address) in &pages {
                browser.open(&format!("{at}{address}"));
                browser.picture(&format!("{page}-{name}-{colours}"));
                papers.push(browser.asks("getComputedStyle(document.body).backgroundColor"));
            }
            // the report stands at the foot of a page, and is opened by whoever wants to know
            browser.open(&format!("{at}{demo}"));
            browser.click(".report summary");
            browser.asks("document.querySelector('.report').scrollIntoView()");
            assert!(
                browser.text(".report pre").contains(" trips (")
                    && browser.text(".report p").contains("naively")
            );
            browser.picture(&format!("report-{name}-{colours}"));
            let dark = papers.iter().all(|paper| paper == "rgb(22, 19, 15)");
            assert_eq!(dark, colours == "dark", "{papers:?}");
        }
    }
    let said = browser.complaints();
    assert!(said.iter().all(|said| said["message"].as_str().unwrap().contains("/nothing")), "{said:?}");
}
