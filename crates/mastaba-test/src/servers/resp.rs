//! As much of the protocol of Redis as a test needs to look at a server without the client that it tests.

use std::fmt;
use std::io::{Error, ErrorKind, Result};
use std::path::Path;
use std::pin::Pin;

use tokio::io::{
    AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufStream,
};
use tokio::net::{TcpStream, ToSocketAddrs, UnixStream};

/// What a server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// A word such as `OK`.
    Word(String),
    /// A refusal such as `MOVED 1 127.0.0.1:7000`, without its dash.
    Refusal(String),
    /// A number.
    Number(i64),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Several.
    List(Vec<Self>),
    /// Nothing there.
    Nil,
}

impl Reply {
    /// The parts of a list; none for anything else.
    pub fn list(&self) -> &[Self] {
        match self {
            Self::List(parts) => parts,
            _ => &[],
        }
    }
}

/// Text without decoration: a list has one line per part, and nil is empty.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(text) | Self::Refusal(text) => f.write_str(text),
            Self::Number(number) => write!(f, "{number}"),
            Self::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Self::List(parts) => {
                for (index, part) in parts.iter().enumerate() {
                    write!(f, "{}{part}", if index == 0 { "" } else { "\n" })?;
                }
                Ok(())
            }
            Self::Nil => Ok(()),
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// One connection, to a server or to a [`Proxy`](crate::proxy::Proxy) in front of it.
///
/// Nothing here has a limit of time: a test that expects silence puts one around it. An answer whose future was
/// dropped leaves the connection in the middle of it, so it must not be used again.
///
/// ```
/// use mastaba_test::servers::{RedisServer, resp::{Connection, Reply}};
///
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let Some(server) = RedisServer::start().await else { return };
/// let mut connection = Connection::open(server.addr()).await.unwrap();
/// assert_eq!(connection.call(&["PING"]).await.unwrap(), Reply::Word("PONG".into()));
/// # });
/// ```
pub struct Connection(BufStream<Box<dyn Stream>>);

impl Connection {
    /// Connects over TCP.
    pub async fn open(addr: impl ToSocketAddrs) -> Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self(BufStream::new(Box::new(stream))))
    }

    /// Connects to the socket at this path.
    pub async fn open_socket(path: impl AsRef<Path>) -> Result<Self> {
        Ok(Self(BufStream::new(Box::new(UnixStream::connect(path).await?))))
    }

    /// Sends a command and waits for its answer: one trip. A refusal is an answer; only a broken connection is an
    /// error.
    pub async fn call<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Result<Reply> {
        self.send(command).await?;
        self.receive().await
    }

    /// Sends a command.
    pub async fn send<A: AsRef<[u8]>>(&mut self, command: &[A]) -> Result<()> {
        let mut bytes = format!("*{}\r\n", command.len()).into_bytes();
        for word in command {
            let word = word.as_ref();
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
        self.0.write_all(&bytes).await?;
        self.0.flush().await
    }

    /// Waits for the next answer, or for a message that the server sends by itself.
    pub async fn receive(&mut self) -> Result<Reply> {
        read(&mut self.0).await
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection").finish_non_exhaustive()
    }
}

type Reading<'a> = Pin<Box<dyn Future<Output = Result<Reply>> + Send + 'a>>;

fn read<R: AsyncBufRead + Send + Unpin>(from: &mut R) -> Reading<'_> {
    Box::pin(async move {
        let mut line = String::new();
        from.read_line(&mut line).await?;
        let Some(line) = line.strip_suffix("\r\n") else { return Err(ErrorKind::UnexpectedEof.into()) };
        let odd = || Error::new(ErrorKind::InvalidData, format!("no reply starts with {line:?}"));
        let (kind, rest) = line.split_at_checked(1).ok_or_else(odd)?;
        let number = || rest.parse::<i64>().map_err(|_| odd());
        Ok(match kind {
            "+" => Reply::Word(rest.to_owned()),
            "-" => Reply::Refusal(rest.to_owned()),
            ":" => Reply::Number(number()?),
            "_" => Reply::Nil,
            "$" => match usize::try_from(number()?) {
                Err(_) => Reply::Nil,
                Ok(length) => {
                    let mut bytes = vec![0; length + 2];
                    from.read_exact(&mut bytes).await?;
                    bytes.truncate(length);
                    Reply::Bytes(bytes)
                }
            },
            "*" | "%" | ">" | "~" => match usize::try_from(number()?) {
                Err(_) => Reply::Nil,
                Ok(count) => {
                    let count = if kind == "%" { count * 2 } else { count };
                    let mut parts = Vec::new();
                    for _ in 0..count {
                        parts.push(read(from).await?);
                    }
                    Reply::List(parts)
                }
            },
            _ => return Err(odd()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_kind_of_reply_is_read() {
        let mut bytes: &[u8] =
            b"*6\r\n+OK\r\n-ERR no\r\n:-5\r\n$4\r\na\r\nb\r\n$-1\r\n%1\r\n$1\r\nk\r\n_\r\n";
        let reply = read(&mut bytes).await.unwrap();
        let map = Reply::List(vec![Reply::Bytes(b"k".to_vec()), Reply::Nil]);
        let parts = [
            Reply::Word("OK".into()),
            Reply::Refusal("ERR no".into()),
            Reply::Number(-5),
            Reply::Bytes(b"a\r\nb".to_vec()),
            Reply::Nil,
            map,
        ];
        assert_eq!(reply.list(), parts);
        assert_eq!(reply.to_string(), "OK\nERR no\n-5\na\r\nb\n\nk\n");
    }

    #[tokio::test]
    async fn a_reply_cut_short_is_an_error() {
        for bytes in ["", "+OK", "$3\r\nab", "*2\r\n:1\r\n", "?\r\n", "\r\n", ":x\r\n"] {
            assert!(read(&mut bytes.as_bytes()).await.is_err(), "{bytes:?}");
        }
    }
}
