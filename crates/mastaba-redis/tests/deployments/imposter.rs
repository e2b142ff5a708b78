//! A server that says that it is another one: alone with nothing behind it, or in front of a real one.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// The same as `SET .. IFEQ`, for servers that do not have it.
const COMPARE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('SET', KEYS[1], ARGV[2], unpack(ARGV, 3))
end
return false";

/// An error of its own.
const REFUSE: &str = "return redis.error_reply(ARGV[1])";

/// What several servers behind one address say to a script for keys of more than one of them.
const CROSSED: &str = "return redis.error_reply('CROSSSLOT Keys in request do not hash to the same slot')";

/// What one in front of a real server is different in: it says that it is Redis 7.0, without `SET .. IFEQ`, whatever the real
/// one is.
#[derive(Clone, Default)]
pub(super) struct Pose {
    /// It says that it is Valkey 8.1, which has `SET .. IFEQ`, and has it, or only says so.
    ifeq: Option<bool>,
    /// It has several servers behind it.
    splits: bool,
    /// Lines of `INFO` that it leaves out.
    hides: &'static [&'static str],
    /// Commands that it says it does not know, by their name or by what they begin with.
    forbids: &'static [&'static str],
}

impl Pose {
    pub(super) fn compares(self) -> Self {
        Self { ifeq: Some(true), ..self }
    }

    pub(super) fn hides(self, hides: &'static [&'static str]) -> Self {
        Self { hides, ..self }
    }

    pub(super) fn forbids(self, forbids: &'static [&'static str]) -> Self {
        Self { forbids, ..self }
    }

    /// What is sent to the server in the place of a command.
    fn posed(&self, mut words: Vec<Vec<u8>>) -> Vec<Vec<u8>> {
        let name = String::from_utf8_lossy(&words[0]).to_ascii_uppercase();
        let begin =
            words.iter().take(4).map(|word| String::from_utf8_lossy(word)).collect::<Vec<_>>().join(" ");
        if self.forbids.iter().any(|it| *it == name || it.contains(' ') && begin.starts_with(it)) {
            let said = format!("ERR unknown command '{name}', with args beginning with:");
            return vec![b"EVAL".into(), REFUSE.into(), b"0".into(), said.into_bytes()];
        }
        if is_ifeq(&words) && self.ifeq != Some(true) {
            return vec![b"EVAL".into(), REFUSE.into(), b"0".into(), b"ERR syntax error".into()];
        }
        if is_ifeq(&words) {
            let (rest, old) = (words.split_off(5), words.pop().unwrap_or_default());
            let (new, key) = (words.remove(2), words.remove(1));
            words = vec![b"EVAL".into(), COMPARE.into(), b"1".into(), key, old, new];
            words.extend(rest);
        } else if self.splits
            && matches!(name.as_str(), "EVALSHA" | "EVAL")
            && words[2] != b"1"
            && words[2] != b"0"
        {
            words = vec![b"EVAL".into(), CROSSED.into(), b"0".into()];
        }
        words
    }

    /// What is answered to `INFO`.
    fn info(&self, answer: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(answer);
        let told = text.split_once("\r\n").filter(|(head, _)| !head.starts_with('-'));
        let Some((_, info)) = told else { return answer.to_vec() };
        let is_shown = |line: &&str| !self.hides.iter().any(|name| line.split(':').next() == Some(*name));
        let info = info.trim_end_matches("\r\n").trim_start_matches("txt:");
        let version = if self.ifeq.is_some() { "valkey_version:8.1.0" } else { "redis_version:7.0.15" };
        let own = |line: &&str| line.starts_with("redis_version:") || line.starts_with("valkey_version:");
        let kept = info.split("\r\n").filter(|line| !own(line));
        let lines: Vec<_> = [version].into_iter().chain(kept).filter(is_shown).collect();
        let info = lines.join("\r\n");
        format!("${}\r\n{info}\r\n", info.len()).into_bytes()
    }
}

fn is_ifeq(words: &[Vec<u8>]) -> bool {
    words[0].eq_ignore_ascii_case(b"SET") && words.len() >= 5 && words[3] == b"IFEQ"
}

