//! One connection, on which the commands of many callers travel at the same time.
//!
//! Commands and the headers of answers are written and read by the client library. Its own connections carry one call at a
//! time, write all of it before they read, and are lost with the call that is dropped. Here one task writes and reads at the
//! same time, so no buffer can fill up on both sides; it reads the answers of a caller that is gone as well, so nobody gets
//! those of another; and whoever comes while others wait does not wait for them.

use std::io;
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use mastaba::{Fault, FaultKind};
use memcache::exp::{Error, MetaResponse, parse_meta_result};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{ItemCommand, ItemReply, SeenItem, reply};

/// What is written at once, unless one caller has more.
const PIECE: usize = 64 << 10;
/// No answer has a longer first line.
const LONGEST_LINE: usize = 4 << 10;
/// A server tells less of itself.
const MOST_LINES: usize = 4 << 10;

/// A connection while it lasts. It ends at the first thing that goes wrong with it, and does not come back: what several
/// steps were done over was one run of one server.
#[derive(Debug)]
pub(crate) struct Pipe {
    place: Arc<str>,
    send: mpsc::UnboundedSender<SentCommands>,
    close: Arc<Notify>,
}

/// What one caller sends.
#[derive(Debug)]
struct SentCommands {
    bytes: Vec<u8>,
    waiting: AnswerSlot,
}

/// Who waits for what. Whoever is gone is read for all the same.
#[derive(Debug)]
enum AnswerSlot {
    /// So many answers to commands on items.
    Items(usize, oneshot::Sender<Vec<ItemReply>>),
    /// What a server tells of itself.
    Lines(oneshot::Sender<Vec<String>>),
}

impl Pipe {
    /// Over a stream on which the server has been greeted, in a task of the runtime of the caller.
    pub(super) fn over(place: &str, stream: Incoming<TcpStream>) -> Arc<Self> {
        let (send, calls) = mpsc::unbounded_channel();
        let place: Arc<str> = place.into();
        let close = Arc::new(Notify::new());
        let (of, closed) = (place.clone(), close.clone());
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = drive(stream, calls) => ended,
                () = closed.notified() => Ok(()),
            };
            if let Err(error) = ended {
                tracing::debug!(target: "mastaba", "memcached at {of}: the connection has ended: {error}");
            }
        });
        Arc::new(Self { place, send, close })
    }

    /// Ends it, also for those who wait for answers.
    pub(super) fn close(&self) {
        self.close.notify_one();
    }

    pub(crate) fn is_open(&self) -> bool {
        !self.send.is_closed()
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&self) {
        self.send.closed().await;
    }

    /// Sends commands, and gives the answer to each, in order. The server carries them out in order, too.
    ///
    /// Dropped, it leaves them done, undone or under way.
    pub(crate) async fn run(&self, commands: Vec<ItemCommand>) -> Result<Vec<ItemReply>, Fault> {
        let (mut bytes, mut count) = (Vec::new(), 0);
        for command in commands {
            command.0.and_then(|command| command.encode_into(&mut bytes)).map_err(|error| {
                Fault::new(FaultKind::Refused, format!("memcached at {}: {error}", self.place))
            })?;
            count += 1;
        }
        if count == 0 {
            return Ok(Vec::new());
        }
        let (answer, answers) = oneshot::channel();
        self.put(bytes, AnswerSlot::Items(count, answer))?;
        answers.await.map_err(|_| self.lost())
    }

    /// Asks for what the server tells of itself: `stats`, or a command that is answered with one line. Gives the lines of the
    /// answer.
    pub(crate) async fn ask(&self, words: &str) -> Result<Vec<String>, Fault> {
        let (answer, lines) = oneshot::channel();
        self.put(format!("{words}\r\n").into_bytes(), AnswerSlot::Lines(answer))?;
        lines.await.map_err(|_| self.lost())
    }

    fn put(&self, bytes: Vec<u8>, waiting: AnswerSlot) -> Result<(), Fault> {
        self.send.send(SentCommands { bytes, waiting }).map_err(|_| self.lost())
    }

    fn lost(&self) -> Fault {
        Fault::new(FaultKind::Down, format!("memcached at {}: the connection was lost", self.place))
    }
}

