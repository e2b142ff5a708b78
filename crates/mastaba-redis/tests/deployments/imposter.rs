//! A server that says that it is another one: alone with nothing behind it, or in front of a real one.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The same as `SET .. IFEQ`, for servers that do not have it.
const COMPARE: &str = "if redis.call('GET', KEYS[1]) == ARGV[1] then
  return redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return false";

/// What several servers behind one address say to a script for keys of more than one of them.
const CROSSED: &str = "return redis.error_reply('CROSSSLOT Keys in request do not hash to the same slot')";

/// What servers say to what they do not know of a command.
const UNKNOWN: &str = "return redis.error_reply('ERR syntax error')";

/// What one in front of a real server is different in. What the real one is does not matter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pose {
    /// It is Valkey 8.1, and has `SET .. IFEQ`.
    Compares,
    /// It only says so.
    Boasts,
    /// It is Redis 7.0, and has no `SET .. IFEQ`.
    Older,
    /// The same, with several servers behind it.
    Splits,
}

impl Pose {
    /// Its line in `INFO`.
    fn version(self) -> &'static str {
        match self {
            Self::Compares | Self::Boasts => "valkey_version:8.1.0",
            Self::Older | Self::Splits => "redis_version:7.0.15",
        }
    }
}

/// It ends with this value.
pub(super) struct Imposter {
    addr: SocketAddr,
    seen: Arc<Seen>,
    door: JoinHandle<()>,
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
        Self::before(server, if boasting { Pose::Boasts } else { Pose::Compares }).await
    }

    /// In front of a real server: says that it is Redis 7.0, and has no `SET .. IFEQ`.
    pub(super) async fn older(server: SocketAddr) -> Self {
        Self::before(server, Pose::Older).await
    }

    /// In front of a real server: says that it is Redis 7.0, and refuses scripts for more than one key, as if they lay on several servers.
    pub(super) async fn split(server: SocketAddr) -> Self {
        Self::before(server, Pose::Splits).await
    }

    async fn before(server: SocketAddr, pose: Pose) -> Self {
        Self::accept(move |client, seen| async move {
            let server = TcpStream::connect(server).await.ok()?;
            server.set_nodelay(true).ok()?;
            let (from_client, mut to_client) = client.into_split();
            let (from_server, mut to_server) = server.into_split();
            // whether each answer that is to come is one to INFO
            let (asked, mut asking) = mpsc::unbounded_channel();
            let back = tokio::spawn(async move {
                let mut from = BufReader::new(from_server);
                while let Some(mut answer) = value(&mut from).await {
                    // a push answers nothing
                    if answer[0] != b'>' && asking.recv().await? {
                        answer = posed(&answer, pose.version());
                    }
                    to_client.write_all(&answer).await.ok()?;
                }
                Some(())
            });
            let mut from = BufReader::new(from_client);
            while let Some(mut words) = command(&mut from).await {
                let name = words[0].to_ascii_uppercase();
                if name == b"SET" && words.get(3).is_some_and(|word| word == b"IFEQ") {
                    seen.compared.fetch_add(1, Ordering::AcqRel);
                    if pose == Pose::Compares {
                        let [_, key, new, _, old, _, ttl] = <[Vec<u8>; 7]>::try_from(words).ok()?;
                        words = vec![b"EVAL".into(), COMPARE.into(), b"1".into(), key, old, new, ttl];
                    } else {
                        words = vec![b"EVAL".into(), UNKNOWN.into(), b"0".into()];
                    }
                } else if name == b"EVALSHA" && words.len() >= 8 && words.len() % 4 == 0 {
                    seen.scripted.fetch_add(1, Ordering::AcqRel);
                }
                let scripted = matches!(&name[..], b"EVALSHA" | b"EVAL");
                if pose == Pose::Splits && scripted && words[2] != b"1" && words[2] != b"0" {
                    words = vec![b"EVAL".into(), CROSSED.into(), b"0".into()];
                }
                asked.send(name == b"INFO").ok()?;
                to_server.write_all(&packed(&words)).await.ok()?;
            }
            back.abort();
            None
        })
        .await
    }

    async fn accept<F>(serve: impl Fn(TcpStream, Arc<Seen>) -> F + Send + 'static) -> Self
    where
        F: Future<Output = Option<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (addr, seen) = (listener.local_addr().unwrap(), Arc::new(Seen::default()));
        let told = seen.clone();
        let door = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let _ = client.set_nodelay(true);
                tokio::spawn(serve(client, told.clone()));
            }
        });
        Self { addr, seen, door }
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

/// The answer to `INFO` of one that has this line in place of what the real one says of its version.
fn posed(answer: &[u8], version: &str) -> Vec<u8> {
    let text = String::from_utf8_lossy(answer);
    let (_, info) = text.split_once("\r\n").unwrap_or_default();
    let info = info.trim_end_matches("\r\n").trim_start_matches("txt:");
    let own = |line: &&str| line.starts_with("redis_version:") || line.starts_with("valkey_version:");
    let kept: Vec<&str> = [version].into_iter().chain(info.split("\r\n").filter(|line| !own(line))).collect();
    let info = kept.join("\r\n");
    format!("${}\r\n{info}\r\n", info.len()).into_bytes()
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