/// It ends with this value.
pub(super) struct Imposter {
    addr: SocketAddr,
    seen: Arc<Seen>,
    door: JoinHandle<()>,
    served: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

/// What was asked of it.
#[derive(Default)]
pub(super) struct Seen {
    /// Calls of `SET .. IFEQ`.
    pub(super) compared: AtomicUsize,
    /// Calls of the script that fills: the only one whose words are a multiple of four and more than four.
    pub(super) scripted: AtomicUsize,
}

impl Imposter {
    /// Knows `HELLO` and `INFO`, and agrees to everything else.
    pub(super) async fn alone(version: &str) -> Self {
        let info =
            format!("{version}\r\nrun_id:a\r\nmaster_replid:b\r\nrole:master\r\ncluster_enabled:0\r\n");
        Self::answer(move |words| match &words[0].to_ascii_uppercase()[..] {
            b"HELLO" => "%1\r\n+proto\r\n:3\r\n".to_owned(),
            b"INFO" => format!("${}\r\n{info}\r\n", info.len()),
            _ => "+OK\r\n".to_owned(),
        })
        .await
    }

    /// Refuses everything and repeats it, as some proxies do.
    pub(super) async fn echo() -> Self {
        Self::answer(|words| {
            let words: Vec<_> = words.iter().map(|word| String::from_utf8_lossy(word)).collect();
            format!("-ERR unknown command '{}'\r\n", words.join("', '"))
        })
        .await
    }

    async fn answer(answer: impl Fn(&[Vec<u8>]) -> String + Clone + Send + 'static) -> Self {
        Self::accept(move |client, _| {
            let answer = answer.clone();
            async move {
                let (read, mut write) = client.into_split();
                let mut read = BufReader::new(read);
                while let Some(words) = command(&mut read).await {
                    write.write_all(answer(&words).as_bytes()).await.ok()?;
                }
                None
            }
        })
        .await
    }

    /// In front of a real server: says that it is Valkey 8.1, and carries out `SET .. IFEQ` for it unless it is only
    /// boasting.
    pub(super) async fn valkey(server: SocketAddr, boasting: bool) -> Self {
        Self::before(server, Pose { ifeq: Some(!boasting), ..Pose::default() }).await
    }

    /// In front of a real server: says that it is Redis 7.0, and has no `SET .. IFEQ`.
    pub(super) async fn older(server: SocketAddr) -> Self {
        Self::before(server, Pose::default()).await
    }

    /// In front of a real server: refuses scripts for more than one key, as if they lay on several servers.
    pub(super) async fn split(server: SocketAddr) -> Self {
        Self::before(server, Pose { splits: true, ..Pose::default() }).await
    }

    /// In front of a real server, which it is in all but its pose.
    pub(super) async fn before(server: SocketAddr, pose: Pose) -> Self {
        Self::accept(move |client, seen| {
            let pose = pose.clone();
            async move {
                let server = TcpStream::connect(server).await.ok()?;
                server.set_nodelay(true).ok()?;
                let (from_client, mut to_client) = client.into_split();
                let (from_server, mut to_server) = server.into_split();
                // whether each answer that is to come is one to INFO
                let (asked, mut asking) = mpsc::unbounded_channel();
                let back_pose = pose.clone();
                let back = tokio::spawn(async move {
                    let mut from = BufReader::new(from_server);
                    while let Some(mut answer) = value(&mut from).await {
                        // a push answers nothing
                        if answer[0] != b'>' && asking.recv().await? {
                            answer = back_pose.info(&answer);
                        }
                        to_client.write_all(&answer).await.ok()?;
                    }
                    Some(())
                });
                let mut from = BufReader::new(from_client);
                while let Some(words) = command(&mut from).await {
                    if is_ifeq(&words) {
                        seen.compared.fetch_add(1, Ordering::AcqRel);
                    } else if words[0] == b"EVALSHA" && words.len() >= 8 && words.len() % 4 == 0 {
                        seen.scripted.fetch_add(1, Ordering::AcqRel);
                    }
                    asked.send(words[0].eq_ignore_ascii_case(b"INFO")).ok()?;
                    to_server.write_all(&packed(&pose.posed(words))).await.ok()?;
                }
                back.abort();
                None
            }
        })
        .await
    }

