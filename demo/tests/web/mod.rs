//! The explorer as a program, and a client of a few lines: what the tests of pages have in common.

#![allow(dead_code, reason = "each of the test programs uses a part of it")]

pub(crate) mod load;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{LazyLock, mpsc};
use std::time::{Duration, Instant};

use mastaba_test::servers::Signal;
use tokio::runtime::{Builder, Runtime};

/// The longest that anything here may take.
const LIMIT: Duration = Duration::from_secs(60);

/// The demo with these arguments, not started yet.
pub(crate) fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_demo"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A running explorer, stopped when it is dropped.
pub(crate) struct Explorer {
    child: Option<Child>,
    /// `127.0.0.1:` and its port.
    pub(crate) host: String,
}

impl Explorer {
    /// Starts one on a free port, with more arguments.
    pub(crate) fn start(more: &[&str]) -> Self {
        let mut child = demo(&[&["serve", "--port", "0"], more].concat()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let (send, first) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            out.read_line(&mut line).unwrap();
            send.send(line).unwrap();
            // nobody wants the rest, but it has to go somewhere
            let mut rest = String::new();
            let _ = out.read_to_string(&mut rest);
        });
        let line = first.recv_timeout(LIMIT).expect("it says where it listens");
        let host = line.trim().strip_prefix("http://").and_then(|rest| rest.strip_suffix('/'));
        let Some(host) = host else {
            let told = child.wait_with_output().unwrap();
            panic!("it printed {line:?}: {}", String::from_utf8_lossy(&told.stderr));
        };
        Self { host: host.to_owned(), child: Some(child) }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// Sends it a signal, and waits for its end.
    pub(crate) fn signal(mut self, signal: Signal) -> Output {
        let child = self.child.take().unwrap();
        mastaba_test::servers::signal(child.id(), signal);
        ended(child)
    }