/// Writes calls and reads their answers, until one of both fails or nobody is left who could call.
async fn drive(
    stream: Incoming<TcpStream>,
    mut calls: mpsc::UnboundedReceiver<SentCommands>,
) -> io::Result<()> {
    let Incoming { stream, buffer } = stream;
    let (read, mut write) = stream.into_split();
    let (expect, mut expected) = mpsc::unbounded_channel::<AnswerSlot>();
    let writing = async {
        let mut piece = Vec::new();
        while let Some(mut call) = calls.recv().await {
            loop {
                piece.append(&mut call.bytes);
                // before it is sent: an answer must find somebody who reads it
                if expect.send(call.waiting).is_err() {
                    return Ok(());
                }
                match calls.try_recv() {
                    Ok(more) if piece.len() < PIECE => call = more,
                    Ok(more) => {
                        write.write_all(&piece).await?;
                        piece.clear();
                        call = more;
                    }
                    Err(_) => break,
                }
            }
            write.write_all(&piece).await?;
            piece.clear();
            piece.shrink_to(PIECE);
        }
        drop(expect);
        // for those who still wait
        std::future::pending::<io::Result<()>>().await
    };
    let reading = async {
        let mut incoming = Incoming { stream: read, buffer };
        loop {
            let waiting = match expected.try_recv() {
                Ok(waiting) => waiting,
                // while nothing is asked nothing may come, but the end of the connection
                Err(_) if !incoming.buffer.is_empty() => {
                    return Err(io::Error::other("an answer to nothing"));
                }
                Err(_) => tokio::select! {
                    biased;
                    waiting = expected.recv() => match waiting {
                        Some(waiting) => waiting,
                        None => return Ok(()),
                    },
                    more = incoming.more() => {
                        more?;
                        continue;
                    }
                },
            };
            match waiting {
                AnswerSlot::Items(count, answer) => {
                    let mut replies = Vec::with_capacity(count);
                    for _ in 0..count {
                        replies.push(incoming.reply().await?);
                    }
                    let _ = answer.send(replies);
                }
                AnswerSlot::Lines(answer) => {
                    let _ = answer.send(incoming.lines().await?);
                }
            }
        }
    };
    tokio::select! {
        done = writing => done,
        done = reading => done,
    }
}

/// What comes from a server, and what of it was not looked at yet.
pub(super) struct Incoming<S> {
    pub(super) stream: S,
    pub(super) buffer: BytesMut,
}

impl<S: AsyncRead + Unpin> Incoming<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, buffer: BytesMut::with_capacity(8 << 10) }
    }

    /// Waits for more. Dropped, it loses nothing.
    async fn more(&mut self) -> io::Result<()> {
        self.buffer.reserve(8 << 10);
        match self.stream.read_buf(&mut self.buffer).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(()),
        }
    }

    /// A line without its end.
    pub(super) async fn line(&mut self) -> io::Result<Bytes> {
        let mut seen = 0;
        loop {
            if let Some(at) = self.buffer[seen..].iter().position(|byte| *byte == b'\n') {
                let mut line = self.buffer.split_to(seen + at + 1);
                line.truncate(seen + at);
                if line.last() == Some(&b'\r') {
                    line.truncate(line.len() - 1);
                }
                return Ok(line.freeze());
            }
            seen = self.buffer.len();
            if seen > LONGEST_LINE {
                return Err(io::Error::other("a line that does not end"));
            }
            self.more().await?;
        }
    }

    /// The lines of an answer to `stats`, up to and with the first that is no `STAT`. Of another command its only line.
    pub(super) async fn lines(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        while lines.len() < MOST_LINES {
            let line = String::from_utf8_lossy(&self.line().await?).into_owned();
            let is_last = !line.starts_with("STAT ");
            lines.push(line);
            if is_last {
                return Ok(lines);
            }
        }
        Err(io::Error::other("an answer that does not end"))
    }

    /// The answer to one command on an item.
    async fn reply(&mut self) -> io::Result<ItemReply> {
        let line = self.line().await?;
        let answer = match MetaResponse::parse_header(&line) {
            Ok(answer) => answer,
            // of this command alone: what belongs to it was read
            Err(Error::Server(said)) => return Ok(ItemReply::Refused(said)),
            // of a command that was not understood its data may be taken for the next one
            Err(error) => return Err(io::Error::other(error.to_string())),
        };
        let said = parse_meta_result(answer).map_err(|error| io::Error::other(error.to_string()))?;
        let record = match said.rc {
            memcache::exp::ReturnCode::Va => Some(self.record(&line).await?),
            _ => None,
        };
        let item = SeenItem { record, cas: said.cas, left: said.ttl, flags: said.client_flags };
        reply(said.rc, item).ok_or_else(|| io::Error::other("an answer to something else"))
    }

    /// The record behind the line that says how long it is, which the library has looked at.
    async fn record(&mut self, line: &[u8]) -> io::Result<Bytes> {
        let length = line.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).nth(1);
        let length = length.and_then(|word| std::str::from_utf8(word).ok()?.parse::<usize>().ok());
        let length = length.ok_or_else(|| io::Error::other("a value without a length"))?;
        self.buffer.reserve((length + 2).saturating_sub(self.buffer.len()));
        while self.buffer.len() < length + 2 {
            self.more().await?;
        }
        let record = self.buffer.split_to(length).freeze();
        if &self.buffer[..2] != b"\r\n" {
            return Err(io::Error::other("a value of another length"));
        }
        self.buffer.advance(2);
        Ok(record)
    }
}