    /// In front of whichever server the address says just now. The connection to it is another one then, and that to the client
    /// stays: a proxy that hides a failover. One command at a time, and no notifications.
    pub(super) async fn hiding(servers: watch::Receiver<SocketAddr>, pose: Pose) -> Self {
        Self::accept(move |client, _| {
            let (pose, mut servers) = (pose.clone(), servers.clone());
            async move {
                let (from_client, mut to_client) = client.into_split();
                let mut from = BufReader::new(from_client);
                let mut server: Option<(BufReader<OwnedReadHalf>, OwnedWriteHalf)> = None;
                while let Some(words) = command(&mut from).await {
                    if servers.has_changed().ok()? {
                        server = None;
                    }
                    if server.is_none() {
                        let address = *servers.borrow_and_update();
                        let (read, mut write) = TcpStream::connect(address).await.ok()?.into_split();
                        let mut read = BufReader::new(read);
                        write.write_all(&packed(&[b"HELLO".into(), b"3".into()])).await.ok()?;
                        value(&mut read).await?;
                        server = Some((read, write));
                    }
                    let (from_server, to_server) = server.as_mut()?;
                    let is_info = words[0].eq_ignore_ascii_case(b"INFO");
                    to_server.write_all(&packed(&pose.posed(words))).await.ok()?;
                    let answer = value(from_server).await?;
                    to_client.write_all(&if is_info { pose.info(&answer) } else { answer }).await.ok()?;
                }
                None
            }
        })
        .await
    }

    async fn accept<F>(serve: impl Fn(TcpStream, Arc<Seen>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Option<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, seen) = (listener.local_addr().unwrap(), Arc::new(Seen::default()));
        let (told, served) = (seen.clone(), Arc::<Mutex<Vec<JoinHandle<()>>>>::default());
        let serving = served.clone();
        let door = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let _ = client.set_nodelay(true);
                let work = serve(client, told.clone());
                serving.lock().unwrap().push(tokio::spawn(async move {
                    work.await;
                }));
            }
        });
        Self { addr, seen, door, served }
    }

    /// Ends every connection to a client.
    pub(super) fn cut(&self) {
        self.served.lock().unwrap().drain(..).for_each(|work| work.abort());
    }

    pub(super) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(super) fn compared(&self) -> usize {
        self.seen.compared.load(Ordering::Acquire)
    }

    pub(super) fn scripted(&self) -> usize {
        self.seen.scripted.load(Ordering::Acquire)
    }
}

impl Drop for Imposter {
    fn drop(&mut self) {
        self.door.abort();
    }
}

fn packed(words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        bytes.extend_from_slice(word);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes
}

/// The next command of a client.
async fn command(from: &mut BufReader<OwnedReadHalf>) -> Option<Vec<Vec<u8>>> {
    let mut line = String::new();
    from.read_line(&mut line).await.ok()?;
    let count: usize = line.strip_prefix('*')?.trim().parse().ok()?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let word = value(from).await?;
        let start = word.windows(2).position(|two| two == b"\r\n")? + 2;
        words.push(word[start..word.len() - 2].to_vec());
    }
    Some(words)
}

/// The next value of the protocol, with all that is in it, as it came.
fn value<R: AsyncBufRead + Send + Unpin>(
    from: &mut R,
) -> Pin<Box<dyn Future<Output = Option<Vec<u8>>> + Send + '_>> {
    Box::pin(async move {
        let mut all = Vec::new();
        from.read_until(b'\n', &mut all).await.ok()?;
        let kind = *all.first()?;
        let number = || std::str::from_utf8(&all[1..]).ok()?.trim().parse::<usize>().ok();
        match kind {
            b'$' | b'=' | b'!' => {
                if let Some(length) = number() {
                    let begin = all.len();
                    all.resize(begin + length + 2, 0);
                    from.read_exact(&mut all[begin..]).await.ok()?;
                }
            }
            b'*' | b'~' | b'>' | b'%' => {
                let parts = number().unwrap_or(0) * if kind == b'%' { 2 } else { 1 };
                for _ in 0..parts {
                    all.extend(value(from).await?);
                }
            }
            _ => {}
        }
        Some(all)
    })
}