    /// What is at an address.
    pub(crate) fn get(&self, address: &str) -> Answer {
        self.send(&format!("GET {address} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.host))
    }

    /// The answer to a form.
    pub(crate) fn post(&self, address: &str, form: &str) -> Answer {
        self.post_with(address, "content-type: application/x-www-form-urlencoded\r\n", form.as_bytes())
    }

    /// The answer to a body with these headers.
    pub(crate) fn post_with(&self, address: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!(
            "POST {address} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n",
            self.host,
            body.len(),
        );
        self.send_bytes(&[head.as_bytes(), body].concat())
    }

    /// The answer to a request as it stands.
    pub(crate) fn send(&self, request: &str) -> Answer {
        self.send_bytes(request.as_bytes())
    }

    fn send_bytes(&self, request: &[u8]) -> Answer {
        let mut stream = connect(&self.host);
        // it may answer, and hang up, before it has read all of a body that is too large
        let _ = stream.write_all(request);
        read(&mut BufReader::new(stream))
    }
}

impl Drop for Explorer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Waits for the end of a program; kills it if that does not come.
pub(crate) fn ended(mut child: Child) -> Output {
    let began = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if began.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("it does not end: {:?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// A connection on which nothing takes for ever.
pub(crate) fn connect(host: &str) -> TcpStream {
    let stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Reads one answer, and leaves the connection as it is.
pub(crate) fn read(stream: &mut impl BufRead) -> Answer {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        let read = stream.read_line(&mut line).expect("an answer in time");
        if read == 0 || line == "\r\n" {
            break;
        }
        head.push_str(&line);
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no answer: {head:?}"));
    let length = value(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).expect("a body in time");
    Answer { status, head, body: String::from_utf8(body).unwrap() }
}

fn value<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        value(&self.head, name)
    }

    /// A page that is there.
    #[track_caller]
    pub(crate) fn page(self) -> String {
        assert_eq!(self.status, 200, "{}\n{}", self.head, self.body);
        assert!(self.body.starts_with("<!DOCTYPE html>") && self.body.ends_with("</html>"), "{}", self.body);
        self.body
    }

    /// A refusal of the caller, with a page that says why.
    #[track_caller]
    pub(crate) fn refused(&self, asked: &str) {
        assert!((400..500).contains(&self.status), "{asked}: {}", self.head);
        assert!(self.body.contains("<h1>") && self.body.contains("Crate explorer"), "{asked}: {}", self.body);
    }

    /// A page that says why there is no other for now.
    #[track_caller]
    pub(crate) fn unavailable(&self, why: &str) {
        assert_eq!(self.status, 503, "{}\n{}", self.head, self.body);
        assert!(
            self.body.ends_with("</html>") && self.body.contains(why),
            "{why} is missing in {}",
            self.body
        );
    }
}

/// A figure that a page shows of itself.
#[track_caller]
pub(crate) fn figure(page: &str, name: &str) -> f64 {
    let mark = format!("data-figure=\"{name}\">");
    let rest = page.split_once(&mark).unwrap_or_else(|| panic!("no figure {name} in {page}")).1;
    rest.split('<').next().unwrap().parse().unwrap()
}

/// A page once it costs no more than this. The cache is filled when the page that filled it has gone out.
#[track_caller]
pub(crate) fn warm(explorer: &Explorer, address: &str, statements: f64, trips: f64) -> String {
    let mut page = String::new();
    for _ in 0..100 {
        page = explorer.get(address).page();
        if figure(&page, "statements") <= statements && figure(&page, "trips") <= trips {
            return page;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("{address} never costs {statements} statements and {trips} trips: {page}");
}

/// Where the package of a name is.
#[track_caller]
pub(crate) fn package(explorer: &Explorer, name: &str) -> String {
    let page = explorer.get(&format!("/?q={name}")).page();
    let mark = format!("\">{name}</a>");
    let before = page.split_once(&mark).unwrap_or_else(|| panic!("no {name} in {page}")).0;
    before.rsplit_once("href=\"").unwrap().1.to_owned()
}

/// All links of a page that lead to a part of the explorer.
pub(crate) fn links(page: &str, to: &str) -> Vec<String> {
    let mark = format!("href=\"{to}");
    page.match_indices(&mark)
        .map(|(at, _)| page[at + "href=\"".len()..].split('"').next().unwrap().replace("&amp;", "&"))
        .collect()
}

/// Waits for what a server of the test does: these tests are programs that talk to programs, and do not run on tokio.
pub(crate) fn wait<T>(work: impl Future<Output = T>) -> T {
    // as long as the test program: it looks after the processes
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
    RUNTIME
        .block_on(async { tokio::time::timeout(LIMIT, work).await.expect("a server that answers in time") })
}

/// The words of the modes.
pub(crate) const MODES: [&str; 3] = ["naive", "dataloader", "mastaba"];

/// An address in a mode.
pub(crate) fn in_mode(address: &str, mode: &str) -> String {
    let joint = if address.contains('?') { '&' } else { '?' };
    format!("{address}{joint}mode={mode}")
}

/// A page without what it cost: that is what differs from mode to mode.
pub(crate) fn content(page: &str) -> String {
    let mut parts = page.split("<aside");
    let mut content = parts.next().unwrap().to_owned();
    parts.for_each(|part| content.push_str(part.split_once("</aside>").unwrap().1));
    MODES.iter().fold(content, |page, mode| {
        page.replace(&format!("?mode={mode}"), "")
            .replace(&format!("&amp;mode={mode}"), "")
            .replace(&format!("<input type=\"hidden\" name=\"mode\" value=\"{mode}\">"), "")
    })
}

/// One line that says what is wrong.
#[track_caller]
pub(crate) fn line(output: &Output, code: i32, word: &str) {
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{told}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.contains(word), "{word} is missing in {told}");
    assert!(output.stdout.is_empty());
}

/// The tiers of a `Server-Timing` header, and what it says of each; `None` where there is no such header.
#[track_caller]
pub(crate) fn timing(answer: &Answer) -> Option<Vec<(String, String)>> {
    let header = answer.header("server-timing")?;
    let token = |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase());
    let entry = |entry: &str| {
        let mut parts = entry.split(';');
        let name = parts.next().unwrap().to_owned();
        assert!(token(&name), "{header}");
        let mut said = String::new();
        for part in parts {
            match part.split_once('=') {
                Some(("dur", ms)) => assert!(ms.parse::<f64>().is_ok_and(|ms| ms >= 0.0), "{header}"),
                Some(("desc", text)) => {
                    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
                    said = text.unwrap_or_else(|| panic!("no string: {header}")).to_owned();
                }
                _ => panic!("{part} is no parameter: {header}"),
            }
        }
        (name, said)
    };
    Some(header.split(", ").map(entry).collect())
}
